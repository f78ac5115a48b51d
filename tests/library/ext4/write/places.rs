//! Where the structures of an ext4 file system lie.

use std::collections::BTreeSet;

use aufs2dm::ext4::Ino;
use aufs2dm::ext4::read::{ReadAt, Type, View};

/// A kind of structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Structure {
    Superblock,
    Descriptor,
    BlockBitmap,
    InodeBitmap,
    Inode,
    DirectoryLeaf,
    Index,
    ExtentNode,
    XattrBlock,
    SymlinkBlock,
    Journal,
    /// Bytes of a regular file.
    Content,
}

/// A structure's kind, first byte and bytes. All are on blocks of 4096 bytes.
pub(crate) type Place = (Structure, u64, u64);

/// The structures of a file system.
pub(crate) fn places(device: &dyn ReadAt, view: &View) -> Vec<Place> {
    let mut finder = Finder {
        device,
        view,
        places: vec![(Structure::Superblock, 1024, 1024)],
    };
    finder.find_tables();
    finder.find_files();
    finder.places
}

struct Finder<'a> {
    device: &'a dyn ReadAt,
    view: &'a View,
    places: Vec<Place>,
}

impl Finder<'_> {
    fn number(&self, offset: u64, length: usize) -> u64 {
        let mut bytes = vec![0; length];
        self.device.read_at(&mut bytes, offset).unwrap();
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn find_tables(&mut self) {
        let is_64bit = self.number(1024 + 0x60, 4) & 0x80 != 0;
        let desc_bytes = if is_64bit {
            self.number(1024 + 0xfe, 2)
        } else {
            32
        };
        let inodes_per_group = self.number(1024 + 0x28, 4);
        let inode_bytes = self.number(1024 + 0x58, 2);
        let groups = self.view.blocks().div_ceil(32_768);
        for group in 0..groups {
            let desc = 4096 + group * desc_bytes;
            self.places.push((Structure::Descriptor, desc, desc_bytes));
            let flags = self.number(desc + 18, 2);
            for (structure, at, uninit) in [
                (Structure::BlockBitmap, 0, 2),
                (Structure::InodeBitmap, 4, 1),
            ] {
                if flags & uninit == 0 {
                    let block = self.number(desc + at, 4);
                    self.places.push((structure, block * 4096, 4096));
                }
            }
        }
        let view = self.view;
        let mut xattr_blocks = BTreeSet::new();
        for (ino, _) in view.inodes() {
            let (group, index) = (
                u64::from(ino.0 - 1) / inodes_per_group,
                u64::from(ino.0 - 1) % inodes_per_group,
            );
            let table = self.number(4096 + group * desc_bytes + 8, 4) * 4096;
            let inode = table + index * inode_bytes;
            self.places.push((Structure::Inode, inode, inode_bytes));
            let acl = self.number(inode + 104, 4);
            if acl != 0 && xattr_blocks.insert(acl) {
                self.places.push((Structure::XattrBlock, acl * 4096, 4096));
            }
            self.find_nodes(inode);
        }
    }

    fn find_nodes(&mut self, inode: u64) {
        let is_tree = self.number(inode + 32, 4) & 0x8_0000 != 0;
        if is_tree && self.number(inode + 46, 2) > 0 {
            for nth in 0..self.number(inode + 42, 2) {
                let block = self.number(inode + 52 + 12 * nth + 4, 4);
                self.places
                    .push((Structure::ExtentNode, block * 4096, 4096));
            }
        }
        let is_file = self.number(inode, 2) >> 12 == 8;
        if is_file && !is_tree {
            for at in [12, 13] {
                let block = self.number(inode + 40 + 4 * at, 4);
                if block != 0 {
                    self.places
                        .push((Structure::ExtentNode, block * 4096, 4096));
                }
            }
        }
    }

    fn find_files(&mut self) {
        let view = self.view;
        for (ino, inode) in view.inodes() {
            let runs = view.extents(ino);
            let blocks = runs.flat_map(|run| {
                (0..run.blocks).map(move |at| (run.logical + at, run.physical + u64::from(at)))
            });
            match inode.file_type() {
                Some(Type::Directory) => {
                    let many = inode.size() > 4096 * 2;
                    for (logical, block) in blocks {
                        let is_node = self.number(block * 4096 + 4, 2) == 4096;
                        let structure = match logical {
                            0 if many => Structure::Index,
                            _ if many && is_node => Structure::Index,
                            _ => Structure::DirectoryLeaf,
                        };
                        self.places.push((structure, block * 4096, 4096));
                    }
                }
                Some(Type::Symlink) => {
                    for (_, block) in blocks {
                        self.places
                            .push((Structure::SymlinkBlock, block * 4096, 4096));
                    }
                }
                _ if ino == Ino(8) => {
                    let first = view.extents(ino).next().unwrap();
                    self.places
                        .push((Structure::Journal, first.physical * 4096, 1024));
                }
                Some(Type::Regular) => {
                    for (logical, block) in blocks {
                        let bytes = inode.size().saturating_sub(u64::from(logical) * 4096);
                        if bytes > 0 {
                            self.places
                                .push((Structure::Content, block * 4096, bytes.min(4096)));
                        }
                    }
                }
                _ => {}
            }
        }
    }
}
