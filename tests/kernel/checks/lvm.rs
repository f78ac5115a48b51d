//! LVM's own pools: the worked example of `docs/kernel-engine.md`, and what it says about LVM.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    block::Active,
    dockerd::{Dockerd, with_dockerd},
    lab::{Lab, run},
    lvm::{Lvm, POOL},
    pool::Pool,
    roots::{self, Root},
    runner::directory,
    storage::Storage,
    subject::Subject,
    tool::{PATIENCE, Running, Stage},
    udev::Udevd,
};

const DOCUMENT: &str = include_str!("../../../docs/kernel-engine.md");
const HEADING: &str = "\n## An LVM thin pool, step by step";
/// Runs into a pool that fills up while it is extended.
const FILLED: u32 = 3;
/// The document's disk.
const DISK: &str = "/dev/sdb";

/// The example's indented lines.
fn lines_of_the_example() -> Result<Vec<&'static str>> {
    let (_, text) = DOCUMENT.split_once(HEADING).context("no such heading")?;
    let end = text.find("\n## ").unwrap_or(text.len());
    let lines = text[..end].lines();
    Ok(lines.filter_map(|line| line.strip_prefix("    ")).collect())
}

/// Every command of the document does what it says, Docker takes what comes out, and LVM goes on with it.
pub(super) fn lvm_example_of_the_document_works(lab: &Lab, scratch: &Path) -> Result<()> {
    let path = scratch.join("docker");
    lab.copy(&roots::aufs(lab)?, &path)?;
    let lvm = Lvm::new(lab, scratch)?;
    let mut said = Vec::new();
    let lines = lines_of_the_example()?;
    let (last, lines) = lines.split_last().context("an empty example")?;
    let (settings, commands): (Vec<&str>, Vec<&str>) = lines
        .iter()
        .copied()
        .partition(|line: &&str| line.starts_with('{'));
    for line in commands {
        if let Some(arguments) = line.strip_prefix("aufs2dm ") {
            said.push(convert(lab, &path, arguments)?);
        } else if !line.starts_with("systemctl ") && !line.is_empty() {
            lvm.run(&line.replace(DISK, &lvm.disk().display().to_string()))?;
        }
    }
    let [dry, real] = said.as_slice() else {
        panic!("the example converts once, after a dry run: {said:?}");
    };
    for notice in ["belongs to LVM", "lvchange --errorwhenfull y"] {
        ensure!(dry.contains(notice), "no {notice:?} in {dry}");
    }
    let setting = real
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with('{'));
    ensure!(setting.as_ref() == settings.first(), "printed {setting:?}");
    let setting: Value = serde_json::from_str(setting.context("no setting")?)?;
    let options = serde_json::from_value(setting["storage-opts"].clone())?;
    let root = Root::new(path, Storage::files(), options);

    with_dockerd(lab, &root, |daemon| {
        runs_and_builds(daemon, scratch)?;
        grows_under_docker(&lvm, daemon)
    })?;
    lvm_keeps_it(&lvm)?;
    renamed_it_is_told_with_the_way_back(lab, &lvm, root.path())?;
    with_dockerd(lab, &root, |daemon| {
        let printed =
            daemon.docker(&["run", "--rm", "--net=none", "lab/built", "cat", "/built"])?;
        ensure!(printed == "built\n", "printed {printed:?}");
        daemon
            .docker(&["start", "--attach", "never-started"])
            .map(drop)
    })?;
    ensure!(last.starts_with("lvremove "), "the last line is {last}");
    lvm.run(&last.replace("lvremove", "lvremove --yes"))?;
    lvm.close()
}

/// Runs the tool as the document does, but on a root of its own; returns all that it says.
fn convert(lab: &Lab, root: &Path, arguments: &str) -> Result<String> {
    let mut command = lab.command("sh");
    command
        .args(["-c", "\"$@\" 2>&1", "sh"])
        .arg(env!("CARGO_BIN_EXE_aufs2dm"))
        .args(arguments.split(' '))
        .arg("--root")
        .arg(root)
        .arg("--pidfile")
        .arg(root.with_file_name("docker.pid"));
    run(&mut command)
}

fn runs_and_builds(daemon: &Dockerd<'_>, scratch: &Path) -> Result<()> {
    daemon.docker(&[
        "run",
        "--rm",
        "--net=none",
        "lab/app:2",
        "/bin/sha256sum",
        "/bin/xt",
    ])?;
    let context = directory(scratch, "context")?;
    let steps = "FROM lab/app:2\nRUN echo built > /built\n";
    fs::write(context.join("Dockerfile"), steps)?;
    let path = context.to_string_lossy();
    let mut build = daemon.command(&["build", "--network=none", "-t", "lab/built", &path]);
    run(build.env("DOCKER_BUILDKIT", "0")).map(drop)
}

/// While a container runs, LVM extends both parts of the pool, and keeps its own volumes out.
fn grows_under_docker(lvm: &Lvm<'_>, daemon: &Dockerd<'_>) -> Result<()> {
    daemon.docker(&["start", "live"])?;
    let before = pool_sectors(lvm)?;
    lvm.run("lvextend -L +64M docker/thinpool")?;
    lvm.run("lvextend --poolmetadatasize +4M docker/thinpool")?;
    ensure!(pool_sectors(lvm)? == before + (64 << 11), "it did not grow");
    refuses(lvm, "lvcreate -V 1G -T docker/thinpool", "transaction id")?;
    refuses(
        lvm,
        "lvremove --yes docker/thinpool",
        "is used by another device",
    )?;
    lvm.run("lvchange --errorwhenfull y docker/thinpool")?;
    ensure!(
        status(lvm)?.contains("error_if_no_space"),
        "lvchange --errorwhenfull changed nothing"
    );
    let printed = daemon.docker(&["exec", "live", "cat", "/home/dev/hello"])?;
    ensure!(printed == "hi\n", "printed {printed:?}");
    daemon.docker(&["kill", "live"]).map(drop)
}

fn begun(lab: &Lab, root: &Path, words: &[&str]) -> Result<Output> {
    let mut command = lab.tool();
    command.args(words).arg("--root").arg(root);
    command
        .arg("--pidfile")
        .arg(root.with_file_name("docker.pid"));
    Ok(command.output()?)
}

/// Under another name the pool is known by its UUID.
fn renamed_it_is_told_with_the_way_back(lab: &Lab, lvm: &Lvm<'_>, root: &Path) -> Result<()> {
    const BACK: &str = "lvrename docker other thinpool";
    lvm.run("lvrename docker thinpool other")?;
    for words in [
        &["verify", "--full"][..],
        &["commit", "--yes"],
        &["rollback", "--force"],
    ] {
        let ended = begun(lab, root, words)?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.code() == Some(1) && said.contains(&format!("`{BACK}`")),
            "{words:?}: {ended:#?}"
        );
    }
    lvm.run(BACK)?;
    let ended = begun(lab, root, &["verify", "--full"])?;
    ensure!(ended.status.success(), "{ended:#?}");
    Ok(())
}

/// Without Docker the group is deactivated and activated again, which checks the pool's metadata.
fn lvm_keeps_it(lvm: &Lvm<'_>) -> Result<()> {
    let before = status(lvm)?;
    lvm.run("vgchange -an docker")?;
    ensure!(status(lvm).is_err(), "it is active still");
    let mut activate = lvm.command("sh");
    let told = run(activate.args(["-c", "vgchange -vvv -ay docker 2>&1"]))?;
    ensure!(told.contains("thin_check -q"), "no check: {told}");
    let after = status(lvm)?;
    ensure!(before == after, "was {before}, is {after}");
    refuses(lvm, "lvcreate -V 1G -T docker/thinpool", "transaction id")
}

fn refuses(lvm: &Lvm<'_>, line: &str, word: &str) -> Result<()> {
    let error = lvm
        .run(line)
        .err()
        .with_context(|| format!("{line}: done"))?;
    let text = error.to_string();
    ensure!(text.contains(word), "{text}");
    Ok(())
}

fn status(lvm: &Lvm<'_>) -> Result<String> {
    lvm.run(&format!("dmsetup status {POOL}"))
}

fn pool_table(lvm: &Lvm<'_>) -> Result<String> {
    lvm.run(&format!("dmsetup table {POOL}"))
}

fn pool_sectors(lvm: &Lvm<'_>) -> Result<u64> {
    let table = pool_table(lvm)?;
    let size = table.split(' ').nth(1).context("a table has a size")?;
    Ok(size.parse()?)
}

fn arguments(pool: &str) -> Vec<OsString> {
    ["--thin-pool", pool].map(OsString::from).to_vec()
}

/// By each of its names, with the pool in each state; LVM and its volume are as before.
pub(super) fn lvm_pool_with_volumes_of_its_own_is_refused(lab: &Lab, scratch: &Path) -> Result<()> {
    const PUBLIC: &str = "/dev/mapper/docker-thinpool";
    const HIDDEN: &str = "/dev/mapper/docker-thinpool-tpool";
    const REMEDY: &str = "create a pool that never had one";
    let subject = Subject::new(lab, scratch)?;
    let lvm = Lvm::with_group(lab, scratch)?;
    let refused = |names: &[&str], words: &[&str]| -> Result<()> {
        let before = subject.look()?;
        for name in names {
            subject.refuses(lab.tool(), &arguments(name), &[&[*name], words].concat())?;
            subject.is_unharmed(&before)?;
        }
        Ok(())
    };
    lvm.run("lvcreate --type thin-pool -L 1G -n thinpool docker")?;
    lvm.run("lvcreate -V 1G -T docker/thinpool -n volume")?;
    refused(&[PUBLIC, HIDDEN], &["LVM", REMEDY])?;
    lvm.run("vgchange -an docker")?;
    refused(&[PUBLIC, HIDDEN, "/dev/docker/thinpool"], &["vgchange -ay"])?;
    // Then the public name is not there.
    lvm.run("lvchange -ay docker/volume")?;
    refused(&[PUBLIC, HIDDEN], &["LVM", REMEDY])?;
    // LVM remembers the transactions of volumes that are gone, and goes on comparing.
    lvm.run("lvremove --yes docker/volume")?;
    lvm.run("vgchange -ay docker")?;
    refused(&[PUBLIC, HIDDEN], &["LVM", REMEDY])?;
    lvm.close()
}

/// Pools as LVM makes them when it is not told otherwise, by every name they have, and extended during the run.
pub(super) fn lvm_pool_with_default_options_is_converted_into_while_it_grows(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let lvm = Lvm::with_group(lab, scratch)?;
    for (options, name) in [
        ("", "/dev/docker/thinpool"),
        (" -c 512K", "node"),
        (" -c 192K", "no node"),
    ] {
        lvm.run(&format!(
            "lvcreate --type thin-pool -L 640M -n thinpool docker{options}"
        ))?;
        if name == "no node" {
            lvm.run("lvchange --errorwhenfull y docker/thinpool")?;
        }
        let path = match name {
            "node" => pool_node(&lvm)?,
            "no node" => {
                // As it is where neither udev nor libdevmapper makes nodes.
                fs::remove_file(Path::new("/dev/mapper").join(POOL))?;
                Path::new("/dev/mapper").join(POOL)
            }
            link => link.into(),
        };
        let before = pool_sectors(&lvm)?;
        let words = ["--thin-pool".into(), path.into_os_string()];
        let mut running = subject.start_with(lab.tool(), &words)?;
        extend(&lvm, &subject, &mut running)?;
        running
            .end()?
            .expect(0, &[])
            .with_context(|| options.to_owned())?;
        ensure!(
            pool_sectors(&lvm)? == before + (8 << 11),
            "the size is not LVM's"
        );
        subject.topmost_is_right(&Pool::given(POOL, subject.path())?)?;
        subject.renew(lab)?;
        lvm.run("lvremove --yes docker/thinpool")?;
    }
    lvm.close()
}

fn pool_node(lvm: &Lvm<'_>) -> Result<PathBuf> {
    let minor = lvm.run(&format!("dmsetup info -c --noheadings -o minor {POOL}"))?;
    Ok(PathBuf::from(format!("/dev/dm-{}", minor.trim())))
}

/// Extends the pool while the first layer is being filled.
fn extend(lvm: &Lvm<'_>, subject: &Subject, running: &mut Running) -> Result<()> {
    let stage = Stage::Device(subject.layer(1).to_owned());
    ensure!(running.reaches(&stage)?, "the run ended early");
    lvm.run("lvextend -L +8M docker/thinpool").map(drop)
}

/// Converted into, verified and given back, each while LVM extends the pool all the time and something suspends it.
pub(super) fn lvm_pool_that_is_extended_and_suspended_time_and_again_serves(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let lvm = Lvm::with_group(lab, scratch)?;
    lvm.run("lvcreate --type thin-pool -L 320M -n thinpool docker")?;
    let before = subject.look()?;
    for (command, arguments) in [
        ("convert", arguments("/dev/mapper/docker-thinpool")),
        ("verify", vec!["--full".into()]),
        ("rollback", Vec::new()),
    ] {
        lvm.run(&format!("dmsetup suspend --noudevsync {POOL}"))?;
        let at = (command, subject.path());
        let mut running = Running::start(lab.tool(), subject.scratch()?, at, &arguments)?;
        sleep(Duration::from_millis(500));
        ensure!(!running.has_ended()?, "{command} needs no pool");
        disturb(&lvm, &mut running).context(command)?;
        running.end()?.expect(0, &[]).context(command)?;
    }
    subject.is_unharmed(&before)?;
    lvm.close()
}

/// Extends the pool, its metadata in turn with its data, and suspends it until a run ends.
fn disturb(lvm: &Lvm<'_>, running: &mut Running) -> Result<()> {
    for size in ["-L +4M", "--poolmetadatasize +4M"].iter().cycle() {
        sleep(Duration::from_millis(300));
        let ended = running.has_ended()?;
        lvm.run(&format!("dmsetup resume --noudevsync {POOL}"))?;
        if ended {
            break;
        }
        lvm.run(&format!("lvextend {size} docker/thinpool"))?;
        lvm.run(&format!("dmsetup suspend --noudevsync {POOL}"))?;
    }
    Ok(())
}

/// However a run into it ends, the pool works, and has the size and the table that LVM gave it.
pub(super) fn lvm_pool_that_fills_up_while_it_is_extended_is_as_lvm_has_it(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let lvm = Lvm::with_group(lab, scratch)?;
    let words = arguments("/dev/mapper/docker-thinpool");
    let mut full = 0;
    for round in 0..FILLED {
        lvm.run("lvcreate --type thin-pool -L 128M -n thinpool docker")?;
        let first = pool_table(&lvm)?;
        let mut running = subject.start_with(lab.tool(), &words)?;
        let mut extensions = 0;
        while !running.has_ended()? {
            lvm.run("lvextend -L +4M docker/thinpool")?;
            extensions += 1;
        }
        let ended = running.end()?;
        let context = || format!("round {round}: {}", ended.stderr);
        if ended.code == Some(1) {
            ended.expect(1, &[POOL, "full"])?;
            full += 1;
        } else {
            ended.expect(0, &[])?;
        }
        let suspended = lvm.run(&format!("dmsetup info -c --noheadings -o suspended {POOL}"))?;
        ensure!(suspended.trim() == "Active", "{suspended}, {}", context());
        let size = |megabytes: u32| format!("0 {} ", megabytes << 11);
        let expected = first.replace(&size(128), &size(128 + 4 * extensions));
        let table = pool_table(&lvm)?;
        ensure!(table == expected, "{table}, not {expected}; {}", context());
        subject.renew(lab)?;
        lvm.run("lvremove --yes docker/thinpool")?;
    }
    ensure!(full > 0, "the pool never got full");
    lvm.close()
}

/// With udev, which makes the links anew after each change of a device: a run whose pool gets full changes its table twice.
pub(super) fn lvm_pool_keeps_its_links_when_its_table_is_changed(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let udevd = Udevd::start(lab, scratch)?;
    let lvm = Lvm::with_group(lab, scratch)?;
    lvm.run("lvcreate --type thin-pool -L 128M -n thinpool docker")?;
    for link in ["/dev/docker/thinpool", "/dev/mapper/docker-thinpool"] {
        let has_link = || -> Result<()> {
            run(lab.command("udevadm").args(["settle", "--timeout=120"]))?;
            let meta = fs::symlink_metadata(link).with_context(|| link.to_owned())?;
            ensure!(meta.is_symlink(), "{link} is no link");
            Ok(())
        };
        has_link()?;
        let ended = subject.start_with(lab.tool(), &arguments(link))?.end()?;
        ended.expect(1, &[POOL, "full"])?;
        has_link().context("after the run")?;
    }
    lvm.close()?;
    udevd.close(lab)
}

/// The run ends, and the pool has the size that LVM gave it and goes on queueing.
pub(super) fn lvm_pool_that_is_extended_and_gets_full_again_is_given_back(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let subject = Subject::new(lab, scratch)?;
    let lvm = Lvm::with_group(lab, scratch)?;
    lvm.run("lvcreate --type thin-pool -L 320M -n thinpool docker")?;
    let words = arguments("/dev/mapper/docker-thinpool");
    let before = subject.look()?;
    let first_table = pool_table(&lvm)?;
    let mut running = subject.start_with(lab.tool(), &words)?;
    let stage = Stage::Device(subject.layer(1).to_owned());
    ensure!(running.reaches(&stage)?, "{:?}", running.end());
    running.signal(Signal::SIGSTOP)?; // so that it writes when the pool is full
    let filler = Filler::start(lab, &lvm)?;
    wait_until_full(&lvm)?;
    // What dmeventd runs to extend a pool.
    lvm.run("lvextend --use-policies --config activation/thin_pool_autoextend_threshold=80 docker/thinpool")?;
    let table = pool_table(&lvm)?;
    ensure!(table != first_table, "the policy extended nothing: {table}");
    wait_until_full(&lvm)?;
    running.signal(Signal::SIGCONT)?;
    let ended = running.end();
    filler.close(lab)?;
    ended?.expect(1, &[POOL, "full"])?;
    let now = pool_table(&lvm)?;
    ensure!(now == table, "the table was {table}, is {now}");
    subject.is_unharmed(&before)?;
    lvm.run("lvextend -L +320M docker/thinpool")?;
    subject
        .start_with(lab.tool(), &words)?
        .end()?
        .expect(0, &[])?;
    lvm.close()
}

fn wait_until_full(lvm: &Lvm<'_>) -> Result<()> {
    let began = Instant::now();
    while !status(lvm)?.contains("out_of_data_space") {
        ensure!(began.elapsed() < PATIENCE, "the pool does not get full");
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A thin device of somebody else, and a program that writes to it until the pool is full.
struct Filler {
    writer: Child,
    device: Active,
}

/// Its number in the pool: one that no run gives.
const FOREIGN: u32 = 16_000_000;

impl Filler {
    fn start(lab: &Lab, lvm: &Lvm<'_>) -> Result<Self> {
        message(lab, &format!("create_thin {FOREIGN}"))?;
        let table = format!("{} {FOREIGN}", pool_node(lvm)?.display());
        let device = Active::create("lab-foreign", 1 << 21, ("thin", &table))?;
        let writer = lab
            .command("dd")
            .args(["if=/dev/zero", "bs=64K", "oflag=direct"])
            .arg(format!("of={}", device.path().display()))
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { writer, device })
    }

    fn close(mut self, lab: &Lab) -> Result<()> {
        self.writer.kill()?;
        self.writer.wait()?;
        self.device.close()?;
        message(lab, &format!("delete {FOREIGN}"))
    }
}

fn message(lab: &Lab, text: &str) -> Result<()> {
    run(lab.command("dmsetup").args(["message", POOL, "0", text])).map(drop)
}
