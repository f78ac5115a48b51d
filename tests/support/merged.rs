//! A file tree as someone sees it who mounts it: the common form of everything that is compared.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::hash::Hash;

/// All entries by path; paths begin with a slash and the root is `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MergedTree {
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky among them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since 1970.
    pub mtime: i128,
    /// Values by name; `None` is listed but unreadable.
    pub xattrs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The first path of the same inode, where it has more than one.
    pub group: Option<Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory,
    Regular { size: u64, sha256: String },
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

impl MergedTree {
    /// A tree of entries that each say which inode they are, in any numbering; groups are found from that.
    pub fn grouped<Inode: Eq + Hash>(entries: BTreeMap<Vec<u8>, (Entry, Inode)>) -> Self {
        let mut paths: HashMap<&Inode, Vec<&Vec<u8>>> = HashMap::new();
        for (path, (_, inode)) in &entries {
            paths.entry(inode).or_default().push(path);
        }
        let groups: HashMap<Vec<u8>, Vec<u8>> = paths
            .into_values()
            .filter(|paths| paths.len() > 1)
            .flat_map(|paths| {
                let first = paths[0].clone();
                paths
                    .into_iter()
                    .map(move |path| (path.clone(), first.clone()))
            })
            .collect();
        let entries = entries
            .into_iter()
            .map(|(path, (mut entry, _))| {
                entry.group = groups.get(&path).cloned();
                (path, entry)
            })
            .collect();
        Self { entries }
    }
}

/// The path of `name` in the directory `path`.
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let parent = if path == b"/" { b"" } else { path };
    [parent, b"/", name].concat()
}
