//! Filling a pool must not take longer than copying the same branches into one by hand.

use std::{
    fs,
    ops::RangeInclusive,
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
/// Pairs of runs, and how many at most while the median is above the limit: other programs of the machine are in the times.
const NR_PAIRS: RangeInclusive<usize> = 3..=9;
/// The tool's time over that of `cp -a`, at most.
const LIMIT: f64 = 1.1;
/// Docker's default, and the tool's.
const BASE_BYTES: u64 = 10 << 30;

/// The whole run of the tool, against mkfs and one `cp -a` for each layer into a pool made the same way.
pub(super) fn filling_takes_no_longer_than_copying(lab: &Lab, scratch: &Path) -> Result<()> {
    let _ = tempfile::env::override_temp_dir(lab.work());
    let (root, chains) = make_root()?;
    let mut ratios = Vec::new();
    while ratios.len() < *NR_PAIRS.start()
        || (median(&ratios) > LIMIT && ratios.len() < *NR_PAIRS.end())
    {
        // In turns: what comes first finds the caches colder.
        let (tool, copying) = if ratios.len() % 2 == 0 {
            let tool = convert(lab, scratch, &root)?;
            (tool, copy(lab, scratch, &chains)?)
        } else {
            let copying = copy(lab, scratch, &chains)?;
            (convert(lab, scratch, &root)?, copying)
        };
        let ratio = tool.as_secs_f64() / copying.as_secs_f64();
        println!("speed: tool {tool:.2?}, cp -a {copying:.2?}, ratio {ratio:.3}");
        ratios.push(ratio);
    }
    let median = median(&ratios);
    println!("speed: median ratio {median:.3} of {}", ratios.len());
    ensure!(
        median <= LIMIT,
        "the tool takes {median:.3} of the time of cp -a, not at most {LIMIT}; all pairs: {ratios:.3?}"
    );
    Ok(())
}

/// Chains of small files; and each chain's branches.
fn make_root() -> Result<(AufsRoot, Vec<Vec<PathBuf>>)> {
    let mut random = Random(1);
    let (mut root, mut chains) = (AufsRoot::new(), Vec::new());
    for (chain, nr_layers) in CHAINS.into_iter().enumerate() {
        let mut branches: Vec<PathBuf> = Vec::new();
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
        chains.push(branches);
    }
    Ok((root, chains))
}

/// The lower one of an even number's two.
fn median(ratios: &[f64]) -> f64 {
    let mut sorted = ratios.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

fn convert(lab: &Lab, scratch: &Path, root: &AufsRoot) -> Result<Duration> {
    let copy = scratch.join("docker");
    lab.copy(&root.path(), &copy)?;
    let variant = kernel(Target::Devices, FileSystem::Ext4);
    let storage = Storage::create(variant.target, scratch, AMPLE)?;
    let arguments = variant.all_arguments(&storage);
    let ended = Running::start(lab.tool(), scratch, &copy, &arguments)?.end()?;
    ended.expect(0, &[])?;
    storage.close()?;
    fs::remove_dir_all(copy)?;
    Ok(ended.took)
}

/// What one does by hand: a base, then for each layer a snapshot, mounted, filled, synced, unmounted.
fn copy(lab: &Lab, scratch: &Path, chains: &[Vec<PathBuf>]) -> Result<Duration> {
    let storage = Storage::create(Target::Pool, scratch, AMPLE.with_dockers_blocks())?;
    let pool = storage.pool().context("a pool")?;
    let activate = |number: usize| {
        let table = format!("{} {number}", pool.device());
        Active::create("lab-copied", BASE_BYTES / 512, ("thin", &table))
    };
    let mnt = scratch.join("mnt");
    let began = Instant::now();
    pool.message("create_thin 1")?;
    let base = activate(1)?;
    run(lab
        .command("mkfs.ext4")
        .args([
            "-q",
            "-E",
            "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
        ])
        .arg(base.path()))?;
    base.close()?;
    let mut number = 1;
    for branches in chains {
        let mut parent = 1;
        for branch in branches {
            number += 1;
            pool.message(&format!("create_snap {number} {parent}"))?;
            let thin = activate(number)?;
            let mounted = mount_thin(&thin, &mnt, MountFlags::empty())?;
            fs::create_dir_all(mnt.join("rootfs"))?;
            run(lab
                .command("cp")
                .args(["-a", "-T"])
                .arg(branch)
                .arg(mnt.join("rootfs")))?;
            run(lab.command("sync").arg("-f").arg(&mnt))?;
            mounted.close()?;
            thin.close()?;
            parent = number;
        }
    }
    let took = began.elapsed();
    storage.close()?;
    Ok(took)
}
