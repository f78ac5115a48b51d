//! The real dockerd on a Docker root, with the devicemapper driver.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::atomic::{AtomicUsize, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    lab::{Lab, last_lines, run},
    pool::Mounted,
    roots::Root,
};

/// How long dockerd may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(300);
/// Containers record this path for their logs and volumes, so every root is bound here while a daemon runs on it.
const DATA_ROOT: &str = "/var/lib/docker";
/// Lines of its log shown with a failure.
const LOG_TAIL: usize = 40;
/// Lines of its log that say nothing about the root.
const NOISE: [&str; 3] = [
    "level=info",
    "Udev sync is not supported",
    "loopback devices is strongly",
];

/// Runs `work` with a daemon on `root`, told where its devices are, and stops it; a failure comes with the daemon's log.
pub(crate) fn with_dockerd<T>(
    lab: &Lab,
    root: &Root,
    work: impl FnOnce(&Dockerd<'_>) -> Result<T>,
) -> Result<T> {
    let bound = Mounted::bind(root.path(), Path::new(DATA_ROOT))?;
    let mut daemon = Dockerd::start(lab, root.options())?;
    let outcome = daemon.wait_ready().and_then(|()| work(&daemon));
    let stopped = daemon.stop().and_then(|()| bound.close());
    match (outcome, stopped) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(error), _) | (Ok(_), Err(error)) => Err(daemon.with_log(&error)),
    }
}

/// Runs `work` with a daemon on `root`, and kills the daemon.
pub(crate) fn with_killed_dockerd<'lab, T>(
    lab: &'lab Lab,
    root: &Root,
    work: impl FnOnce(&Dockerd<'_>) -> Result<T>,
) -> Result<(Killed<'lab>, T)> {
    let before = mount_points()?;
    let bound = Mounted::bind(root.path(), Path::new(DATA_ROOT))?;
    let mut daemon = Dockerd::start(lab, root.options())?;
    let outcome = daemon.wait_ready().and_then(|()| work(&daemon));
    daemon.process.kill()?;
    daemon.process.wait()?;
    let value = outcome.map_err(|error| daemon.with_log(&error))?;
    let killed = Killed {
        daemon,
        bound: Some(bound),
        before,
    };
    Ok((killed, value))
}

/// What a daemon that was killed left: processes, mounts, devices.
#[derive(Debug)]
pub(crate) struct Killed<'lab> {
    daemon: Dockerd<'lab>,
    bound: Option<Mounted>,
    before: Vec<PathBuf>,
}

impl Killed<'_> {
    /// Ends the containers, and what Docker has put beside each.
    pub(crate) fn end_containers(&self, pids: &[i32]) -> Result<()> {
        for pid in pids.iter().copied().chain(self.helpers()?) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let end = Instant::now() + PATIENCE;
            while Path::new("/proc").join(pid.to_string()).exists() {
                // Whose parent has ended is the first process's, which the guest's is this.
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
                ensure!(Instant::now() < end, "process {pid} does not end");
                sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// containerd and its shims.
    fn helpers(&self) -> Result<Vec<i32>> {
        let mark = self.daemon.directory.display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&mark) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Unmounts what the daemon had mounted beside its devices.
    pub(crate) fn close(mut self) -> Result<()> {
        let mut left = mount_points()?;
        for point in &self.before {
            if let Some(at) = left.iter().position(|left| left == point) {
                left.remove(at);
            }
        }
        left.retain(|point| point != Path::new(DATA_ROOT));
        for point in left.iter().rev() {
            run(self.daemon.lab.command("umount").arg(point))?;
        }
        // Its own bind mount over the directory.
        while nr_mounts(DATA_ROOT)? > 1 {
            run(self.daemon.lab.command("umount").arg(DATA_ROOT))?;
        }
        self.bound.take().context("closed once")?.close()
    }
}

fn mount_points() -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(points.map(PathBuf::from).collect())
}

/// Whether a daemon starts on `root`: `Err` is what it logged when it ended instead.
pub(crate) fn try_dockerd(lab: &Lab, root: &Root) -> Result<Result<(), String>> {
    let bound = Mounted::bind(root.path(), Path::new(DATA_ROOT))?;
    let mut daemon = Dockerd::start(lab, root.options())?;
    let ready = daemon.wait_ready();
    let ended = daemon.process.try_wait()?.is_some();
    let log = fs::read_to_string(daemon.directory.join("log")).unwrap_or_default();
    daemon.stop()?;
    // A daemon that does not start leaves its own bind mount over the directory.
    while nr_mounts(DATA_ROOT)? > 1 {
        run(lab.command("umount").arg(DATA_ROOT))?;
    }
    bound.close()?;
    match ready {
        Ok(()) => Ok(Ok(())),
        Err(_) if ended => Ok(Err(log)),
        Err(error) => Err(daemon.with_log(&error)),
    }
}

fn nr_mounts(point: &str) -> Result<usize> {
    let points = mount_points()?;
    Ok(points.iter().filter(|at| *at == Path::new(point)).count())
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub(crate) struct Dockerd<'lab> {
    lab: &'lab Lab,
    process: Child,
    /// Socket, pid file, log, execution state: nothing of the daemon lies outside this and the root.
    directory: PathBuf,
}

impl<'lab> Dockerd<'lab> {
    fn start(lab: &'lab Lab, storage_options: &[String]) -> Result<Self> {
        static NR_STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = NR_STARTED.fetch_add(1, Ordering::Relaxed);
        let directory = lab.work().join(format!("dockerd-{number}"));
        fs::create_dir_all(&directory)?;
        let key = serde_json::json!({ "deprecated-key-path": directory.join("key.json") });
        fs::write(directory.join("daemon.json"), key.to_string())?;
        let log = File::create(directory.join("log"))?;
        let process = lab
            .command("dockerd")
            .arg("--config-file")
            .arg(directory.join("daemon.json"))
            .arg("--data-root")
            .arg(DATA_ROOT)
            .arg("--exec-root")
            .arg(directory.join("exec"))
            .arg("--pidfile")
            .arg(directory.join("pid"))
            .arg(format!(
                "--host=unix://{}",
                directory.join("socket").display()
            ))
            .args([
                "--storage-driver=devicemapper",
                "--storage-opt=dm.override_udev_sync_check=true",
            ])
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--log-level=info",
            ])
            .args(
                storage_options
                    .iter()
                    .map(|option| format!("--storage-opt={option}")),
            )
            .env("DOCKER_RAMDISK", "1") // runc cannot pivot_root when the daemon's own root is not a disk's
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("dockerd")?;
        Ok(Self {
            lab,
            process,
            directory,
        })
    }

    fn wait_ready(&mut self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.process.try_wait()? {
                bail!("dockerd did not start: {status}");
            }
            if self.answers().unwrap_or(false) {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("dockerd did not answer in {} s", PATIENCE.as_secs())
    }

    fn answers(&self) -> Result<bool> {
        let mut socket = UnixStream::connect(self.directory.join("socket"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer.contains(" 200 "))
    }

    /// The lab it runs in.
    pub(crate) fn lab(&self) -> &'lab Lab {
        self.lab
    }

    /// A docker command, not yet run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command("docker");
        command
            .arg("--config")
            .arg(self.directory.join("client"))
            .arg(format!(
                "--host=unix://{}",
                self.directory.join("socket").display()
            ))
            .args(arguments);
        command
    }

    /// Runs a docker command and returns what it printed.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.command(arguments))
    }

    /// Runs `docker inspect` on objects of one kind.
    pub(crate) fn inspect(&self, kind: &str, names: &[&str]) -> Result<Vec<Value>> {
        let mut arguments = vec!["inspect", "--type", kind];
        arguments.extend(names);
        Ok(serde_json::from_str(&self.docker(&arguments)?)?)
    }

    fn stop(&mut self) -> Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        kill(
            Pid::from_raw(i32::try_from(self.process.id())?),
            Signal::SIGTERM,
        )?;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(20));
        }
        bail!("dockerd did not stop in {} s", PATIENCE.as_secs())
    }

    fn with_log(&self, error: &anyhow::Error) -> anyhow::Error {
        let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let told: Vec<_> = log
            .lines()
            .filter(|line| !NOISE.iter().any(|noise| line.contains(noise)))
            .collect();
        anyhow::anyhow!(
            "{error:#}\ndockerd's log:\n{}",
            last_lines(&told.join("\n"), LOG_TAIL)
        )
    }
}

impl Drop for Dockerd<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
