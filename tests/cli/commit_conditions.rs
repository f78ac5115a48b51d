//! `commit` removes the only other copy: each of its conditions is broken alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Whence, lseek64};
use serde_json::Value;

use super::run::{Ended, Tool};
use super::support::root::AufsRoot;
use super::support::trace::{assert_same, trace_but_reads};

/// A root that could be committed.
struct Ready {
    tool: Tool,
    root: AufsRoot,
}

impl Ready {
    fn new() -> Self {
        let root = AufsRoot::new()
            .layer("base", |l| l.file("etc/motd", "hello"))
            .layer("app", |l| l.whiteout("etc/motd").dir("app"))
            .image("lab/app:1", "app");
        Self::of(root.container("web", ("lab/app:1", "app"), |l| l.file("data", [7; 9000])))
    }

    fn of(root: AufsRoot) -> Self {
        let ready = Self {
            tool: Tool::new(),
            root,
        };
        ready.run("convert", &[]).expect(0, &[]);
        ready.run("verify", &["--full"]).expect(0, &[]);
        ready
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.root.path().join(inner)
    }

    fn run(&self, verb: &str, options: &[&str]) -> Ended {
        self.tool.run(verb, &self.root.path(), options)
    }

    /// `commit` must fail, name all the words and leave the aufs side as it is, byte for byte.
    #[track_caller]
    fn refused(&self, code: i32, words: &[&str]) {
        let sides = ["aufs", "image/aufs"].map(|side| self.path(side));
        let before = sides.each_ref().map(|side| trace_but_reads(side));
        self.run("commit", &["--yes"]).expect(code, words);
        for (side, before) in sides.iter().zip(&before) {
            assert_same(before, &trace_but_reads(side));
        }
        assert!(!self.path(".aufs2dm/removed").exists());
    }

    #[track_caller]
    fn committed(&self, options: &[&str]) -> Ended {
        let ended = self.run("commit", &[&["--yes"], options].concat());
        ended.expect(0, &[]);
        assert!(!self.path("aufs").exists() && !self.path("image/aufs").exists());
        ended
    }
}

/// Writes other bytes over the content of the container's `data` in the pool.
fn spoil_a_file(root: &Path) {
    let data = File::options()
        .read(true)
        .write(true)
        .open(root.join("devicemapper/devicemapper/data"))
        .unwrap();
    let mut at = 0;
    let mut block = [0; 4096];
    loop {
        at = lseek64(&data, at, Whence::SeekData).expect("the file is in the pool");
        data.read_exact_at(&mut block, at.cast_unsigned()).unwrap();
        if block == [7; 4096] {
            break data.write_all_at(&[8; 100], at.cast_unsigned()).unwrap();
        }
        at += 4096;
    }
}

#[test]
fn what_was_proven_is_committed() {
    Ready::new().committed(&[]);
}

#[test]
fn a_full_verification_that_fails_voids_the_one_before_it_and_status_says_so() {
    let ready = Ready::new();
    spoil_a_file(&ready.root.path());
    ready.run("verify", &["--full"]).expect(3, &[]);
    let status = ready.run("status", &[]);
    status.expect(0, &[]);
    for words in [
        "a verification of it failed",
        "SOMETHING IS WRONG",
        "in full on 20",
    ] {
        assert!(status.out.contains(words), "{words}: {}", status.out);
    }
    assert!(!status.out.contains("commit"), "{}", status.out);
    let status = ready.run("status", &["--json"]);
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["verified"]["verdict"], "wrong");
    ready.refused(1, &["verification", "verify --full"]);
}
