//! Every command that is printed acts on the root and the host it was printed for.

use std::path::Path;
use std::process::Command;

use super::run::{BINARY, Ended, Tool, large_root, small_root};
use super::support::root::AufsRoot;

/// The commands of this tool between backquotes.
pub(crate) fn commands(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|one| one.starts_with("aufs2dm "))
        .map(str::to_owned)
        .collect()
}

/// Runs a command as an operator pastes it, from another directory.
pub(crate) fn paste(command: &str) -> Ended {
    let directory = Path::new(BINARY).parent().unwrap();
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell
        .args(["-c", command])
        .env("PATH", path)
        .current_dir("/");
    Ended::new(&shell.output().unwrap())
}

/// Fails unless something is printed, and each command leads to this root, host and pid file.
#[track_caller]
fn expect_complete(tool: &Tool, root: &Path, ended: &Ended) {
    let commands = commands(&format!("{}{}", ended.out, ended.err));
    assert!(!commands.is_empty(), "{ended:?}");
    for command in commands {
        for (option, path) in [
            ("--root", root),
            ("--host-root", tool.host_root()),
            ("--pidfile", &tool.pid_file()),
        ] {
            let wanted = format!("{option} {}", path.display());
            assert!(command.contains(&wanted), "{wanted} is not in {command}");
        }
    }
}

fn killed(tool: &Tool, root: &AufsRoot) {
    let mut child = tool.start(&root.path(), &["--jobs", "1", "--checkpoint", "0"]);
    super::interrupted::wait_for(&root.path().join(".aufs2dm/devicemapper/devicemapper/data"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_printed_leads_to_this_root_in_every_state() {
    let (tool, root) = (Tool::new(), small_root());
    let path = root.path();
    let check = |verb: &str, options: &[&str]| {
        expect_complete(&tool, &path, &tool.run(verb, &path, options));
    };
    check("status", &[]);
    check("resume", &[]);
    check("commit", &["--yes"]);
    tool.run("convert", &path, &[]).expect(0, &[]);
    check("status", &[]);
    check("convert", &[]);
    check("commit", &["--yes"]);
}

#[test]
fn what_is_printed_of_an_interrupted_run_does_what_it_says() {
    let (tool, root) = (Tool::new(), large_root());
    killed(&tool, &root);
    let status = tool.run("status", &root.path(), &[]);
    expect_complete(&tool, &root.path(), &status);
    let resume = commands(&status.out)
        .into_iter()
        .find(|one| one.contains(" resume "));
    paste(&resume.unwrap()).expect(0, &[]);
    assert!(root.path().join("devicemapper").exists());
    let status = tool.run("status", &root.path(), &[]);
    let rollback = commands(&status.out)
        .into_iter()
        .find(|one| one.contains(" rollback "));
    paste(&rollback.unwrap()).expect(0, &[]);
    assert!(!root.path().join("devicemapper").exists());
}

#[test]
fn a_root_with_spaces_and_other_bytes_can_be_pasted_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let (tool, root) = (Tool::new(), small_root());
    for name in [&b"my docker"[..], b"it's $HOME", b"d\xff\x1b[2J"] {
        let there = root.path().with_file_name(OsStr::from_bytes(name));
        std::fs::rename(root.path(), &there).unwrap();
        let said = tool.command("status", &there, &[]).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let convert = &commands(&said)[0];
        paste(&format!("{convert} --dry-run")).expect(0, &[]);
        std::fs::rename(&there, root.path()).unwrap();
    }
}
