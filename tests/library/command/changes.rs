//! What happens to the sources, and to the target, between the plan and the end of the run.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs2dm::engine::direct::{self, Error};
use aufs2dm::source::SourceError;
use aufs2dm::units::Bytes;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::pool::{
    Mounted, PoolFiles, Quiet, Source, chain, lay_out, options, subdirectory, succeed, target,
    unmount, with_jobs,
};
use crate::support::layer::Layer;

/// A layer with a file in a directory, and another file beside.
fn made(dir: &Path) -> Vec<Source> {
    let layer = Layer::new(dir.join("branch"))
        .file("d/file", vec![b'x'; 300_000])
        .file("other", "y");
    chain(&[layer.finish()])
}

/// What comes of a change between plan and write, with one thread and with several.
fn error_after(change: impl Fn(&Path)) -> Error {
    let mut last = None;
    for jobs in [1, 4] {
        let dir = TempDir::new().unwrap();
        let layers = made(dir.path());
        let layout = lay_out(&layers, &options()).unwrap();
        change(&layers[0].2);
        let out = target(&subdirectory(dir.path(), "out"));
        last = Some(direct::write(&layout, &out, &with_jobs(jobs), &Quiet).unwrap_err());
        assert!(!out.metadata.exists(), "no metadata without data");
    }
    last.unwrap()
}

#[track_caller]
fn assert_changed(error: &Error, expected: &str) {
    let Error::Source(SourceError::Changed { layer, path, what }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(layer.as_str(), "layer00000");
    assert_eq!((path.as_str(), *what), ("/d/file", expected));
}

fn replace(file: &Path, make: impl FnOnce(&PathBuf)) {
    let new = file.with_file_name("new");
    make(&new);
    fs::rename(new, file).unwrap();
}

#[test]
fn a_file_that_is_longer_or_shorter_by_now_is_named() {
    for size in [299_999, 300_001, 0] {
        let resize = |branch: &Path| {
            let file = File::options().write(true).open(branch.join("d/file"));
            file.unwrap().set_len(size).unwrap();
        };
        assert_changed(&error_after(resize), "its size");
    }
}

#[test]
fn a_file_that_was_written_to_is_named() {
    let write = |branch: &Path| {
        let file = File::options().write(true).open(branch.join("d/file"));
        file.unwrap().write_all_at(b"z", 5).unwrap();
    };
    assert_changed(&error_after(write), "its modification time");
}

#[test]
fn a_file_whose_inode_changed_is_named() {
    let replace = |branch: &Path| {
        let file = branch.join("d/file");
        let times = file.metadata().unwrap().modified().unwrap();
        replace(&file, |new| {
            fs::write(new, vec![b'y'; 300_000]).unwrap();
            let new = File::options().write(true).open(new).unwrap();
            new.set_modified(times).unwrap();
        });
    };
    assert_changed(&error_after(replace), "its inode");
}

#[test]
fn a_file_that_vanished_is_named() {
    let remove = |branch: &Path| fs::remove_file(branch.join("d/file")).unwrap();
    assert_changed(&error_after(remove), "its name");
    let remove = |branch: &Path| fs::remove_dir_all(branch.join("d")).unwrap();
    assert_changed(&error_after(remove), "its name");
}

#[test]
fn a_file_that_became_something_else_is_named() {
    let elsewhere = TempDir::new().unwrap();
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, vec![b's'; 300_000]).unwrap();
    let link =
        |branch: &Path| replace(&branch.join("d/file"), |new| symlink(&secret, new).unwrap());
    assert_changed(&error_after(link), "its name");
    let fifo = |branch: &Path| {
        replace(&branch.join("d/file"), |new| {
            mkfifo(new, Mode::S_IRWXU).unwrap();
        });
    };
    assert_changed(&error_after(fifo), "its type");
    let directory = |branch: &Path| {
        fs::remove_file(branch.join("d/file")).unwrap();
        fs::create_dir(branch.join("d/file")).unwrap();
    };
    assert_changed(&error_after(directory), "its type");
}

#[test]
fn a_symbolic_link_in_a_directorys_place_does_not_lead_out_of_the_branch() {
    // The very directory, so that all else about the file is as planned.
    let swap = |branch: &Path| {
        let elsewhere = branch.with_file_name("elsewhere");
        fs::rename(branch.join("d"), &elsewhere).unwrap();
        symlink(&elsewhere, branch.join("d")).unwrap();
    };
    assert_changed(&error_after(swap), "its name");
}

#[test]
fn a_branch_that_became_a_symbolic_link_is_not_followed() {
    let swap = |branch: &Path| {
        let elsewhere = branch.with_file_name("elsewhere");
        fs::rename(branch, &elsewhere).unwrap();
        symlink(&elsewhere, branch).unwrap();
    };
    let error = error_after(swap);
    assert!(
        matches!(
            &error,
            Error::Source(SourceError::Unreadable {
                op: "open the branch directory",
                ..
            })
        ),
        "{error:?}"
    );
}

#[test]
fn a_run_that_is_told_to_stop_stops() {
    let dir = TempDir::new().unwrap();
    let layout = lay_out(&made(dir.path()), &options()).unwrap();
    let with = with_jobs(1);
    with.cancel
        .flag()
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let error = direct::write(&layout, &target(dir.path()), &with, &Quiet).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error:?}");
}

#[test]
fn an_existing_file_of_the_pool_is_not_overwritten() {
    for name in ["data", "metadata"] {
        let dir = TempDir::new().unwrap();
        let layout = lay_out(&made(dir.path()), &options()).unwrap();
        fs::write(dir.path().join(name), "mine").unwrap();
        let error = direct::write(&layout, &target(dir.path()), &with_jobs(1), &Quiet).unwrap_err();
        let Error::Target(error) = &error else {
            panic!("{error:?}")
        };
        assert!(error.op == "create" && error.path.ends_with(name));
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"mine");
    }
}

#[test]
fn a_disk_too_small_for_the_data_is_noticed_before_any_is_written() {
    let dir = TempDir::new().unwrap();
    let disk = Mounted::made("ext4", Bytes::mib(16), dir.path());
    let layer = Layer::new(dir.path().join("branch")).file("file", vec![b'x'; 20 << 20]);
    let layout = lay_out(&chain(&[layer.finish()]), &options()).unwrap();
    let out = target(disk.path());
    let error = direct::write(&layout, &out, &with_jobs(2), &Quiet).unwrap_err();
    let Error::Target(error) = &error else {
        panic!("{error:?}")
    };
    assert_eq!((&error.path, error.op), (&out.data, "allocate space"));
    assert_eq!(error.source.kind(), std::io::ErrorKind::StorageFull);
}

/// Where there is neither `O_DIRECT` nor `fallocate`.
#[test]
fn a_file_system_that_can_do_nothing_special_will_do() {
    let dir = TempDir::new().unwrap();
    let point = subdirectory(dir.path(), "ramfs");
    succeed(
        Command::new("mount")
            .args(["-t", "ramfs", "ramfs"])
            .arg(&point),
    );
    let unmounted = Unmount(&point);
    let layers = made(dir.path());
    let mut options = options();
    options.choices.data_size = Some(Bytes::mib(64));
    options.choices.metadata_size = Some(Bytes::mib(4));
    let layout = lay_out(&layers, &options).unwrap();
    let mut files = PoolFiles::write(&layout, &point);
    // thin_check cannot read there either.
    files.target = target(dir.path());
    for name in ["data", "metadata"] {
        fs::copy(point.join(name), dir.path().join(name)).unwrap();
    }
    drop(unmounted);
    files.judge(&layers, &layout);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        unmount(self.0);
    }
}

#[test]
fn the_number_of_threads_does_not_show_in_the_result() {
    let dir = TempDir::new().unwrap();
    let layers = made(dir.path());
    let layout = lay_out(&layers, &options()).unwrap();
    let [one, many] = [1, 16].map(|jobs| {
        let out = target(&subdirectory(dir.path(), &jobs.to_string()));
        direct::write(&layout, &out, &with_jobs(jobs), &Quiet).unwrap();
        let used = usize::try_from(layout.data_bytes().0).unwrap();
        let mut data = vec![0; used];
        File::open(out.data)
            .unwrap()
            .read_exact_at(&mut data, 0)
            .unwrap();
        data
    });
    assert!(one == many);
}
