//! The staging directory: its journal, and the other records that a killed run, or a disk from elsewhere, may leave.

use std::fs;
use std::path::Path;

use aufs2dm::commit::{CommitRecord, Journal, JournalState, PhaseProgress, Record};
use aufs2dm::crc64::crc64;
use aufs2dm::engine::kernel::claim::{self, Claim};

use super::files::pieces;

/// Every record is read or refused. A journal that was read goes on: it can be opened again, reads the same, and takes a line.
///
/// The input is a list of files: `j` is a journal as it stands, `J` one whose lines get their checksums first, `c` the claim, `p`
/// the progress, and `r` the record of a commit.
pub(super) fn stage(input: &[u8]) {
    let place = tempfile::tempdir().expect("the disk has room");
    let (root, stage) = (place.path(), place.path().join(".aufs2dm"));
    fs::create_dir(&stage).expect("the disk has room");
    for (letter, content) in pieces(input) {
        let (path, content) = match letter {
            b'j' => (stage.join("journal"), content.to_vec()),
            b'J' => (stage.join("journal"), sealed(content)),
            b'c' => (stage.join(claim::FILE), content.to_vec()),
            b'p' => (stage.join("progress"), content.to_vec()),
            b'r' => (root.join(".aufs2dm.json"), content.to_vec()),
            _ => continue,
        };
        fs::write(path, content).expect("the disk has room");
    }
    journal(&stage);
    match Claim::read(&stage) {
        Ok(claim) => look_at(claim.as_ref(), &stage),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some(progress) = PhaseProgress::by(1, &stage) {
        assert!(progress.done <= progress.total);
    }
    if let Some(record) = CommitRecord::read(root) {
        assert!(!record.meaning(root).is_empty());
        assert!(serde_json::to_string(&record).is_ok());
    }
}

/// Each line with the checksum that the journal gives it.
fn sealed(text: &[u8]) -> Vec<u8> {
    let mut journal = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let record = line.strip_suffix(b"\n").unwrap_or(line);
        match record.strip_suffix(b"}") {
            Some(inside) => {
                journal.extend_from_slice(inside);
                let sum = format!(",\"crc64\":\"{:016x}\"}}", crc64(record));
                journal.extend_from_slice(sum.as_bytes());
            }
            None => journal.extend_from_slice(record),
        }
        journal.extend_from_slice(&line[record.len()..]);
    }
    journal
}

fn journal(stage: &Path) {
    let state = match JournalState::read(stage) {
        Ok(Some(state)) => state,
        Ok(None) => return,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(state.begun.root.path.is_empty());
    let whole = format!("{state:?}");
    let journal = Journal::reopen(stage).expect("it was read");
    let again = JournalState::read(stage).expect("only a torn line is cut off");
    assert_eq!(again.map(|again| format!("{again:?}")), Some(whole));
    journal.append(&Record::Undone).expect("the disk has room");
    let undone = JournalState::read(stage)
        .expect("a line was added")
        .expect("it has lines");
    assert!(undone.durable.is_empty());
    assert_eq!(undone.state, state.state);
}

fn look_at(claim: Option<&Claim>, stage: &Path) {
    let Some(claim) = claim else {
        return;
    };
    assert!(!claim.describe().is_empty());
    let _ = (claim.base_uuid(), claim.is_of(claim));
    claim.write(stage).expect("the disk has room");
    let again = Claim::read(stage).expect("what was written is read");
    assert_eq!(again.as_ref(), Some(claim));
}
