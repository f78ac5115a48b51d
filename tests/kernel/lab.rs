//! Where things are: the fetched lab, the fixtures, the work directory; and running its programs.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// The lab that `tests/lab/fetch.sh` makes.
///
/// # Errors
/// When there is none, with the command that fetches it.
pub(crate) fn locate() -> Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory =
        env::var_os("AUFS2DM_LAB").map_or_else(|| repository.join(".lab"), PathBuf::from);
    if !directory.join("LAB").is_file() {
        bail!(
            "no kernel and no Docker at {}: fetch them with {}",
            directory.display(),
            repository.join("tests/lab/fetch.sh").display()
        );
    }
    Ok(fs::canonicalize(directory)?)
}

/// What a check needs to know of its surroundings.
#[derive(Debug)]
pub(crate) struct Lab {
    directory: PathBuf,
    path: String,
    work: PathBuf,
    /// What was made once for all checks to copy, or why that failed.
    made: RefCell<BTreeMap<&'static str, Made>>,
}

/// What was made, and of which sort.
type Made = (String, Result<PathBuf, String>);

impl Lab {
    /// A lab at `directory`, on a machine with this PATH, that keeps its files in `work`.
    pub(crate) fn new(directory: &Path, path: &str, work: &Path) -> Self {
        let path = format!(
            "{}:{path}:/usr/sbin:/usr/bin:/sbin:/bin",
            directory.join("bin").display()
        );
        Self {
            directory: directory.to_owned(),
            path,
            work: work.to_owned(),
            made: RefCell::default(),
        }
    }

    /// The fetched lab.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The pid file of a daemon that the tool is told of: one for all roots, for copies of a converted root are gone on with.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.work().join("docker.pid")
    }

    /// Where checks keep their files: on a file system with owners, xattrs and device nodes.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    /// A program of the lab, or else of the machine.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut files = self.path.split(':').map(|dir| Path::new(dir).join(program));
        let file = files
            .find(|file| file.is_file())
            .unwrap_or_else(|| program.into());
        let mut command = Command::new(file);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("LD_LIBRARY_PATH", self.directory.join("lib"))
            .env("HOME", &self.work)
            .env("TMPDIR", &self.work)
            .env("LC_ALL", "C.UTF-8")
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        command
    }

    /// A busybox applet, for the few things that need no library of the machine.
    pub(crate) fn busybox(&self, applet: &str) -> Command {
        let mut command = Command::new(self.directory.join("bin/busybox"));
        command.arg(applet).stdin(Stdio::null());
        command
    }

    /// Loads a kernel module: the lab's, or else the machine's own.
    pub(crate) fn load_module(&self, name: &str) -> Result<()> {
        let file = self.directory.join(format!("kernel/modules/{name}.ko"));
        run(self.busybox("insmod").arg(file))
            .or_else(|_| run(self.command("modprobe").arg(name)))
            .map(drop)
    }

    /// Unloads a kernel module; nothing may use it.
    pub(crate) fn unload_module(&self, name: &str) -> Result<()> {
        run(self.busybox("rmmod").arg(name)).map(drop)
    }

    /// The program under test.
    pub(crate) fn tool(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_aufs2dm"))
    }

    /// The directory that `make` filled the first time this was asked for; it must not be changed afterwards.
    pub(crate) fn once(
        &self,
        name: &'static str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        self.latest(name, "", make)
    }

    /// The same for what comes in sorts, of which only the one asked for last is kept.
    pub(crate) fn latest(
        &self,
        name: &'static str,
        sort: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let known = self.made.borrow().get(name).cloned();
        let made = match known {
            Some((made, outcome)) if made == sort => outcome,
            _ => self.make(name, make).map_err(|error| format!("{error:#}")),
        };
        self.made
            .borrow_mut()
            .insert(name, (sort.to_owned(), made.clone()));
        made.map_err(|error| anyhow!("{error}"))
    }

    fn make(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let directory = self.work.join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        make(&directory)?;
        Ok(directory)
    }

    /// Unpacks a fixture archive into `target`, with owners, xattrs, device nodes and holes.
    pub(crate) fn unpack(&self, fixture: &str, target: &Path) -> Result<()> {
        let archive = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(fixture);
        fs::create_dir_all(target)?;
        let flags = [
            "--xattrs",
            "--xattrs-include=*",
            "--numeric-owner",
            "--sparse",
            "-xpf",
        ];
        run(self
            .command("tar")
            .args(flags)
            .arg(archive)
            .arg("-C")
            .arg(target))?;
        Ok(())
    }

    /// Copies a Docker root, holes and all.
    pub(crate) fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        run(self
            .command("cp")
            .args(["-a", "--sparse=auto", "-T"])
            .arg(from)
            .arg(to))?;
        Ok(())
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it cannot start or does not end well, with the last of what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let program = Path::new(command.get_program());
        let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy()];
        words.extend(command.get_args().map(OsStr::to_string_lossy));
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{}: {}\n{}{}",
            words.join(" "),
            output.status,
            last_lines(&stdout, 20),
            last_lines(&stderr, 40)
        );
    }
    Ok(stdout.into_owned())
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(count)..];
    last.iter().flat_map(|line| ["  ", line, "\n"]).collect()
}
