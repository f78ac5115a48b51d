//! Holes cost nothing.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::{Whence, lseek64};
use serde_json::Value;

use super::run::{Ended, Tool, small_root};
use super::support::root::AufsRoot;

#[test]
fn a_containers_sparse_file_of_a_terabyte_costs_what_its_data_costs() {
    const SIZE: u64 = 1200 << 30;
    let (tool, root) = (Tool::new(), small_root());
    let root = root.container("sparse", ("lab/app:1", "app"), |l| {
        l.sparse("lastlog", SIZE, &[(SIZE / 3, &[b'A'; 292])])
    });
    let file = root.branch("sparse rw").join("lastlog");
    assert_eq!(fs::metadata(file).unwrap().len(), SIZE);
    tool.run("convert", &root.path(), &[]).expect(0, &[]);
    let ended = tool.run("verify", &root.path(), &["--full", "--json"]);
    ended.expect(0, &[]);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert!(
        report["bytes_read"].as_u64().unwrap() < 64 << 20,
        "{report}"
    );
}

/// A copy of a root with holes where it had none, and with zeros where it had holes.
#[test]
fn holes_that_a_copy_moved_are_a_remark_and_other_bytes_there_are_a_fault() {
    let converted = Converted::new();
    let (zeros, sparse) = (converted.file("zeros"), converted.file("sparse"));
    for mode in ["--full", "--quick"] {
        let ended = converted.verify(mode);
        ended.expect(0, &[]);
        assert!(!ended.out.contains("holes"), "{}", ended.out);
    }
    cut_out(&zeros, MARK.len() as u64..ZEROS);
    fill(&sparse);
    for mode in ["--full", "--quick"] {
        let ended = converted.verify(mode);
        ended.expect(0, &[]);
        let remark = "2 files with holes in other places than in aufs, but zeros on both sides";
        assert!(ended.out.contains(remark), "{}", ended.out);
    }
    let ended = converted.verify_with("--full", &["--json"]);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let layers = report["layers"].as_array().unwrap();
    let told: Vec<_> = layers
        .iter()
        .filter_map(|layer| Some(layer["space"]["first"].as_array()?.len()))
        .collect();
    assert_eq!(told.iter().sum::<usize>(), 2, "{report}");
}

#[test]
fn what_the_device_has_in_a_hole_of_aufs_is_read() {
    let converted = Converted::new();
    cut_out(&converted.file("zeros"), MARK.len() as u64..ZEROS);
    let data = converted.root.path().join("devicemapper/devicemapper/data");
    let place = find(&data, MARK) + 128 * 1024;
    let file = File::options().write(true).open(&data).unwrap();
    file.write_all_at(b"x", place).unwrap();
    for mode in ["--full", "--quick"] {
        let ended = converted.verify(mode);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let fault = "/zeros: has data at byte 131072, where aufs has a hole";
        assert!(ended.out.contains(fault), "{}", ended.out);
    }
}

#[test]
fn what_aufs_has_in_a_hole_of_the_device_is_read() {
    let converted = Converted::new();
    let sparse = converted.file("sparse");
    let modified = sparse.metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(&sparse).unwrap();
    file.write_all_at(b"x", ZEROS / 2).unwrap();
    file.set_modified(modified).unwrap();
    for mode in ["--full", "--quick"] {
        let ended = converted.verify(mode);
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let fault = "/sparse: has a hole at byte 524288, where aufs has data";
        assert!(ended.out.contains(fault), "{}", ended.out);
    }
}

/// The size of both files.
const ZEROS: u64 = 1 << 20;
/// What the file of zeros begins with, so that it can be found in the pool.
const MARK: &[u8; 4096] = &[0xa7; 4096];

/// A converted root whose container has a file of zeros and one of a hole.
struct Converted {
    tool: Tool,
    root: AufsRoot,
}

impl Converted {
    fn new() -> Self {
        let (tool, root) = (Tool::new(), small_root());
        let mut zeros = vec![0; usize::try_from(ZEROS).unwrap()];
        zeros[..MARK.len()].copy_from_slice(MARK);
        let root = root.container("sparse", ("lab/app:1", "app"), |l| {
            l.file("zeros", &zeros)
                .sparse("sparse", ZEROS, &[(0, b"begin")])
        });
        tool.run("convert", &root.path(), &[]).expect(0, &[]);
        Self { tool, root }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.branch("sparse rw").join(name)
    }

    fn verify(&self, mode: &str) -> Ended {
        self.verify_with(mode, &[])
    }

    fn verify_with(&self, mode: &str, options: &[&str]) -> Ended {
        let options = [&[mode], options].concat();
        self.tool.run("verify", &self.root.path(), &options)
    }
}

/// Makes a hole in a file, whose time stays.
fn cut_out(path: &Path, range: Range<u64>) {
    let file = File::options().write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let [start, length] = [range.start, range.end - range.start].map(|n| n.try_into().unwrap());
    fallocate(&file, flags, start, length).unwrap();
    file.set_modified(modified).unwrap();
}

/// Writes a file's holes as zeros; its time stays.
fn fill(path: &Path) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let bytes = fs::read(path).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    file.set_modified(modified).unwrap();
}

/// Where a block of bytes lies in a file.
fn find(path: &Path, block: &[u8; 4096]) -> u64 {
    let file = File::open(path).unwrap();
    let mut bytes = [0; 4096];
    let mut at = 0;
    loop {
        at = lseek64(&file, at, Whence::SeekData).expect("the block is there");
        file.read_exact_at(&mut bytes, at.cast_unsigned()).unwrap();
        if bytes == *block {
            return at.cast_unsigned();
        }
        at += 4096;
    }
}
