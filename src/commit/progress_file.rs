//! The progress of a running conversion, for `status` to show: a small file in the staging directory.
//!
//! Nothing depends on this file. It is never made durable, and a failed write is ignored. What it says is used for
//! display only, and only if it names the process that holds the root. It is written at the beginning of a phase and
//! every few seconds during it, each time as a new file that replaces the old one, so a reader always sees a complete
//! file.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::progress::{Phase, Progress};

/// The file's name in the staging directory.
pub(super) const FILE: &str = "progress";

/// Its name while it is being written.
pub(super) const NEW_FILE: &str = "progress.new";

/// How often it is written during a phase.
const INTERVAL: Duration = Duration::from_secs(2);

/// Maximum size; a phase and three numbers take about a hundred bytes.
const MAX_BYTES: u64 = 1024;

/// The progress of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseProgress {
    /// The phase.
    pub phase: Phase,
    /// How much of it is done.
    pub done: u64,
    /// The size of the phase; 0 if it is not counted.
    pub total: u64,
}

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    pid: u32,
    phase: String,
    done: u64,
    total: u64,
}

impl PhaseProgress {
    /// What a process last reported, if it reported anything.
    pub fn by(pid: u32, stage: &Path) -> Option<Self> {
        let mut options = OpenOptions::new();
        let quietly = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = options
            .read(true)
            .custom_flags(quietly.bits())
            .open(stage.join(FILE))
            .ok()?;
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let line: Line = serde_json::from_slice(&bytes).ok()?;
        let phase = Phase::of_name(&line.phase)?;
        (line.pid == pid).then_some(Self {
            phase,
            done: line.done.min(line.total),
            total: line.total,
        })
    }
}

/// Passes all progress on, and maintains the file. Removes the file when dropped.
pub struct ProgressFile<'a> {
    stage: PathBuf,
    shown: &'a dyn Progress,
    done: AtomicU64,
    last: Mutex<Option<Last>>,
}

impl fmt::Debug for ProgressFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ProgressFile");
        shown.field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// The last state that was written.
struct Last {
    phase: Phase,
    total: u64,
    at: Instant,
}

impl<'a> ProgressFile<'a> {
    /// Writes the file to this staging directory, in addition to the other progress display.
    pub fn new(stage: &Path, shown: &'a dyn Progress) -> Self {
        Self {
            stage: stage.to_owned(),
            shown,
            done: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    fn write(&self, phase: Phase, total: u64) {
        if let Err(error) = self.replace(phase, total) {
            log::debug!("{}: cannot write: {error}", self.stage.join(FILE).display());
        }
    }

    fn replace(&self, phase: Phase, total: u64) -> io::Result<()> {
        let line = Line {
            pid: std::process::id(),
            phase: phase.name().to_owned(),
            done: self.done.load(Ordering::Relaxed),
            total,
        };
        let new = self.stage.join(NEW_FILE);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&new)?;
        file.write_all(serde_json::to_string(&line)?.as_bytes())?;
        fs::rename(&new, self.stage.join(FILE))
    }
}

impl Progress for ProgressFile<'_> {
    fn start(&self, phase: Phase, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.write(phase, total);
        if let Ok(mut last) = self.last.lock() {
            let at = Instant::now();
            *last = Some(Last { phase, total, at });
        }
        self.shown.start(phase, total);
    }

    fn inc(&self, amount: u64) {
        self.done.fetch_add(amount, Ordering::Relaxed);
        // No worker waits for another one that is writing.
        if let Ok(mut last) = self.last.try_lock()
            && let Some(last) = &mut *last
            && last.at.elapsed() >= INTERVAL
        {
            self.write(last.phase, last.total);
            last.at = Instant::now();
        }
        self.shown.inc(amount);
    }

    fn finish(&self) {
        self.shown.finish();
    }
}

impl Drop for ProgressFile<'_> {
    fn drop(&mut self) {
        // They exist only if a write or a rename failed.
        for name in [FILE, NEW_FILE] {
            let path = self.stage.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    log::debug!("{}: cannot remove: {error}", path.display());
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn own_pid() -> u32 {
        std::process::id()
    }

    #[test]
    fn what_is_told_is_read_back_and_is_gone_in_the_end() {
        let stage = tempfile::tempdir().unwrap();
        let told = |phase, done, total| Some(PhaseProgress { phase, done, total });
        let file = ProgressFile::new(stage.path(), &Silent);
        assert_eq!(PhaseProgress::by(own_pid(), stage.path()), None);
        file.start(Phase::Data, 300);
        assert_eq!(
            PhaseProgress::by(own_pid(), stage.path()),
            told(Phase::Data, 0, 300)
        );
        file.inc(100);
        // Not every amount is written.
        assert_eq!(
            PhaseProgress::by(own_pid(), stage.path()),
            told(Phase::Data, 0, 300)
        );
        file.last.lock().unwrap().as_mut().unwrap().at -= INTERVAL;
        file.inc(20);
        assert_eq!(
            PhaseProgress::by(own_pid(), stage.path()),
            told(Phase::Data, 120, 300)
        );
        assert_eq!(PhaseProgress::by(own_pid() + 1, stage.path()), None);
        drop(file);
        assert_eq!(stage.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn what_is_no_such_file_tells_nothing() {
        let stage = tempfile::tempdir().unwrap();
        let path = stage.path().join(FILE);
        let pid = own_pid();
        for text in [
            String::new(),
            "{".to_owned(),
            format!(r#"{{"pid":{pid},"phase":"\u001b[2J","done":1,"total":2}}"#),
            format!(r#"{{"pid":{pid},"phase":"data","done":-1,"total":2}}"#),
            format!(
                r#"{{"pid":{pid},"phase":"data","done":1,"total":2}}{}"#,
                "x".repeat(2000)
            ),
        ] {
            fs::write(&path, &text).unwrap();
            assert_eq!(PhaseProgress::by(pid, stage.path()), None, "{text}");
        }
        let text = format!(r#"{{"pid":{pid},"phase":"data","done":9,"total":2}}"#);
        fs::write(&path, text).unwrap();
        assert_eq!(PhaseProgress::by(pid, stage.path()).unwrap().done, 2);
        let aside = stage.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        assert_eq!(PhaseProgress::by(pid, stage.path()), None);
    }

    #[test]
    fn a_directory_that_is_gone_does_not_matter() {
        let stage = tempfile::tempdir().unwrap();
        let gone = stage.path().join("gone");
        let file = ProgressFile::new(&gone, &Silent);
        file.start(Phase::Data, 3);
        file.inc(1);
        file.finish();
    }
}
