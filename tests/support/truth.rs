//! Reads what was recorded of a mounted aufs; the form is described in `fixtures/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::merged::{Entry, Kind, MergedTree};

#[derive(Deserialize)]
struct Line {
    path: String,
    r#type: String,
    mode: String,
    uid: u32,
    gid: u32,
    mtime_ns: i128,
    size: Option<u64>,
    sha256: Option<String>,
    target: Option<String>,
    rdev: Option<String>,
    hl: Option<String>,
    #[serde(default)]
    xattrs: BTreeMap<String, String>,
}

/// The tree in a `.jsonl` file of the truth.
pub fn read_truth(jsonl: &Path) -> MergedTree {
    let entries = fs::read_to_string(jsonl)
        .unwrap()
        .lines()
        .map(|line| {
            let line: Line = serde_json::from_str(line).unwrap();
            let path = unescape(&line.path);
            let inode = line.hl.as_deref().map_or(path.clone(), unescape);
            (path, (entry(&line), inode))
        })
        .collect();
    MergedTree::grouped(entries)
}

fn entry(line: &Line) -> Entry {
    Entry {
        kind: kind(line),
        mode: u32::from_str_radix(&line.mode, 8).unwrap(),
        uid: line.uid,
        gid: line.gid,
        mtime: line.mtime_ns,
        xattrs: line
            .xattrs
            .iter()
            .map(|(name, value)| (unescape(name), xattr_value(value)))
            .collect(),
        group: None,
    }
}

fn kind(line: &Line) -> Kind {
    let device = || {
        let (major, minor) = line.rdev.as_ref().unwrap().split_once(':').unwrap();
        (major.parse().unwrap(), minor.parse().unwrap())
    };
    match line.r#type.as_str() {
        "dir" => Kind::Directory,
        "file" => Kind::Regular {
            size: line.size.unwrap(),
            sha256: line.sha256.clone().unwrap(),
        },
        "symlink" => Kind::Symlink(unescape(line.target.as_ref().unwrap())),
        "char" => Kind::Char(device().0, device().1),
        "block" => Kind::Block(device().0, device().1),
        "fifo" => Kind::Fifo,
        "socket" => Kind::Socket,
        other => panic!("{}: unknown type {other}", line.path),
    }
}

/// Hexadecimal; `!` and an errno for what is listed but unreadable.
fn xattr_value(text: &str) -> Option<Vec<u8>> {
    if text.starts_with('!') {
        return None;
    }
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    Some(digits.map(byte).collect())
}

/// Bytes from printable ASCII with `\xHH` for the rest.
fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escaped)) = rest.split_once("\\x") {
        bytes.extend_from_slice(plain.as_bytes());
        let (digits, after) = escaped.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
