//! Writes the pool's data file, all layers at once.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};

use super::buffer::AlignedBuffer;
use super::error::Error;
use super::reflink::{self, Share};
use super::{Cancel, Options, Progress, create};
use crate::engine::source::{BranchReader, SourceFile};
use crate::ext4::{CLUSTER_BLOCKS, DataRun};
use crate::plan::{LaidDevice, Layout, PlannedDevice};
use crate::units::BLOCK_BYTES;

#[allow(clippy::cast_possible_truncation)] // 4096; `try_from` is not const
const BLOCK: usize = BLOCK_BYTES as usize;
const CLUSTER: usize = CLUSTER_BLOCKS as usize * BLOCK;
/// Clusters that are gathered and written at once: 4 MiB, from where on a larger write is no faster.
const UNIT_CLUSTERS: usize = 64;

/// A stretch of one device's clusters, written with one call.
#[derive(Clone, Debug)]
struct Unit {
    device: usize,
    clusters: Range<usize>,
}

/// Writes a new data file; durable on return.
pub(super) fn write(
    layout: &Layout,
    path: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let file = create(path, layout.data_size.0)?;
    let share = reflink::works(layout, &file)?;
    if !share {
        preallocate(&file, layout.data_bytes().0, path)?;
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs.get())
        .build()
        .map_err(|source| Error::Threads {
            jobs: options.jobs.get(),
            source,
        })?;
    let run = Run {
        layout,
        path,
        file: open_direct(path)?,
        share,
        units: units(layout),
        next: AtomicUsize::new(0),
        cancel: options.cancel.clone(),
        failed: AtomicBool::new(false),
        error: Mutex::new(None),
    };
    pool.broadcast(|_| run.work(progress));
    if let Some(error) = run
        .error
        .into_inner()
        .expect("no thread panics while it holds the lock")
    {
        return Err(error);
    }
    file.sync_all()
        .map_err(|source| Error::target(path, "sync", source))
}

/// Takes the space first: a full disk is noticed before any work, and writes into allocated space are faster.
fn preallocate(file: &File, bytes: u64, path: &Path) -> Result<(), Error> {
    let len = i64::try_from(bytes)
        .map_err(|_| Error::target(path, "allocate", io::ErrorKind::FileTooLarge.into()))?;
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, len) {
        // Not every file system can; then space runs out while writing, if it does.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(Error::target(path, "allocate space for", errno.into())),
    }
}

/// The data file past the page cache, so that the data is touched once; through it where the file system cannot.
fn open_direct(path: &Path) -> Result<File, Error> {
    let open = |flags: OFlag| {
        OpenOptions::new()
            .write(true)
            .custom_flags(flags.bits())
            .open(path)
    };
    match open(OFlag::O_DIRECT) {
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => open(OFlag::empty()),
        opened => opened,
    }
    .map_err(|source| Error::target(path, "open", source))
}

fn units(layout: &Layout) -> Vec<Unit> {
    let cut = |(device, laid): (usize, &LaidDevice)| {
        let nr = laid.clusters.len();
        (0..nr).step_by(UNIT_CLUSTERS).map(move |start| Unit {
            device,
            clusters: start..nr.min(start + UNIT_CLUSTERS),
        })
    };
    layout.devices.iter().enumerate().flat_map(cut).collect()
}

/// What the threads share.
struct Run<'a> {
    layout: &'a Layout,
    path: &'a Path,
    file: File,
    /// Whether large files' blocks are shared with the branch.
    share: bool,
    units: Vec<Unit>,
    next: AtomicUsize,
    cancel: Cancel,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

/// What each thread has of its own.
struct Worker<'a> {
    buffer: AlignedBuffer,
    branch: Option<(usize, BranchReader<'a>)>,
}

impl<'a> Run<'a> {
    /// Takes units until there are no more, or one failed, or the run is told to stop.
    fn work(&self, progress: &dyn Progress) {
        let mut worker = Worker {
            buffer: AlignedBuffer::new(UNIT_CLUSTERS * CLUSTER),
            branch: None,
        };
        while !self.failed.load(Ordering::Acquire) {
            let Some(unit) = self.units.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let written = self.go_on().and_then(|()| self.write(unit, &mut worker));
            match written {
                Ok(bytes) => progress.inc(bytes),
                Err(error) => {
                    // Kept before the others are stopped: what they say then is not the cause.
                    self.error
                        .lock()
                        .expect("no thread panics while it holds the lock")
                        .get_or_insert(error);
                    self.failed.store(true, Ordering::Release);
                }
            }
        }
    }

    /// Asked before every unit and every file: a unit of small files on a cold disk takes seconds.
    fn go_on(&self) -> Result<(), Error> {
        if self.cancel.is_set() || self.failed.load(Ordering::Acquire) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    fn write(&self, unit: &Unit, worker: &mut Worker<'a>) -> Result<u64, Error> {
        let device = &self.layout.devices[unit.device];
        let planned = &self.layout.plan.devices[unit.device];
        let buffer = &mut worker.buffer.as_mut_slice()[..unit.clusters.len() * CLUSTER];
        let clusters = &device.clusters[unit.clusters.clone()];
        let mut shares = Vec::new();
        let mut at = 0;
        while at < clusters.len() {
            let nr = stretch(device, &clusters[at..]);
            let part = at * CLUSTER..(at + nr) * CLUSTER;
            if is_metadata(device, clusters[at]) {
                device.image.encode_cluster(clusters[at], &mut buffer[part]);
            } else {
                let reader = branch_of(&mut worker.branch, unit.device, planned)?;
                let stretch = Stretch {
                    runs: &device.delta.data,
                    first: clusters[at] * CLUSTER_BLOCKS,
                    part,
                };
                shares.extend(self.gather(&stretch, buffer, reader)?);
            }
            at += nr;
        }
        let offset = (device.first_block.0 + unit.clusters.start as u64) * CLUSTER as u64;
        self.put(buffer, offset, &shares)?;
        Ok(buffer.len() as u64)
    }

    /// Fills a part of the buffer with file data; zeros where no file has any. What is to be shared is left out.
    fn gather(
        &self,
        stretch: &Stretch<'_>,
        buffer: &mut [u8],
        reader: &mut BranchReader<'a>,
    ) -> Result<Vec<Share<'a>>, Error> {
        let Stretch { runs, first, part } = stretch;
        let mut shares = Vec::new();
        let mut filled = part.start;
        let from = runs.partition_point(|run| run.physical + run.blocks <= *first);
        for run in &runs[from..] {
            let skip = first.saturating_sub(run.physical);
            let start = part.start + (run.physical + skip - first) as usize * BLOCK;
            if start >= part.end {
                break;
            }
            let end = part.end.min(start + (run.blocks - skip) as usize * BLOCK);
            buffer[filled..start].fill(0);
            filled = end;
            let offset = u64::from(run.logical + skip) * BLOCK_BYTES;
            self.go_on()?;
            let file = reader.open(run.node)?;
            shares.extend(self.read(file, offset, &mut buffer[start..end], start)?);
        }
        buffer[filled..part.end].fill(0);
        Ok(shares)
    }

    /// Reads a file's bytes from `offset`, but for what is worth sharing: that comes back, to lie from `place` on in the
    /// unit's buffer.
    fn read<'f>(
        &self,
        file: SourceFile<'f>,
        offset: u64,
        bytes: &mut [u8],
        place: usize,
    ) -> Result<Option<Share<'f>>, Error> {
        let worth = if self.share {
            reflink::worth(file.size(), offset, bytes.len() as u64)
        } else {
            None
        };
        let shared = usize::try_from(worth.unwrap_or(0)).expect("a share lies within the buffer");
        file.read_at(&mut bytes[shared..], offset + shared as u64)?;
        file.check()?;
        Ok((shared > 0).then_some(Share {
            part: place..place + shared,
            file,
            from: offset,
        }))
    }

    /// Writes the buffer around the shares, and lets those share their blocks.
    fn put(&self, buffer: &mut [u8], offset: u64, shares: &[Share<'_>]) -> Result<(), Error> {
        let mut from = 0;
        for share in shares {
            self.write_at(&buffer[from..share.part.start], offset + from as u64)?;
            from = share.part.end;
            if !share.apply(&self.file, offset)? {
                share
                    .file
                    .read_at(&mut buffer[share.part.clone()], share.from)?;
                share.file.check()?;
                from = share.part.start;
            }
        }
        self.write_at(&buffer[from..], offset + from as u64)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|source| Error::target(self.path, "write", source))
    }
}

/// Data clusters that lie side by side in the file system and in the buffer.
struct Stretch<'a> {
    /// All data runs of the device.
    runs: &'a [DataRun],
    /// The first block.
    first: u32,
    /// Where in the buffer they go.
    part: Range<usize>,
}

/// The reader of the device's branch, kept from the unit before where that was of the same device.
fn branch_of<'a, 'w>(
    kept: &'w mut Option<(usize, BranchReader<'a>)>,
    device: usize,
    planned: &'a PlannedDevice,
) -> Result<&'w mut BranchReader<'a>, Error> {
    if kept.as_ref().is_none_or(|(at, _)| *at != device) {
        let layer = planned
            .layer
            .as_ref()
            .expect("the base device has no file data");
        *kept = Some((device, BranchReader::new(layer)?));
    }
    let (_, reader) = kept.as_mut().expect("it was just set");
    Ok(reader)
}

fn is_metadata(device: &LaidDevice, cluster: u32) -> bool {
    device.delta.metadata.binary_search(&cluster).is_ok()
}

/// How many of the clusters are filled in one go: one of metadata, or as many of data as lie side by side.
fn stretch(device: &LaidDevice, clusters: &[u32]) -> usize {
    if is_metadata(device, clusters[0]) {
        return 1;
    }
    let follows = |pair: &[u32]| pair[1] == pair[0] + 1 && !is_metadata(device, pair[1]);
    1 + clusters.windows(2).take_while(|pair| follows(pair)).count()
}
