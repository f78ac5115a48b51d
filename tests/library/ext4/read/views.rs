//! File systems read back: what our writer planned, and what the kernel put into file systems of `mkfs.ext4`.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use aufs2dm::ext4::Ino;
use aufs2dm::ext4::read::{CheckedView, Fault, GroupFault, Type, View};

use super::images::Made;
use crate::ext4::write::{BOTH, Chain, Model, ModelKind, Numbers, Taste, random_layer};

/// Reads an image that must be clean.
pub(crate) fn read_clean(path: &std::path::Path) -> View {
    let CheckedView { view, faults } = View::read(&File::open(path).unwrap()).unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
    view
}

#[test]
fn what_is_read_is_what_was_planned() {
    for (seed, checksums) in (300..).zip(BOTH) {
        let mut numbers = Numbers::new(seed);
        let mut chain = Chain::new(1024, checksums);
        for changes in [3, 400, 40, 400] {
            let taste = Taste {
                changes,
                name_bytes: 100,
            };
            let layer = random_layer(&mut numbers, &chain.model, &taste);
            chain.apply(&layer);
            let view = read_clean(&chain.disk.path());
            let root = view.lookup(Ino::ROOT, b"rootfs").unwrap();
            Compare {
                view: &view,
                model: &chain.model,
                seen: BTreeMap::new(),
            }
            .inode(chain.model.root, root);
        }
    }
}

#[test]
fn no_inodes_are_read_where_something_else_than_their_table_begins() {
    const DESCRIPTOR: u64 = 2048;
    let features = "^metadata_csum,^uninit_bg,^has_journal,^64bit";
    let made = Made::new(4, &["-b", "1024", "-O", features]);
    let device = OpenOptions::new().read(true).write(true).open(made.path());
    let device = device.unwrap();
    let mut bitmap = [0; 4];
    device.read_exact_at(&mut bitmap, DESCRIPTOR).unwrap();
    device.write_all_at(&bitmap, DESCRIPTOR + 8).unwrap();
    let CheckedView { view, faults } = View::read(&device).unwrap();
    let block = u32::from_le_bytes(bitmap).into();
    let what = "inode table";
    let fault = GroupFault::Overlap { what, block };
    assert!(faults.contains(&Fault::Group { group: 0, fault }));
    assert_eq!(view.inodes().count(), 0, "{faults:?}");
}

struct Compare<'a> {
    view: &'a View,
    model: &'a Model,
    seen: BTreeMap<u64, Ino>,
}

impl Compare<'_> {
    fn inode(&mut self, id: u64, ino: Ino) {
        if let Some(before) = self.seen.insert(id, ino) {
            assert_eq!(before, ino, "hard link");
            return;
        }
        let (model, found) = (self.model.inode(id), self.view.inode(ino).unwrap());
        assert_eq!(found.meta(), model.meta, "{ino:?}");
        match &model.kind {
            ModelKind::Directory(names) => {
                assert_eq!(found.file_type(), Some(Type::Directory));
                let listed: Vec<_> = self
                    .view
                    .names(ino)
                    .map(|(name, _)| name.to_vec())
                    .collect();
                assert!(listed.iter().eq(names.keys()), "{ino:?}: names differ");
                for (name, &child) in names {
                    let found = self.view.lookup(ino, name).unwrap();
                    assert!(self.view.parents(found).any(|(parent, _)| parent == ino));
                    self.inode(child, found);
                }
            }
            ModelKind::Regular(file, _) => {
                assert_eq!(
                    (found.file_type(), found.size()),
                    (Some(Type::Regular), file.size)
                );
            }
            ModelKind::Symlink(target) => assert_eq!(found.target(), Some(&target[..])),
            ModelKind::Special(..) => {}
        }
    }
}
