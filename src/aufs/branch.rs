//! Reads one branch directory into a [`LayerTree`].
//!
//! The walk meets a directory's names in any order, so a name is often read before its whiteout is seen. It is rare
//! that one branch has both, so the branch is then simply read again, this time knowing what to hide.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::conflict::{Conflicts, Verdicts, judge};
use super::error::Error;
use super::finding::Finding;
use super::flagged_files::{FlagCounts, FlaggedFiles};
use super::inode::{XattrSets, read_kind, read_meta};
use super::names::{Name, PSEUDO_LINKS};
use super::pseudo_link::PseudoLinks;
use crate::sys::Stat;
use crate::tree::{Kind, LayerTree, Listing, Meta, NodeId};
use crate::units::Bytes;

/// The result of reading a branch.
#[derive(Clone, Debug)]
pub struct Branch {
    /// What the layer changes.
    pub tree: LayerTree,
    /// What the operator should know, ascending.
    pub findings: Vec<Finding>,
    /// Files whose flags are lost.
    pub flagged: FlaggedFiles,
    /// The amounts that it holds.
    pub counts: Counts,
}

impl Branch {
    /// A layer that changes nothing but the attributes of the root directory, which get this owner (user id, group id).
    pub fn empty((uid, gid): (u32, u32)) -> Self {
        let meta = Meta {
            mode: 0o755,
            uid,
            gid,
            ..Meta::default()
        };
        Self {
            tree: LayerTree::new(meta),
            findings: Vec::new(),
            flagged: FlaggedFiles::default(),
            counts: Counts::default(),
        }
    }
}

/// The amounts that a branch holds, without aufs's own files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The number of names, each hard link counted separately, without the root.
    pub entries: u64,
    /// The sum of the regular files' sizes, each file once, holes included.
    pub bytes: Bytes,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Opaque markers.
    pub opaque_markers: u64,
}

/// Reads the branch at `dir` (`aufs/diff/<id>`).
///
/// `tar_split` is the layer's `tar-split.json.gz`. It is opened only if the branch has both a name and its whiteout, to
/// find out which came last. Without it, or if it is missing, such a name is hidden.
///
/// Writes nothing and reads no file's content. Branches can be read in parallel.
///
/// # Errors
///
/// Any variant of [`Error`]; the branch is then unusable.
pub fn read_branch(dir: &Path, tar_split: Option<&Path>) -> Result<Branch, Error> {
    read_branch_unless(&|| false, dir, tar_split)
}

/// [`read_branch`], aborted when `stop` returns `true`; it is called before every entry, because a branch may have
/// millions.
///
/// # Errors
///
/// Same as for [`read_branch`], and [`Error::Stopped`].
pub fn read_branch_unless(
    stop: &dyn Fn() -> bool,
    dir: &Path,
    tar_split: Option<&Path>,
) -> Result<Branch, Error> {
    // A trailing slash would make `lstat` follow a symbolic link.
    let dir: PathBuf = dir.components().collect();
    let (branch, conflicts) = Pass::new(&dir, HashMap::new())?.run(stop)?;
    if conflicts.is_empty() {
        return Ok(branch);
    }
    drop(branch);
    let verdicts = judge(conflicts, tar_split)?;
    let (branch, unforeseen) = Pass::new(&dir, verdicts)?.run(stop)?;
    match unforeseen.first() {
        None => Ok(branch),
        Some(path) => Err(Error::Changed {
            path: dir.join(OsStr::from_bytes(path)),
        }),
    }
}

/// Whether the walk enters the directory that it has just met.
#[derive(PartialEq, Eq)]
enum Contents {
    Read,
    Skip,
}

/// A directory of which more names may follow.
struct OpenDirectory {
    path: PathBuf,
    node: NodeId,
    listing: Listing,
}

/// One walk over a branch.
struct Pass<'a> {
    dir: &'a Path,
    device: u64,
    verdicts: Verdicts,
    conflicts: Conflicts,
    tree: LayerTree,
    /// The directories from the root to the current one.
    open: Vec<OpenDirectory>,
    /// Files with more than one link, by inode number; all are on one device.
    links: HashMap<u64, NodeId>,
    pseudo_links: PseudoLinks,
    xattr_sets: XattrSets,
    findings: Vec<Finding>,
    flagged: FlagCounts,
    counts: Counts,
}

impl<'a> Pass<'a> {
    fn new(dir: &'a Path, verdicts: Verdicts) -> Result<Self, Error> {
        let path = || dir.to_owned();
        let stat = Stat::of(dir).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NoBranch { path: path() },
            _ => Error::from_io("stat", dir, error),
        })?;
        if !stat.is_dir() {
            return Err(Error::NotADirectory { path: path() });
        }
        let mut xattr_sets = XattrSets::default();
        let tree = LayerTree::new(read_meta(dir, &stat, &mut xattr_sets)?);
        let mut flagged = FlagCounts::default();
        flagged.look(LayerTree::ROOT, &stat);
        Ok(Self {
            dir,
            device: stat.device,
            verdicts,
            conflicts: Vec::new(),
            tree,
            open: Vec::new(),
            links: HashMap::new(),
            pseudo_links: PseudoLinks::default(),
            xattr_sets,
            findings: Vec::new(),
            flagged,
            counts: Counts::default(),
        })
    }

    /// Returns the branch, and the conflicts that no verdict covers. If there are any, the branch must not be used.
    fn run(mut self, stop: &dyn Fn() -> bool) -> Result<(Branch, Conflicts), Error> {
        let mut walk = WalkDir::new(self.dir)
            .follow_links(false)
            .follow_root_links(false)
            .same_file_system(true)
            .into_iter();
        while let Some(entry) = walk.next() {
            if stop() {
                return Err(Error::Stopped);
            }
            let entry = entry.map_err(|error| self.walk_error(error))?;
            if self.visit(&entry)? == Contents::Skip && entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        }
        self.close_below(0)?;
        self.findings
            .extend(self.pseudo_links.findings(&self.tree, &self.links));
        self.findings.sort_unstable();
        self.tree.shrink_to_fit();
        let branch = Branch {
            flagged: self.flagged.named(&self.tree),
            tree: self.tree,
            findings: self.findings,
            counts: self.counts,
        };
        Ok((branch, self.conflicts))
    }

    fn walk_error(&self, error: walkdir::Error) -> Error {
        let path = error.path().unwrap_or(self.dir).to_owned();
        let source = error
            .into_io_error()
            .expect("only followed symbolic links make loops");
        Error::from_io("read the directory", &path, source)
    }

    fn visit(&mut self, entry: &DirEntry) -> Result<Contents, Error> {
        let depth = entry.depth();
        if depth == 0 {
            return self.open_root(entry);
        }
        self.close_below(depth)?;
        if self.open.len() < depth {
            // The only directory that is walked but not opened.
            self.add_pseudo_link(entry)?;
            return Ok(Contents::Skip);
        }
        match Name::parse(entry.file_name().as_bytes()) {
            Name::Own => return self.add(entry),
            Name::Whiteout(name) => {
                self.check_whiteout(entry)?;
                self.counts.whiteouts += 1;
                self.listing().removed.push(name.into());
            }
            Name::Unnamed => {
                self.check_whiteout(entry)?;
                let path = self.relative(entry.path()).into();
                self.findings.push(Finding::UnnamedWhiteout { path });
            }
            Name::Opaque => {
                self.check_whiteout(entry)?;
                self.counts.opaque_markers += 1;
                self.listing().opaque = true;
            }
            Name::Metadata if depth == 1 && entry.file_name().as_bytes() == PSEUDO_LINKS => {
                return Ok(Contents::Read);
            }
            Name::Metadata => {}
        }
        Ok(Contents::Skip)
    }

    fn open_root(&mut self, entry: &DirEntry) -> Result<Contents, Error> {
        if !entry.file_type().is_dir() {
            return Err(Error::NotADirectory {
                path: entry.path().to_owned(),
            });
        }
        self.open.push(OpenDirectory {
            path: entry.path().to_owned(),
            node: LayerTree::ROOT,
            listing: Listing::default(),
        });
        Ok(Contents::Read)
    }

    /// The listing so far of the directory that is being read.
    fn listing(&mut self) -> &mut Listing {
        let last = self.open.last_mut();
        &mut last.expect("the root stays open to the end").listing
    }

    /// The path within the branch.
    fn relative<'p>(&self, path: &'p Path) -> &'p [u8] {
        let relative = path.strip_prefix(self.dir);
        let relative = relative.expect("the walk stays below the branch");
        relative.as_os_str().as_bytes()
    }

    fn check_whiteout(&mut self, entry: &DirEntry) -> Result<(), Error> {
        let stat = stat(entry)?;
        if !stat.is_file() {
            return Err(Error::BadWhiteout {
                path: entry.path().to_owned(),
            });
        }
        if stat.size > 0 {
            let path = self.relative(entry.path()).into();
            self.findings.push(Finding::FilledWhiteout { path });
        }
        Ok(())
    }

    fn add_pseudo_link(&mut self, entry: &DirEntry) -> Result<(), Error> {
        let stat = stat(entry)?;
        if !stat.is_dir() {
            self.pseudo_links
                .add(entry.file_name().as_bytes(), stat.inode);
        }
        Ok(())
    }

    /// Adds one of the layer's own files.
    fn add(&mut self, entry: &DirEntry) -> Result<Contents, Error> {
        let verdict = self.verdict(entry.path());
        if verdict == Some(false) {
            return Ok(Contents::Skip);
        }
        let stat = stat(entry)?;
        let path = || entry.path().to_owned();
        if stat.device != self.device {
            return Err(Error::OtherFileSystem { path: path() });
        }
        if stat.is_dir() != entry.file_type().is_dir() {
            return Err(Error::Changed { path: path() });
        }
        let node = self.node(entry.path(), &stat)?;
        self.counts.entries += 1;
        let name = entry.file_name().as_bytes().into();
        self.listing().entries.push((name, node));
        if stat.is_dir() {
            // A whiteout beside it still applies to the layers below.
            let opaque = verdict == Some(true);
            self.open.push(OpenDirectory {
                path: path(),
                node,
                listing: Listing {
                    opaque,
                    ..Listing::default()
                },
            });
        }
        Ok(Contents::Read)
    }

    fn verdict(&mut self, path: &Path) -> Option<bool> {
        if self.verdicts.is_empty() {
            return None;
        }
        let relative = self.relative(path);
        let kept = *self.verdicts.get(relative)?;
        let path = relative.into();
        self.findings.push(Finding::Conflict { path, kept });
        Some(kept)
    }

    /// The file's node, the same for all its names.
    fn node(&mut self, path: &Path, stat: &Stat) -> Result<NodeId, Error> {
        let linked = !stat.is_dir() && stat.links > 1;
        if linked && let Some(&node) = self.links.get(&stat.inode) {
            return Ok(node);
        }
        let meta = read_meta(path, stat, &mut self.xattr_sets)?;
        let kind = read_kind(path, stat)?;
        if let Kind::Regular(file) = &kind {
            self.counts.bytes.0 = self.counts.bytes.0.saturating_add(file.size);
        }
        let node = self.tree.add(meta, kind);
        self.flagged.look(node, stat);
        if linked {
            self.links.insert(stat.inode, node);
        }
        Ok(node)
    }

    /// Closes open directories until `depth` of them are left.
    fn close_below(&mut self, depth: usize) -> Result<(), Error> {
        while self.open.len() > depth {
            let directory = self.open.pop().expect("longer than a length");
            self.close(directory)?;
        }
        Ok(())
    }

    fn close(&mut self, directory: OpenDirectory) -> Result<(), Error> {
        let OpenDirectory {
            path,
            node,
            mut listing,
        } = directory;
        listing.entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        if listing
            .entries
            .windows(2)
            .any(|pair| pair[0].0 == pair[1].0)
        {
            // A directory can show a name twice if the name is renamed into it while it is listed.
            return Err(Error::Changed { path });
        }
        let entries = &listing.entries;
        let is_entry = |name: &[u8]| {
            entries
                .binary_search_by(|(own, _)| (**own).cmp(name))
                .is_ok()
        };
        let (both, removed): (Vec<_>, Vec<_>) =
            listing.removed.into_iter().partition(|name| is_entry(name));
        listing.removed = removed;
        for name in both {
            let path = path.join(OsStr::from_bytes(&name));
            let path = self.relative(&path);
            if !self.verdicts.contains_key(path) {
                self.conflicts.push(path.into());
            }
        }
        self.tree.set_directory(node, listing);
        Ok(())
    }
}

fn stat(entry: &DirEntry) -> Result<Stat, Error> {
    let path = entry.path();
    Stat::of(path).map_err(|error| Error::from_io("stat", path, error))
}
