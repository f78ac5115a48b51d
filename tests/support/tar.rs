//! Makes the tar of a branch as Docker makes it of a layer, and the record by which Docker makes it again.
//!
//! Nothing of the crate is used: headers, checksums and records are written by their descriptions. Sources: POSIX.1-2017 `pax`;
//! vbatts/tar-split v0.12.1 tar/storage/{entry,packer}.go, tar/asm/disassemble.go.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::root::base64;

const BLOCK: usize = 512;

/// A layer's tar with its record. It tells times to the nanosecond where there are some, and all xattrs.
pub struct LayerTar {
    /// The tar.
    pub bytes: Vec<u8>,
    lines: Vec<Value>,
    /// Where the bytes begin that no line has yet.
    pending: usize,
    /// The first names of files with several.
    firsts: HashMap<u64, PathBuf>,
}

impl LayerTar {
    /// The tar of everything in a branch. Names that aufs deletes by are files of their own in it, as Docker has them.
    pub fn of(branch: &Path) -> Self {
        let mut tar = Self {
            bytes: Vec::new(),
            lines: Vec::new(),
            pending: 0,
            firsts: HashMap::new(),
        };
        for entry in WalkDir::new(branch).min_depth(1).sort_by_file_name() {
            let path = entry.unwrap().into_path();
            let name = path.strip_prefix(branch).unwrap().to_owned();
            tar.entry(&path, &name);
        }
        tar.bytes.resize(tar.bytes.len() + 2 * BLOCK, 0);
        tar.segment();
        tar
    }

    /// The digest by which images name the layer.
    pub fn diff_id(&self) -> String {
        format!("sha256:{:x}", Sha256::digest(&self.bytes))
    }

    /// Writes the `tar-split.json.gz`.
    pub fn write_record(&self, file: &Path) {
        let file = File::create(file).unwrap();
        let mut encoder = GzEncoder::new(file, Compression::fast());
        for line in &self.lines {
            writeln!(encoder, "{line}").unwrap();
        }
        encoder.finish().unwrap();
    }

    fn entry(&mut self, path: &Path, name: &Path) {
        let stat = path.symlink_metadata().unwrap();
        let mut name_bytes = name.as_os_str().as_bytes().to_vec();
        let (kind, link) = self.kind(path, name, &stat);
        if kind == b'5' {
            name_bytes.push(b'/');
        }
        let content = match kind {
            b'0' => fs::read(path).unwrap(),
            _ => Vec::new(),
        };
        let records = if kind == b'1' {
            pax_time(&stat)
        } else {
            pax_time(&stat) + &pax_xattrs(path)
        };
        if !records.is_empty() {
            self.header(b"pax", (b'x', b""), (records.len(), None));
            self.bytes.extend_from_slice(records.as_bytes());
            self.pad();
        }
        self.header(&name_bytes, (kind, &link), (content.len(), Some(&stat)));
        self.segment();
        let crc = crc64(&content).to_be_bytes();
        let payload = (!content.is_empty()).then(|| base64(&crc));
        let position = self.lines.len();
        let name = std::str::from_utf8(&name_bytes).unwrap();
        self.lines.push(json!({"type": 1, "name": name, "size": content.len(), "payload": payload, "position": position}));
        self.bytes.extend_from_slice(&content);
        self.pending = self.bytes.len();
        self.pad();
    }

    /// An entry's type, and where it leads to.
    fn kind(&mut self, path: &Path, name: &Path, stat: &Metadata) -> (u8, Vec<u8>) {
        let of = stat.file_type();
        let is_marker = name.file_name().unwrap().as_bytes().starts_with(b".wh.");
        if !of.is_dir() && !is_marker && stat.nlink() > 1 {
            let first = self.firsts.entry(stat.ino()).or_insert_with(|| name.into());
            if first != name {
                return (b'1', first.as_os_str().as_bytes().to_vec());
            }
        }
        if of.is_symlink() {
            let target = fs::read_link(path).unwrap();
            return (b'2', target.into_os_string().into_vec());
        }
        let kind = match () {
            () if of.is_dir() => b'5',
            () if of.is_file() => b'0',
            () if of.is_char_device() => b'3',
            () if of.is_block_device() => b'4',
            () if of.is_fifo() => b'6',
            () => panic!("{}: a tar has nothing for it", path.display()),
        };
        (kind, Vec::new())
    }

    /// One header: of an extension where there is nothing that it describes.
    fn header(
        &mut self,
        name: &[u8],
        (kind, link): (u8, &[u8]),
        (size, stat): (usize, Option<&Metadata>),
    ) {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(name.len() <= 100 && link.len() <= 100);
        let octal = |value: u64, digits: usize| format!("{value:0digits$o}\0").into_bytes();
        let of = |field: fn(&Metadata) -> u64| stat.map_or(0, field);
        put(0, name);
        put(100, &octal(of(|stat| u64::from(stat.mode() & 0o7777)), 7));
        put(108, &octal(of(|stat| stat.uid().into()), 7));
        put(116, &octal(of(|stat| stat.gid().into()), 7));
        put(124, &octal(size as u64, 11));
        put(136, &octal(of(|stat| stat.mtime().cast_unsigned()), 11));
        put(148, b"        ");
        put(156, &[kind]);
        put(157, link);
        put(257, b"ustar\x0000");
        if matches!(kind, b'3' | b'4') {
            put(329, &octal(of(|stat| major(stat.rdev())), 7));
            put(337, &octal(of(|stat| minor(stat.rdev())), 7));
        }
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..155].copy_from_slice(&octal(sum, 6));
        self.bytes.extend_from_slice(&block);
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(BLOCK);
        self.bytes.resize(padded, 0);
    }

    /// Records the bytes since the last content.
    fn segment(&mut self) {
        let payload = base64(&self.bytes[self.pending..]);
        let position = self.lines.len();
        let line = json!({"type": 2, "payload": payload, "position": position});
        self.lines.push(line);
        self.pending = self.bytes.len();
    }
}

fn pax_time(stat: &Metadata) -> String {
    match stat.mtime_nsec() {
        0 => String::new(),
        nsec => pax("mtime", &format!("{}.{nsec:09}", stat.mtime())),
    }
}

fn pax_xattrs(path: &Path) -> String {
    let mut names: Vec<_> = xattr::list(path).unwrap().collect();
    names.sort();
    let record = |name: std::ffi::OsString| {
        let value = xattr::get(path, &name).unwrap().unwrap();
        let key = format!("SCHILY.xattr.{}", name.to_str().unwrap());
        // A tar's values are bytes; those of the tests are text.
        pax(&key, std::str::from_utf8(&value).unwrap())
    };
    names.into_iter().map(record).collect()
}

/// A record of an extension header: its length, which counts itself, key and value.
fn pax(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}")
}

/// Polynomial x⁶⁴ + x⁴ + x³ + x + 1, reflected, initial value and final XOR all ones.
fn crc64(bytes: &[u8]) -> u64 {
    let step = |crc: u64| {
        (crc >> 1)
            ^ if crc & 1 == 1 {
                0xd800_0000_0000_0000
            } else {
                0
            }
    };
    let add = |crc: u64, byte: &u8| (0..8).fold(crc ^ u64::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u64::MAX, add)
}
