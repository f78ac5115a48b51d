//! The kernel engine is broken off at the system calls by which it changes something, those of mkfs among them: each fails
//! once, and is once before the last thing that the process does. What it leaves in the kernel stays for the commands that
//! come next, as on a machine that goes on.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;

use crate::{
    lab::Lab,
    leftovers::Leftovers,
    storage::Target,
    support::{
        outcome::{Broken, Ended},
        root::AufsRoot,
        tree::{Tree, remove},
    },
    tracer::{self, Fault, Moment, Traced},
};

/// With a checkpoint after each layer, and small devices, which are made sooner.
const CONVERT: &[&str] = &[
    "convert",
    "--engine=kernel",
    "--jobs=1",
    "--checkpoint=0",
    "--base-size=64M",
];
/// Sizes of the loop files.
const SIZES: &[&str] = &["--data-size=1G", "--metadata-size=8M"];
/// Bytes of given devices.
const DATA_BYTES: u64 = 1 << 30;
const METADATA_BYTES: u64 = 8 << 20;
/// How often a run is repeated in which a call does not come.
const TRIES: usize = 3;
/// At most one in so many faults may be on a call that then is not made.
const NOT_MADE_SHARE: usize = 100;
/// How many faults the sample has for each target.
const SAMPLE: usize = 24;
/// Of the calls by which a run takes back what it wrote, the sample has every so many.
const STEP: usize = 5;
/// A sweep says how far it is after every so many faults.
const PROGRESS: usize = 100;
/// Exceptions after which a sweep ends.
const MOST_WRONG: usize = 20;

/// What is done with a root on which a run was broken off.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It is finished.
    On,
    /// It is taken back.
    Back,
}

/// A fault of the sweep.
#[derive(Clone, Copy, Debug)]
struct Case {
    call: usize,
    fault: Fault,
    way: Way,
}

/// Two layers with something of most kinds.
fn original() -> Result<Tree> {
    let root = AufsRoot::new()
        .layer("lower", |layer| {
            layer
                .file("etc/kept", "kept")
                .file("etc/removed", "removed")
                .file("large", vec![5; 200_000])
                .dir("empty")
                .symlink("link", "etc/kept")
        })
        .layer("upper", |layer| {
            layer
                .file("etc/kept", "changed")
                .whiteout("etc/removed")
                .file("new", "new")
                .mode("new", 0o4755)
        })
        .image("lab/small:1", "upper");
    // Without these, contents are verified byte by byte.
    for name in ["lower", "upper"] {
        fs::remove_file(root.layerdb(name).join("tar-split.json.gz"))?;
    }
    Tree::read(&root.path())
}

/// Where a root is put down and converted.
struct Place<'a> {
    lab: &'a Lab,
    scratch: &'a Path,
    target: Target,
    original: Tree,
    /// What the machine had.
    leftovers: Leftovers,
}

impl<'a> Place<'a> {
    fn new(lab: &'a Lab, scratch: &'a Path, target: Target) -> Result<Self> {
        let _ = tempfile::env::override_temp_dir(lab.work());
        Ok(Self {
            lab,
            scratch,
            target,
            original: original()?,
            leftovers: Leftovers::now()?,
        })
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("docker")
    }

    fn device(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The root as it was before any run, and empty devices.
    fn renew(&self) -> Result<()> {
        remove(&self.root())?;
        for name in ["docker.pid", "data", "metadata"] {
            let path = self.scratch.join(name);
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        if self.target == Target::Devices {
            File::create(self.device("data"))?.set_len(DATA_BYTES)?;
            File::create(self.device("metadata"))?.set_len(METADATA_BYTES)?;
        }
        self.original.write(&self.root())
    }

    fn convert(&self) -> Vec<String> {
        let mut words: Vec<_> = CONVERT.iter().map(|&word| word.to_owned()).collect();
        if self.target == Target::Devices {
            for (option, name) in [("data", "data"), ("metadata", "metadata")] {
                let path = self.device(name);
                words.push(format!("--{option}-device={}", path.display()));
            }
        } else {
            words.extend(SIZES.iter().map(|&word| word.to_owned()));
        }
        words
    }

    fn command(&self, words: &[impl AsRef<std::ffi::OsStr>]) -> std::process::Command {
        let mut tool = self.lab.tool();
        tool.args(words).arg("--root").arg(self.root());
        tool.arg("--pidfile").arg(self.scratch.join("docker.pid"));
        tool
    }

    /// Converts, with a fault or with none.
    fn trace(&self, fault: Option<(Fault, Moment<'_>)>) -> Result<Traced> {
        self.renew()?;
        let places = [(self.scratch, "@")];
        tracer::run(self.command(&self.convert()), fault, &places)
    }

    fn broken(&self) -> Broken<'_> {
        let tool = |words: &[&str]| -> Result<Ended> {
            let output = if words[0] == "convert" {
                self.command(&self.convert()).output()?
            } else {
                self.command(words).output()?
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(Ended {
                code: output.status.code(),
                out: text(&output.stdout),
                err: text(&output.stderr),
            })
        };
        Broken {
            root: self.root(),
            original: &self.original,
            tool: Box::new(tool),
        }
    }

    /// Fails unless all is well on what a run with a fault left, and in the end nothing is left in the kernel.
    fn judge(&self, traced: &Traced, way: Way) -> Result<()> {
        let broken = self.broken();
        let state = broken.state()?;
        match (traced.code, state.as_str(), way) {
            (Some(0), "converted", _) => broken.verify()?,
            // A verification that was disturbed may have found something wrong.
            (Some(1 | 3), "none", _) => {
                broken.is_original()?;
                self.is_told(traced)?;
            }
            (None | Some(1 | 5), _, _) => {}
            (code, state, _) => bail!("it ended with {code:?}, the root is {state}"),
        }
        if let Way::On = way {
            broken.finish().context("finishing it")?;
            self.is_clean()?;
        }
        broken.take_back().context("taking it back")?;
        self.is_clean()?;
        if self.target == Target::Devices {
            let mut start = [1; 4096];
            File::open(self.device("metadata"))?.read_exact(&mut start)?;
            ensure!(start == [0; 4096], "the metadata device is not empty");
        }
        Ok(())
    }

    fn is_clean(&self) -> Result<()> {
        self.leftovers.compare()
    }

    /// A run that failed leaves nothing in the kernel, or says so.
    fn is_told(&self, traced: &Traced) -> Result<()> {
        let left = self.is_clean();
        if traced.err.contains("run this by hand") || traced.err.contains("; remove it: ") {
            return Ok(());
        }
        left
    }

    /// False when the call was not made: what mkfs writes at once differs a little from run to run.
    fn broken_off(&self, calls: &[String], case: Case) -> Result<bool> {
        for _ in 0..TRIES {
            let traced = self.trace(Some((case.fault, Moment::of(calls, case.call))))?;
            if traced.met.is_none() {
                // It went through, in another order.
                self.broken().take_back()?;
                continue;
            }
            let judged = self.judge(&traced, case.way);
            let said = || format!("ended with {:?}, saying:\n{}", traced.code, traced.err);
            return judged.map(|()| true).with_context(said);
        }
        Ok(false)
    }

    /// A run fails when nearly all is written, and is killed while it takes that back, before each call or before some.
    fn taking_back(&self, calls: &[String], some: bool, wrong: &mut Vec<String>) -> Result<()> {
        let call = last_unmount(calls)?;
        let (mut nr, step) = (0, if some { STEP } else { 1 });
        for after in (1..).step_by(step) {
            let fault = Fault::FailThenKill(Errno::EIO, after);
            let traced = self.trace(Some((fault, Moment::of(calls, call))))?;
            nr += 1;
            let way = if nr % 2 == 0 { Way::On } else { Way::Back };
            if let Err(error) = self.judge(&traced, way) {
                let at = traced.calls.last().map_or("", String::as_str);
                let said = &traced.err;
                wrong.push(format!(
                    "{fault:?} at {at}, {way:?}: {error:#}\nit said: {said}"
                ));
                self.leftovers.compare_and_clean(self.lab).ok();
            }
            if traced.code.is_some() {
                println!("killed while taking back: {nr} times, the last at call {after}");
                return Ok(());
            }
        }
        Ok(())
    }

    /// Tries the cases that `choose` takes of all there are.
    fn sweep(&self, choose: impl FnOnce(&[String], Vec<Case>) -> Vec<Case>) -> Result<()> {
        let began = Instant::now();
        let traced = self.trace(None)?;
        ensure!(traced.code == Some(0), "{traced:#?}");
        let calls = traced.calls;
        self.broken().verify()?;
        self.broken().take_back()?;
        self.is_clean()?;
        let all = cases(&calls);
        let nr_all = all.len();
        let chosen = choose(&calls, all);
        let (mut wrong, mut not_made) = (Vec::new(), Vec::new());
        self.taking_back(&calls, chosen.len() < nr_all, &mut wrong)?;
        for (done, &case) in chosen.iter().enumerate() {
            if done % PROGRESS == PROGRESS - 1 {
                let seconds = began.elapsed().as_secs();
                println!("sweep of {:?}: {done} done, {seconds} s", self.target);
            }
            let what = || format!("{case:?}, {}", calls[case.call]);
            match self.broken_off(&calls, case) {
                Ok(true) => {}
                Ok(false) if is_of_mkfs(&calls[case.call]) => not_made.push(what()),
                Ok(false) => wrong.push(format!("{}: was not made", what())),
                Err(error) => {
                    wrong.push(format!("{}: {error:#}", what()));
                    println!("sweep: {}", wrong[wrong.len() - 1]);
                    self.leftovers.compare_and_clean(self.lab).ok();
                }
            }
            if wrong.len() == MOST_WRONG {
                break;
            }
        }
        println!(
            "sweep of {:?}: {} calls, {} of {nr_all} faults, {} of them on calls that were not made, {} exceptions, {} s",
            self.target,
            calls.len(),
            chosen.len(),
            not_made.len(),
            wrong.len(),
            began.elapsed().as_secs()
        );
        ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        let most = chosen.len().div_ceil(NOT_MADE_SHARE);
        ensure!(not_made.len() <= most, "not made: {}", not_made.join("; "));
        Ok(())
    }
}

/// The place of the call by which the last layer's file system is unmounted: when it fails, all devices are there and durable.
fn last_unmount(calls: &[String]) -> Result<usize> {
    let of_a_layer = |call: &String| call.starts_with("umount2 @/docker/.aufs2dm/mnt/");
    calls
        .iter()
        .rposition(of_a_layer)
        .context("no layer is unmounted")
}

/// Each call fails, with one of the usual errors in turn, and is killed before, or in the middle if it writes something. What
/// is done then takes turns too.
fn cases(calls: &[String]) -> Vec<Case> {
    let errors = [Errno::EIO, Errno::ENOSPC, Errno::EPERM];
    let mut all = Vec::new();
    for call in 0..calls.len() {
        let faults = [Fault::Fail(errors[call % 3]), Fault::Kill];
        for (number, fault) in faults.into_iter().enumerate() {
            let ways = match fault {
                Fault::Kill => &[Way::On, Way::Back][..],
                _ if (call / 3 + number).is_multiple_of(2) => &[Way::On],
                _ => &[Way::Back],
            };
            all.extend(ways.iter().map(|&way| Case { call, fault, way }));
        }
    }
    all
}

/// Whether a call is about what the kernel engine has in the kernel.
fn is_of_the_kernel(call: &str) -> bool {
    ["ioctl", "mount", "umount2", "unshare", "move_mount"]
        .iter()
        .any(|name| call.starts_with(name))
}

/// Whether mkfs makes the call: nothing else writes to a thin device itself.
fn is_of_mkfs(call: &str) -> bool {
    call.starts_with("write /dev/dm-")
}

/// A number for each seed. Source: S. Vigna, <https://prng.di.unimi.it/splitmix64.c>, the mixing step.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The cases in an order that is the same each time, those about the kernel's devices and mounts by themselves.
fn shuffled(calls: &[String], all: Vec<Case>) -> (Vec<Case>, Vec<Case>) {
    let mut all: Vec<_> = all.into_iter().enumerate().collect();
    all.sort_by_key(|(number, _)| mixed(*number as u64));
    let all = all.into_iter().map(|(_, case)| case);
    all.partition(|case| is_of_the_kernel(&calls[case.call]))
}

/// All cases; those that are more likely to find something first.
fn whole(calls: &[String], all: Vec<Case>) -> Vec<Case> {
    let (kernels, others) = shuffled(calls, all);
    [kernels, others].concat()
}

/// A part of the cases; half of it is about the kernel's devices and mounts.
fn sample(calls: &[String], all: Vec<Case>) -> Vec<Case> {
    let (kernels, others) = shuffled(calls, all);
    let half = SAMPLE / 2;
    let kernels = kernels.into_iter().take(half);
    kernels.chain(others.into_iter().take(half)).collect()
}

/// A few faults of each sort.
pub(super) fn a_kernel_conversion_that_is_broken_off_can_be_finished_and_taken_back(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    for target in [Target::Files, Target::Devices] {
        Place::new(lab, scratch, target)?.sweep(sample)?;
    }
    Ok(())
}

/// Every call of a conversion into loop files.
pub(super) fn every_call_of_a_kernel_conversion_into_files_can_fail_and_be_the_last(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    Place::new(lab, scratch, Target::Files)?.sweep(whole)
}

/// Every call of a conversion onto given devices.
pub(super) fn every_call_of_a_kernel_conversion_onto_devices_can_fail_and_be_the_last(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    Place::new(lab, scratch, Target::Devices)?.sweep(whole)
}
