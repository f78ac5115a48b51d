//! Proves a layer's contents: its tar, reassembled from its files, has the digest by which Docker names the layer.

use std::fs::File;

use sha2::{Digest as _, Sha256};

use super::layer_report::{Contents as Grade, Faults, Proof, shown_path};
use super::unpack::Unpack;
use crate::content::Halt;
use crate::docker::DiffId;
use crate::tar_split::{Contents, Difference, Excuse, FileLookup, Reassembly, reassemble};

/// The result of reassembling a layer's tar.
#[derive(Debug)]
pub(super) struct ProofOutcome {
    /// Each file, compared with its record.
    pub(super) files: Reassembly,
    /// Whether the tar has the layer's digest. `None`: some of its bytes were not available.
    pub(super) is_layer: Option<bool>,
}

/// Reassembles a layer's tar from files whose bytes can be read, and computes its digest.
pub(super) fn by_digest<C: Contents<Error = Halt>>(
    (tar_split, diff): (File, DiffId),
    contents: &mut C,
    unpack: &mut Unpack,
) -> Result<ProofOutcome, Halt> {
    let mut digest = Sha256::new();
    let files = reassemble(tar_split, contents, unpack, &mut |bytes| {
        digest.update(bytes);
    })?;
    let is_layer = files
        .is_whole()
        .then(|| diff.is_of(digest.finalize().into()));
    Ok(ProofOutcome { files, is_layer })
}

/// Compares only the files' checksums with the recorded ones.
pub(super) fn by_checksums<C: Contents<Error = Halt>>(
    tar_split: File,
    contents: &mut C,
    unpack: &mut Unpack,
) -> Result<ProofOutcome, Halt> {
    let files = reassemble(tar_split, contents, unpack, &mut |_| {})?;
    Ok(ProofOutcome {
        files,
        is_layer: None,
    })
}

impl ProofOutcome {
    /// Whether a file differs from its record, and nothing in the layer's own tar explains that.
    pub(super) fn is_wrong(&self) -> bool {
        let files = &self.files;
        files.more > 0 || files.differences.iter().any(|one| one.excuse.is_none())
    }

    /// The verdict on files that are not [wrong](Self::is_wrong).
    pub(super) fn grade(&self) -> Grade {
        let (files, bytes) = (self.files.files, self.files.bytes);
        if let Some(path) = &self.files.given_up {
            let path = shown_path(path);
            return Grade::NotVerifiable {
                reason: format!(
                    "according to its record, {path} is one of many names for the same content; no tar that Docker recorded has that many"
                ),
            };
        }
        if let Some(excused) = self.files.differences.first() {
            return Grade::NotVerifiable {
                reason: excuse(excused, files - self.files.differences.len() as u64),
            };
        }
        match self.is_layer {
            Some(false) => Grade::NotVerifiable {
                reason: format!(
                    "all {files} files have their recorded checksums, but the recorded tar does not have the layer's DiffID"
                ),
            },
            Some(true) => Grade::Verified {
                by: Proof::DiffId,
                files,
                bytes,
                entries: None,
            },
            None if files == 0 => Grade::Nothing,
            None => Grade::Verified {
                by: Proof::Checksums,
                files,
                bytes,
                entries: None,
            },
        }
    }

    /// The faults, as one text for each file.
    pub(super) fn faults(&self) -> Faults {
        let mut faults = self.faults_of(|_| true);
        faults.more += self.files.more;
        faults
    }

    /// The faults of some of the files that are listed by name.
    pub(super) fn faults_of(&self, which: impl Fn(&Difference) -> bool) -> Faults {
        let differences = self.files.differences.iter();
        differences
            .filter(|one| one.excuse.is_none() && which(one))
            .map(describe)
            .collect()
    }

    /// Whether there is no file at a path for which one was recorded.
    pub(super) fn lacks(&self, path: &[u8]) -> bool {
        let is_gone =
            |one: &Difference| matches!(one.found, FileLookup::Absent | FileLookup::Blocked);
        let mut differences = self.files.differences.iter();
        differences.any(|one| one.path == path && is_gone(one))
    }

    /// Whether a file has the same difference here as elsewhere.
    pub(super) fn has(&self, difference: &Difference) -> bool {
        self.files.differences.contains(difference)
    }
}

fn describe(difference: &Difference) -> String {
    let path = shown_path(&difference.path);
    let recorded = difference.recorded;
    match difference.found {
        FileLookup::Content { .. } => format!("{path}: its content is not what Docker recorded"),
        FileLookup::OtherSize(size) => {
            format!(
                "{path}: has {size} bytes, but {} were recorded",
                recorded.size
            )
        }
        FileLookup::NotRegular => format!("{path}: is not a regular file"),
        FileLookup::Absent | FileLookup::Blocked | FileLookup::Again => {
            format!("{path}: is missing")
        }
    }
}

fn excuse(difference: &Difference, others: u64) -> String {
    let path = shown_path(&difference.path);
    let why = match difference.excuse {
        Some(Excuse::Duplicate) => {
            "appears twice in the layer's tar, and only the last one is kept"
        }
        Some(Excuse::Whiteout) => "is deleted by the layer's own tar",
        Some(Excuse::Replaced) => "is in a directory that the layer's own tar replaces",
        Some(Excuse::Marker) | None => "has a name that only aufs keeps",
    };
    format!("{path} {why}; the other {others} files have their recorded checksums")
}
