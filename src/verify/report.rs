//! What a verification found. Its fields' names are those of `verify --json`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::damage::LayerDamage;
use crate::docker::{CacheId, DiffId, Hits};
use crate::tree::escape;
use crate::units::Bytes;
use crate::words::counted;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All metadata of all devices, all attributes of all entries, the contents of a sample of the layers.
    Quick,
    /// The contents of all files too.
    Full,
}

/// What it comes to, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No fault in what was looked at; how much that was is in the [`Coverage`].
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

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How much was read.
    pub mode: Mode,
    /// What it comes to.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed_seconds: f64,
    /// Bytes of devices and files that were read; what was read twice counts twice.
    pub bytes_read: u64,
    /// How much of the layers was looked at.
    pub coverage: Coverage,
    /// What is wrong with the stores, the pool and the driver's files, a text each.
    pub faults: Vec<String>,
    /// What of the aufs side is not what was converted, besides layers' entries, a text each.
    pub aufs: Vec<String>,
    /// What is wrong with the conversion's journal where it is lost, though a conversion is there; `null` where it is not.
    pub journal: Option<String>,
    /// Whether there is a conversion that `rollback` knows to take back.
    #[serde(skip)]
    pub can_go_back: bool,
    /// What `rollback` would lose, and so wants to be told to; `None` where it loses nothing.
    #[serde(skip)]
    pub lost_by_going_back: Option<String>,
    /// What Docker would start with all the same, but the operator should know, a text each.
    pub remarks: Vec<String>,
    /// Whether there is a devicemapper side; of a root without one, aufs is looked at alone.
    pub is_converted: bool,
    /// Devices in the pool; 0 where there is none, or none that can be read.
    pub nr_devices: usize,
    /// What the kernel said of it.
    pub kernel: KernelWord,
    /// Layers that were not what Docker once unpacked before they were converted.
    pub damaged: Vec<LayerDamage>,
    /// Each layer, parents before what lies on them; the base device first, which has no `id`.
    pub layers: Vec<LayerReport>,
}

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

/// What the kernel's own file system and thin-provisioning code said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "asked", rename_all = "kebab-case")]
pub enum KernelWord {
    /// Devices were mounted, read-only.
    Yes {
        /// How many.
        mounted: usize,
        /// What it did not like, a text each.
        faults: Vec<String>,
    },
    /// It was not asked.
    No {
        /// Why.
        reason: String,
    },
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
    fn has_aufs_changed(&self) -> bool {
        matches!(self.tree, Tree::AufsChanged { .. }) || !self.aufs.is_empty()
    }

    fn name(&self) -> String {
        self.id
            .as_ref()
            .map_or_else(|| "base device".to_owned(), |id| format!("layer {id}"))
    }

    /// Each thing that is wrong, on a line of its own.
    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// What is said of damage that is no fault of the conversion.
const BEFORE: &str = "; aufs had the same, so it was so before the conversion";

/// What is said of damage that the devices have not.
const SINCE: &str = "; aufs alone, since the conversion";

/// What is said of files that one side must have wrong.
const UNDECIDED: &str = "; nothing tells which side is right";

/// How much of aufs was not read, as the end of a line.
struct InAufs<'a>(&'a Coverage);

impl fmt::Display for InAufs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.counts.not_read_in_aufs {
            0 => Ok(()),
            1 => f.write_str("; the bytes that aufs has of 1 layer were not read"),
            layers => write!(
                f,
                "; the bytes that aufs has of {layers} layers were not read"
            ),
        }
    }
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

impl Report {
    /// Adds what is wrong besides the layers, unless it is known already, and judges anew.
    pub(crate) fn add_faults(&mut self, faults: impl IntoIterator<Item = String>) {
        for fault in faults {
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
        self.remarks.retain(|remark| !self.faults.contains(remark));
        self.coverage = Coverage::of(&self.layers, self.is_converted);
        self.verdict = self.judge();
    }

    /// What its parts come to. A journal that is lost is never sound.
    fn judge(&self) -> Verdict {
        match self.journal {
            Some(_) => Verdict::Wrong,
            None => self.judge_rest(),
        }
    }

    /// The same, whatever became of the journal.
    fn judge_rest(&self) -> Verdict {
        let kernel = match &self.kernel {
            KernelWord::Yes { faults, .. } => !faults.is_empty(),
            KernelWord::No { .. } => false,
        };
        let whole = if kernel || !self.faults.is_empty() {
            Verdict::Wrong
        } else if !self.aufs.is_empty() {
            Verdict::AufsChanged
        } else {
            Verdict::Sound
        };
        let layers = self.layers.iter().map(LayerReport::verdict);
        layers.fold(whole, Verdict::max)
    }

    /// Whether the aufs side is not what was converted, as far as it is known.
    pub fn has_aufs_changed(&self) -> bool {
        !self.aufs.is_empty() || self.layers.iter().any(LayerReport::has_aufs_changed)
    }

    /// Whether files are other on the devices than in aufs, and nothing tells which side is right.
    pub fn is_undecided(&self) -> bool {
        let mut contents = self.layers.iter().map(|layer| &layer.contents);
        contents.any(|contents| matches!(contents, Contents::Undecided { .. }))
    }

    fn count(&self, what: impl Fn(&LayerReport) -> bool) -> usize {
        self.layers.iter().filter(|layer| what(layer)).count()
    }

    fn write_contents(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |proof| move |layer: &LayerReport| matches!(layer.contents, Contents::Verified { by, .. } if by == proof);
        let of = |grade: fn(&Contents) -> bool| move |layer: &LayerReport| grade(&layer.contents);
        let counts = [
            ("by DiffID", self.count(by(Proof::DiffId))),
            ("by checksums", self.count(by(Proof::Checksums))),
            ("as in aufs", self.count(by(Proof::Comparison))),
            (
                "without any",
                self.count(of(|contents| *contents == Contents::Nothing)),
            ),
            (
                "not read",
                self.count(of(|contents| *contents == Contents::NotRead)),
            ),
            (
                "not verifiable",
                self.count(of(|contents| {
                    matches!(contents, Contents::NotVerifiable { .. })
                })),
            ),
            (
                if self.is_converted {
                    "damaged before the conversion"
                } else {
                    "DAMAGED"
                },
                self.count(of(|contents| {
                    matches!(contents, Contents::SourceDamaged { .. })
                })),
            ),
            (
                "NOT AS IN AUFS",
                self.count(of(|contents| {
                    matches!(contents, Contents::Undecided { .. })
                })),
            ),
            (
                "WRONG",
                self.count(of(|contents| matches!(contents, Contents::Mismatch { .. }))),
            ),
        ];
        write_counts(f, "contents", &counts)
    }

    fn write_trees(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |grade: fn(&Tree) -> bool| move |layer: &LayerReport| grade(&layer.tree);
        let counts = [
            (
                "as in aufs",
                self.count(of(|tree| matches!(tree, Tree::Same { .. }))),
            ),
            (
                "changed by their containers since",
                self.count(of(|tree| matches!(tree, Tree::ChangedSince { .. }))),
            ),
            (
                "changed in aufs since",
                self.count(LayerReport::has_aufs_changed),
            ),
            (
                "not compared",
                self.count(of(|tree| matches!(tree, Tree::NotCompared { .. }))),
            ),
            (
                "WRONG",
                self.count(of(|tree| matches!(tree, Tree::Different { .. }))),
            ),
        ];
        write_counts(f, "trees", &counts)
    }

    /// The last line.
    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coverage = &self.coverage;
        if self.journal.is_some() {
            let rest = match self.judge_rest() {
                Verdict::Sound => "no fault in the rest, as far as it could be judged",
                Verdict::NotVerified => "and SOME OF THE REST COULD NOT BE LOOKED AT",
                _ => "and FAULTS OF THE REST are named above",
            };
            return write!(
                f,
                "THE JOURNAL OF THE CONVERSION IS LOST: nothing tells whether all of it is in place, nor, where aufs and the devices \
                 differ, which is right; {rest}: {coverage}"
            );
        }
        match (self.verdict, self.mode) {
            (Verdict::Sound, Mode::Full) if coverage.is_whole() => {
                let of_what = if self.is_converted { " with the devices" } else { "" };
                write!(f, "nothing is wrong{of_what}{}", InAufs(coverage))
            }
            (Verdict::Sound, Mode::Full) => {
                let unread = InAufs(coverage);
                write!(f, "no fault in what could be verified: {coverage}{unread}")
            }
            (Verdict::Sound, Mode::Quick) => write!(f, "no fault in what was read: {coverage}"),
            (Verdict::SourceDamaged, _) if !self.is_converted => {
                write!(f, "aufs is not what Docker once unpacked: {coverage}")
            }
            (Verdict::SourceDamaged, _) => write!(
                f,
                "the devices hold what aufs had; aufs had damage from before the conversion: {coverage}"
            ),
            (Verdict::AufsChanged, _) => write!(
                f,
                "the devices are right, and THE AUFS SIDE IS NOT WHAT WAS CONVERTED: {coverage}"
            ),
            (Verdict::NotVerified, _) => {
                write!(
                    f,
                    "NOT VERIFIED: some of it could not be looked at: {coverage}"
                )
            }
            (Verdict::Undecided, _) => write!(
                f,
                "THE TWO SIDES DIFFER in files, and nothing tells which side is right: {coverage}"
            ),
            (Verdict::Wrong, _) if !self.is_converted => {
                f.write_str("SOMETHING IS WRONG with the root, of which nothing is converted")
            }
            (Verdict::Wrong, _) if self.has_aufs_changed() => f.write_str(
                "SOMETHING IS WRONG with the devices, and the aufs side is not what was converted either",
            ),
            (Verdict::Wrong, _) => f.write_str("SOMETHING IS WRONG with the devices"),
        }
    }

    /// How many files are a hole on one side only, with the first.
    fn write_space(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count: u64 = self.layers.iter().map(|layer| layer.space.count()).sum();
        let mut all = self.layers.iter();
        let first = all.find_map(|layer| Some((layer.name(), layer.space.first.first()?)));
        let Some((name, first)) = first else {
            return Ok(());
        };
        let s = if count == 1 { "" } else { "s" };
        writeln!(
            f,
            "{count} file{s} with holes in other places than in aufs, zeros on both sides, as a copy of the root leaves it; the \
             first: {name}: {first}"
        )
    }

    /// Why layers could not be verified or compared, each reason once.
    fn write_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = self.coverage.reasons.iter();
        reasons.try_for_each(|reason| writeln!(f, "{reason}"))
    }
}

/// `name: 3 this, 4 that`, without what there is none of.
fn write_counts(f: &mut fmt::Formatter<'_>, name: &str, counts: &[(&str, usize)]) -> fmt::Result {
    let texts: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    writeln!(f, "{name}: {}", texts.join(", "))
}

/// Counts, then each thing that is wrong.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Quick => "quick",
            Mode::Full => "full",
        };
        let nr_layers = self.count(|layer| layer.role != Role::Base);
        writeln!(
            f,
            "{mode} verification: {}, {}, {} read in {:.1} s",
            counted(nr_layers as u64, "layer"),
            counted(self.nr_devices as u64, "device"),
            Bytes(self.bytes_read),
            self.elapsed_seconds
        )?;
        self.write_contents(f)?;
        self.write_trees(f)?;
        let unsound = self.count(|layer| !layer.structure.is_empty());
        match unsound {
            0 if !self.is_converted => {}
            // Of a pool that cannot be read.
            0 if self.layers.is_empty() => writeln!(f, "file systems: not looked at")?,
            0 => writeln!(f, "file systems: sound")?,
            _ => writeln!(f, "file systems: {unsound} WRONG")?,
        }
        match &self.kernel {
            KernelWord::Yes { mounted, faults } if faults.is_empty() => {
                writeln!(f, "kernel check: mounted {mounted} devices")?;
            }
            KernelWord::Yes { faults, .. } => writeln!(f, "kernel check: {} WRONG", faults.len())?,
            KernelWord::No { .. } if !self.is_converted => {}
            KernelWord::No { reason } => writeln!(f, "kernel check: not done: {reason}")?,
        }
        self.write_reasons(f)?;
        if let KernelWord::Yes { faults, .. } = &self.kernel {
            faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))?;
        }
        self.write_space(f)?;
        self.faults
            .iter()
            .chain(&self.journal)
            .chain(&self.aufs)
            .chain(&self.remarks)
            .try_for_each(|fault| writeln!(f, "{fault}"))?;
        self.layers
            .iter()
            .try_for_each(|layer| layer.write_faults(f))?;
        self.write_verdict(f)
    }
}

/// A path within a layer, for messages.
pub(super) fn shown_path(path: &[u8]) -> String {
    format!("/{}", escape(path))
}
