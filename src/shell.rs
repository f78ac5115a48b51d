//! Complete commands shown to the operator: when pasted, they do what was meant.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Docker's default data directory, and this tool's.
pub(crate) const DEFAULT_ROOT: &str = "/var/lib/docker";

/// Options given to this process that another command on the same root needs too.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenOptions {
    /// `--host-root`.
    pub(crate) host_root: Option<PathBuf>,
    /// `--pidfile`.
    pub(crate) pid_file: Option<PathBuf>,
    /// `--host-moved`, which some commands accept.
    pub(crate) host_moved: bool,
}

/// The options given to the process, which are the same for all its messages.
static GIVEN: OnceLock<GivenOptions> = OnceLock::new();

/// Records the options given to the process. Only the first call counts.
pub(crate) fn remember(given: GivenOptions) {
    let absolute = |path: Option<PathBuf>| path.map(|path| absolute(&path));
    let _ = GIVEN.set(GivenOptions {
        host_root: absolute(given.host_root),
        pid_file: absolute(given.pid_file),
        ..given
    });
}

/// A command of this tool on a root, with all options that identify that root and its host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnCommand<'a> {
    words: &'a str,
    root: &'a Path,
}

/// The command `aufs2dm WORDS` on `root`.
pub(crate) fn own<'a>(words: &'a str, root: &'a Path) -> OwnCommand<'a> {
    OwnCommand { words, root }
}

impl fmt::Display for OwnCommand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = GIVEN.get().cloned().unwrap_or_default();
        write!(f, "{}", command(self.words, self.root, &given))
    }
}

/// The words of this process's command line, except its own name.
static CALLED: OnceLock<Vec<OsString>> = OnceLock::new();

/// Records the words with which the process was called. Only the first call counts.
pub(crate) fn remember_call(words: Vec<OsString>) {
    let _ = CALLED.set(words);
}

/// Whether the process was called with this word.
pub(crate) fn is_call_of(verb: &str) -> bool {
    let called = CALLED.get().map_or(&[][..], Vec::as_slice);
    called.iter().any(|word| word == verb)
}

/// The options that identify the root and its host, which are generated anew, and whether a value follows them.
const PLACE: [(&str, bool); 4] = [
    ("--root", true),
    ("--host-root", true),
    ("--pidfile", true),
    ("--host-moved", false),
];

/// The command of this process again, with all its options and possible changes.
#[derive(Clone, Debug)]
pub(crate) struct SameCommand<'a> {
    verb: &'a str,
    root: &'a Path,
    given: Option<&'a GivenOptions>,
    without: &'a str,
    with: &'a str,
}

impl<'a> SameCommand<'a> {
    /// The command on `root`; only the verb if it is unknown how the process was called.
    pub(crate) fn new(verb: &'a str, root: &'a Path) -> Self {
        Self {
            verb,
            root,
            given: None,
            without: "",
            with: "",
        }
    }

    /// Uses other options for the root's host than those given to this process.
    pub(crate) fn given(self, given: &'a GivenOptions) -> Self {
        let given = Some(given);
        Self { given, ..self }
    }

    /// Omits this option, which has no value.
    pub(crate) fn without(self, option: &'a str) -> Self {
        let without = option;
        Self { without, ..self }
    }

    /// Adds this option.
    pub(crate) fn with(self, option: &'a str) -> Self {
        let with = option;
        Self { with, ..self }
    }

    fn words(&self, called: &[OsString]) -> String {
        let mut kept = Vec::new();
        let mut words = called.iter();
        while let Some(one) = words.next() {
            let text = one.to_string_lossy();
            let (name, has_value) = match text.split_once('=') {
                Some((name, _)) => (name, true),
                None => (&*text, false),
            };
            match PLACE.iter().find(|(option, _)| *option == name) {
                Some((_, true)) if !has_value => _ = words.next(),
                Some(_) => {}
                None if text == self.without || text == self.with => {}
                None => kept.push(word(Path::new(one))),
            }
        }
        if kept.is_empty() {
            kept.push(self.verb.to_owned());
        }
        kept.extend((!self.with.is_empty()).then(|| self.with.to_owned()));
        kept.join(" ")
    }
}

impl fmt::Display for SameCommand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noted = GIVEN.get().cloned().unwrap_or_default();
        let given = self.given.unwrap_or(&noted);
        let words = self.words(CALLED.get().map_or(&[], Vec::as_slice));
        f.write_str(&line(&words, self.verb, self.root, given))
    }
}

/// The commands that compare their location with the one where the conversion was started.
const COMPARE: [&str; 5] = ["resume", "rollback", "commit", "verify", "status"];

/// A command with options other than those given to this process.
fn command(words: &str, root: &Path, given: &GivenOptions) -> String {
    let verb = words.split(' ').next().unwrap_or_default();
    line(words, verb, root, given)
}

fn line(words: &str, verb: &str, root: &Path, given: &GivenOptions) -> String {
    let mut text = format!("aufs2dm {words}");
    let root = absolute(root);
    let options = [
        // If the host's / is mounted elsewhere, its default is different too.
        (
            "--root",
            Some(root).filter(|root| root != Path::new(DEFAULT_ROOT) || given.host_root.is_some()),
        ),
        ("--host-root", given.host_root.clone()),
        ("--pidfile", given.pid_file.clone()),
    ];
    for (option, path) in options {
        if let Some(path) = path {
            // Writing to a String cannot fail.
            let _ = write!(text, " {option} {}", word(&path));
        }
    }
    if given.host_moved && COMPARE.contains(&verb) {
        text.push_str(" --host-moved");
    }
    text
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A path as one word for a shell.
pub(crate) fn quoted(word: &Path) -> String {
    format!("'{}'", word.display().to_string().replace('\'', r"'\''"))
}

/// A path as one word for a shell, without quotes if it needs none, and in printable ASCII whatever the path contains.
pub(crate) fn word(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return path.display().to_string();
    }
    if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return quoted(path);
    }
    let mut text = String::from("$'");
    for &byte in bytes {
        match byte {
            b'\'' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => _ = write!(text, "\\x{byte:02x}"),
        }
    }
    text.push('\'');
    text
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_quoted_path_is_one_word() {
        let path = Path::new("/a b/it's $HOME");
        assert_eq!(quoted(path), r"'/a b/it'\''s $HOME'");
    }

    #[test]
    fn a_word_is_the_same_path_to_a_shell_whatever_is_in_it() {
        for path in [
            &b"/a/b-1"[..],
            b"/a b",
            b"/it's $HOME",
            b"/new\nline'\\",
            b"/\xff\x1b[2Je",
            b"",
        ] {
            let word = word(Path::new(OsStr::from_bytes(path)));
            assert!(
                word.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{word}"
            );
            let script = format!("printf %s {word}");
            let said = std::process::Command::new("bash")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(said.stdout, path, "{word}");
        }
    }

    #[test]
    fn a_command_is_said_again_as_it_was_called() {
        let given = GivenOptions {
            host_root: Some("/mnt".into()),
            ..GivenOptions::default()
        };
        let root = Path::new("/data");
        let again = SameCommand::new("convert", root).given(&given);
        let said = |again: &SameCommand<'_>, called: &[&str]| {
            let called: Vec<OsString> = called.iter().map(OsString::from).collect();
            line(&again.words(&called), "convert", root, &given)
        };
        let place = " --root /data --host-root /mnt";
        for (called, words) in [
            (&[][..], "convert"),
            (&["-v", "convert", "--jobs", "3"], "-v convert --jobs 3"),
            (
                &[
                    "convert",
                    "--root",
                    "x",
                    "--fs=xfs",
                    "--host-root=/y",
                    "--thin-pool",
                    "/dev/a b",
                ],
                "convert --fs=xfs --thin-pool '/dev/a b'",
            ),
            (
                &["convert", "--dry-run", "--pidfile", "--dry-run"],
                "convert --dry-run",
            ),
        ] {
            assert_eq!(said(&again, called), format!("aufs2dm {words}{place}"));
        }
        let anew = again.clone().without("--dry-run").with("--restart");
        for called in [&["convert", "--dry-run"][..], &["convert", "--restart"]] {
            let words = "convert --restart";
            assert_eq!(said(&anew, called), format!("aufs2dm {words}{place}"));
        }
    }

    #[test]
    fn a_command_has_what_leads_to_the_root_and_no_more() {
        let here = GivenOptions::default();
        let there = GivenOptions {
            host_root: Some("/mnt/host".into()),
            pid_file: Some("/mnt/host/run/d p".into()),
            host_moved: false,
        };
        let default = Path::new(DEFAULT_ROOT);
        assert_eq!(command("status", default, &here), "aufs2dm status");
        assert_eq!(
            command("verify --full", Path::new("/data/docker"), &here),
            "aufs2dm verify --full --root /data/docker"
        );
        assert_eq!(
            command("resume", default, &there),
            "aufs2dm resume --root /var/lib/docker --host-root /mnt/host --pidfile '/mnt/host/run/d p'"
        );
        let moved = GivenOptions {
            host_moved: true,
            ..here
        };
        for (words, whole) in [
            ("verify --full", "aufs2dm verify --full --host-moved"),
            ("convert", "aufs2dm convert"),
        ] {
            assert_eq!(command(words, default, &moved), whole);
        }
    }
}
