//! The journal of a conversion: what was begun, what is durable, what was moved.
//!
//! [`JOURNAL`] in the staging directory has one JSON object per line. Each line is durable before what it announces is
//! done, or after what it reports was done (case by case: docs/commit.md). A line torn by a power cut is the last one
//! and has no end, so it counts for nothing. Each line ends with a checksum of the rest of it, which reveals a damaged
//! line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::OFlag;
use serde_json::Value;

use super::clock::now;
use super::error::Error;
use super::expected;
use super::moves::Roots;
use super::record::{Beginning, Record, SwitchPlan};
use super::removal::Removal;
use super::second_place::SecondPlace;
use super::state::State;
use super::times::Times;
use super::verification::Verifications;
use crate::chain::Chain;
use crate::crc64::crc64;
use crate::durable::sync_directory;
use crate::path_kind::is_there;
use crate::staging::JOURNAL;

/// The version of the format written here. A journal of another version is refused.
const VERSION: u32 = 1;

/// Maximum size. A record lists the devices of one checkpoint, so thousands of layers need a few hundred KiB.
const MAX_BYTES: u64 = 64 << 20; // 64 MiB

/// A journal that was read: the conversion up to now.
#[derive(Clone, Debug)]
pub struct JournalState {
    /// The beginning of the conversion.
    pub begun: Beginning,
    /// Its state.
    pub state: State,
    /// The devices whose content is durable, by their indexes in the plan.
    pub durable: BTreeSet<usize>,
    /// The digests of the entries of the layers' devices as they were converted, by layer id.
    pub entries: BTreeMap<String, String>,
    /// The digests of the bytes of their files, by layer id, if no tar says what these must be.
    pub bytes: BTreeMap<String, String>,
    /// Where the containers' configs are staged, if they are staged beside the originals.
    pub beside: Option<SecondPlace>,
    /// The plan for moving it into place, once that was decided.
    pub switching: Option<SwitchPlan>,
    /// When the entries of the aufs side had last been changed at the beginning of the latest rollback, as a digest.
    pub aufs_times_going_back: Option<String>,
    /// The removal of the aufs side, as it began.
    pub removal: Removal,
    /// Whether an aufs side that is on its way out is whole, because nothing of it has been removed yet.
    pub aufs_is_whole: bool,
    /// When everything was in place, in seconds since 1970.
    pub switched_at: Option<u64>,
    /// The verifications since.
    pub verified: Verifications,
}

impl JournalState {
    /// Reads the journal of a staging directory; `None` if there is none, or if its first line was torn.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], and [`Error::Journal`] for what no version of this tool writes.
    pub fn read(stage: &Path) -> Result<Option<Self>, Error> {
        let path = stage.join(JOURNAL);
        let mut file = match open(&path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Error::io(&path, "open"))?,
        };
        let text = read_lines(&mut file, &path)?;
        let mut lines = text.lines();
        // Without one whole line nothing was announced, so nothing relies on it. Whether the journal was lost instead
        // shows by what lies beside it, and that is the caller's to find out.
        let Some(first) = lines.next() else {
            return Ok(None);
        };
        let malformed = |line: usize, what| Error::Journal {
            path: path.clone(),
            line,
            what,
        };
        let begun = match unsealed(first).map_err(|what| malformed(1, what))? {
            // A rollback ends by setting these times on `root.join(path)`. Any path but the empty one would let a
            // forged journal reach another directory.
            Record::Begun(begun) if !begun.root.path.is_empty() => {
                return Err(malformed(1, "it names a directory other than the root"));
            }
            Record::Begun(begun) if begun.version == VERSION => begun,
            Record::Begun(_) => return Err(malformed(1, "it has another version")),
            _ => return Err(malformed(1, "it does not begin a conversion")),
        };
        let mut story = Self::new(begun);
        // Every line here has its end, so it was written whole. One that does not check out is damage, and to skip it
        // would be to forget a step that was taken.
        for (at, line) in lines.enumerate() {
            let record = unsealed(line).map_err(|what| malformed(at + 2, what))?;
            story.add(record).map_err(|what| malformed(at + 2, what))?;
        }
        Ok(Some(story))
    }

    fn new(begun: Beginning) -> Self {
        Self {
            begun,
            state: State::Writing,
            durable: BTreeSet::new(),
            entries: BTreeMap::new(),
            bytes: BTreeMap::new(),
            beside: None,
            switching: None,
            aufs_times_going_back: None,
            removal: Removal::default(),
            aufs_is_whole: false,
            switched_at: None,
            verified: Verifications::default(),
        }
    }

    /// Corrects the state by what is on disk. A journal may say that everything is in place if its last line could be
    /// written but not removed again, or that the aufs side is being removed if the run was killed before it removed
    /// anything; the locations of the files are decisive.
    pub(super) fn settle(&mut self, ground: Roots<'_>) {
        // Journals of earlier versions have no `removing`: there a missing directory is the only sign of a removal.
        // Nothing of a side that is whole was removed, so what is missing of it in its place is for others to tell.
        let is_out = self.removal.waiting(ground.root, ground.stage).is_used();
        let has_begun = is_out || !self.aufs_is_whole && removal_has_begun(ground.root);
        // `committing` precedes the first rename. A run that was killed in between left both sides in place, so
        // `commit` and `rollback` are both open again.
        if self.state == State::Committing && !has_begun {
            self.state = State::Converted;
        }
        // `switched` is written after the last move, so a part that is still staged belies it: the line was written,
        // its sync failed, the move was taken back, and cutting the line off failed too. This comes second, so that a
        // root which counts as converted again is asked as well.
        let staged =
            |switching: &SwitchPlan| switching.moves.iter().any(|step| step.is_staged(ground));
        if self.state == State::Converted && self.switching.as_ref().is_some_and(staged) {
            self.state = State::Switching;
        }
    }

    fn add(&mut self, record: Record) -> Result<(), &'static str> {
        self.expect_in_order(&record)?;
        self.state = match record {
            Record::Begun(_) => return Err("it begins a second conversion"),
            Record::Durable { devices } => {
                self.durable.extend(devices);
                self.state
            }
            // From here on this is where the originals are looked for. Once something has moved, another place would
            // send the way back to files that no conversion put there.
            Record::Beside(beside) => {
                if self.state != State::Writing || !beside.is_sound() {
                    return Err("it stages configs where no conversion does");
                }
                self.beside = Some(beside);
                self.state
            }
            Record::NothingBeside => {
                self.beside = None;
                self.state
            }
            Record::Entries { devices, bytes } => {
                self.entries.extend(devices);
                self.bytes.extend(bytes);
                self.state
            }
            // Written before the removal that it announces. A kill in between costs a second write of devices that were
            // whole; the other order would leave devices that count as durable and are gone.
            Record::Undone => {
                self.durable.clear();
                self.state
            }
            Record::Switching(switching) => {
                // The checksum tells damage, not forgery. What no conversion would move is refused here, before
                // anything acts on it.
                expected::check(&switching)?;
                self.switching = Some(*switching);
                State::Switching
            }
            // Only the moves were undone. The devices are still in the staging directory and still durable.
            Record::TakenBack => {
                self.switching = None;
                State::Writing
            }
            Record::Switched { at } => {
                self.switched_at = Some(at);
                State::Converted
            }
            Record::Verified(verified) => {
                self.verified.add(verified);
                self.state
            }
            Record::RollingBack { aufs_times } => {
                self.aufs_times_going_back = aufs_times;
                State::RollingBack
            }
            Record::Committing(removal) => {
                removal.expect_sound()?;
                // Only a version that writes `removing` before it removes anything can vouch that all is still there.
                self.aufs_is_whole = removal.in_two_steps;
                self.removal = *removal;
                State::Committing
            }
            Record::Removing => {
                self.aufs_is_whole = false;
                self.state
            }
        };
        self.expect_moves()
    }

    /// Checks that only an announced move or removal is reported as done: a line alone proves nothing.
    fn expect_in_order(&self, record: &Record) -> Result<(), &'static str> {
        match (record, self.state) {
            // The originals lie there, and a rollback still needs them.
            (Record::NothingBeside, State::Switching | State::Converted) => {
                Err("it removes the originals of what is in place")
            }
            // `settle` takes a state back without a line that says so. The run that then ends the move, or begins the
            // removal anew, writes its line behind an earlier one of the same kind.
            (Record::Switched { .. }, State::Switching | State::Converted)
            | (Record::Committing(_), State::Converted | State::Committing)
            | (Record::Removing, State::Committing) => Ok(()),
            (Record::Switched { .. }, _) => Err("it does not follow a move"),
            (Record::Committing(_) | Record::Removing, _) => {
                Err("it removes the aufs side of a root that is not converted")
            }
            _ => Ok(()),
        }
    }

    fn expect_moves(&self) -> Result<(), &'static str> {
        let needs_moves = !matches!(self.state, State::Writing | State::RollingBack);
        if needs_moves && self.switching.is_none() {
            return Err("it does not say what was moved");
        }
        Ok(())
    }
}

/// Whether part of the aufs side is gone for good, even if nothing of it is waiting any more.
pub(super) fn removal_has_begun(root: &Path) -> bool {
    ["aufs", "image/aufs"]
        .iter()
        .any(|part| !is_there(&root.join(part)))
}

/// A journal that is open for writing.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Engines report from several threads. `None` once a torn line could not be cut off: anything written after it
    /// would read as damage.
    file: Mutex<Option<File>>,
}

impl Journal {
    /// Begins the journal of a conversion; durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(super) fn create(stage: &Path, root: Times, order: Value) -> Result<Self, Error> {
        let path = stage.join(JOURNAL);
        let file = open(&path, true).map_err(Error::io(&path, "create"))?;
        let journal = Self {
            path,
            file: Mutex::new(Some(file)),
        };
        journal.append(&Record::Begun(Beginning {
            version: VERSION,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            at: now(),
            root,
            order,
        }))?;
        // `fdatasync` made the line durable, but not the way to it: that takes the name of the journal in the staging
        // directory and the name of that directory in the root.
        for directory in [Some(stage), stage.parent()].into_iter().flatten() {
            sync_directory(directory)?;
        }
        Ok(journal)
    }

    /// Continues a journal, after removing a torn last line, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn reopen(stage: &Path) -> Result<Self, Error> {
        let path = stage.join(JOURNAL);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .map_err(Error::io(&path, "open"))?;
        // Appending behind a torn line would make one line of the two, with an end and a wrong checksum, which reads as
        // damage. The cut needs no sync of its own: the journal reads the same with and without it, and the next append
        // syncs the length.
        let whole = read_lines(&mut file, &path)?.len() as u64;
        file.set_len(whole)
            .and_then(|()| file.seek(SeekFrom::Start(whole)))
            .map_err(Error::io(&path, "repair"))?;
        Ok(Self {
            path,
            file: Mutex::new(Some(file)),
        })
    }

    /// Adds a line; durable on return. A line that could not be written completely is removed again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn append(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_string(record).expect("records have text keys only");
        let line = sealed(&text) + "\n";
        let mut file = self
            .file
            .lock()
            .expect("no thread panics while it holds the lock");
        // The lock is held until the line is durable or cut off again, so no other line begins in between and `before`
        // is still where this one starts.
        let Some(open) = &mut *file else {
            let torn = "an earlier line could be neither finished nor cut off";
            return Err(Error::io(&self.path, "write")(io::Error::other(torn)));
        };
        let before = open
            .stream_position()
            .map_err(Error::io(&self.path, "write"))?;
        // The newline is the last byte, so no prefix that a crash leaves passes for a line.
        let written = open
            .write_all(line.as_bytes())
            .and_then(|()| open.sync_data())
            .map_err(Error::io(&self.path, "write"));
        if written.is_err() {
            // Else the next line would follow a torn one. If this fails too, the torn line stays the journal's last.
            let cut = open.set_len(before);
            let cut = cut.and_then(|()| open.seek(SeekFrom::Start(before)));
            if cut.is_err() {
                *file = None;
            }
        }
        written
    }

    /// Records that what was durable is about to be removed, so that no run continues with the remains if this one is
    /// killed. If the disk is full, this cannot be recorded, which is no reason to leave it full.
    pub fn note_undone(&self) {
        if let Err(error) = self.append(&Record::Undone) {
            log::debug!("{}", Chain(&error));
        }
    }
}

/// The text between a record and its checksum.
const SUM: &str = ",\"crc64\":\"";

/// A record with the checksum of its text added as a member.
fn sealed(record: &str) -> String {
    let inside = record
        .strip_suffix('}')
        .expect("a record is an object with members");
    format!("{inside}{SUM}{:016x}\"}}", crc64(record.as_bytes()))
}

/// The record in a line, if the line is what was written.
fn unsealed(line: &str) -> Result<Record, &'static str> {
    // From the right: a record may hold JSON that is not ours, with a member of the same name. The seal is the last.
    let (inside, found) = line.rsplit_once(SUM).ok_or("it has no checksum")?;
    let record = format!("{inside}}}");
    // The sum is of the text, for another version may print the same value differently. The closing brace is compared
    // too, so nothing can hide behind the sum.
    if found != format!("{:016x}\"}}", crc64(record.as_bytes())) {
        return Err("its checksum does not match");
    }
    serde_json::from_str(&record).map_err(|_| "it is not a record of a conversion")
}

/// The complete lines.
fn read_lines(file: &mut File, path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path, "read"))?;
    // Half a journal would tell of an earlier state, and be cut off there by the next run.
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Journal {
            path: path.to_owned(),
            line: 1,
            what: "it is larger than 64 MiB, which no journal is",
        });
    }
    // Only the last line can be torn: nothing is appended before the line above it is durable or cut off. Nobody has
    // relied on a line without an end, since its sync never returned, so dropping it forgets nothing.
    let end = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes.truncate(end);
    String::from_utf8(bytes).map_err(|_| Error::Journal {
        path: path.to_owned(),
        line: 1,
        what: "it is not text",
    })
}

pub(super) fn open(path: &Path, new: bool) -> io::Result<File> {
    // The directory is input: no link is followed, and a FIFO in the journal's place does not block the open.
    OpenOptions::new()
        .read(true)
        .write(new)
        .create_new(new)
        .mode(0o600)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Verdict;

    fn begin(stage: &Path) -> Journal {
        let root = Times::of(stage, "").unwrap();
        Journal::create(stage, root, Value::from("order")).unwrap()
    }

    fn durable(devices: &[usize]) -> Record {
        Record::Durable {
            devices: devices.to_vec(),
        }
    }

    fn append_raw(stage: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .open(stage.join(JOURNAL))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn what_was_written_is_read() {
        let stage = tempfile::tempdir().unwrap();
        assert!(JournalState::read(stage.path()).unwrap().is_none());
        let journal = begin(stage.path());
        journal.append(&durable(&[3, 1])).unwrap();
        journal.append(&durable(&[2])).unwrap();
        let story = JournalState::read(stage.path()).unwrap().unwrap();
        assert_eq!(story.state, State::Writing);
        assert_eq!(story.begun.order, "order");
        assert_eq!(story.durable, [1, 2, 3].into());
    }

    #[test]
    fn what_was_undone_is_not_durable_any_more() {
        let stage = tempfile::tempdir().unwrap();
        let journal = begin(stage.path());
        journal.append(&durable(&[0, 1])).unwrap();
        journal.append(&Record::Undone).unwrap();
        journal.append(&durable(&[0])).unwrap();
        let story = JournalState::read(stage.path()).unwrap().unwrap();
        assert_eq!(story.state, State::Writing);
        assert_eq!(story.durable, [0].into());
    }

    #[test]
    fn a_torn_line_counts_for_nothing_wherever_it_was_torn() {
        let line = serde_json::to_string(&durable(&[7])).unwrap();
        for end in 0..line.len() {
            let stage = tempfile::tempdir().unwrap();
            begin(stage.path()).append(&durable(&[1])).unwrap();
            append_raw(stage.path(), &line[..end]);
            let story = JournalState::read(stage.path()).unwrap().unwrap();
            assert_eq!(story.durable, [1].into(), "{end}");
            let journal = Journal::reopen(stage.path()).unwrap();
            journal.append(&durable(&[2])).unwrap();
            let story = JournalState::read(stage.path()).unwrap().unwrap();
            assert_eq!(story.durable, [1, 2].into(), "{end}");
        }
    }

    #[test]
    fn nothing_is_written_behind_a_line_that_could_not_be_cut_off() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let journal = Journal {
            path: "/dev/full".into(),
            file: Mutex::new(Some(full)),
        };
        let told = || Chain(&journal.append(&Record::TakenBack).unwrap_err()).to_string();
        assert!(told().contains("No space left"));
        assert!(told().contains("neither finished nor cut off"));
    }

    #[test]
    fn a_journal_that_is_too_large_is_refused_and_left_as_it_is() {
        let stage = tempfile::tempdir().unwrap();
        begin(stage.path());
        let file = File::options()
            .write(true)
            .open(stage.path().join(JOURNAL))
            .unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert!(JournalState::read(stage.path()).is_err());
        assert!(Journal::reopen(stage.path()).is_err());
        assert_eq!(file.metadata().unwrap().len(), MAX_BYTES + 1);
    }

    #[test]
    fn a_journal_whose_first_line_was_torn_has_begun_nothing() {
        let stage = tempfile::tempdir().unwrap();
        std::fs::write(stage.path().join(JOURNAL), "{\"record\":\"beg").unwrap();
        assert!(JournalState::read(stage.path()).unwrap().is_none());
    }

    #[test]
    fn what_no_version_writes_is_refused_with_its_line() {
        for text in [
            r#"{"no":"record"}"#,
            r#"{"record":"switched","at":1}"#,
            r#"{"record":"committing"}"#,
            "garbage}",
        ] {
            let stage = tempfile::tempdir().unwrap();
            begin(stage.path());
            append_raw(stage.path(), &(sealed(text) + "\n"));
            let error = JournalState::read(stage.path()).unwrap_err();
            assert!(matches!(error, Error::Journal { line: 2, .. }), "{text}");
        }
    }

    #[test]
    fn any_damage_to_a_line_is_told() {
        let stage = tempfile::tempdir().unwrap();
        let journal = begin(stage.path());
        journal.append(&durable(&[1, 2])).unwrap();
        let path = stage.path().join(JOURNAL);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            // Lines that end elsewhere are torn ones, the last of which counts for nothing.
            if damaged[at] == b'\n' || whole[at] == b'\n' {
                continue;
            }
            std::fs::write(&path, damaged).unwrap();
            let error = JournalState::read(stage.path()).unwrap_err();
            assert!(matches!(error, Error::Journal { .. }), "{at}");
        }
    }

    #[test]
    fn a_verification_that_does_not_say_what_it_came_to_counts_for_nothing() {
        let stage = tempfile::tempdir().unwrap();
        begin(stage.path());
        let line = r#"{"record":"verified","at":1,"full":true}"#;
        append_raw(stage.path(), &(sealed(line) + "\n"));
        let story = JournalState::read(stage.path()).unwrap().unwrap();
        assert!(story.verified.full.is_none());
        assert_eq!(story.verified.failed.unwrap().verdict, Verdict::NotVerified);
    }
}
