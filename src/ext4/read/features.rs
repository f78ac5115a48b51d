//! Which features a file system has. Source: linux v6.6 `fs/ext4/ext4.h`, `EXT4_FEATURE_*`.

use crate::ext4::format::SuperBlock;

/// The three feature words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

/// A word's known features: bit, name, whether they are read here.
type FeatureBit = &'static [(u32, &'static str, bool)];

const COMPAT: FeatureBit = &[
    (0x1, "dir_prealloc", true),
    (0x2, "imagic_inodes", false),
    (0x4, "has_journal", true),
    (0x8, "ext_attr", true),
    (0x10, "resize_inode", true),
    (0x20, "dir_index", true),
    (0x40, "lazy_bg", false),
    (0x80, "snapshot_bitmap", false),
    (0x100, "exclude_bitmap", false),
    (0x200, "sparse_super2", true),
    (0x400, "fast_commit", true),
    (0x800, "stable_inodes", true),
    (0x1000, "orphan_file", true),
];

const INCOMPAT: FeatureBit = &[
    (0x1, "compression", false),
    (0x2, "filetype", true),
    (RECOVER, "needs_recovery", true),
    (0x8, "journal_dev", false),
    (0x10, "meta_bg", true),
    (0x40, "extents", true),
    (0x80, "64bit", true),
    (0x100, "mmp", false),
    (0x200, "flex_bg", true),
    (0x400, "ea_inode", false),
    (0x1000, "dirdata", false),
    (0x2000, "metadata_csum_seed", true),
    (0x4000, "large_dir", true),
    (0x8000, "inline_data", false),
    (0x10000, "encrypt", false),
    (0x20000, "casefold", false),
];

const RO_COMPAT: FeatureBit = &[
    (0x1, "sparse_super", true),
    (0x2, "large_file", true),
    (0x8, "huge_file", true),
    (0x10, "uninit_bg", true),
    (0x20, "dir_nlink", true),
    (0x40, "extra_isize", true),
    (0x80, "has_snapshot", false),
    (0x100, "quota", false),
    (0x200, "bigalloc", false),
    (0x400, "metadata_csum", true),
    (0x800, "replica", false),
    (0x1000, "read-only", false), // the kernel then mounts it for reading alone
    (0x2000, "project", false),
    (0x4000, "shared_blocks", false),
    (0x8000, "verity", false),
    (ORPHAN_PRESENT, "orphan_present", true),
];

/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal holds what is not yet in its place.
const RECOVER: u32 = 0x4;
/// `EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT`.
const ORPHAN_PRESENT: u32 = 0x10000;

impl Features {
    pub(super) fn new(raw: &SuperBlock) -> Self {
        Self {
            compat: raw.s_feature_compat.get(),
            incompat: raw.s_feature_incompat.get(),
            ro_compat: raw.s_feature_ro_compat.get(),
        }
    }

    /// Without those that come and go while a file system is in use.
    pub(super) fn lasting(self) -> Self {
        Self {
            incompat: self.incompat & !RECOVER,
            ro_compat: self.ro_compat & !ORPHAN_PRESENT,
            ..self
        }
    }

    /// Names of those that are not read here, `None` when there are none.
    pub(super) fn unsupported(self) -> Option<String> {
        let mut names = Vec::new();
        for (word, known, kind) in [
            (self.compat, COMPAT, "compat"),
            (self.incompat, INCOMPAT, "incompat"),
            (self.ro_compat, RO_COMPAT, "ro_compat"),
        ] {
            for bit in (0..32).map(|shift| 1_u32 << shift) {
                if word & bit == 0 {
                    continue;
                }
                match known.iter().find(|(known, ..)| *known == bit) {
                    Some((.., true)) => {}
                    Some((_, name, false)) => names.push((*name).to_owned()),
                    None => names.push(format!("{kind}:{bit:#x}")),
                }
            }
        }
        // Directory entries without a type byte; nothing younger than ext2 is made like that.
        if self.incompat & 0x2 == 0 {
            names.push("^filetype".to_owned());
        }
        (!names.is_empty()).then(|| names.join(" "))
    }

    pub(super) fn has_journal(self) -> bool {
        self.compat & 0x4 != 0
    }

    pub(super) fn ext_attr(self) -> bool {
        self.compat & 0x8 != 0
    }

    pub(super) fn resize_inode(self) -> bool {
        self.compat & 0x10 != 0
    }

    pub(super) fn dir_index(self) -> bool {
        self.compat & 0x20 != 0
    }

    pub(super) fn sparse_super2(self) -> bool {
        self.compat & 0x200 != 0
    }

    pub(super) fn orphan_file(self) -> bool {
        self.compat & 0x1000 != 0
    }

    pub(super) fn needs_recovery(self) -> bool {
        self.incompat & RECOVER != 0
    }

    pub(super) fn meta_bg(self) -> bool {
        self.incompat & 0x10 != 0
    }

    pub(super) fn extents(self) -> bool {
        self.incompat & 0x40 != 0
    }

    pub(super) fn is_64bit(self) -> bool {
        self.incompat & 0x80 != 0
    }

    pub(super) fn flex_bg(self) -> bool {
        self.incompat & 0x200 != 0
    }

    pub(super) fn csum_seed(self) -> bool {
        self.incompat & 0x2000 != 0
    }

    pub(super) fn large_dir(self) -> bool {
        self.incompat & 0x4000 != 0
    }

    pub(super) fn sparse_super(self) -> bool {
        self.ro_compat & 0x1 != 0
    }

    pub(super) fn large_file(self) -> bool {
        self.ro_compat & 0x2 != 0
    }

    pub(super) fn huge_file(self) -> bool {
        self.ro_compat & 0x8 != 0
    }

    pub(super) fn gdt_csum(self) -> bool {
        self.ro_compat & 0x10 != 0
    }

    pub(super) fn dir_nlink(self) -> bool {
        self.ro_compat & 0x20 != 0
    }

    pub(super) fn metadata_csum(self) -> bool {
        self.ro_compat & 0x400 != 0
    }

    pub(super) fn orphan_present(self) -> bool {
        self.ro_compat & ORPHAN_PRESENT != 0
    }
}
