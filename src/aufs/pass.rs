//! One walk over a branch.
//!
//! A directory is listed to its end before one of its subdirectories is entered, so only one listing is open at a time,
//! and every name on the path to the current directory is in the tree.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::clamped_times::ClampedTimes;
use super::conflict::{Questions, Verdicts};
use super::counts::Counts;
use super::error::Error;
use super::failure::Failure;
use super::finding::Finding;
use super::flagged_files::FlagCounts;
use super::inode::{Place, XattrSets, read_kind, read_meta};
use super::listed::{Listed, Subdirectory};
use super::names::{Name, PSEUDO_LINKS};
use super::pseudo_link::PseudoLinks;
use crate::open_path::{OpenDirectory, OpenPath};
use crate::sys::Stat;
use crate::tree::{Kind, LayerTree, NodeId};

/// What a walk has found.
pub(super) struct PassResult {
    pub(super) tree: LayerTree,
    /// Ascending.
    pub(super) findings: Vec<Finding>,
    pub(super) flagged: FlagCounts,
    pub(super) counts: Counts,
    /// What no verdict covers. If there is any, the rest must not be used.
    pub(super) questions: Questions,
}

/// A walk that is under way.
pub(super) struct Pass<'a> {
    dir: &'a Path,
    device: u64,
    verdicts: Verdicts,
    /// The directories from the root to the current one.
    path: OpenPath,
    /// Files with more than one link, by inode number; all are on one device.
    links: HashMap<u64, NodeId>,
    pseudo_links: PseudoLinks,
    clamped: ClampedTimes,
    xattr_sets: XattrSets,
    found: PassResult,
}

/// The next move of the walk.
enum Step {
    Enter(Subdirectory),
    Leave,
}

impl<'a> Pass<'a> {
    pub(super) fn new(dir: &'a Path, verdicts: Verdicts) -> Result<Self, Error> {
        let at = || dir.to_owned();
        let (path, stat) = OpenPath::new(dir).map_err(|errno| match errno {
            Errno::ENOENT => Error::NoBranch { path: at() },
            Errno::ENOTDIR | Errno::ELOOP => Error::NotADirectory { path: at() },
            errno => Failure::errno("open", errno).of(at()),
        })?;
        let mut xattr_sets = XattrSets::default();
        let root = Place {
            directory: path.current(),
            name: c".",
            stat: &stat,
        };
        let meta = read_meta(root, &mut xattr_sets).map_err(|failure| failure.of(at()))?;
        let mut flagged = FlagCounts::default();
        flagged.look(LayerTree::ROOT, &stat);
        let mut clamped = ClampedTimes::default();
        clamped.look(LayerTree::ROOT, &stat);
        Ok(Self {
            dir,
            device: stat.device,
            verdicts,
            path,
            links: HashMap::new(),
            pseudo_links: PseudoLinks::default(),
            clamped,
            xattr_sets,
            found: PassResult {
                tree: LayerTree::new(meta),
                findings: Vec::new(),
                flagged,
                counts: Counts::default(),
                questions: Questions::default(),
            },
        })
    }

    pub(super) fn run(mut self, stop: &dyn Fn() -> bool) -> Result<PassResult, Error> {
        let mut steps = self.list(stop, LayerTree::ROOT, false)?;
        while let Some(step) = steps.pop() {
            match step {
                Step::Enter(directory) => {
                    self.enter(&directory)?;
                    steps.push(Step::Leave);
                    steps.extend(self.list(stop, directory.node, directory.opaque)?);
                }
                Step::Leave => match self.path.leave() {
                    Ok(Some(())) => {}
                    Ok(None) => {
                        return Err(Error::Changed {
                            path: self.dir.into(),
                        });
                    }
                    Err(errno) => return Err(Failure::errno("open", errno).of(self.dir.into())),
                },
            }
        }
        let PassResult { tree, findings, .. } = &mut self.found;
        findings.extend(self.pseudo_links.findings(tree, &self.links));
        findings.extend(self.clamped.finding(tree));
        findings.sort_unstable();
        tree.shrink_to_fit();
        Ok(self.found)
    }

    fn enter(&mut self, directory: &Subdirectory) -> Result<(), Error> {
        let tree = &self.found.tree;
        let named = tree.first_name(directory.node);
        let (parent, name) = named.expect("a directory is entered after the one above is listed");
        let entered = CString::new(name)
            .map_err(|_| Errno::EINVAL)
            .and_then(|name| self.path.enter(&name, (self.device, directory.inode)));
        match entered {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(Errno::ELOOP) => Err(self.error(parent, name, Failure::Changed)),
            Err(errno) => Err(self.error(parent, name, Failure::errno("open", errno))),
        }
    }

    /// Reads the current directory into the tree; returns the steps into its subdirectories, the first one last.
    fn list(
        &mut self,
        stop: &dyn Fn() -> bool,
        node: NodeId,
        opaque: bool,
    ) -> Result<Vec<Step>, Error> {
        const OP: &str = "read the directory";
        if node == LayerTree::ROOT && stop() {
            return Err(Error::Stopped);
        }
        let here = self.path.current().clone();
        let mut listed = Listed::new(node, opaque);
        let failed = |pass: &Self, errno| pass.error(node, b"", Failure::errno(OP, errno));
        let mut dir = here.list().map_err(|errno| failed(self, errno))?;
        for entry in dir.iter() {
            let entry = entry.map_err(|errno| failed(self, errno))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if stop() {
                return Err(Error::Stopped);
            }
            self.visit(&here, name, &mut listed)
                .map_err(|problem| match problem {
                    Problem::Failure(failure) => self.error(node, name.to_bytes(), failure),
                    Problem::OtherFileSystem => Error::OtherFileSystem {
                        path: self.full_path(node, name.to_bytes()),
                    },
                })?;
        }
        self.close(listed)
    }

    /// Ends a directory whose names have all been seen.
    fn close(&mut self, mut listed: Listed) -> Result<Vec<Step>, Error> {
        let node = listed.node;
        if !listed.sort() {
            // A directory can show a name twice if the name is renamed into it while it is listed.
            return Err(self.error(node, b"", Failure::Changed));
        }
        for name in listed.take_both() {
            let path = self.relative(node, &name);
            if !self.verdicts.names.contains_key(&*path) {
                self.found.questions.names.push(path.into());
            }
        }
        self.found.tree.set_directory(node, listed.listing);
        Ok(listed
            .subdirectories
            .into_iter()
            .rev()
            .map(Step::Enter)
            .collect())
    }

    fn visit(
        &mut self,
        here: &OpenDirectory,
        name: &CStr,
        listed: &mut Listed,
    ) -> Result<(), Problem> {
        match Name::parse(name.to_bytes()) {
            Name::Own => {
                let verdict = self.verdict(listed.node, name);
                if verdict == Some(false) {
                    return Ok(());
                }
                let stat = stat(here, name)?;
                // A whiteout beside it still applies to the layers below.
                self.add(place(here, name, &stat), verdict == Some(true), listed)
            }
            Name::Metadata => {
                if listed.node == LayerTree::ROOT && name.to_bytes() == PSEUDO_LINKS {
                    self.list_pseudo_links(here, name)?;
                }
                Ok(())
            }
            meaning => self.marker(here, (name, meaning), listed),
        }
    }

    /// A whiteout or an opaque marker.
    fn marker(
        &mut self,
        here: &OpenDirectory,
        (name, meaning): (&CStr, Name<'_>),
        listed: &mut Listed,
    ) -> Result<(), Problem> {
        let stat = stat(here, name)?;
        let path = || {
            self.relative(listed.node, name.to_bytes())
                .into_boxed_slice()
        };
        let mut deletes = meaning != Name::Unnamed;
        if stat.is_file() {
            if stat.size > 0 {
                let path = path();
                self.found.findings.push(Finding::FilledWhiteout { path });
            }
        } else {
            let is_kept = stat.is_dir() && has_names(here, name)?;
            let path = path();
            if is_kept {
                match self.verdicts.directories.get(&path) {
                    Some(verdict) => deletes &= verdict,
                    None => self.found.questions.directories.push(path.clone()),
                }
                self.add(place(here, name, &stat), false, listed)?;
            }
            self.found.findings.push(Finding::IrregularWhiteout {
                path,
                deletes,
                is_kept,
            });
        }
        let counts = &mut self.found.counts;
        match meaning {
            Name::Whiteout(hidden) if deletes => {
                counts.whiteouts += 1;
                listed.listing.removed.push(hidden.into());
            }
            Name::Opaque if deletes => {
                counts.opaque_markers += 1;
                listed.listing.opaque = true;
            }
            Name::Unnamed => {
                let path = self.relative(listed.node, name.to_bytes()).into();
                self.found.findings.push(Finding::UnnamedWhiteout { path });
            }
            _ => {}
        }
        Ok(())
    }

    fn list_pseudo_links(&mut self, root: &OpenDirectory, name: &CStr) -> Result<(), Failure> {
        const OP: &str = "read the directory";
        let failed = |errno| Failure::errno(OP, errno);
        let mut dir = match root.list_below(name) {
            Ok(dir) => dir,
            // Only a directory has pseudo-links.
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        let links = root.open_below(name).map_err(failed)?;
        for entry in dir.iter() {
            let entry = entry.map_err(failed)?;
            let stat = Stat::at(&links, entry.file_name())
                .map_err(|errno| Failure::errno("stat", errno))?;
            if !stat.is_dir() {
                let link = entry.file_name().to_bytes();
                self.pseudo_links.add(link, stat.inode);
            }
        }
        Ok(())
    }

    /// Adds one of the layer's own files.
    fn add(&mut self, at: Place<'_>, opaque: bool, listed: &mut Listed) -> Result<(), Problem> {
        if at.stat.device != self.device {
            return Err(Problem::OtherFileSystem);
        }
        let node = self.node(at)?;
        self.found.counts.entries += 1;
        let name = at.name.to_bytes().into();
        listed.listing.entries.push((name, node));
        if at.stat.is_dir() {
            listed.subdirectories.push(Subdirectory {
                node,
                inode: at.stat.inode,
                opaque,
            });
        }
        Ok(())
    }

    fn verdict(&mut self, directory: NodeId, name: &CStr) -> Option<bool> {
        if self.verdicts.names.is_empty() {
            return None;
        }
        let path = self.relative(directory, name.to_bytes());
        let kept = *self.verdicts.names.get(&*path)?;
        let path = path.into();
        self.found.findings.push(Finding::Conflict { path, kept });
        Some(kept)
    }

    /// The file's node, the same for all its names.
    fn node(&mut self, at: Place<'_>) -> Result<NodeId, Failure> {
        let stat = at.stat;
        let linked = !stat.is_dir() && stat.links > 1;
        if linked && let Some(&node) = self.links.get(&stat.inode) {
            return Ok(node);
        }
        let meta = read_meta(at, &mut self.xattr_sets)?;
        let kind = read_kind(at)?;
        let found = &mut self.found;
        if let Kind::Regular(file) = &kind {
            found.counts.bytes.0 = found.counts.bytes.0.saturating_add(file.size);
        }
        let node = found.tree.add(meta, kind);
        found.flagged.look(node, stat);
        self.clamped.look(node, stat);
        if linked {
            self.links.insert(stat.inode, node);
        }
        Ok(node)
    }

    /// The path within the branch of a name in a directory that is in the tree.
    fn relative(&self, directory: NodeId, name: &[u8]) -> Vec<u8> {
        let mut components = self.found.tree.path(directory);
        if !name.is_empty() {
            components.push(name);
        }
        components.join(&b'/')
    }

    fn full_path(&self, directory: NodeId, name: &[u8]) -> PathBuf {
        let relative = self.relative(directory, name);
        if relative.is_empty() {
            return self.dir.to_owned();
        }
        self.dir.join(OsStr::from_bytes(&relative))
    }

    fn error(&self, directory: NodeId, name: &[u8], failure: Failure) -> Error {
        failure.of(self.full_path(directory, name))
    }
}

/// What is wrong with one name.
enum Problem {
    Failure(Failure),
    OtherFileSystem,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

fn place<'p>(directory: &'p OpenDirectory, name: &'p CStr, stat: &'p Stat) -> Place<'p> {
    Place {
        directory,
        name,
        stat,
    }
}

fn stat(here: &OpenDirectory, name: &CStr) -> Result<Stat, Failure> {
    Stat::at(here, name).map_err(|errno| Failure::errno("stat", errno))
}

/// Whether a directory has any names.
fn has_names(here: &OpenDirectory, name: &CStr) -> Result<bool, Failure> {
    let failed = |errno| Failure::errno("read the directory", errno);
    let mut dir = here.list_below(name).map_err(failed)?;
    for entry in dir.iter() {
        if !matches!(entry.map_err(failed)?.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}
