//! A file in the root directory whose bytes the plan holds.

use std::sync::Arc;

use super::state::{Draft, check_name, new_inode};
use crate::ext4::format::BLOCK;
use crate::ext4::ino::Ino;
use crate::ext4::write::dir::ChangedBlocks;
use crate::ext4::write::dirent::{Entry, FileType};
use crate::ext4::write::error::{Error, Problem};
use crate::ext4::write::image::Owner;
use crate::ext4::write::inode::{Body, InBlock, Inode};
use crate::ext4::write::xattr::Set;
use crate::tree::{Meta, escape_path};

/// Creates or replaces the file.
pub(super) fn add(
    draft: &mut Draft,
    name: &[u8],
    (meta, content): (&Meta, &[u8]),
) -> Result<(), Error> {
    let at_fault = |source| Error::Entry {
        path: escape_path([name]),
        source,
    };
    let (mut inode, set) = check(name, meta, content).map_err(at_fault)?;
    let ino = draft.take_inode(false)?;
    inode.xattrs = draft.store(set)?;
    inode.body = hold(draft, ino, content)?;
    *draft.inode_mut(ino) = inode;
    let entry = Entry {
        name,
        ino,
        file_type: FileType::Regular as u8,
    };
    let mut root = draft.root();
    let mut touched = ChangedBlocks::new();
    let rules = draft.image.constants.rules;
    let old = root
        .lookup(name, &rules)
        .map(|old| (old.ino, old.is_directory()));
    match old {
        Some((_, true)) => return Err(at_fault(Problem::IsDirectory)),
        Some((old, false)) => {
            root.replace(entry, &rules, &mut touched);
            draft.release(old);
        }
        None => root.insert(entry, &rules, &mut touched).map_err(at_fault)?,
    }
    draft.put_root(root, &touched)
}

/// The inode without its content, and its attributes.
fn check(name: &[u8], meta: &Meta, content: &[u8]) -> Result<(Inode, Option<Set>), Problem> {
    check_name(name)?;
    if content.len() > BLOCK {
        let bytes = content.len();
        return Err(Problem::Content { bytes });
    }
    let mut inode = new_inode(FileType::Regular, meta)?;
    inode.size = content.len() as u64;
    Ok((inode, Set::new(&meta.xattrs)?))
}

fn hold(draft: &mut Draft, ino: Ino, content: &[u8]) -> Result<Body, Error> {
    let block = if content.is_empty() {
        None
    } else {
        Some(draft.take_metadata(1)?.start)
    };
    if let Some(block) = block {
        draft.image.owners.insert(block, Owner::InBlock(ino));
    }
    let bytes = content.into();
    Ok(Body::Content(Arc::new(InBlock { bytes, block })))
}
