//! A root that is converted, and what the conversion wrote.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aufs2dm::command::{Error, OpenRoot, VerifyRequest, verify};
use aufs2dm::commit;
use aufs2dm::daemon::{Host, LockError};
use aufs2dm::ext4::Checksums;
use aufs2dm::progress::Cancel;
use aufs2dm::verify::{Mode, Verdict};
use nix::sys::stat::{Mode as Permissions, SFlag, makedev, mknod};
use tempfile::TempDir;
use walkdir::WalkDir;

use super::Word;
use crate::command::{Quiet, in_memory, request};
use crate::support::reduced::reduced;
use crate::support::walk::sha256;

/// The reduced fixture with something of each structure, converted.
pub(super) struct Converted {
    _dir: TempDir,
    root: PathBuf,
    /// What the conversion wrote but the pool, by paths relative to the root.
    files: Vec<PathBuf>,
    /// What `verify` says of it as it is.
    sound: Verdict,
}

impl Converted {
    /// `extra` bytes more are in a file of a container.
    pub(super) fn new(checksums: Checksums, extra: u64) -> Self {
        let dir = in_memory();
        let root = dir.path().join("docker");
        reduced().unwrap().write(&root).unwrap();
        add_structures(&root, extra);
        add_distribution(&root.join("image/aufs/distribution"));
        let before = digests(&root);
        let source = OpenRoot::open(request(&root, checksums)).unwrap();
        source.plan(&Quiet).unwrap().execute(&Quiet).unwrap();
        let mut files: Vec<PathBuf> = digests(&root)
            .into_iter()
            .filter(|(path, digest)| before.get(path) != Some(digest))
            .map(|(path, _)| path)
            .collect();
        files.retain(|path| !path.starts_with("devicemapper/devicemapper"));
        let converted = Self {
            _dir: dir,
            root,
            files,
            sound: Verdict::Sound,
        };
        assert!(matches!(converted.verify(), Word::Sound));
        converted
    }

    /// Changes each branch, as a Docker that runs on the aufs side does, and gives all entries a new time of change.
    pub(super) fn change_aufs(&mut self) {
        for branch in fs::read_dir(self.root.join("aufs/diff")).unwrap() {
            let branch = branch.unwrap().path();
            for entry in WalkDir::new(&branch) {
                let path = entry.unwrap().into_path();
                lchown(&path, None, None).unwrap();
            }
            fs::write(branch.join("added since"), "").unwrap();
        }
        self.sound = Verdict::AufsChanged;
        let word = self.verify();
        assert!(matches!(word, Word::Sound), "{}", word.text());
    }

    /// Takes the aufs side and the way back away, as `commit` does.
    pub(super) fn commit(&mut self) {
        for name in ["aufs", "image/aufs", ".aufs2dm"] {
            fs::remove_dir_all(self.root.join(name)).unwrap();
        }
        self.files.retain(|path| !path.starts_with(".aufs2dm"));
        let word = self.verify();
        assert!(matches!(word, Word::Sound), "{}", word.text());
    }

    pub(super) fn has_aufs(&self) -> bool {
        self.root.join("aufs").is_dir()
    }

    pub(super) fn path(&self) -> &Path {
        &self.root
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }

    pub(super) fn home(&self) -> PathBuf {
        self.root.join("devicemapper")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.home().join("devicemapper/data")
    }

    pub(super) fn metadata(&self) -> PathBuf {
        self.home().join("devicemapper/metadata")
    }

    /// The full verification, without the kernel.
    pub(super) fn verify(&self) -> Word {
        let request = VerifyRequest {
            root: self.root.clone(),
            host: Host {
                pid_file: self.root.with_file_name("docker.pid"),
                root: self.root.with_file_name("host"),
                ..Host::default()
            },
            mode: Mode::Full,
            kernel: false,
            target: None,
            jobs: NonZeroUsize::new(2).unwrap(),
            cancel: Cancel::default(),
        };
        loop {
            match verify(&request, &Quiet) {
                Ok(report) if report.verdict == self.sound => return Word::Sound,
                Ok(report) => return Word::Wrong(Box::new(report)),
                // A process that another test is about to start has our locks until it runs its program.
                Err(
                    Error::Commit(commit::Error::Busy { .. }) | Error::Lock(LockError::Busy { .. }),
                ) => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Word::Refused(format!("{:#}", anyhow::Error::from(error))),
            }
        }
    }
}

/// The files outside of the aufs side, with their digests.
fn digests(root: &Path) -> BTreeMap<PathBuf, String> {
    let is_pool = |path: &Path| path.ends_with("devicemapper/devicemapper");
    let entries = WalkDir::new(root)
        .into_iter()
        .filter_entry(|entry| entry.path() != root.join("aufs") && !is_pool(entry.path()));
    let files = entries
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            (path, sha256(entry.path()))
        })
        .collect()
}

/// Puts into a container's layer what makes each structure of ext4.
fn add_structures(root: &Path, extra: u64) {
    let mounts = root.join("image/aufs/layerdb/mounts");
    let mut mounts: Vec<_> = fs::read_dir(mounts)
        .unwrap()
        .map(|mount| mount.unwrap().path())
        .collect();
    mounts.sort();
    let layer = fs::read_to_string(mounts[0].join("mount-id")).unwrap();
    let top = root.join("aufs/diff").join(layer).join("structures");
    let many = top.join("many");
    fs::create_dir_all(&many).unwrap();
    for nth in 0..250 {
        File::create(many.join(format!("{nth:04}-{}", "name".repeat(12)))).unwrap();
    }
    let holes = File::create(top.join("holes")).unwrap();
    for nth in 0..12 {
        holes
            .write_all_at(&[nth + 1; 4096], u64::from(nth) << 18)
            .unwrap();
    }
    let bytes: Vec<u8> = (0..150_000_u32)
        .map(|at| at.wrapping_mul(at).to_le_bytes()[1])
        .collect();
    fs::write(top.join("large"), bytes).unwrap();
    fs::write(top.join("small"), "content\n").unwrap();
    if extra > 0 {
        let bytes = vec![b'.'; usize::try_from(extra).unwrap()];
        fs::write(top.join("extra"), bytes).unwrap();
    }
    fs::hard_link(top.join("small"), top.join("small too")).unwrap();
    xattr::set(top.join("small"), "trusted.short", b"in the inode").unwrap();
    xattr::set(top.join("large"), "trusted.long", &[b'x'; 1500]).unwrap();
    symlink("small", top.join("short link")).unwrap();
    symlink("directory/".repeat(20), top.join("long link")).unwrap();
    let mode = Permissions::from_bits_truncate(0o640);
    mknod(&top.join("pipe"), SFlag::S_IFIFO, mode, 0).unwrap();
    mknod(
        &top.join("device"),
        SFlag::S_IFCHR,
        mode,
        makedev(300, 4000),
    )
    .unwrap();
}

/// What Docker keeps of pulls and pushes.
fn add_distribution(store: &Path) {
    let id = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let push = format!(
        r#"[{{"Digest":"{}","SourceRepository":"docker.io/lab/base","HMAC":""}}]"#,
        id("d")
    );
    for (directory, content) in [
        ("diffid-by-digest", id("e")),
        ("v2metadata-by-diffid", push),
    ] {
        let directory = store.join(directory).join("sha256");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a".repeat(64)), content).unwrap();
    }
}
