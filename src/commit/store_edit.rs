//! Changes the copy of an image store where it must differ from the original.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use super::copy::{set_times, write_file, write_new};
use super::error::Error;
use super::remove::remove_part;

/// The mode of the files in a layer's record. Source: moby v20.10 `layer/filestore.go`.
const MODE: u32 = 0o644;

/// A file of the new image store that differs from the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEdit {
    /// The file or directory, relative to the store.
    pub path: PathBuf,
    /// The file's content; `None`: it is left out, with everything below it.
    pub content: Option<Vec<u8>>,
}

/// Makes the edits in a copy. The directories keep their times: a later verification takes an entry that is missing from
/// a directory with other times for one that Docker has removed.
pub(super) fn edit_store(store: &Path, edits: &[StoreEdit]) -> Result<(), Error> {
    for edit in edits {
        let path = store.join(&edit.path);
        let parent = path.parent().expect("an edit is below the store");
        if edit.content.is_none() && parent.symlink_metadata().is_err() {
            continue;
        }
        let above = create_missing(parent)?;
        let before = path.symlink_metadata().ok();
        if before.is_some() {
            remove_part(&path)?;
        }
        if let Some(content) = &edit.content {
            if let Some(like) = before.filter(fs::Metadata::is_file) {
                write_file(&path, content, &like)?;
            } else {
                let (_, directory) = above.last().expect("the directory itself");
                write_new(&path, content, (directory.uid(), directory.gid()), MODE)?;
            }
        }
        for (directory, meta) in above.iter().rev() {
            set_times(directory, meta)?;
        }
    }
    Ok(())
}

/// Creates the directories that a record needs, with the owner and mode of the one above them. Returns those that the
/// edit will change, outermost first, with their attributes from before.
fn create_missing(directory: &Path) -> Result<Vec<(PathBuf, fs::Metadata)>, Error> {
    let mut missing = Vec::new();
    let mut at = directory;
    let meta = loop {
        match at.symlink_metadata() {
            Ok(meta) => break meta,
            Err(_) => missing.push(at.to_owned()),
        }
        at = at.parent().expect("the store itself exists");
    };
    let mut changed = vec![(at.to_owned(), meta.clone())];
    for path in missing.into_iter().rev() {
        DirBuilder::new()
            .mode(meta.mode() & 0o7777)
            .create(&path)
            .map_err(Error::io(&path, "create"))?;
        chown(&path, Some(meta.uid()), Some(meta.gid()))
            .map_err(Error::io(&path, "set its owner"))?;
        let own = path.symlink_metadata().map_err(Error::io(&path, "stat"))?;
        changed.push((path, own));
    }
    Ok(changed)
}
