//! Writes the pool's data file, all layers at once.
//!
//! # What a crash leaves
//!
//! A device is recorded as durable after a sync that began when all its units were written. Its blocks are its own:
//! nothing is written there later, neither by this run nor by one that resumes it, since that one skips the device's
//! units. So whatever happens from then on, the device stays as planned.
//!
//! All other devices are written again, every unit of them as a whole, so it does not matter what a crash left there:
//! nothing, zeros, parts of units, or bytes that were never meant for this place. A device that is completely on the
//! disk but was not recorded yet is written again with the same bytes.
//!
//! The metadata file, which turns all this into a pool, is written when the whole data file is durable; see `metadata`.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::error::Error;
use super::gather::{Gatherer, UnitContents};
use super::unit::{CLUSTER, Unit};
use super::{file, reflink};
use crate::aligned_buffer::AlignedBuffer;
use crate::durable::{remove_if_any, sync_directory_of};
use crate::engine::checkpoint::{Checkpoints, Ledger};
use crate::engine::left_file;
use crate::engine::{Options, WrittenRun};
use crate::plan::{DeviceIndex, LaidDevice, Layout};
use crate::progress::Progress;

/// The number of clusters that are gathered and written at once: 4 MiB, above which a larger write is no faster.
const UNIT_CLUSTERS: usize = 64;

/// Writes the data file: a new one, or what is missing in an earlier run's file. It is durable on return. Returns the
/// checksums of the file data in the order of the data file.
pub(super) fn write(
    layout: &Layout,
    path: &Path,
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Result<Vec<WrittenRun>, Error> {
    let run = WriteRun::new(layout, path, options)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(options.jobs.get())
        .build()
        .map_err(|source| Error::Threads {
            jobs: options.jobs.get(),
            source,
        })?;
    let done = layout
        .iter_with_index()
        .filter(|(at, _)| options.checkpoints.is_done(*at));
    progress.inc(done.map(|(_, device)| device.data_bytes().0).sum());
    let mut written = pool.broadcast(|_| run.work(progress)).concat();
    run.finish()?;
    written.sort_unstable_by_key(|run| run.offset);
    Ok(written)
}

/// Opens the data file. It is new in a first run and after runs that made nothing durable; otherwise the existing file
/// is used.
fn open(layout: &Layout, path: &Path, checkpoints: &Checkpoints<'_>) -> Result<File, Error> {
    let size = layout.data_size.0;
    match checkpoints.done {
        None => file::create(path, size),
        // Nothing in it counts, and a run that was killed right after creating it has not even given it its size, which
        // `reopen` insists on. Once a device is durable, so are the size and the name: they were synced before it was
        // told.
        Some(done) if done.is_empty() => {
            remove_if_any(path)?;
            file::create(path, size)
        }
        Some(_) => Ok(left_file::reopen(path, size)?),
    }
}

/// The byte ranges of the devices that are still to be written.
fn rest(layout: &Layout, checkpoints: &Checkpoints<'_>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (at, device) in layout.iter_with_index() {
        let start = device.first_block.0 * CLUSTER as u64;
        let end = start + device.data_bytes().0;
        // `fallocate` refuses an empty range.
        if checkpoints.is_done(at) || start == end {
            continue;
        }
        match ranges.last_mut() {
            // Devices lie side by side: in a first run this is one call, and the file system can take one extent.
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges
}

fn units_of((device, laid): (DeviceIndex, &LaidDevice)) -> impl Iterator<Item = Unit> {
    let nr = laid.clusters.len();
    (0..nr).step_by(UNIT_CLUSTERS).map(move |start| Unit {
        device,
        clusters: start..nr.min(start + UNIT_CLUSTERS),
    })
}

/// The state that the threads share.
struct WriteRun<'a> {
    layout: &'a Layout,
    path: &'a Path,
    options: &'a Options<'a>,
    file: File,
    /// Whether the blocks of large files are shared with the branch.
    share: bool,
    units: Vec<Unit>,
    next: AtomicUsize,
    /// For each device, the number of its units that are not written yet.
    left: Vec<AtomicUsize>,
    ledger: Ledger<'a>,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl<'a> WriteRun<'a> {
    fn new(layout: &'a Layout, path: &'a Path, options: &'a Options<'a>) -> Result<Self, Error> {
        let checkpoints = &options.checkpoints;
        let file = open(layout, path, checkpoints)?;
        // Sharing is tried before space is taken: what is shared needs none, and space that was preallocated for it
        // would be asked for in vain.
        let share = reflink::works(layout, &file, checkpoints)?;
        if !share {
            for range in rest(layout, checkpoints) {
                file::preallocate(&file, range, path)?;
            }
        }
        file::write_directly(&file, path)?;
        let to_write = || {
            let devices = layout.iter_with_index();
            devices.filter(|(at, _)| !checkpoints.is_done(*at))
        };
        let units: Vec<_> = to_write().flat_map(units_of).collect();
        let mut left = vec![0; layout.devices.len()];
        for unit in &units {
            left[unit.device.0] += 1;
        }
        let ledger = Ledger::new(*checkpoints);
        // A device without clusters has no last unit that would complete it.
        for (at, _) in to_write().filter(|(at, _)| left[at.0] == 0) {
            ledger.complete(at);
        }
        Ok(Self {
            layout,
            path,
            options,
            file,
            share,
            units,
            next: AtomicUsize::new(0),
            left: left.into_iter().map(AtomicUsize::new).collect(),
            ledger,
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        })
    }

    /// Takes and writes units until there are no more, or one failed, or the run is stopped.
    fn work(&self, progress: &dyn Progress) -> Vec<WrittenRun> {
        let go_on = || self.go_on();
        let mut gatherer = Gatherer {
            layout: self.layout,
            share: self.share,
            checksums: self.options.checksums,
            go_on: &go_on,
            branch: None,
        };
        let mut buffer = AlignedBuffer::new(UNIT_CLUSTERS * CLUSTER);
        let mut written = Vec::new();
        while !self.failed.load(Ordering::Acquire) {
            // Relaxed: the counter gives each unit to one thread and orders nothing else.
            let Some(unit) = self.units.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let buffer = &mut buffer.as_mut_slice()[..unit.clusters.len() * CLUSTER];
            let done = self
                .go_on()
                .and_then(|()| gatherer.fill(unit, buffer))
                .and_then(|gathered| self.put(unit, buffer, gathered))
                .and_then(|runs| {
                    written.extend(runs);
                    progress.inc(buffer.len() as u64);
                    self.note(unit)
                });
            if let Err(error) = done {
                // Kept before the others are stopped: what they say then is not the cause.
                self.error
                    .lock()
                    .expect("no thread panics while it holds the lock")
                    .get_or_insert(error);
                self.failed.store(true, Ordering::Release);
            }
        }
        written
    }

    /// Fails if the run should stop. Called before every unit and every file: a unit of small files on a cold disk
    /// takes seconds.
    fn go_on(&self) -> Result<(), Error> {
        if self.options.cancel.is_set() || self.failed.load(Ordering::Acquire) {
            return Err(Error::Interrupted);
        }
        Ok(())
    }

    /// Writes the buffer except for the shares, and shares their blocks instead.
    fn put(
        &self,
        unit: &Unit,
        buffer: &mut [u8],
        gathered: UnitContents<'_>,
    ) -> Result<impl Iterator<Item = WrittenRun> + use<>, Error> {
        let first = self.layout.devices[unit.device.0].first_block.0;
        let offset = (first + unit.clusters.start as u64) * CLUSTER as u64;
        let UnitContents { shares, mut runs } = gathered;
        let mut from = 0;
        // Shares are not in the buffer. What it has in their places is left over from another unit and must not reach
        // the file. All ends are those of whole blocks, as `O_DIRECT` wants them.
        for share in shares {
            self.write_at(&buffer[from..share.part.start], offset + from as u64)?;
            from = share.part.end;
            // That sharing works for one file does not mean that it does for all. Then this piece goes with the next
            // write, and its checksum is noted as of any other; of shared blocks there is none, so the verifier reads
            // them.
            if !share.apply(&self.file, offset)? {
                let bytes = &mut buffer[share.part.clone()];
                share.file.read_at(bytes, share.from)?;
                share.file.check()?;
                if self.options.checksums {
                    runs.push(WrittenRun::new(share.part.start as u64, bytes));
                }
                from = share.part.start;
            }
        }
        self.write_at(&buffer[from..], offset + from as u64)?;
        Ok(runs.into_iter().map(move |run| run.behind(offset)))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, offset)
            .map_err(|source| Error::target(self.path, "write", source))
    }

    /// Records that the unit is written. The thread that writes the last unit of a device finds all others written.
    fn note(&self, Unit { device, .. }: &Unit) -> Result<(), Error> {
        // Each thread releases what it wrote, and the last one acquires all of it, so the sync that the ledger asks for
        // next covers every unit of the device.
        if self.left[device.0].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ledger.complete(*device);
        }
        self.ledger.tell_when_due(|| self.sync())
    }

    /// Makes everything that was written durable. `fdatasync` also covers blocks that are shared with a branch: before
    /// the file system shared them, it wrote the parts that were only in memory.
    /// Source: linux v6.6 `fs/remap_range.c`, `__generic_remap_file_range_prep`.
    fn sync(&self) -> Result<(), Error> {
        // The directory too: a device is lost with the name of its file. Of a file just made, `fdatasync` alone does
        // not promise the name.
        self.file
            .sync_data()
            .map_err(|source| Error::target(self.path, "sync", source))?;
        Ok(sync_directory_of(self.path)?)
    }

    /// Completes the data file after all threads have ended.
    fn finish(self) -> Result<(), Error> {
        let error = self.error.lock();
        let error = error
            .expect("no thread panics while it holds the lock")
            .take();
        let Some(error) = error else {
            // Even if the ledger has nothing to tell: the metadata file comes next, and must not be on the disk before
            // the data that it maps.
            self.sync()?;
            return self.ledger.tell(|| Ok(()));
        };
        // For whoever resumes.
        if let Err(second) = self.ledger.tell(|| self.sync()) {
            log::warn!("{}", crate::chain::Chain(&second));
        }
        Err(error)
    }
}
