//! The findings of a verification. The field names are those of `verify --json`.

use std::fmt;

use serde::Serialize;

use super::coverage::Coverage;
use super::damage::LayerDamage;
use super::layer_report::{Contents, LayerReport, Proof, Role, Tree, Verdict};
use crate::units::Bytes;
use crate::words::counted;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All metadata of all devices, all attributes of all entries, and the contents of a sample of the layers.
    Quick,
    /// In addition, the contents of all files.
    Full,
}

/// The report on a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How much was read.
    pub mode: Mode,
    /// The verdict.
    pub verdict: Verdict,
    /// How long it took.
    pub elapsed_seconds: f64,
    /// Bytes of devices and files that were read; anything read twice counts twice.
    pub bytes_read: u64,
    /// How much of the layers was checked.
    pub coverage: Coverage,
    /// The faults of the stores, the pool and the driver's files, as one text each.
    pub faults: Vec<String>,
    /// Where the aufs side differs from what was converted, besides the layers' entries, as one text each.
    pub aufs: Vec<String>,
    /// What is wrong with the conversion's journal if it is lost although a conversion exists; `null` if it is not
    /// lost.
    pub journal: Option<String>,
    /// Whether there is a conversion that `rollback` can take back.
    #[serde(skip)]
    pub can_go_back: bool,
    /// What `rollback` would lose, and therefore needs to be forced for; `None` if it loses nothing.
    #[serde(skip)]
    pub lost_by_going_back: Option<String>,
    /// What Docker would tolerate when it starts, but the operator should know, as one text each.
    pub remarks: Vec<String>,
    /// Whether there is a devicemapper side; if not, only aufs is checked.
    pub is_converted: bool,
    /// Number of devices in the pool; 0 if there is no pool, or none that can be read.
    pub nr_devices: usize,
    /// The kernel's verdict.
    pub kernel: KernelCheck,
    /// Layers that already differed from what Docker had unpacked before they were converted.
    pub damaged: Vec<LayerDamage>,
    /// All layers, parents before children; the base device, which has no `id`, comes first.
    pub layers: Vec<LayerReport>,
}

/// The verdict of the kernel's own file system and thin-provisioning code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "asked", rename_all = "kebab-case")]
pub enum KernelCheck {
    /// Devices were mounted read-only.
    Yes {
        /// How many.
        mounted: usize,
        /// The kernel's objections, as one text each.
        faults: Vec<String>,
    },
    /// The kernel was not asked.
    No {
        /// Why.
        reason: String,
    },
}

/// How much of aufs was not read, as the end of a line.
struct UnreadInAufs<'a>(&'a Coverage);

impl fmt::Display for UnreadInAufs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.counts.not_read_in_aufs {
            0 => Ok(()),
            1 => f.write_str("; the bytes of 1 layer in aufs were not read"),
            layers => write!(f, "; the bytes of {layers} layers in aufs were not read"),
        }
    }
}

impl Report {
    /// Adds faults besides those of the layers, unless they are known already, and computes the verdict anew.
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

    /// The overall verdict. A root whose journal is lost is never sound.
    fn judge(&self) -> Verdict {
        match self.journal {
            Some(_) => Verdict::Wrong,
            None => self.judge_rest(),
        }
    }

    /// The overall verdict without regard to the journal.
    fn judge_rest(&self) -> Verdict {
        let kernel = match &self.kernel {
            KernelCheck::Yes { faults, .. } => !faults.is_empty(),
            KernelCheck::No { .. } => false,
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

    /// Whether the aufs side is known to differ from what was converted.
    pub fn has_aufs_changed(&self) -> bool {
        !self.aufs.is_empty() || self.layers.iter().any(LayerReport::has_aufs_changed)
    }

    /// Whether files differ between the devices and aufs, and nothing shows which side is right.
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
                "since changed by their containers",
                self.count(of(|tree| matches!(tree, Tree::ChangedSince { .. }))),
            ),
            (
                "since changed in aufs",
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
                Verdict::Sound => "no fault in the rest, as far as it could be checked",
                Verdict::NotVerified => "and SOME OF THE REST COULD NOT BE CHECKED",
                _ => "and FAULTS IN THE REST are listed above",
            };
            return write!(
                f,
                "THE JOURNAL OF THE CONVERSION IS LOST: nothing shows whether the conversion is completely in place, or \
                 which side is right where aufs and the devices differ; {rest}: {coverage}"
            );
        }
        match (self.verdict, self.mode) {
            (Verdict::Sound, Mode::Full) if coverage.is_whole() => {
                let of_what = if self.is_converted { " with the devices" } else { "" };
                write!(f, "nothing is wrong{of_what}{}", UnreadInAufs(coverage))
            }
            (Verdict::Sound, Mode::Full) => {
                let unread = UnreadInAufs(coverage);
                write!(f, "no fault in what could be verified: {coverage}{unread}")
            }
            (Verdict::Sound, Mode::Quick) => write!(f, "no fault in what was read: {coverage}"),
            (Verdict::SourceDamaged, _) if !self.is_converted => {
                write!(f, "aufs is not what Docker once unpacked: {coverage}")
            }
            (Verdict::SourceDamaged, _) => write!(
                f,
                "the devices contain what aufs had, which was already damaged before the conversion: {coverage}"
            ),
            (Verdict::AufsChanged, _) => write!(
                f,
                "the devices are right, and THE AUFS SIDE IS NOT WHAT WAS CONVERTED: {coverage}"
            ),
            (Verdict::NotVerified, _) => {
                write!(
                    f,
                    "NOT VERIFIED: some of it could not be checked: {coverage}"
                )
            }
            (Verdict::Undecided, _) => write!(
                f,
                "THE TWO SIDES DIFFER in files, and nothing shows which side is right: {coverage}"
            ),
            (Verdict::Wrong, _) if !self.is_converted => {
                f.write_str("SOMETHING IS WRONG with the root, which is not converted")
            }
            (Verdict::Wrong, _) if self.has_aufs_changed() => f.write_str(
                "SOMETHING IS WRONG with the devices, and the aufs side is not what was converted either",
            ),
            (Verdict::Wrong, _) => f.write_str("SOMETHING IS WRONG with the devices"),
        }
    }

    /// Writes how many files have a hole on one side only, with the first of them.
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
            "{count} file{s} with holes in other places than in aufs, but zeros on both sides, as a copy of the root leaves \
             them; the first: {name}: {first}"
        )
    }

    /// Writes why layers could not be verified or compared, each reason once.
    fn write_reasons(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons = self.coverage.reasons.iter();
        reasons.try_for_each(|reason| writeln!(f, "{reason}"))
    }
}

/// `name: 3 this, 4 that`, without zero counts.
fn write_counts(f: &mut fmt::Formatter<'_>, name: &str, counts: &[(&str, usize)]) -> fmt::Result {
    let texts: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    writeln!(f, "{name}: {}", texts.join(", "))
}

/// Writes the counts, then each fault.
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
            // The pool cannot be read.
            0 if self.layers.is_empty() => writeln!(f, "file systems: not checked")?,
            0 => writeln!(f, "file systems: sound")?,
            _ => writeln!(f, "file systems: {unsound} WRONG")?,
        }
        match &self.kernel {
            KernelCheck::Yes { mounted, faults } if faults.is_empty() => {
                writeln!(f, "kernel check: mounted {mounted} devices")?;
            }
            KernelCheck::Yes { faults, .. } => writeln!(f, "kernel check: {} WRONG", faults.len())?,
            KernelCheck::No { .. } if !self.is_converted => {}
            KernelCheck::No { reason } => writeln!(f, "kernel check: not done: {reason}")?,
        }
        self.write_reasons(f)?;
        if let KernelCheck::Yes { faults, .. } = &self.kernel {
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
