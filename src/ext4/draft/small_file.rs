//! A file in the root directory whose bytes the plan holds.

use std::sync::Arc;

use super::{Draft, check_name, new_inode};
use crate::ext4::dir::Touched;
use crate::ext4::dirent::{Entry, FileType};
use crate::ext4::error::{Error, Problem};
use crate::ext4::format::BLOCK;
use crate::ext4::image::Owner;
use crate::ext4::inode::{Body, InBlock, Ino};
use crate::ext4::xattr::Set;
use crate::tree::{Meta, escape_path};

pub(super) fn add(
    draft: &mut Draft,
    name: &[u8],
    (meta, content): (&Meta, &[u8]),
) -> Result<(), Error> {
    let at_fault = |source| Error::Entry {
        path: escape_path([name]),
        source,
    };
    check_name(name).map_err(at_fault)?;
    if content.len() > BLOCK {
        let bytes = content.len();
        return Err(at_fault(Problem::Content { bytes }));
    }
    let mut inode = new_inode(FileType::Regular, meta).map_err(at_fault)?;
    let set = Set::new(&meta.xattrs).map_err(at_fault)?;
    let mut root = draft.root();
    let rules = draft.image.constants.rules;
    let old = root
        .lookup(name, &rules)
        .map(|entry| (entry.ino, entry.is_directory()));
    if let Some((_, true)) = old {
        return Err(at_fault(Problem::IsDirectory));
    }
    let ino = draft.take_inode(false)?;
    inode.xattrs = draft.store(set)?;
    inode.size = content.len() as u64;
    let block = if content.is_empty() {
        None
    } else {
        Some(draft.take_metadata(1)?.start)
    };
    if let Some(block) = block {
        draft.image.owners.insert(block, Owner::InBlock(ino));
    }
    inode.body = Body::Content(Arc::new(InBlock {
        bytes: content.into(),
        block,
    }));
    *draft.inode_mut(ino) = inode;
    let entry = Entry {
        name,
        ino,
        file_type: FileType::Regular as u8,
    };
    let mut touched = Touched::new();
    if let Some((old, _)) = old {
        root.replace(entry, &rules, &mut touched);
        draft.release(old);
    } else {
        root.insert(entry, &rules, &mut touched).map_err(at_fault)?;
    }
    draft.place_directory(Ino::ROOT, &mut root, &touched)?;
    draft.inode_mut(Ino::ROOT).body = Body::Directory(Arc::new(root));
    Ok(())
}
