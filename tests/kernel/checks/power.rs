//! Power cuts: the Docker root lies on an ext4 whose disk keeps only what was flushed, and of the rest what it likes.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{
    block::{Active, Loop},
    lab::{Lab, run},
    log_writes::Log,
    pool::Mounted,
    support::{
        outcome::{Broken, Ended},
        reduced::reduced,
        tree::Tree,
    },
};

/// Bytes of the disk, and of the log of all that is written to it.
const DISK_BYTES: u64 = 256 << 20;
const LOG_BYTES: u64 = 1 << 30;
/// With a checkpoint after every layer, and a small pool, which is described sooner.
const CONVERT: &[&str] = &[
    "convert",
    "--checkpoint=0",
    "--data-size=1G",
    "--metadata-size=8M",
];

/// What a disk's cache makes of the writes after the last flush.
#[derive(Clone, Copy, Debug)]
enum Cache {
    /// All are lost.
    Lost,
    /// Each is kept or lost, by the seed.
    Part(u64),
    /// All are kept up to the moment before the next flush.
    Kept,
}

/// The power goes before each flush of the disk during a conversion and its rollback.
pub(super) fn after_a_power_cut_a_conversion_can_be_finished_and_taken_back(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let _ = tempfile::env::override_temp_dir(lab.work());
    let original = reduced()?;
    let disk = Disk::new(lab, scratch, &original)?;
    let (log, converted) = disk.record()?;
    let flushes = log.flushes();
    let durable = disk.image("durable.img");
    lab.copy(&disk.image("before.img"), &durable)?;
    let durable = OpenOptions::new().write(true).open(&durable)?;
    let mut applied = 0;
    for (number, &flush) in flushes.iter().enumerate() {
        for entry in applied..flush {
            log.apply(entry, &durable)?;
        }
        applied = flush;
        let cache = match number % 3 {
            0 => Cache::Lost,
            1 => Cache::Part(number as u64),
            _ => Cache::Kept,
        };
        let next = flushes.get(number + 1).copied().unwrap_or(log.len());
        disk.cut(&log, flush..next, cache)?;
        let what = || format!("power cut at write {flush} of {}, {cache:?}", log.len());
        // Whatever the disk did with the writes of this time, the run had said that it was done.
        disk.judge(number, next >= converted).with_context(what)?;
    }
    println!("power cuts: {} of {} writes", flushes.len(), log.len());
    Ok(())
}

/// A disk with a Docker root on it.
struct Disk<'a> {
    lab: &'a Lab,
    scratch: &'a Path,
    original: &'a Tree,
}

impl<'a> Disk<'a> {
    /// Makes it, as `before.img`.
    fn new(lab: &'a Lab, scratch: &'a Path, original: &'a Tree) -> Result<Self> {
        let disk = Self {
            lab,
            scratch,
            original,
        };
        let image = disk.image("before.img");
        File::create(&image)?.set_len(DISK_BYTES)?;
        let options = ["-q", "-F", "-E", "lazy_itable_init=0"];
        run(lab.command("mkfs.ext4").args(options).arg(&image))?;
        let below = Loop::attach(&image)?;
        let mounted = Mounted::ext4(below.path(), &disk.mount())?;
        original.write(&disk.root())?;
        mounted.close()?;
        below.close()?;
        Ok(disk)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn mount(&self) -> PathBuf {
        self.scratch.join("disk")
    }

    fn root(&self) -> PathBuf {
        self.mount().join("docker")
    }

    /// Converts and goes back, with all writes logged; also the first write after the conversion had ended.
    fn record(&self) -> Result<(Log, usize)> {
        let (image, log) = (self.image("recorded.img"), self.image("log.img"));
        self.lab.copy(&self.image("before.img"), &image)?;
        File::create(&log)?.set_len(LOG_BYTES)?;
        let (below, beside) = (Loop::attach(&image)?, Loop::attach(&log)?);
        let table = format!("{} {}", below.path().display(), beside.path().display());
        let device = Active::create("lab-log-writes", DISK_BYTES / 512, ("log-writes", &table))?;
        let mounted = Mounted::ext4(&device.path(), &self.mount())?;
        let broken = self.broken();
        broken.done(CONVERT)?;
        device.message("mark converted")?;
        broken.take_back()?;
        mounted.close()?;
        device.close()?;
        beside.close()?;
        below.close()?;
        fs::remove_file(&image)?;
        let log = Log::read(&log)?;
        let mark = log.mark().context("the mark is not in the log")?;
        Ok((log, mark))
    }

    /// Makes `cut.img` of what is durable and what is left of the writes in `cached`.
    fn cut(&self, log: &Log, cached: std::ops::Range<usize>, cache: Cache) -> Result<()> {
        let image = self.image("cut.img");
        self.lab.copy(&self.image("durable.img"), &image)?;
        let image = OpenOptions::new().write(true).open(image)?;
        for entry in cached {
            let kept = match cache {
                Cache::Lost => false,
                Cache::Part(seed) => coin(seed, entry),
                Cache::Kept => true,
            };
            if kept {
                log.apply(entry, &image)?;
            }
        }
        Ok(())
    }

    /// Mounts `cut.img`, which goes through ext4's own journal, and does what an operator does.
    fn judge(&self, number: usize, ended: bool) -> Result<()> {
        let below = Loop::attach(&self.image("cut.img"))?;
        let mounted = Mounted::ext4(below.path(), &self.mount())?;
        let pid_file = self.mount().join("docker.pid");
        if pid_file.exists() {
            // It lies in /run, which is empty when a machine starts.
            fs::remove_file(pid_file)?;
        }
        let broken = self.broken();
        let state = broken.state()?;
        ensure!(
            !ended || state != "writing" && state != "switching",
            "what had ended is {state}"
        );
        let judged = if number.is_multiple_of(2) {
            broken.finish()
        } else {
            broken.take_back()
        };
        judged.with_context(|| format!("from the state {state}"))?;
        mounted.close()?;
        below.close()
    }

    fn broken(&self) -> Broken<'_> {
        let tool = |words: &[&str]| -> Result<Ended> {
            let pid_file = self.mount().join("docker.pid");
            let mut tool = self.lab.tool();
            tool.args(words).arg("--root").arg(self.root());
            let output = tool.arg("--pidfile").arg(pid_file).output()?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(Ended {
                code: output.status.code(),
                out: text(&output.stdout),
                err: text(&output.stderr),
            })
        };
        Broken {
            root: self.root(),
            original: self.original,
            tool: Box::new(tool),
        }
    }
}

/// Heads or tails for each write. Source: S. Vigna, <https://prng.di.unimi.it/splitmix64.c>, the mixing step.
fn coin(seed: u64, entry: usize) -> bool {
    let mut z = ((seed << 32) | entry as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) & 1 == 1
}
