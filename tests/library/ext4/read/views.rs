//! File systems read back: what our writer planned, and what the kernel put into file systems of `mkfs.ext4`.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::collections::BTreeMap;
use std::fs::File;

use aufs2dm::ext4::Ino;
use aufs2dm::ext4::read::{CheckedView, Type, View};

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
