//! Random layer stacks: converted and mounted by the kernel, they equal the reference merge.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use sys_mount::MountFlags;

use super::expect_none;
use crate::{
    lab::Lab,
    pool::Pool,
    roots::{self, Root},
    storage::{AMPLE, Storage},
    support::{
        compare::compare,
        merge::reference_merge,
        random::{Limits, Stack, random_stack_within},
        root::AufsRoot,
        walk::walk,
    },
    variant::{FileSystem, Variant},
};

/// How many stacks go into the one root; the seeds are their numbers.
const NR_STACKS: u64 = 8;

/// Every layer of every stack, mounted, is the plain merge of the branches up to it.
pub(super) fn random_stacks_equal_the_reference_merge(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let random = RandomRoot::new(lab, variant.file_system)?;
    let storage = Storage::create(variant.target, scratch, AMPLE)?;
    let options = roots::convert(lab, &random.path(), variant, &storage)?;
    let converted = Root::new(random.path(), storage, options);
    let pool = Pool::activate(&converted)?;
    let target = scratch.join("mnt");
    let mut differences = Vec::new();
    for (seed, stack) in random.stacks.iter().enumerate() {
        for number in 0..stack.branches.len() {
            let name = layer_name(seed, number);
            let thin = pool.thin(random.root.id(&name))?;
            let mounted = thin.mount(&target, MountFlags::RDONLY)?;
            let merged = reference_merge(&stack.branches[..=number]);
            let lines = compare(&merged, &walk(&target.join("rootfs")));
            differences.extend(lines.iter().map(|line| format!("{name}: {line}")));
            mounted.close()?;
            thin.close()?;
        }
    }
    pool.close()?;
    roots::thin_check(lab, &converted)?;
    expect_none("random stacks", &differences)
}

/// A root of random stacks; gone when dropped.
pub(super) struct RandomRoot {
    root: AufsRoot,
    stacks: Vec<Stack>,
}

impl RandomRoot {
    /// Makes it of what a file system can hold.
    pub(super) fn new(lab: &Lab, file_system: FileSystem) -> Result<Self> {
        // The stacks go where owners, xattrs and device nodes can be kept.
        let _ = tempfile::env::override_temp_dir(lab.work());
        let limits = match file_system {
            FileSystem::Ext4 => Limits::LINUX,
            FileSystem::Xfs => Limits::XFS,
        };
        let stacks: Vec<Stack> = (0..NR_STACKS)
            .map(|seed| random_stack_within(seed, limits))
            .collect();
        let mut root = AufsRoot::new();
        for (seed, stack) in stacks.iter().enumerate() {
            root = add_stack(lab, root, seed, stack)?;
        }
        Ok(Self { root, stacks })
    }

    /// The Docker root.
    pub(super) fn path(&self) -> PathBuf {
        self.root.path()
    }
}

fn layer_name(seed: usize, number: usize) -> String {
    format!("seed {seed} layer {number}")
}

/// Makes an image of a stack: empty layers, whose branches are then the stack's.
fn add_stack(lab: &Lab, mut root: AufsRoot, seed: usize, stack: &Stack) -> Result<AufsRoot> {
    let mut parent = None;
    for (number, branch) in stack.branches.iter().enumerate() {
        let name = layer_name(seed, number);
        root = root.layer_on(parent.as_deref(), &name, |layer| layer);
        fs::remove_dir_all(root.branch(&name))?;
        lab.copy(branch, &root.branch(&name))?;
        parent = Some(name);
    }
    Ok(match parent {
        Some(top) => root.image(&format!("lab/random:{seed}"), &top),
        None => root,
    })
}
