//! Roots with a layer for each row, whole or damaged, converted or not.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aufs2dm::command::{Error, OpenRoot, VerifyRequest, verify};
use aufs2dm::commit;
use aufs2dm::daemon::{Host, LockError};
use aufs2dm::ext4::Checksums;
use aufs2dm::progress::Cancel;
use aufs2dm::units::Bytes;
use aufs2dm::verify::{Mode, Report};
use tempfile::TempDir;

use super::inflict::{add_below, add_entry, change_elsewhere, inflict};
use super::table::{Entry, Row};
use crate::command::{Quiet, in_memory, request};
use crate::support::root::AufsRoot;
use crate::support::tree::Tree;

/// The layer that is below all others.
const BELOW: &str = "below";

/// A root that can be put down as often as wanted.
pub(super) struct Template {
    tree: Tree,
    /// Each row's layer.
    ids: Vec<String>,
}

impl Template {
    pub(super) fn of(entries: &[Entry], rows: &[Row]) -> Self {
        let mut root = AufsRoot::new().recorded().layer(BELOW, |l| {
            let of = |l, within| entries.iter().fold(l, |l, &one| add_below(one, l, within));
            of(of(l.file("below all", ""), "image"), "container")
        });
        root = root.image("lab/below:1", BELOW);
        let mut ids = Vec::new();
        let mut last = ("lab/below:1".to_owned(), BELOW.to_owned());
        for (nth, row) in rows.iter().enumerate() {
            let name = format!("row{nth}");
            if row.is_of_image {
                let tag = format!("lab/{name}:1");
                root = root
                    .layer_on(Some(BELOW), &name, |l| {
                        add_entry(row.entry, l.file("row", &name), row.within())
                    })
                    .image(&tag, &name);
                ids.push(root.id(&name).to_owned());
                last = (tag, name);
            } else {
                root = root.container(&name, (&last.0, &last.1), |l| {
                    add_entry(row.entry, l, row.within())
                });
                ids.push(root.id(&format!("{name} rw")).to_owned());
            }
        }
        let tree = Tree::read(&root.path()).unwrap();
        Self { tree, ids }
    }

    pub(super) fn id(&self, row: usize) -> &str {
        &self.ids[row]
    }

    pub(super) fn put_down(&self) -> Root {
        let dir = in_memory();
        self.tree.write(&dir.path().join("docker")).unwrap();
        Root { dir }
    }
}

/// A root.
pub(super) struct Root {
    dir: TempDir,
}

impl Root {
    fn path(&self) -> PathBuf {
        self.dir.path().join("docker")
    }

    fn branch(&self, id: &str) -> PathBuf {
        self.path().join("aufs/diff").join(id)
    }

    /// Damages the branch of a row's layer.
    pub(super) fn damage(&self, row: Row, id: &str) {
        inflict(row.entry, row.damage, &self.branch(id).join(row.within()));
    }

    /// Changes another entry of the layer in aufs, or changes it back.
    pub(super) fn change_elsewhere(&self, row: Row, id: &str) {
        change_elsewhere(&self.branch(id).join(row.within()));
    }

    pub(super) fn convert(&self) {
        let mut request = request(&self.path(), Checksums::GroupDescriptors);
        request.plan.base_size = Some(Bytes::mib(512));
        request.jobs = NonZeroUsize::MIN;
        let source = OpenRoot::open(request).unwrap();
        source.plan(&Quiet).unwrap().execute(&Quiet).unwrap();
    }

    /// What `verify --full` says, without the kernel.
    pub(super) fn verify(&self) -> Report {
        let request = VerifyRequest {
            root: self.path(),
            host: Host {
                pid_file: self.dir.path().join("docker.pid"),
                root: self.dir.path().join("host"),
                ..Host::default()
            },
            mode: Mode::Full,
            kernel: false,
            target: None,
            jobs: NonZeroUsize::MIN,
            cancel: Cancel::default(),
        };
        loop {
            match verify(&request, &Quiet) {
                // A process that another test is about to start has our locks until it runs its program.
                Err(
                    Error::Commit(commit::Error::Busy { .. }) | Error::Lock(LockError::Busy { .. }),
                ) => std::thread::sleep(Duration::from_millis(20)),
                report => return report.unwrap(),
            }
        }
    }

    /// Exchanges a layer's branch with the one of another root.
    pub(super) fn exchange_branch(&self, other: &Self, id: &str) {
        self.exchange(&self.branch(id), &other.branch(id));
    }

    /// Exchanges the pool with the one of another root, whose devices have the same numbers.
    pub(super) fn exchange_pool(&self, other: &Self) {
        let pool = |root: &Self| root.path().join("devicemapper/devicemapper");
        let notes = |root: &Self| {
            let notes = fs::read_dir(root.path().join("devicemapper/metadata")).unwrap();
            let read = |note: fs::DirEntry| (note.file_name(), fs::read(note.path()).unwrap());
            let mut notes: Vec<_> = notes.map(|note| read(note.unwrap())).collect();
            notes.retain(|(name, _)| name != "deviceset-metadata");
            notes.sort();
            notes
        };
        assert!(
            notes(self) == notes(other),
            "the devices have other numbers"
        );
        for file in ["data", "metadata"] {
            self.exchange(&pool(self).join(file), &pool(other).join(file));
        }
    }

    fn exchange(&self, own: &Path, other: &Path) {
        let between = self.dir.path().join("between");
        fs::rename(own, &between).unwrap();
        fs::rename(other, own).unwrap();
        fs::rename(between, other).unwrap();
    }
}
