//! Copies a tree of small files with bytes, modes, owners and times.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use walkdir::WalkDir;

use super::error::Error;

/// Copies the directory `from` to `to`, which must not exist. Handles regular files, directories and symlinks; anything
/// else is an error, because Docker puts nothing else there.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    let mut directories: Vec<(PathBuf, fs::Metadata)> = Vec::new();
    for entry in WalkDir::new(from).follow_links(false) {
        let entry = entry.map_err(|error| walk_error(from, error))?;
        let relative = entry
            .path()
            .strip_prefix(from)
            .expect("walkdir stays below its root");
        let target = if relative.as_os_str().is_empty() {
            to.to_owned()
        } else {
            to.join(relative)
        };
        let meta = entry.metadata().map_err(|error| walk_error(from, error))?;
        if meta.is_dir() {
            fs::create_dir(&target).map_err(Error::io(&target, "create"))?;
            directories.push((target, meta));
        } else if meta.is_file() {
            copy_file(entry.path(), &target, &meta)?;
        } else if meta.is_symlink() {
            let pointed = fs::read_link(entry.path()).map_err(Error::io(entry.path(), "read"))?;
            symlink(pointed, &target).map_err(Error::io(&target, "create"))?;
            lchown(&target, Some(meta.uid()), Some(meta.gid()))
                .map_err(Error::io(&target, "set its owner"))?;
            set_times(&target, &meta)?;
        } else {
            let source = io::Error::other("it is not a file, directory or symbolic link");
            return Err(Error::io(entry.path(), "copy")(source));
        }
    }
    // Attributes of directories come last, innermost first: by then their contents are complete.
    for (path, meta) in directories.iter().rev() {
        set_directory(path, meta)?;
    }
    Ok(())
}

/// Writes a new file with the owner and mode of `like`; durable on return.
pub(super) fn write_file(path: &Path, content: &[u8], like: &fs::Metadata) -> Result<(), Error> {
    write_new(path, content, (like.uid(), like.gid()), like.mode())
}

/// Writes a new file with this owner (user id, group id) and mode; durable on return.
pub(super) fn write_new(
    path: &Path,
    content: &[u8],
    owner: (u32, u32),
    mode: u32,
) -> Result<(), Error> {
    let mut file = create(path)?;
    io::Write::write_all(&mut file, content).map_err(Error::io(path, "write"))?;
    own(&file, path, owner, mode)?;
    file.sync_all().map_err(Error::io(path, "sync"))
}

fn copy_file(from: &Path, to: &Path, meta: &fs::Metadata) -> Result<(), Error> {
    let mut source = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(from)
        .map_err(Error::io(from, "open"))?;
    let mut target = create(to)?;
    io::copy(&mut source, &mut target).map_err(Error::io(to, "copy"))?;
    own(&target, to, (meta.uid(), meta.gid()), meta.mode())?;
    set_times(to, meta)
}

fn create(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io(path, "create"))
}

fn own(file: &File, path: &Path, (uid, gid): (u32, u32), mode: u32) -> Result<(), Error> {
    fchown(file, Some(uid), Some(gid)).map_err(Error::io(path, "set its owner"))?;
    // After the owner: changing the owner clears setuid and setgid.
    file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))
        .map_err(Error::io(path, "set its mode"))
}

fn set_directory(path: &Path, meta: &fs::Metadata) -> Result<(), Error> {
    let directory = File::open(path).map_err(Error::io(path, "open"))?;
    own(&directory, path, (meta.uid(), meta.gid()), meta.mode())?;
    set_times(path, meta)
}

pub(super) fn set_times(path: &Path, meta: &fs::Metadata) -> Result<(), Error> {
    let atime = TimeSpec::new(meta.atime(), meta.atime_nsec());
    let mtime = TimeSpec::new(meta.mtime(), meta.mtime_nsec());
    utimensat(
        AT_FDCWD,
        path,
        &atime,
        &mtime,
        UtimensatFlags::NoFollowSymlink,
    )
    .map_err(|errno| Error::io(path, "set its times")(errno.into()))
}

fn walk_error(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_owned();
    Error::io(&path, "read")(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path_error::PathError;

    #[test]
    fn a_copied_tree_has_the_same_bytes_modes_and_times() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub/empty")).unwrap();
        fs::write(from.join("sub/file"), b"content").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("sub"), fs::Permissions::from_mode(0o711)).unwrap();
        symlink("file", from.join("sub/link")).unwrap();
        copy_tree(&from, &to).unwrap();
        for name in ["", "sub", "sub/empty", "sub/file", "sub/link"] {
            let (a, b) = (
                from.join(name).symlink_metadata().unwrap(),
                to.join(name).symlink_metadata().unwrap(),
            );
            assert_eq!(
                (a.mode(), a.uid(), a.mtime(), a.mtime_nsec()),
                (b.mode(), b.uid(), b.mtime(), b.mtime_nsec()),
                "{name}"
            );
        }
        assert_eq!(fs::read(to.join("sub/file")).unwrap(), b"content");
        assert_eq!(
            fs::read_link(to.join("sub/link")).unwrap(),
            Path::new("file")
        );
    }

    #[test]
    fn a_socket_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("from")).unwrap();
        let _socket =
            std::os::unix::net::UnixListener::bind(dir.path().join("from/socket")).unwrap();
        let error = copy_tree(&dir.path().join("from"), &dir.path().join("to")).unwrap_err();
        assert!(
            matches!(error, Error::Io(PathError { path, .. }) if path.ends_with("from/socket"))
        );
    }
}
