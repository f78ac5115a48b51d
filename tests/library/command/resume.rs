//! What the direct engine tells of how far it came, and what a later run makes of it.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use aufs2dm::crc64::crc64;
use aufs2dm::engine::direct::{self, Error, Target};
use aufs2dm::engine::{Checkpoint, Checkpoints};
use aufs2dm::engine::{Options, WrittenRun};
use aufs2dm::plan::{self, DeviceIndex, Layout};
use aufs2dm::progress::{Cancel, Phase, Progress};
use aufs2dm::units::Bytes;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::pool as convert_pool;
use super::pool::{Mounted, Quiet, Source, chain, lay_out, subdirectory, target, with_jobs};
use crate::support::layer::Layer;
use crate::support::random::Random;

/// Small and large files, removed and replaced ones, in a chain of four and a layer beside it.
fn layers(dir: &Path) -> Vec<Source> {
    let at = |name: &str| dir.join(name);
    let mut sources = chain(&[
        Layer::new(at("a"))
            .file("large", noise(6_000_001))
            .file("d/small", "one")
            .file("gone", noise(70_000))
            .sparse("holes", 3 << 20, &[(1 << 20, &noise(9000))])
            .finish(),
        Layer::new(at("b"))
            .file("d/small", "two")
            .whiteout("gone")
            .file("tenth", noise(300_000))
            .finish(),
        Layer::new(at("c")).finish(),
        Layer::new(at("d"))
            .file("large", noise(5_000_000))
            .symlink("d/link", "small")
            .finish(),
    ]);
    let beside = Layer::new(at("e")).file("alone", noise(4_500_000));
    sources.push(("side".to_owned(), None, beside.finish()));
    sources
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = Random(length as u64);
    let words = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    words.take(length).collect()
}

/// A pool of files that are quick to compare.
fn options() -> plan::Options {
    let mut options = convert_pool::options();
    options.choices.data_size = Some(Bytes::mib(64));
    options.choices.metadata_size = Some(Bytes::mib(4));
    options
}

/// The bytes of the data file that are a device's.
fn content(layout: &Layout, data: &Path, device: DeviceIndex) -> Vec<u8> {
    let laid = &layout.devices[device.0];
    let mut bytes = vec![0; usize::try_from(laid.data_bytes().0).unwrap()];
    let file = File::open(data).unwrap();
    file.read_exact_at(&mut bytes, laid.first_block.0 * (64 << 10))
        .unwrap();
    bytes
}

/// Notes what is told, with what the devices held then, and stops the run when so many are told.
struct Notes<'a> {
    layout: &'a Layout,
    data: PathBuf,
    most: usize,
    cancel: Cancel,
    told: Mutex<Vec<(DeviceIndex, Vec<u8>)>>,
}

impl<'a> Notes<'a> {
    fn new(layout: &'a Layout, target: &Target, most: usize) -> Self {
        Self {
            layout,
            data: target.data.clone(),
            most,
            cancel: Cancel::default(),
            told: Mutex::default(),
        }
    }

    fn options<'b>(
        &'b self,
        jobs: usize,
        done: Option<&'b HashSet<DeviceIndex>>,
        interval: Duration,
    ) -> Options<'b> {
        Options {
            cancel: self.cancel.clone(),
            checkpoints: Checkpoints {
                done,
                to: self,
                interval,
            },
            checksums: true,
            ..with_jobs(jobs)
        }
    }

    fn told(&self) -> HashSet<DeviceIndex> {
        let told = self.told.lock().unwrap();
        let devices: HashSet<_> = told.iter().map(|(device, _)| *device).collect();
        assert_eq!(devices.len(), told.len(), "each device is told once");
        devices
    }
}

impl Checkpoint for Notes<'_> {
    fn durable(&self, devices: &[DeviceIndex]) -> io::Result<()> {
        let mut told = self.told.lock().unwrap();
        for device in devices {
            told.push((*device, content(self.layout, &self.data, *device)));
        }
        if told.len() >= self.most {
            let flag = self.cancel.flag();
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }
}

const AT_ONCE: Duration = Duration::ZERO;
const NEVER: Duration = Duration::MAX;

/// Whether both pools' files are the same, byte by byte.
fn assert_equal(layout: &Layout, one: &Target, other: &Target) {
    for (at, _) in layout.iter_with_index() {
        let [one, other] = [one, other].map(|target| content(layout, &target.data, at));
        assert!(one == other, "device {}", at.0);
    }
    let [len, other_len] = [one, other].map(|target| fs::metadata(&target.data).unwrap().len());
    assert_eq!(len, other_len);
    let [one, other] = [one, other].map(|target| fs::read(&target.metadata).unwrap());
    assert!(one == other, "metadata");
}

/// Fills what is not of these devices with what was never meant for it.
fn spoil(layout: &Layout, data: &Path, done: &HashSet<DeviceIndex>) {
    let file = OpenOptions::new().write(true).open(data).unwrap();
    for (at, device) in layout.iter_with_index() {
        if !done.contains(&at) {
            let garbage = vec![0xa5; usize::try_from(device.data_bytes().0).unwrap()];
            file.write_all_at(&garbage, device.first_block.0 * (64 << 10))
                .unwrap();
        }
    }
}

#[test]
fn what_is_told_to_be_durable_is_complete_and_in_the_end_all_is() {
    let dir = TempDir::new().unwrap();
    let layout = lay_out(&layers(dir.path()), &options()).unwrap();
    for (jobs, interval) in [(1, AT_ONCE), (4, AT_ONCE), (4, NEVER)] {
        let out = target(&subdirectory(dir.path(), &format!("{jobs}-{interval:?}")));
        let notes = Notes::new(&layout, &out, usize::MAX);
        direct::write(&layout, &out, &notes.options(jobs, None, interval), &Quiet).unwrap();
        assert_eq!(notes.told().len(), layout.devices.len());
        for (device, then) in notes.told.into_inner().unwrap() {
            let now = content(&layout, &out.data, device);
            assert!(then == now, "device {} with {jobs} threads", device.0);
        }
    }
}

/// The sum of what is reported, at the end of each phase.
#[derive(Default)]
struct Sum(Mutex<(u64, u64)>);

impl Progress for Sum {
    fn start(&self, phase: Phase, total: u64) {
        if phase == Phase::Data {
            self.0.lock().unwrap().1 = total;
        }
    }
    fn inc(&self, amount: u64) {
        self.0.lock().unwrap().0 += amount;
    }
    fn finish(&self) {}
}

/// After each number of devices, over and over from what the run before left, with garbage where nothing counts and without
/// the branches of what is done.
#[test]
fn a_resumed_run_makes_what_one_run_makes_and_reads_nothing_twice() {
    let dir = TempDir::new().unwrap();
    let layers = layers(dir.path());
    let layout = lay_out(&layers, &options()).unwrap();
    let whole = target(&subdirectory(dir.path(), "whole"));
    direct::write(&layout, &whole, &with_jobs(2), &Quiet).unwrap();
    let out = target(&subdirectory(dir.path(), "parts"));
    let mut done = HashSet::new();
    let mut runs = 0;
    loop {
        let notes = Notes::new(&layout, &out, 1);
        let resumed = (runs > 0).then_some(&done);
        let sum = Sum::default();
        let ended = direct::write(&layout, &out, &notes.options(1, resumed, AT_ONCE), &sum);
        let now = notes.told();
        assert!(now.is_disjoint(&done), "what is done is not told again");
        done.extend(now);
        runs += 1;
        if ended.is_ok() {
            let (sum, total) = *sum.0.lock().unwrap();
            assert_eq!(sum, total, "what was skipped is counted");
            break;
        }
        assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
        spoil(&layout, &out.data, &done);
        fs::write(&out.metadata, "half of it").unwrap();
        for (at, device) in layout.plan.devices.iter().enumerate() {
            if let Some(layer) = &device.layer
                && done.contains(&DeviceIndex(at))
            {
                let _ = fs::remove_dir_all(&layer.branch);
            }
        }
    }
    assert!(runs > 2, "{runs}");
    assert_eq!(done.len(), layout.devices.len());
    assert_equal(&layout, &whole, &out);
}

#[test]
fn what_is_complete_when_a_run_fails_is_told_before_it_ends() {
    let dir = TempDir::new().unwrap();
    let layers = layers(dir.path());
    let layout = lay_out(&layers, &options()).unwrap();
    let last = layout.plan.devices.last().unwrap();
    let branch = &last.layer.as_ref().unwrap().branch;
    fs::write(branch.join("alone"), "another").unwrap();
    let out = target(&subdirectory(dir.path(), "out"));
    let notes = Notes::new(&layout, &out, usize::MAX);
    let error = direct::write(&layout, &out, &notes.options(1, None, NEVER), &Quiet).unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error:?}");
    let all_but_it = (0..layout.devices.len() - 1).map(DeviceIndex);
    assert_eq!(notes.told(), all_but_it.collect());
}

#[test]
fn a_record_that_cannot_be_written_ends_the_run() {
    struct Full;
    impl Checkpoint for Full {
        fn durable(&self, _: &[DeviceIndex]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let dir = TempDir::new().unwrap();
    let layout = lay_out(&layers(dir.path()), &options()).unwrap();
    let checkpoints = Checkpoints {
        to: &Full,
        interval: AT_ONCE,
        ..Checkpoints::none()
    };
    let with = Options {
        checkpoints,
        ..with_jobs(2)
    };
    let out = target(&subdirectory(dir.path(), "out"));
    let error = direct::write(&layout, &out, &with, &Quiet).unwrap_err();
    assert!(matches!(error, Error::NotNoted(_)), "{error:?}");
    assert!(!out.metadata.exists());
}

#[test]
fn a_run_that_had_made_nothing_durable_is_written_anew() {
    let dir = TempDir::new().unwrap();
    let layout = lay_out(&layers(dir.path()), &options()).unwrap();
    let whole = target(&subdirectory(dir.path(), "whole"));
    direct::write(&layout, &whole, &with_jobs(2), &Quiet).unwrap();
    let out = target(&subdirectory(dir.path(), "out"));
    for path in [&out.data, &out.metadata] {
        fs::write(path, vec![0xa5; 70_000]).unwrap();
    }
    let none = HashSet::new();
    let notes = Notes::new(&layout, &out, usize::MAX);
    direct::write(&layout, &out, &notes.options(2, Some(&none), NEVER), &Quiet).unwrap();
    assert_equal(&layout, &whole, &out);
}

type Put<'a> = &'a dyn Fn(&Path);

/// What may stand where the data file was, and what is said of it.
#[test]
fn what_cannot_be_the_file_of_an_earlier_run_is_named_and_not_touched() {
    let dir = TempDir::new().unwrap();
    let layout = lay_out(&layers(dir.path()), &options()).unwrap();
    let size = layout.data_size.0;
    let sized = |path: &Path, size| File::create(path).unwrap().set_len(size).unwrap();
    let elsewhere = dir.path().join("elsewhere");
    sized(&elsewhere, size);
    let strange: [(Put<'_>, &str); 6] = [
        (&|_| {}, "cannot open"),
        (&|path| sized(path, size - 1), "bytes, not"),
        (&|path| symlink(&elsewhere, path).unwrap(), "cannot open"),
        (&|path| fs::create_dir(path).unwrap(), "cannot open"),
        (
            &|path| mkfifo(path, Mode::S_IRWXU).unwrap(),
            "not a regular file",
        ),
        (
            &|path| {
                sized(path, size);
                chown(path, Some(1000), None).unwrap();
            },
            "belongs to user 1000",
        ),
    ];
    let done = HashSet::from([DeviceIndex(0)]);
    for (at, (put, words)) in strange.into_iter().enumerate() {
        let out = target(&subdirectory(dir.path(), &at.to_string()));
        put(&out.data);
        let notes = Notes::new(&layout, &out, usize::MAX);
        let with = notes.options(2, Some(&done), AT_ONCE);
        let error = direct::write(&layout, &out, &with, &Quiet).unwrap_err();
        let text = error.to_string();
        let name = out.data.display().to_string();
        assert!(text.starts_with(&name) && text.contains(words), "{text}");
        assert!(notes.told().is_empty());
        assert!(!out.metadata.exists());
    }
    let written = fs::read(&elsewhere).unwrap();
    assert!(written.iter().all(|byte| *byte == 0));
}

/// Files of a branch, each with its checksum by content.
fn files_of(layers: &[Source]) -> BTreeMap<u64, u64> {
    let mut files = BTreeMap::new();
    for (_, _, branch) in layers {
        for entry in walkdir::WalkDir::new(branch) {
            let entry = entry.unwrap();
            if entry.file_type().is_file() {
                let content = fs::read(entry.path()).unwrap();
                if !content.is_empty() {
                    files.insert(crc64(&content), content.len() as u64);
                }
            }
        }
    }
    files
}

#[test]
fn the_checksums_are_those_of_the_files_bytes_where_they_were_written() {
    let dir = TempDir::new().unwrap();
    let layers = layers(dir.path());
    let layout = lay_out(&layers, &options()).unwrap();
    let out = target(&subdirectory(dir.path(), "out"));
    let notes = Notes::new(&layout, &out, usize::MAX);
    let runs = direct::write(&layout, &out, &notes.options(4, None, NEVER), &Quiet).unwrap();
    let data = File::open(&out.data).unwrap();
    for run in &runs {
        let mut bytes = vec![0; usize::try_from(run.bytes).unwrap()];
        data.read_exact_at(&mut bytes, run.offset).unwrap();
        assert_eq!(crc64(&bytes), run.crc64, "{run:?}");
    }
    let in_order = |pair: &[WrittenRun]| pair[0].offset + pair[0].bytes <= pair[1].offset;
    assert!(runs.windows(2).all(in_order));
    // Every file of one run, whole, with nothing of the zeros behind it.
    let files = files_of(&layers);
    let small: Vec<_> = files.iter().filter(|(_, len)| **len < 400_000).collect();
    assert!(small.len() > 3);
    for (crc, len) in small {
        let found = runs
            .iter()
            .any(|run| (run.crc64, run.bytes) == (*crc, *len));
        assert!(found, "a file of {len} bytes");
    }
    let written: u64 = runs.iter().map(|run| run.bytes).sum();
    // But for the holes, of which the file system keeps whole blocks.
    let holes = (3 << 20) - 9000_u64.next_multiple_of(4096);
    let sources: u64 = files.values().sum();
    assert_eq!(written, sources - holes);
    assert_eq!(
        direct::write(
            &layout,
            &target(&subdirectory(dir.path(), "2")),
            &with_jobs(1),
            &Quiet
        )
        .unwrap(),
        []
    );
}

#[test]
fn what_is_shared_with_the_branch_has_no_checksum_and_is_resumed_too() {
    let dir = TempDir::new().unwrap();
    let disk = Mounted::made("btrfs", Bytes::mib(400), dir.path());
    let layers = layers(disk.path());
    let layout = lay_out(&layers, &options()).unwrap();
    let whole = target(&subdirectory(disk.path(), "whole"));
    let notes = Notes::new(&layout, &whole, usize::MAX);
    let runs = direct::write(&layout, &whole, &notes.options(2, None, NEVER), &Quiet).unwrap();
    let written: u64 = runs.iter().map(|run| run.bytes).sum();
    assert!(written < 1 << 20, "{written}");
    let out = target(&subdirectory(disk.path(), "out"));
    let first = Notes::new(&layout, &out, 2);
    direct::write(&layout, &out, &first.options(1, None, AT_ONCE), &Quiet).unwrap_err();
    let done = first.told();
    assert!(done.len() < layout.devices.len());
    spoil(&layout, &out.data, &done);
    let second = Notes::new(&layout, &out, usize::MAX);
    let with = second.options(2, Some(&done), NEVER);
    direct::write(&layout, &out, &with, &Quiet).unwrap();
    assert_equal(&layout, &whole, &out);
}
