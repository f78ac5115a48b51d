//! What neither aufs nor ext4 would take: whiteouts of other types, paths longer than the kernel takes, times, sizes and
//! numbers beyond what an inode holds. One such file costs nobody the host.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use super::run::{Tool, small_root};
use super::support::root::AufsRoot;

/// The root copied to a tmpfs, which holds what ext4 does not.
struct OnTmpfs {
    dir: TempDir,
    of: AufsRoot,
}

impl OnTmpfs {
    fn new(of: AufsRoot) -> Self {
        let dir = TempDir::new_in("/dev/shm").unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(of.path()).arg(dir.path());
        assert!(copy.status().unwrap().success());
        Self { dir, of }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("docker")
    }

    fn branch(&self, layer: &str) -> std::path::PathBuf {
        let inner = self.of.branch(layer);
        self.path()
            .join(inner.strip_prefix(self.of.path()).unwrap())
    }
}

#[test]
fn all_that_ext4_does_not_hold_is_named_in_one_run_with_its_users_and_a_way_on() {
    let root = OnTmpfs::new(small_root());
    let (app, web) = (root.branch("app"), root.branch("web rw"));
    xattr::set(app.join("app/data"), "trusted.photo", &[b'x'; 15_000]).unwrap();
    for number in 0..65_001 {
        fs::hard_link(web.join("log"), web.join(format!("link{number}"))).unwrap();
    }
    let huge = fs::File::create(web.join("huge")).unwrap();
    huge.set_len(20 << 40).unwrap();
    let tool = Tool::new();
    let run = tool.run("convert", &root.path(), &[]);
    run.expect(
        1,
        &[
            "lab/app:1",
            "container web",
            "/app/data: extended attributes take",
            ": more than 65000 hard links",
            "/huge: file of 21990232555520 bytes",
            "Next: xfs has higher limits there: `aufs2dm convert --fs=xfs",
        ],
    );
    assert!(!root.path().join("devicemapper").exists());
}
