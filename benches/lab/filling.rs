//! Filling a pool must not take longer than copying the same branches into one by hand.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sys_mount::MountFlags;

use crate::{
    block::Active,
    lab::{Lab, run},
    pool::mount_thin,
    storage::{AMPLE, Storage, Target},
    support::{random::Random, root::AufsRoot},
    tool::Running,
    variant::{FileSystem, kernel},
};

/// Layers of each chain.
const CHAINS: [usize; 3] = [4, 3, 3];
/// Files of each layer.
const NR_FILES: usize = 800;
/// Runs of each, at least. The shortest count: what other programs of the machine do only adds to a time.
const NR_ROUNDS: usize = 4;
/// As many at most: where the shortest of those few are not within the limits, more of them come closer to what each really takes.
const MAX_ROUNDS: usize = 16;
/// The tool's best time over that of `cp -a`, at most.
const LIMIT: f64 = 1.1;
/// Its best time with verification at the end over that without, at most.
const VERIFIED_LIMIT: f64 = 1.35;
/// Docker's default, and the tool's.
const BASE_BYTES: u64 = 10 << 30;

/// The whole run of the tool, mkfs and a snapshot for each layer and all, against one `cp -a` of all branches into one thin device
/// that is mounted already.
pub(super) fn filling_takes_no_longer_than_copying(lab: &Lab, scratch: &Path) -> Result<()> {
    let _ = tempfile::env::override_temp_dir(lab.work());
    let (root, branches) = make_root()?;
    let (mut filling, mut copying, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..MAX_ROUNDS {
        if round >= NR_ROUNDS && is_within(&filling, &copying, &verified) {
            break;
        }
        // In turns: what comes first finds the caches colder.
        if round % 2 == 0 {
            filling.push(convert(lab, scratch, &root, &["--no-verify"])?);
            copying.push(copy(lab, scratch, &branches)?);
            verified.push(convert(lab, scratch, &root, &[])?);
        } else {
            verified.push(convert(lab, scratch, &root, &[])?);
            copying.push(copy(lab, scratch, &branches)?);
            filling.push(convert(lab, scratch, &root, &["--no-verify"])?);
        }
    }
    let times = format!("{filling:.2?}, cp -a {copying:.2?}, verified too {verified:.2?}");
    let (of_copying, of_filling) = (
        best(&filling) / best(&copying),
        best(&verified) / best(&filling),
    );
    println!("speed: {of_copying:.3} of cp -a, verification {of_filling:.3}: filling {times}");
    ensure!(
        of_copying <= LIMIT,
        "the tool takes {of_copying:.3} of the time of cp -a, not at most {LIMIT}: filling {times}"
    );
    ensure!(
        of_filling <= VERIFIED_LIMIT,
        "with verification it takes {of_filling:.3} of the time without, not at most {VERIFIED_LIMIT}: filling {times}"
    );
    Ok(())
}

/// Whether the best times so far keep both limits.
fn is_within(filling: &[Duration], copying: &[Duration], verified: &[Duration]) -> bool {
    best(filling) <= LIMIT * best(copying) && best(verified) <= VERIFIED_LIMIT * best(filling)
}

fn best(times: &[Duration]) -> f64 {
    times.iter().min().map_or(0.0, Duration::as_secs_f64)
}

/// Chains of small files; and all branches.
fn make_root() -> Result<(AufsRoot, Vec<PathBuf>)> {
    let mut random = Random(1);
    let (mut root, mut branches) = (AufsRoot::new(), Vec::new());
    for (chain, nr_layers) in CHAINS.into_iter().enumerate() {
        let mut parent = None;
        for number in 0..nr_layers {
            let name = format!("{chain}.{number}");
            root = root.layer_on(parent.as_deref(), &name, |layer| {
                (0..NR_FILES).fold(layer, |layer, n| {
                    // From nothing to 40 KB, most of them small; 20 in a directory.
                    let length = random.below(200).pow(2);
                    let content = vec![1; usize::try_from(length).unwrap_or_default()];
                    layer.file(format!("{name}/{}/file{n}", n / 20), content)
                })
            });
            branches.push(root.branch(&name));
            parent = Some(name);
        }
        let top = parent.context("a chain has layers")?;
        root = root.image(&format!("lab/chain{chain}:1"), &top);
    }
    Ok((root, branches))
}

fn convert(lab: &Lab, scratch: &Path, root: &AufsRoot, more: &[&str]) -> Result<Duration> {
    let copy = scratch.join("docker");
    lab.copy(&root.path(), &copy)?;
    let variant = kernel(Target::Devices, FileSystem::Ext4);
    let storage = Storage::create(variant.target, scratch, AMPLE)?;
    let mut arguments = variant.all_arguments(&storage);
    arguments.extend(more.iter().map(OsString::from));
    let ended = Running::start(lab.tool(), scratch, ("convert", &copy), &arguments)?.end()?;
    ended.expect(0, &[])?;
    storage.close()?;
    fs::remove_dir_all(copy)?;
    Ok(ended.took)
}

/// Copies all branches side by side into one mounted thin device, up to its unmounting; making it is not counted.
fn copy(lab: &Lab, scratch: &Path, branches: &[PathBuf]) -> Result<Duration> {
    let storage = Storage::create(Target::Pool, scratch, AMPLE.with_dockers_blocks())?;
    let pool = storage.pool().context("a pool")?;
    pool.message("create_thin 1")?;
    let table = format!("{} 1", pool.device());
    let thin = Active::create("lab-copied", BASE_BYTES / 512, ("thin", &table))?;
    run(lab
        .command("mkfs.ext4")
        .args([
            "-q",
            "-E",
            "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
        ])
        .arg(thin.path()))?;
    let mnt = scratch.join("mnt");
    let mounted = mount_thin(&thin, &mnt, MountFlags::empty())?;
    let began = Instant::now();
    run(lab.command("cp").arg("-a").args(branches).arg(&mnt))?;
    run(lab.command("sync").arg("-f").arg(&mnt))?;
    mounted.close()?;
    let took = began.elapsed();
    thin.close()?;
    storage.close()?;
    Ok(took)
}
