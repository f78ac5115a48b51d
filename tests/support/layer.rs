//! Writes one aufs branch as aufs and Docker leave it on disk.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

/// A branch in the making. Paths are relative to it; missing parents are made with mode 0755.
pub struct Layer {
    dir: PathBuf,
    /// What the next whiteout is linked to, as aufs and Docker do.
    whiteout: Option<PathBuf>,
    /// Times are set last: every new file changes its directory's.
    times: Vec<(PathBuf, i64, i64)>,
}

impl Layer {
    /// An empty branch at `dir`, which must not exist.
    pub fn new(dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        set_mode(&dir, 0o755);
        Self {
            dir,
            whiteout: None,
            times: Vec::new(),
        }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.dir.join(path);
        let parent = path.parent().unwrap();
        if parent.symlink_metadata().is_err() {
            fs::create_dir_all(parent).unwrap();
        }
        path
    }

    pub fn dir(self, path: impl AsRef<Path>) -> Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }

    pub fn file(self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.at(path), content).unwrap();
        self
    }

    /// A file of holes with `data` at some offsets.
    pub fn sparse(self, path: impl AsRef<Path>, size: u64, data: &[(u64, &[u8])]) -> Self {
        let file = File::create(self.at(path)).unwrap();
        file.set_len(size).unwrap();
        for (offset, bytes) in data {
            file.write_all_at(bytes, *offset).unwrap();
        }
        self
    }

    pub fn symlink(self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        symlink(target, self.at(path)).unwrap();
        self
    }

    /// A second name for the file at `existing`.
    pub fn hard_link(self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Self {
        fs::hard_link(self.dir.join(existing), self.at(path)).unwrap();
        self
    }

    pub fn fifo(self, path: impl AsRef<Path>) -> Self {
        self.node(path, SFlag::S_IFIFO, (0, 0))
    }

    pub fn socket(self, path: impl AsRef<Path>) -> Self {
        self.node(path, SFlag::S_IFSOCK, (0, 0))
    }

    pub fn char_device(self, path: impl AsRef<Path>, major: u64, minor: u64) -> Self {
        self.node(path, SFlag::S_IFCHR, (major, minor))
    }

    pub fn block_device(self, path: impl AsRef<Path>, major: u64, minor: u64) -> Self {
        self.node(path, SFlag::S_IFBLK, (major, minor))
    }

    fn node(self, path: impl AsRef<Path>, kind: SFlag, device: (u64, u64)) -> Self {
        let mode = Mode::from_bits_truncate(0o644);
        mknod(&self.at(path), kind, mode, makedev(device.0, device.1)).unwrap();
        self
    }

    /// Deletes `path` of the layers below.
    pub fn whiteout(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let mut name = std::ffi::OsString::from(".wh.");
        name.push(path.file_name().unwrap());
        self.marker(&path.with_file_name(name));
        self
    }

    /// Marks the directory opaque; `""` is the root.
    pub fn opaque(mut self, path: impl AsRef<Path>) -> Self {
        self.marker(&path.as_ref().join(".wh..wh..opq"));
        self
    }

    fn marker(&mut self, path: &Path) {
        let path = self.at(path);
        if let Some(first) = &self.whiteout {
            fs::hard_link(first, &path).unwrap();
        } else {
            File::create(&path).unwrap();
            set_mode(&path, 0o444);
            self.whiteout = Some(path);
        }
    }

    /// The files aufs makes at the root of a branch it mounts writable; later whiteouts are links to one of them.
    pub fn aufs_files(mut self) -> Self {
        let file = self.dir.join(".wh..wh.aufs");
        File::create(&file).unwrap();
        set_mode(&file, 0o444);
        self.whiteout = Some(file);
        for name in [".wh..wh.plnk", ".wh..wh.orph"] {
            fs::create_dir(self.dir.join(name)).unwrap();
            set_mode(&self.dir.join(name), 0o700);
        }
        self
    }

    /// A pseudo-link to the file at `existing`. Needs [`aufs_files`](Self::aufs_files).
    pub fn pseudo_link(self, existing: impl AsRef<Path>, link: &str) -> Self {
        let link = Path::new(".wh..wh.plnk").join(link);
        self.hard_link(existing, link)
    }

    pub fn mode(self, path: impl AsRef<Path>, mode: u32) -> Self {
        set_mode(&self.dir.join(path), mode);
        self
    }

    /// Sets the owner, which clears setuid, setgid and capabilities: set those afterwards.
    pub fn owner(self, path: impl AsRef<Path>, uid: u32, gid: u32) -> Self {
        lchown(self.dir.join(path), Some(uid), Some(gid)).unwrap();
        self
    }

    pub fn xattr(self, path: impl AsRef<Path>, name: &str, value: &[u8]) -> Self {
        xattr::set(self.dir.join(path), name, value).unwrap();
        self
    }

    /// Sets access and modification time, once the branch is finished.
    pub fn time(mut self, path: impl AsRef<Path>, sec: i64, nsec: i64) -> Self {
        self.times.push((self.dir.join(path), sec, nsec));
        self
    }

    /// Overwrites bytes of an existing file.
    pub fn patch(self, path: impl AsRef<Path>, offset: u64, bytes: &[u8]) -> Self {
        let file = OpenOptions::new()
            .write(true)
            .open(self.dir.join(path))
            .unwrap();
        file.write_all_at(bytes, offset).unwrap();
        self
    }

    /// Where the branch is.
    pub fn finish(self) -> PathBuf {
        for (path, sec, nsec) in self.times {
            let time = TimeSpec::new(sec, nsec);
            let flags = UtimensatFlags::NoFollowSymlink;
            utimensat(AT_FDCWD, &path, &time, &time, flags).unwrap();
        }
        self.dir
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
