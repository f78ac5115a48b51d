//! Checks the bytes of a mounted device's files against the layer's digest and the branches.

use std::fs::File;
use std::ops::Range;

use super::compare::{MergeComparison, Origin};
use crate::chain::Chain;
use crate::content::{BranchFiles, Halt};
use crate::docker::{DiffId, Owner};
use crate::source::Layer;
use crate::source::branch_reader::BranchReader;
use crate::tar_split::{ContentRecord, Contents as Source, FileLookup};
use crate::tree::{LayerTree, NodeId};
use crate::verify::entries::Entries;
use crate::verify::layer_check::LayerCheck;
use crate::verify::layer_report::{Contents, Faults, LayerReport, Proof, Tree};
use crate::verify::proof::by_digest;
use crate::verify::reasons::{CHANGED_IN_AUFS, WENT_ON};
use crate::verify::recorded::nr_names;
use crate::verify::report::Mode;
use crate::verify::unpack::Unpack;
use crate::verify::verification::Verification;

/// A mounted device with everything that its files are compared with.
pub(super) struct Files<'r, 'a> {
    pub(super) run: &'r Verification<'a>,
    /// Its tree, and its mount point.
    pub(super) mounted: &'r Layer,
    /// The branches, topmost first; empty if some are missing.
    pub(super) layers: &'r [&'r Layer],
    pub(super) merged: Option<&'r MergeComparison>,
    /// The byte ranges in which the device differs from its parent.
    pub(super) changed: Option<&'r [Range<u64>]>,
    /// When the conversion recorded the device, in seconds since 1970, if its container was used since.
    pub(super) went_on_after: Option<i64>,
}

impl Files<'_, '_> {
    /// The verdict on the layer's contents.
    pub(super) fn contents(
        &self,
        look: &LayerCheck<'_, '_>,
        tree: &Tree,
    ) -> Result<Contents, Halt> {
        if let Tree::ChangedSince { .. } = tree {
            return self.contents_left();
        }
        let contents = match look.record() {
            Ok(Some((diff, record))) => match self.by_digest(diff, record) {
                Err(halt @ Halt::TarSplit(_)) => {
                    let without = self.by_comparison()?;
                    look.unrecorded(&halt, without)
                }
                contents => contents?,
            },
            Ok(None) => self.by_comparison()?,
            Err(halt) => {
                let without = self.by_comparison()?;
                look.unrecorded(&halt, without)
            }
        };
        self.with_those_from_below(contents)
    }

    /// The contents of a layer whose container was used since. What the kernel has not changed since must still match
    /// aufs.
    fn contents_left(&self) -> Result<Contents, Halt> {
        let (_, _, files) = self.differing(|_| true)?;
        Ok(if files.is_empty() {
            Contents::NotVerifiable {
                reason: WENT_ON.to_owned(),
            }
        } else {
            Contents::Undecided { files }
        })
    }

    fn by_digest(&self, diff: DiffId, record: File) -> Result<Contents, Halt> {
        let mut files = OnDevice(BranchFiles::new(&self.run.work, self.mounted)?);
        let mut unpack = self.unpack();
        let proven = by_digest((record, diff), &mut files, &mut unpack)?;
        let entries = self.entries(unpack, proven.is_layer);
        if !proven.is_wrong() {
            return Ok(entries.added_to(proven.grade()));
        }
        let files = proven.faults();
        // Aufs has the same, so it existed before the conversion.
        let as_in_aufs = match self.merged {
            Some(merged) if merged.faults.is_empty() => {
                self.differing(|layer| layer == 0)?.2.is_empty()
            }
            _ => false,
        };
        Ok(entries.added_to(if as_in_aufs {
            Contents::SourceDamaged { files }
        } else {
            Contents::mismatch(files)
        }))
    }

    /// A new unpacking of the layer's tar.
    fn unpack(&self) -> Unpack {
        let tree = self
            .layers
            .first()
            .map_or(&self.mounted.tree, |own| &own.tree);
        let root = &tree.node(LayerTree::ROOT).meta;
        let is_shifted = (root.uid, root.gid) == (self.run.owner.uid, self.run.owner.gid);
        let unshifted = Owner { uid: 0, gid: 0 };
        let owner = if is_shifted {
            self.run.owner
        } else {
            unshifted
        };
        Unpack::new(owner, nr_names(tree))
    }

    /// Compares the tar's entries with the branch, which stands for the device if the two are the same.
    fn entries(&self, unpack: Unpack, is_layer: Option<bool>) -> Entries {
        let are_same = self.merged.is_some_and(|merged| merged.faults.is_empty());
        let branch = self.layers.first().filter(|_| are_same);
        match (branch, unpack.finish()) {
            _ if is_layer == Some(false) => {
                Entries::unknown("the recorded tar does not have the layer's DiffID")
            }
            (_, Err(why)) => Entries::unknown(why),
            (None, Ok(_)) => Entries::unknown("a mounted device is compared only with aufs"),
            (Some(branch), Ok(tar)) => Entries::of_branch(&tar, &branch.tree),
        }
    }

    fn by_comparison(&self) -> Result<Contents, Halt> {
        if self.merged.is_none() {
            return Ok(Contents::NotVerifiable {
                reason: "Docker keeps no digest of it, and it is not in aufs".to_owned(),
            });
        }
        let (files, bytes, faults) = self.differing(|layer| layer == 0)?;
        Ok(if !faults.is_empty() && self.run.noted.is_some() {
            Contents::Undecided { files: faults }
        } else if !faults.is_empty() {
            Contents::mismatch(faults)
        } else if self.merged.is_some_and(|merged| merged.is_of_aufs) {
            Contents::NotVerifiable {
                reason: CHANGED_IN_AUFS.to_owned(),
            }
        } else if files == 0 {
            Contents::Nothing
        } else {
            Contents::Verified {
                by: Proof::Comparison,
                files,
                bytes,
                entries: None,
            }
        })
    }

    /// Adds the files of a proven layer whose bytes differ in aufs, if aufs was written to.
    pub(super) fn add_bytes_of_aufs(&self, report: &mut LayerReport) -> Result<(), Halt> {
        let is_proven = matches!(
            report.contents,
            Contents::Verified {
                by: Proof::DiffId,
                ..
            }
        );
        if !self.run.reads_aufs || !is_proven || self.merged.is_none() {
            return Ok(());
        }
        match self.differing(|layer| layer == 0) {
            Ok((_, _, faults)) => report.aufs.append(faults),
            Err(Halt::Interrupted) => return Err(Halt::Interrupted),
            // What cannot be read is not right.
            Err(halt) => report.aufs.push(Chain(&halt)),
        }
        report.read_in_aufs = true;
        Ok(())
    }

    /// Adds what the device holds of lower layers' files in blocks of its own.
    fn with_those_from_below(&self, contents: Contents) -> Result<Contents, Halt> {
        let is_wrong = matches!(contents, Contents::Mismatch { .. });
        if self.run.mode != Mode::Full || is_wrong || self.merged.is_none() {
            return Ok(contents);
        }
        let (_, _, mut faults) = self.differing(|layer| layer > 0)?;
        if faults.is_empty() {
            return Ok(contents);
        }
        if let Contents::Undecided { files } = contents {
            faults.append(files);
        }
        Ok(Contents::mismatch(faults))
    }

    /// Compares the bytes of the files of some layers; returns the number of files, their bytes, and the files that
    /// differ.
    fn differing(&self, which: impl Fn(usize) -> bool) -> Result<(u64, u64, Faults), Halt> {
        let Some(merged) = self.merged else {
            return Ok((0, 0, Faults::default()));
        };
        let mut by_layer: Vec<Vec<(NodeId, NodeId)>> = vec![Vec::new(); self.layers.len()];
        for &((layer, node), child) in &merged.files {
            if which(layer) {
                by_layer[layer].push((node, child));
            }
        }
        let mut reader = BranchReader::new(self.mounted).map_err(|error| unreadable(&error))?;
        let (mut files, mut bytes, mut faults) = (0, 0, Faults::default());
        for (layer, pairs) in by_layer
            .iter()
            .enumerate()
            .filter(|(_, pairs)| !pairs.is_empty())
        {
            let mut branch = BranchFiles::new(&self.run.work, self.layers[layer])?;
            for &(node, child) in pairs {
                let aufs = &self.layers[layer].tree.node(node).meta;
                let device = &self.mounted.tree.node(child).meta;
                // A file that aufs wrote since the conversion says nothing about the device, and vice versa.
                let written = |noted: i64| device.ctime.sec() > noted;
                let by_aufs = merged.is_of_aufs && aufs.mtime != device.mtime;
                if by_aufs || self.went_on_after.is_some_and(written) {
                    continue;
                }
                let origin = (layer, node);
                if let Some(size) =
                    self.file(origin, child, (&mut branch, &mut reader), &mut faults)?
                {
                    files += 1;
                    bytes += size;
                }
            }
        }
        Ok((files, bytes, faults))
    }

    /// Compares one file; returns its size if it was read.
    fn file(
        &self,
        (layer, node): Origin,
        child: NodeId,
        (branch, reader): (&mut BranchFiles<'_>, &mut BranchReader<'_>),
        faults: &mut Faults,
    ) -> Result<Option<u64>, Halt> {
        let file = reader.open(child).map_err(|error| unreadable(&error))?;
        if layer > 0 && !self.has_blocks_of_its_own(&file.extents()) {
            return Ok(None);
        }
        let (mut other, mut differs) = (Vec::new(), None);
        branch.read(node, &mut |offset, bytes| {
            if differs.is_some() {
                return Ok(());
            }
            other.resize(bytes.len(), 0);
            file.read_at(&mut other, offset)
                .map_err(|error| unreadable(&error))?;
            self.run.work.read(bytes.len() as u64);
            let at = bytes.iter().zip(&other).position(|(a, b)| a != b);
            differs = at.map(|at| offset + at as u64);
            Ok(())
        })?;
        if let Some(at) = differs {
            let path = self.mounted.tree.display_path(child);
            faults.push(format_args!("{path}: differs from aufs from byte {at} on"));
        }
        Ok(Some(file.size()))
    }

    /// Whether a file's content may be in blocks that the device does not share with its parent. `true` if that is
    /// unknown.
    fn has_blocks_of_its_own(&self, extents: &Result<Vec<Range<u64>>, nix::errno::Errno>) -> bool {
        let (Some(changed), Ok(extents)) = (self.changed, extents) else {
            return true;
        };
        extents.iter().any(|extent| {
            let next = changed.partition_point(|range| range.end <= extent.start);
            changed
                .get(next)
                .is_some_and(|range| range.start < extent.end)
        })
    }
}

/// The error for a file of the device that the kernel cannot read.
fn unreadable(error: &crate::source::SourceError) -> Halt {
    Halt::Device {
        path: "its file system".to_owned(),
        source: std::io::Error::other(Chain(error).to_string()),
    }
}

/// The files of a tar, read from the device.
struct OnDevice<'a>(BranchFiles<'a>);

impl Source for OnDevice<'_> {
    type Error = Halt;

    fn content(
        &mut self,
        path: &[u8],
        recorded: ContentRecord,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<FileLookup, Halt> {
        match self.0.content(path, recorded, sink) {
            Err(Halt::Source(error)) => Err(unreadable(&error)),
            found => found,
        }
    }
}
