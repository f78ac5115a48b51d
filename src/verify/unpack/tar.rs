//! Unpacks a layer's tar as Docker's aufs driver does: applies the headers of its entries, one after the other, to a
//! tree.
//!
//! The driver unpacks an image's layer into an empty branch: names that begin with `.wh.` are treated like all others,
//! a later entry replaces an earlier one of the same name, and parents without an entry become directories of its own
//! making. By the meaning that aufs gives to the names, the branch is then what `docs/aufs.md` says. Source: moby
//! v20.10.24 `daemon/graphdriver/aufs/aufs.go`, `ApplyDiff`; `pkg/archive/archive.go`, `Unpack` and `createTarFile`.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::unsure::Unsure;
use crate::docker::Owner;
use crate::tar_split::{Header, HeaderError, HeaderKind, Observer, clean_name};
use crate::tree::{DeviceNumber, Kind, Meta, Regular, Timestamp, Xattrs};
use crate::verify::layer_report::shown_path;

/// Maximum number of symbolic links in one path, as in Linux.
const MAX_LINKS: usize = 40;
/// Longest path and name that Linux accepts, in bytes.
const MAX_PATH: usize = 4095;
const MAX_NAME: usize = 255;
/// Bytes of extended attributes that a layer may have in addition to 256 for each of its entries; beyond that its
/// record is not credible.
const FREE_XATTRS: usize = 16 * 1024 * 1024;
/// Maximum bytes of extended attributes of one file, more than Linux can list.
const MAX_XATTRS: usize = 128 * 1024;
/// Names on the paths to directories that a record may pass through in addition to 256 for each entry.
const FREE_STEPS: u64 = 1_000_000;
/// Entries that a record may have in addition to 16 for each entry of the layer. If a layer has lost more, the lost
/// names are not listed.
const FREE_ENTRIES: usize = 65_536;

/// The number of the root directory's node.
pub(super) const ROOT: u32 = 0;

/// The state of unpacking a tar.
#[derive(Debug)]
pub(in crate::verify) struct Unpack {
    owner: Owner,
    pub(super) nodes: Vec<Node>,
    pub(super) names: HashMap<(u32, Box<[u8]>), NodeName>,
    /// The path and number of the directory that received the last entry.
    last: Option<(Vec<u8>, u32)>,
    /// Number of entries so far.
    pub(super) entries: u64,
    steps: u64,
    room: usize,
    xattr_room: usize,
    /// Why the result of the tar cannot be determined.
    pub(super) trouble: Option<String>,
}

/// An inode.
#[derive(Debug)]
pub(in crate::verify::unpack) struct Node {
    pub(super) meta: Meta,
    pub(super) kind: NodeKind,
    pub(super) unsure: Unsure,
}

/// The type of an inode.
#[derive(Clone, Debug)]
pub(in crate::verify::unpack) enum NodeKind {
    Directory,
    Regular(u64),
    Symlink(Box<[u8]>),
    CharDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
    Fifo,
}

/// The node of a name, and the entry that set it.
#[derive(Clone, Copy, Debug)]
pub(in crate::verify::unpack) struct NodeName {
    pub(super) node: u32,
    pub(super) since: u64,
}

impl Observer for Unpack {
    fn header(&mut self, header: Result<Header, HeaderError>) {
        self.entries += 1;
        if self.trouble.is_some() {
            return;
        }
        let done = match header {
            Ok(header) => self.entry(&header),
            Err(error) => Err(format!("entry {} of its tar: {error}", self.entries)),
        };
        self.trouble = done.err();
    }
}

impl Unpack {
    /// An empty branch. `owner` is the on-disk owner for the tar's 0:0; `names` is the number of names that the layer
    /// has now.
    pub(in crate::verify) fn new(owner: Owner, names: usize) -> Self {
        let root = Node {
            meta: Meta::default(),
            kind: NodeKind::Directory,
            unsure: Unsure::ALL,
        };
        Self {
            owner,
            nodes: vec![root],
            names: HashMap::new(),
            last: None,
            entries: 0,
            steps: 0,
            room: names.saturating_mul(16).saturating_add(FREE_ENTRIES),
            xattr_room: names.saturating_mul(256).saturating_add(FREE_XATTRS),
            trouble: None,
        }
    }

    fn entry(&mut self, header: &Header) -> Result<(), String> {
        if header.kind == HeaderKind::Global {
            return Ok(());
        }
        let path = clean_name(&header.name);
        let trouble = |what: &str| format!("{}: {what}", shown_path(&path));
        if path.len() > MAX_PATH {
            return Err("a path in its tar is longer than Linux allows".to_owned());
        }
        if path.is_empty() {
            // Docker leaves the branch's own directory unchanged.
            return match header.kind {
                HeaderKind::Directory => Ok(()),
                _ => Err(trouble("is not a directory in the layer's tar")),
            };
        }
        let (directory, name) = self.place(&path).map_err(trouble)?;
        let before = self.names.get(&(directory, name.into())).copied();
        let node = match Self::made(header).map_err(|what| trouble(&what))? {
            Some(made) => self.node(before, made, header).map_err(trouble)?,
            None => self.link(header).map_err(|what| trouble(&what))?,
        };
        if before.is_some_and(|before| before.node != node) {
            self.last = None;
        }
        let since = self.entries;
        self.names
            .insert((directory, name.into()), NodeName { node, since });
        Ok(())
    }

    /// What an entry creates; `None`: a further name for what another entry created.
    fn made(header: &Header) -> Result<Option<NodeKind>, String> {
        Ok(Some(match &header.kind {
            HeaderKind::Directory => NodeKind::Directory,
            HeaderKind::Regular(size) => NodeKind::Regular(*size),
            HeaderKind::Symlink(target) => NodeKind::Symlink(target.clone()),
            HeaderKind::CharDevice(number) => NodeKind::CharDevice(*number),
            HeaderKind::BlockDevice(number) => NodeKind::BlockDevice(*number),
            HeaderKind::Fifo => NodeKind::Fifo,
            HeaderKind::HardLink(_) => return Ok(None),
            HeaderKind::Global => return Err("is not a file".to_owned()),
            HeaderKind::Other(kind) => {
                let kind = kind.escape_ascii();
                return Err(format!(
                    "has the type '{kind}' in the layer's tar, which cannot be verified"
                ));
            }
        }))
    }

    /// The node of an entry: the directory that it is merged into, or a new one.
    fn node(
        &mut self,
        before: Option<NodeName>,
        made: NodeKind,
        header: &Header,
    ) -> Result<u32, &'static str> {
        let is_directory = matches!(made, NodeKind::Directory);
        let kept = before.filter(|before| is_directory && self.is_directory(before.node));
        let node = match kept {
            Some(before) => before.node,
            None => self.add(made, Unsure::default())?,
        };
        let (meta, unsure) = self.meta(header)?;
        let slot = &mut self.nodes[node as usize];
        let xattrs = joined(&slot.meta.xattrs, &meta.xattrs)?;
        slot.meta = Meta { xattrs, ..meta };
        slot.unsure = unsure;
        Ok(node)
    }

    fn add(&mut self, kind: NodeKind, unsure: Unsure) -> Result<u32, &'static str> {
        if self.nodes.len() > self.room {
            return Err("the layer's tar has many times more entries than the layer");
        }
        let node = u32::try_from(self.nodes.len()).map_err(|_| "is one of too many entries")?;
        self.nodes.push(Node {
            meta: Meta::default(),
            kind,
            unsure,
        });
        Ok(node)
    }

    /// The attributes that end up on disk.
    fn meta(&mut self, header: &Header) -> Result<(Meta, Unsure), &'static str> {
        self.xattr_room = self
            .xattr_room
            .checked_sub(bytes_of(&header.xattrs))
            .ok_or("the layer's tar has more extended attributes than is plausible")?;
        let mut unsure = Unsure::default();
        if !header.has_fraction {
            unsure |= Unsure::FRACTION;
        }
        let shifted = |base: u32, id: u64| u32::try_from(id).ok()?.checked_add(base);
        let owner = shifted(self.owner.uid, header.uid).zip(shifted(self.owner.gid, header.gid));
        let (uid, gid) = owner.unwrap_or_else(|| {
            unsure |= Unsure::OWNER;
            (0, 0)
        });
        let meta = Meta {
            mode: header.mode,
            uid,
            gid,
            atime: Timestamp::default(),
            mtime: header.mtime,
            ctime: Timestamp::default(),
            xattrs: header.xattrs.clone(),
        };
        Ok((meta, unsure))
    }

    /// The node of a hard link's target. Docker sets the owner of a file for each of its names, and mode and times only
    /// if it finds the first name from its current directory; the kernel clears setuid and capabilities with each
    /// change of the owner.
    fn link(&mut self, header: &Header) -> Result<u32, String> {
        let HeaderKind::HardLink(target) = &header.kind else {
            return Err("is not a hard link".to_owned());
        };
        let target = clean_name(target);
        let missing = || {
            let target = shown_path(&target);
            format!("is a hard link to {target}, which is not an earlier file in the layer's tar")
        };
        if target.is_empty() || target.len() > MAX_PATH {
            return Err(missing());
        }
        let (directory, name) = self.place(&target)?;
        let named = self.names.get(&(directory, name.into()));
        let node = named.ok_or_else(missing)?.node;
        if self.is_directory(node) {
            return Err(missing());
        }
        let (meta, mut unsure) = self.meta(header)?;
        let slot = &mut self.nodes[node as usize];
        if !matches!(slot.kind, NodeKind::Symlink(_)) {
            if meta.mode != slot.meta.mode {
                unsure |= Unsure::MODE;
            }
            if meta.mtime != slot.meta.mtime {
                unsure |= Unsure::TIME;
            }
        }
        slot.unsure |= unsure | Unsure::PRIVILEGE;
        slot.meta.uid = meta.uid;
        slot.meta.gid = meta.gid;
        slot.meta.xattrs = joined(&slot.meta.xattrs, &meta.xattrs)?;
        Ok(node)
    }

    pub(super) fn is_directory(&self, node: u32) -> bool {
        matches!(self.nodes[node as usize].kind, NodeKind::Directory)
    }

    /// Whether a node has an entry of its own: a directory may have been made only because of an entry below it.
    pub(super) fn has_entry(&self, node: u32) -> bool {
        !self.nodes[node as usize].unsure.has(Unsure::ALL)
    }

    /// The directory that contains a path, and the path's last name. Missing directories are created.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<(u32, &'p [u8]), &'static str> {
        let cut = path.iter().rposition(|&byte| byte == b'/');
        let (above, name) = match cut {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        if name.len() > MAX_NAME {
            return Err("has a name that is longer than Linux allows");
        }
        let directory = match &self.last {
            Some((known, node)) if *known == above => *node,
            _ => {
                let node = self.walk(above)?;
                self.last = Some((above.to_vec(), node));
                node
            }
        };
        Ok((directory, name))
    }

    /// Walks to a directory as Docker does, with the branch as its root directory.
    fn walk(&mut self, path: &[u8]) -> Result<u32, &'static str> {
        let mut way = vec![ROOT];
        let mut ahead: Vec<Vec<u8>> = components(path);
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            self.steps += 1;
            if self.steps > FREE_STEPS + 256 * self.entries {
                return Err("is reached through more symbolic links than any layer has");
            }
            if name == b".." {
                way.truncate(way.len().saturating_sub(1).max(1));
                continue;
            }
            if name.len() > MAX_NAME {
                return Err("is in a directory whose name is longer than Linux allows");
            }
            let here = *way.last().expect("the root stays");
            let key = (here, name.into_boxed_slice());
            let node = if let Some(named) = self.names.get(&key) {
                named.node
            } else {
                let node = self.add(NodeKind::Directory, Unsure::ALL)?;
                let since = self.entries;
                self.names.insert(key, NodeName { node, since });
                node
            };
            match &self.nodes[node as usize].kind {
                NodeKind::Directory => way.push(node),
                NodeKind::Symlink(target) if links < MAX_LINKS => {
                    links += 1;
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    ahead.append(&mut components(target));
                }
                _ => return Err("is below a path that is not a directory in the layer's tar"),
            }
        }
        Ok(*way.last().expect("the root stays"))
    }
}

/// The names in a path, last one first.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let all = path.rsplit(|&byte| byte == b'/');
    all.filter(|name| !matches!(*name, b"" | b"."))
        .map(<[u8]>::to_vec)
        .collect()
}

/// Extended attributes, with others set on top of them.
fn joined(own: &Xattrs, more: &Xattrs) -> Result<Xattrs, &'static str> {
    if own.is_empty() || more.is_empty() {
        return Ok(if own.is_empty() { more } else { own }.clone());
    }
    if bytes_of(own) + bytes_of(more) > MAX_XATTRS {
        return Err("has more extended attributes in the layer's tar than a file can have");
    }
    let all = own.iter().chain(more.iter());
    Ok(all
        .map(|(name, value)| (name.into(), value.into()))
        .collect())
}

fn bytes_of(xattrs: &Xattrs) -> usize {
    let bytes = |(name, value): (&[u8], &[u8])| name.len() + value.len();
    xattrs.iter().map(bytes).sum()
}

impl NodeKind {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Directory => Kind::Directory(Box::default()),
            Self::Regular(size) => Kind::Regular(Regular {
                size: *size,
                segments: None,
            }),
            Self::Symlink(target) => Kind::Symlink(target.clone()),
            Self::CharDevice(number) => Kind::CharDevice(*number),
            Self::BlockDevice(number) => Kind::BlockDevice(*number),
            Self::Fifo => Kind::Fifo,
        }
    }
}
