//! File trees as values: walked from a mount or read from a truth file, and compared.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

use anyhow::{Context, Result};
use aufs2dm::tree::escape;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The value that a truth file gives an xattr which aufs listed but could not read.
const UNREADABLE: &str = "!95";

/// A tree by escaped path; `/` is the top.
pub(crate) type Tree = BTreeMap<String, Entry>;

/// One name in a tree, in the form of the fixtures' truth files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Entry {
    pub(crate) path: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) mode: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    #[serde(default)]
    pub(crate) mtime_ns: i128,
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Option<String>,
    pub(crate) rdev: Option<String>,
    pub(crate) target: Option<String>,
    /// A path of the same inode; after `read` and `walk` the smallest, in all of a link group's entries.
    pub(crate) hl: Option<String>,
    #[serde(default)]
    pub(crate) xattrs: BTreeMap<String, String>,
    /// 512-byte blocks in use.
    pub(crate) blocks: Option<u64>,
}

/// Reads a truth file.
pub(crate) fn read(file: &Path) -> Result<Tree> {
    let lines =
        BufReader::new(File::open(file).with_context(|| file.display().to_string())?).lines();
    let mut tree = Tree::new();
    for line in lines {
        let entry: Entry =
            serde_json::from_str(&line?).with_context(|| file.display().to_string())?;
        tree.insert(entry.path.clone(), entry);
    }
    name_link_groups(&mut tree);
    Ok(tree)
}

/// Names each link group after its smallest path, so that trees compare whatever order they were walked in.
fn name_link_groups(tree: &mut Tree) {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in tree.values_mut() {
        if let Some(first) = entry.hl.take() {
            groups.entry(first).or_default().push(entry.path.clone());
        }
    }
    for (first, mut paths) in groups {
        paths.push(first);
        let smallest = paths.iter().min().cloned();
        for path in &paths {
            if let Some(entry) = tree.get_mut(path) {
                entry.hl.clone_from(&smallest);
            }
        }
    }
}

/// Walks the tree below `top`.
pub(crate) fn walk(top: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut first_names = HashMap::new();
    for found in walkdir::WalkDir::new(top).sort_by_file_name() {
        let found = found?;
        let relative = found.path().strip_prefix(top)?;
        let path = format!("/{}", escape(relative.as_os_str().as_bytes()));
        let meta = found.path().symlink_metadata()?;
        let mut entry = entry(found.path(), &meta).with_context(|| path.clone())?;
        entry.path.clone_from(&path);
        if !meta.is_dir() && meta.nlink() > 1 {
            entry.hl = first_names.get(&meta.ino()).cloned();
            first_names
                .entry(meta.ino())
                .or_insert_with(|| path.clone());
        }
        tree.insert(path, entry);
    }
    name_link_groups(&mut tree);
    Ok(tree)
}

fn entry(path: &Path, meta: &Metadata) -> Result<Entry> {
    let file_type = meta.file_type();
    let mut entry = Entry {
        mode: format!("{:04o}", meta.mode() & 0o7777),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime_ns: i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec()),
        xattrs: xattrs(path)?,
        ..Entry::default()
    };
    let kind = if file_type.is_dir() {
        "dir"
    } else if file_type.is_file() {
        entry.size = Some(meta.len());
        entry.blocks = Some(meta.blocks());
        entry.sha256 = Some(digest(path)?);
        "file"
    } else if file_type.is_symlink() {
        entry.size = Some(meta.len());
        entry.target = Some(escape(fs::read_link(path)?.as_os_str().as_bytes()));
        "symlink"
    } else if file_type.is_fifo() {
        "fifo"
    } else if file_type.is_socket() {
        "socket"
    } else {
        entry.rdev = Some(format!(
            "{}:{}",
            nix::sys::stat::major(meta.rdev()),
            nix::sys::stat::minor(meta.rdev())
        ));
        if file_type.is_char_device() {
            "char"
        } else {
            "block"
        }
    };
    kind.clone_into(&mut entry.kind);
    Ok(entry)
}

/// SHA-256 of a file's content, in hex.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn xattrs(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for name in xattr::list(path)? {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        values.insert(escape(name.as_bytes()), hex(&value));
    }
    Ok(values)
}

/// Every difference, one line each; empty means equal.
pub(crate) fn compare(truth: &Tree, found: &Tree) -> Vec<String> {
    let missing = truth
        .keys()
        .filter(|path| !found.contains_key(*path))
        .map(|path| format!("{path}: missing"));
    let extra = found
        .keys()
        .filter(|path| !truth.contains_key(*path))
        .map(|path| format!("{path}: too much"));
    let both = truth
        .iter()
        .filter_map(|(path, want)| Some((want, found.get(path)?)));
    missing
        .chain(extra)
        .chain(both.flat_map(|(want, have)| differences(want, have)))
        .collect()
}

fn differences(want: &Entry, have: &Entry) -> Vec<String> {
    let mut lines = Vec::new();
    let mut check = |what: &str, want_value: String, have_value: String| {
        if want_value != have_value {
            lines.push(format!(
                "{}: {what} {want_value} expected, {have_value} found",
                want.path
            ));
        }
    };
    check("type", want.kind.clone(), have.kind.clone());
    check("mode", want.mode.clone(), have.mode.clone());
    check(
        "owner",
        format!("{}:{}", want.uid, want.gid),
        format!("{}:{}", have.uid, have.gid),
    );
    check(
        "mtime",
        want.mtime_ns.to_string(),
        have.mtime_ns.to_string(),
    );
    check(
        "size",
        format!("{:?}", want.size),
        format!("{:?}", have.size),
    );
    check(
        "content",
        format!("{:?}", want.sha256),
        format!("{:?}", have.sha256),
    );
    check(
        "device number",
        format!("{:?}", want.rdev),
        format!("{:?}", have.rdev),
    );
    check(
        "target",
        format!("{:?}", want.target),
        format!("{:?}", have.target),
    );
    check(
        "link group",
        format!("{:?}", want.hl),
        format!("{:?}", have.hl),
    );
    let mut have_xattrs = have.xattrs.clone();
    for (name, value) in &want.xattrs {
        if let (UNREADABLE, Some(found)) = (value.as_str(), have_xattrs.get_mut(name)) {
            UNREADABLE.clone_into(found);
        }
    }
    check(
        "xattrs",
        format!("{:?}", want.xattrs),
        format!("{have_xattrs:?}"),
    );
    // A hole that was filled shows as more blocks; eight are one extent block of 4 KiB.
    if let (Some(want_blocks), Some(have_blocks)) = (want.blocks, have.blocks) {
        check(
            "holes kept",
            "true".to_owned(),
            (have_blocks <= want_blocks + 8).to_string(),
        );
    }
    lines
}
