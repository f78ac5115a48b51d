//! What was found of one layer. The field names are part of the `--json` interface.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::docker::{CacheId, DiffId, Hits};
use crate::tree::escape;

/// What is said of damage that is no fault of the conversion.
const BEFORE: &str = "; aufs had the same, so it was so before the conversion";

/// What is said of damage that the devices have not.
const SINCE: &str = "; aufs alone, since the conversion";

/// What is said of files that one side must have wrong.
const UNDECIDED: &str = "; nothing tells which side is right";

/// What a layer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The empty device that all others are made of.
    Base,
    /// A layer of images.
    Image,
    /// What Docker puts between an image and a container.
    Init,
    /// A container's own.
    Writable,
    /// The build cache's, by the form of its id.
    BuildCache,
    /// Nothing refers to it.
    Unused,
}

/// One layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerReport {
    /// Its id; `null` for the base device.
    pub id: Option<CacheId>,
    /// What it is for.
    pub role: Role,
    /// The digest of its tar, of an image's layer.
    pub diff_id: Option<DiffId>,
    /// Its device's number in the pool; `null` where there is no device.
    pub device: Option<u32>,
    /// The bytes of its own files, as far as known.
    pub bytes: u64,
    /// Why it could not be looked at although it is there; `null` where it was.
    pub not_verified: Option<String>,
    /// What is wrong with the device's file system, a text each.
    pub structure: Faults,
    /// The contents of its files and, where Docker recorded the layer's tar, all that the tar says of its entries.
    pub contents: Contents,
    /// Its entries and their attributes, compared with aufs.
    pub tree: Tree,
    /// What of the layer's tar, or of the bytes that were converted, aufs alone has otherwise, and the device has right; where there are
    /// devices.
    pub aufs: Faults,
    /// Files that are a hole on one side where the other takes space for zeros. That is no fault.
    pub space: Faults,
    /// The digest of its device's entries, for the conversion's journal.
    #[serde(skip)]
    pub entries: Option<String>,
    /// Likewise of the bytes of its files, where no tar tells what these must be and aufs has the same.
    #[serde(skip)]
    pub own_bytes: Option<String>,
    /// Whether the bytes of its files in aufs were read although its device was proven.
    #[serde(skip)]
    pub read_in_aufs: bool,
    /// When the kernel last mounted its ext4 to write to it, in seconds since 1970.
    #[serde(skip)]
    pub mounted: Option<i64>,
    /// Who needs it.
    pub hits: Hits,
}

impl LayerReport {
    /// What this layer comes to.
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

    /// Whether aufs has it otherwise than it was converted, and the device not.
    pub(super) fn has_aufs_changed(&self) -> bool {
        matches!(self.tree, Tree::AufsChanged { .. }) || !self.aufs.is_empty()
    }

    pub(super) fn name(&self) -> String {
        self.id
            .as_ref()
            .map_or_else(|| "base device".to_owned(), |id| format!("layer {id}"))
    }

    /// Each thing that is wrong, on a line of its own.
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
            // Of a root that was not converted there is nothing to tell apart.
            Contents::SourceDamaged { files } if self.device.is_none() => write("", files)?,
            Contents::SourceDamaged { files } => write(BEFORE, files)?,
            _ => {}
        }
        match &self.tree {
            Tree::Different { entries } => write("", entries)?,
            // What the tar says of the branch is the same once more.
            Tree::AufsChanged { entries } if self.aufs.is_empty() => write(SINCE, entries)?,
            _ => {}
        }
        write(SINCE, &self.aufs)
    }
}

/// Texts of what is wrong, the first few.
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

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.first.len() as u64 + self.more
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Self) {
        other.first.into_iter().for_each(|fault| self.push(fault));
        self.more += other.more;
    }

    /// Adds one.
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

/// By what contents were verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The digest of the layer's tar, made again of what the device holds.
    DiffId,
    /// Checksums of the files: Docker's, compared with those of what was written; or those that the conversion noted.
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
        /// By what.
        by: Proof,
        /// Files that have content.
        files: u64,
        /// Their bytes.
        bytes: u64,
        /// Entries of the layer's tar that were compared, with all that the tar says of them; `None`: there is no tar to go by, and
        /// the branch was compared alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        entries: Option<u64>,
    },
    /// There is nothing to verify: no files with content, or no layer.
    Nothing,
    /// They were left out, as quick verification does.
    NotRead,
    /// Nothing tells what they must be.
    NotVerifiable {
        /// Why.
        reason: String,
    },
    /// They are not what they must be.
    Mismatch {
        /// Where.
        files: Faults,
        /// Where else aufs has the same, so that it was so before the conversion.
        #[serde(skip_serializing_if = "Faults::is_empty")]
        before: Faults,
    },
    /// They are not what aufs has, and nothing tells which side is right.
    Undecided {
        /// Where.
        files: Faults,
    },
    /// They are not what Docker once unpacked, but aufs had the same.
    SourceDamaged {
        /// Where.
        files: Faults,
    },
}

impl Contents {
    /// These differ, and aufs is not known to have the same.
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
    /// What differs from its parent is what the branch says.
    Same {
        /// Entries of the branch.
        entries: u64,
    },
    /// There is no branch to compare with, or nothing that can be.
    NotCompared {
        /// Why.
        reason: String,
    },
    /// It differs, because a container went on with it since.
    ChangedSince {
        /// In how many places.
        differences: u64,
    },
    /// It differs, and aufs is at fault: it is not what was converted.
    AufsChanged {
        /// Where.
        entries: Faults,
    },
    /// It differs.
    Different {
        /// Where.
        entries: Faults,
    },
}

/// A path within a layer, for messages.
pub(super) fn shown_path(path: &[u8]) -> String {
    format!("/{}", escape(path))
}

/// Who is hit, as the end of a line.
struct Users<'a>(&'a Hits);

impl fmt::Display for Users<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0)
    }
}

/// What it comes to, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No fault in what was looked at; how much that was is in the [`Coverage`](super::coverage::Coverage).
    Sound,
    /// The devices hold what aufs had, but aufs did not have what Docker once unpacked: damage from before the conversion.
    SourceDamaged,
    /// The devices are right; the aufs side is not what was converted, be it damaged or used since: a way back leads to other than
    /// what there was.
    AufsChanged,
    /// Layers that are there could not be looked at. It says nothing about them.
    NotVerified,
    /// Files are other on the devices than in aufs, and nothing tells which side is right.
    Undecided,
    /// Something is wrong with the devices.
    Wrong,
}
