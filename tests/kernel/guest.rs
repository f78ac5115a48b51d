//! The guest's side: this binary as the kernel's first process.

use std::{fs, io::stdin, os::unix::fs::symlink, path::Path, process::exit};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::{chdir, pivot_root},
};

use crate::{
    job::{Event, Job, NO_MORE},
    lab::{Lab, run},
    runner,
};

/// In dependency order.
const MODULES: [&str; 9] = [
    "loop",
    "overlay",
    "dm-mod",
    "dm-bio-prison",
    "dm-bufio",
    "dm-persistent-data",
    "dm-thin-pool",
    "dm-flakey",
    "dm-log-writes",
];
/// The checks' files live here, on a tmpfs of its own.
const WORK: &str = "/aufs2dm-lab";

/// Does the job and powers off; never returns.
pub(crate) fn main(job: &Path) -> ! {
    match read_job(job) {
        Ok((job, lab)) => {
            if let Err(error) = work(&job, &lab) {
                println!("guest: {error:#}");
            }
            let _ = lab.busybox("poweroff").arg("-f").status();
        }
        Err(error) => println!("guest: {error:#}"),
    }
    // Init's end is a kernel panic, which the host sees as the guest's end as well.
    exit(1)
}

fn read_job(file: &Path) -> Result<(Job, Lab)> {
    mount_at("proc", "/proc")?;
    let job: Job =
        serde_json::from_slice(&fs::read(file).with_context(|| file.display().to_string())?)?;
    let lab = Lab::new(&job.lab, &job.path, Path::new(WORK));
    Ok((job, lab))
}

fn work(job: &Job, lab: &Lab) -> Result<()> {
    load_modules(lab)?;
    enter_root()?;
    run(lab.busybox("ifconfig").args(["lo", "up"]))?;
    if let Some(command) = &job.shell {
        return shell(lab, command, &job.directory);
    }
    while let Some(group) = next_group(job)? {
        runner::run_checks(lab, group, &mut |event| {
            println!("{}", event.to_line());
        });
    }
    println!("{}", Event::Done.to_line());
    Ok(())
}

/// Asks the host for the next group of checks; none when all are dealt out.
fn next_group(job: &Job) -> Result<Option<&[String]>> {
    println!("{}", Event::Ready.to_line());
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("console")?;
    if answer.trim_end() == NO_MORE {
        return Ok(None);
    }
    let index: usize = answer.trim_end().parse().context(answer)?;
    let group = job.groups.get(index).context("no such group")?;
    Ok(Some(group))
}

fn load_modules(lab: &Lab) -> Result<()> {
    for module in MODULES {
        let file = lab.directory().join(format!("kernel/modules/{module}.ko"));
        run(lab.busybox("insmod").arg(file))?;
    }
    Ok(())
}

/// Covers the machine's file system with a tmpfs, so that every path can be written and nothing reaches the machine,
/// and makes that the root.
fn enter_root() -> Result<()> {
    mount_at("tmpfs", "/run")?;
    for dir in ["upper", "work", "root"] {
        fs::create_dir(Path::new("/run").join(dir))?;
    }
    let options = "lowerdir=/,upperdir=/run/upper,workdir=/run/work";
    mount(
        Some("overlay"),
        "/run/root",
        Some("overlay"),
        MsFlags::empty(),
        Some(options),
    )
    .context("overlay root")?;
    chdir("/run/root")?;
    fs::create_dir_all("old-root")?;
    pivot_root(".", "old-root").context("pivot_root")?;
    chdir("/")?;
    umount2("/old-root", MntFlags::MNT_DETACH).context("old root")?;
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
    ] {
        mount_at(kind, target)?;
    }
    fs::create_dir_all("/dev/shm")?;
    mount_at("tmpfs", "/dev/shm")?;
    mount_at("cgroup2", "/sys/fs/cgroup")?;
    if !Path::new("/dev/fd").exists() {
        symlink("/proc/self/fd", "/dev/fd")?;
    }
    fs::create_dir_all(WORK)?;
    mount(
        Some("tmpfs"),
        WORK,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=85%,mode=755"),
    )
    .context(WORK)?;
    fs::write("/proc/sys/kernel/hostname", "lab").context("host name")?;
    Ok(())
}

fn mount_at(kind: &str, target: &str) -> Result<()> {
    mount(
        Some(kind),
        target,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("{kind} on {target}"))
}

fn shell(lab: &Lab, command: &str, job_directory: &Path) -> Result<()> {
    let code = lab
        .command("sh")
        .args(["-c", command])
        .current_dir(WORK)
        .status()?
        .code()
        .unwrap_or(101);
    // The one write that goes through to the machine: into the host's own job directory.
    let through = Path::new("/run/job");
    fs::create_dir(through)?;
    mount(
        Some("none"),
        through,
        Some("hostfs"),
        MsFlags::empty(),
        Some(job_directory),
    )
    .context("job directory")?;
    fs::write(through.join("status"), code.to_string())?;
    umount2(through, MntFlags::empty())?;
    Ok(())
}
