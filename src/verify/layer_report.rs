//! The findings for one layer. The field names are part of the `--json` interface.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::docker::{CacheId, DiffId, Hits};
use crate::tree::escape;

/// The suffix for damage that is not the conversion's fault.
const BEFORE: &str = "; aufs had the same, so this predates the conversion";

/// The suffix for damage that the devices do not have.
const SINCE: &str = "; only in aufs, since the conversion";

/// The suffix for files that one side must have wrong.
const UNDECIDED: &str = "; nothing shows which side is right";

/// The purpose of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The empty device from which all others are made.
    Base,
    /// A layer of images.
    Image,
    /// The layer that Docker puts between an image and a container.
    Init,
    /// A container's own layer.
    Writable,
    /// A layer of the build cache, recognized by the form of its id.
    BuildCache,
    /// Nothing refers to it.
    Unused,
}

/// The report on one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Its id; `null` for the base device.
    pub id: Option<CacheId>,
    /// Its purpose.
    pub role: Role,
    /// The digest of its tar, if it is a layer of an image.
    pub diff_id: Option<DiffId>,
    /// Its device id in the pool; `null` if there is no device.
    pub device: Option<u32>,
    /// The bytes of its own files, as far as known.
    pub bytes: u64,
    /// Why it could not be checked although it exists; `null` if it was checked.
    pub not_verified: Option<String>,
    /// The faults of the device's file system, as one text each.
    pub structure: Faults,
    /// The contents of its files and, if Docker recorded the layer's tar, everything that the tar says about its
    /// entries.
    pub contents: Contents,
    /// Its entries and their attributes, compared with aufs.
    pub tree: Tree,
    /// Where aufs alone differs from the layer's tar, or from the bytes that were converted, while the device is right;
    /// only if there are devices.
    pub aufs: Faults,
    /// Files that have a hole on one side where the other side has allocated zeros. That is not a fault.
    pub space: Faults,
    /// The digest of its device's entries, for the conversion's journal.
    #[serde(skip)]
    pub entries: Option<String>,
    /// The digest of the bytes of its files, also for the journal, if no tar says what these must be and aufs has the
    /// same.
    #[serde(skip)]
    pub own_bytes: Option<String>,
    /// Whether the bytes of its files in aufs were read although its device was proven.
    #[serde(skip)]
    pub read_in_aufs: bool,
    /// When the kernel last mounted its ext4 writable, in seconds since 1970.
    #[serde(skip)]
    pub mounted: Option<i64>,
    /// The images and containers that need it.
    pub hits: Hits,
}

impl LayerReport {
    /// The verdict on this layer.
    pub fn verdict(&self) -> Verdict {
        let contents = match self.contents {
            Contents::Mismatch { .. } => Verdict::Wrong,
            Contents::Undecided { .. } => Verdict::Undecided,
            Contents::SourceDamaged { .. } => Verdict::SourceDamaged,
            _ => Verdict::Sound,
        };
        let wrong = matches!(self.tree, Tree::Different { .. }) || !self.structure.is_empty();
        contents.max(if wrong {
            Verdict::Wrong
        } else if self.not_verified.is_some() {
            Verdict::NotVerified
        } else if self.has_aufs_changed() {
            Verdict::AufsChanged
        } else {
            Verdict::Sound
        })
    }

    /// Whether aufs, but not the device, differs from what was converted.
    pub(super) fn has_aufs_changed(&self) -> bool {
        matches!(self.tree, Tree::AufsChanged { .. }) || !self.aufs.is_empty()
    }

    pub(super) fn name(&self) -> String {
        self.id
            .as_ref()
            .map_or_else(|| "base device".to_owned(), |id| format!("layer {id}"))
    }

    /// Writes each fault on a line of its own.
    pub(super) fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, users) = (self.name(), Users(&self.hits));
        let mut write = |what: &str, faults: &Faults| {
            for fault in &faults.first {
                writeln!(f, "{name}: {fault}{what}{users}")?;
            }
            match faults.more {
                0 => Ok(()),
                more => writeln!(f, "{name}: and {more} more"),
            }
        };
        write("", &self.structure)?;
        match &self.contents {
            Contents::Mismatch { files, before } => {
                write("", files)?;
                write(BEFORE, before)?;
            }
            Contents::Undecided { files } => write(UNDECIDED, files)?,
            // A root that was not converted has no second side.
            Contents::SourceDamaged { files } if self.device.is_none() => write("", files)?,
            Contents::SourceDamaged { files } => write(BEFORE, files)?,
            _ => {}
        }
        match &self.tree {
            Tree::Different { entries } => write("", entries)?,
            // What the tar says about the branch would repeat the same faults.
            Tree::AufsChanged { entries } if self.aufs.is_empty() => write(SINCE, entries)?,
            _ => {}
        }
        write(SINCE, &self.aufs)
    }
}

/// Texts of faults; only the first few are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The first ones.
    pub first: Vec<String>,
    /// How many more there are.
    pub more: u64,
}

impl Faults {
    /// How many texts are kept.
    const KEPT: usize = 64;

    /// Whether there are no faults.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The number of faults.
    pub fn count(&self) -> u64 {
        self.first.len() as u64 + self.more
    }

    /// Adds all faults of another list.
    pub fn append(&mut self, other: Self) {
        other.first.into_iter().for_each(|fault| self.push(fault));
        self.more += other.more;
    }

    /// Adds one fault.
    pub fn push(&mut self, fault: impl fmt::Display) {
        if self.first.len() < Self::KEPT {
            self.first.push(fault.to_string());
        } else {
            self.more += 1;
        }
    }
}

impl<T: fmt::Display> FromIterator<T> for Faults {
    fn from_iter<I: IntoIterator<Item = T>>(faults: I) -> Self {
        let mut all = Self::default();
        faults.into_iter().for_each(|fault| all.push(fault));
        all
    }
}

/// The proof by which contents were verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The digest of the layer's tar, recomputed from what the device holds.
    DiffId,
    /// Checksums of the files: Docker's, compared with those of what was written; or those recorded by the conversion.
    Checksums,
    /// The same bytes as in the branch.
    Comparison,
}

/// What is known of a layer's contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "grade", rename_all = "kebab-case")]
pub enum Contents {
    /// They are what they must be.
    Verified {
        /// The proof.
        by: Proof,
        /// Files that have content.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Entries of the layer's tar that were compared in everything that the tar says about them; `None`: there is
        /// no usable tar, and only the branch was compared.
        #[serde(skip_serializing_if = "Option::is_none")]
        entries: Option<u64>,
    },
    /// There is nothing to verify: no files with content, or no layer.
    Nothing,
    /// They were left out, as in a quick verification.
    NotRead,
    /// Nothing says what they must be.
    NotVerifiable {
        /// Why.
        reason: String,
    },
    /// They are not what they must be.
    Mismatch {
        /// The files.
        files: Faults,
        /// Further faults that aufs has too, so they existed before the conversion.
        #[serde(skip_serializing_if = "Faults::is_empty")]
        before: Faults,
    },
    /// They differ from aufs, and nothing shows which side is right.
    Undecided {
        /// The files.
        files: Faults,
    },
    /// They differ from what Docker once unpacked, but aufs had the same.
    SourceDamaged {
        /// The files.
        files: Faults,
    },
}

impl Contents {
    /// A mismatch in `files`, without any that aufs is known to have too.
    pub(super) fn mismatch(files: Faults) -> Self {
        Self::Mismatch {
            files,
            before: Faults::default(),
        }
    }
}

/// What is known of a layer's entries and attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "grade", rename_all = "kebab-case")]
pub enum Tree {
    /// The differences from its parent are exactly what the branch says.
    Same {
        /// Number of entries in the branch.
        entries: u64,
    },
    /// There is no branch to compare with, or nothing comparable.
    NotCompared {
        /// Why.
        reason: String,
    },
    /// It differs because its container was used since.
    ChangedSince {
        /// Number of differences.
        differences: u64,
    },
    /// It differs, and aufs is at fault: aufs is not what was converted.
    AufsChanged {
        /// The differences.
        entries: Faults,
    },
    /// It differs.
    Different {
        /// The differences.
        entries: Faults,
    },
}

/// A path within a layer, for messages.
pub(super) fn shown_path(path: &[u8]) -> String {
    format!("/{}", escape(path))
}

/// The affected images and containers, as the end of a line.
struct Users<'a>(&'a Hits);

impl fmt::Display for Users<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0)
    }
}

/// The verdict, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No fault in what was checked; [`Coverage`](super::coverage::Coverage) says how much that was.
    Sound,
    /// The devices hold what aufs had, but aufs differed from what Docker once unpacked: damage from before the
    /// conversion.
    SourceDamaged,
    /// The devices are right; the aufs side is not what was converted, because it was damaged or used since: going back
    /// would not lead to the previous state.
    AufsChanged,
    /// Some layers exist but could not be checked. This says nothing about them.
    NotVerified,
    /// Files differ between the devices and aufs, and nothing shows which side is right.
    Undecided,
    /// Something is wrong with the devices.
    Wrong,
}
