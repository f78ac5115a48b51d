//! What a killed run made outside its root is taken back by its record, unless it is somebody else's by now.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aufs2dm::crc64::crc64;
use aufs2dm::devicemapper::driver_files::FileSystem;
use aufs2dm::engine::kernel::claim::{self, Claim};
use aufs2dm::engine::kernel::{Previous, Record, RequestedTarget, base};
use aufs2dm::pool::{Target, What};
use aufs2dm::units::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::kernel_pool::{Home, Operator, THIN, id, mkfs};
use crate::{
    block::Active,
    lab::{Lab, run},
    roots,
    runner::directory,
};

const NAME: &str = "aufs2dm-test-operator";
/// The rest of its table, as Docker would make it.
const TABLE: &str = "128 0 1 skip_block_zeroing";

/// Makes the staging directory one in which a conversion to this pool was begun: as the tool writes it, but for where to.
fn begin_journal(lab: &Lab, scratch: &Path, stage: &Path, pool: &Claim) -> Result<()> {
    let root = directory(scratch, "another")?.join("docker");
    lab.copy(&roots::aufs(lab)?, &root)?;
    let mut tool = lab.tool();
    tool.args(["convert", "--no-verify", "--root"]).arg(&root);
    run(tool.arg("--pidfile").arg(scratch.join("another.pid")))?;
    let journal = fs::read_to_string(root.join(".aufs2dm/journal"))?;
    let first = journal.lines().next().context("an empty journal")?;
    let mut line: Value = serde_json::from_str(first)?;
    let ordered = order_of(pool);
    let Target::ThinPool { path } = &ordered.target else {
        anyhow::bail!("{pool:?}");
    };
    line["order"]["writer"] =
        json!({"kernel": {"target": {"thin-pool": {"path": path}}, "file_system": "ext4"}});
    line["order"]["devices"] = ordered.devices.into();
    let object = line.as_object_mut().context("an object")?;
    object.remove("crc64");
    let line = line.to_string();
    let inside = line.strip_suffix('}').context("an object")?;
    let sum = crc64(line.as_bytes());
    let journal = stage.join("journal");
    fs::write(&journal, format!("{inside},\"crc64\":\"{sum:016x}\"}}\n"))?;
    fs::set_permissions(&journal, Permissions::from_mode(0o600))?;
    fs::set_permissions(stage, Permissions::from_mode(0o700))?;
    Ok(())
}

/// The order that a record fits.
pub(super) fn order_of(claim: &Claim) -> RequestedTarget {
    match claim {
        Claim::ThinPool(pool) => RequestedTarget {
            target: Target::ThinPool {
                path: Path::new("/dev/mapper").join(&pool.name),
            },
            transaction_before: pool.transaction_id,
            devices: Some(pool.last_thin_id),
        },
        Claim::Devices(devices) => RequestedTarget {
            target: Target::Devices {
                data: devices.data.path.clone(),
                metadata: devices.metadata.path.clone(),
            },
            transaction_before: 0,
            devices: Some(devices.last_thin_id),
        },
    }
}

/// What the record in a staging directory leads to.
fn find(
    claim: &Claim,
    home: &Home,
    stage: &Path,
) -> Result<Previous, aufs2dm::engine::kernel::Error> {
    let ordered = Some(&order_of(claim));
    Previous::find(&home.root, Some(Record { stage, ordered }))
}

/// As a run leaves it that was killed.
fn write(claim: &Claim, home: &Home) -> Result<PathBuf> {
    let stage = home.root.join(".aufs2dm");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let stage = directory(&home.root, ".aufs2dm")?;
    claim.write(&stage)?;
    Ok(stage)
}

/// It goes, and the record with it.
fn expect_taken_back(claim: &Claim, home: &Home) -> Result<()> {
    let stage = write(claim, home)?;
    let left = find(claim, home, &stage)?;
    ensure!(left.describe() == [claim.describe()], "{left:?}");
    left.remove()?;
    ensure!(Claim::read(&stage)?.is_none(), "the record stayed");
    Ok(())
}

/// It stays, and so does the record.
fn expect_refusal(claim: &Claim, home: &Home, words: &str) -> Result<()> {
    let stage = write(claim, home)?;
    let refused = find(claim, home, &stage)?.remove();
    let error = refused
        .err()
        .with_context(|| format!("taken back, not: {words}"))?;
    let text = format!("{:#}", anyhow::Error::from(error));
    ensure!(text.contains(words), "{text:?} has not: {words}");
    ensure!(text.contains("claim.json"), "{text:?} names no way out");
    ensure!(
        Claim::read(&stage)?.as_ref() == Some(claim),
        "the record went"
    );
    Ok(())
}

fn message(lab: &Lab, words: &str) -> Result<()> {
    let mut dmsetup = lab.command("dmsetup");
    run(dmsetup.args(["message", NAME, "0", words])).map(drop)
}

fn pool_claim(last_thin_id: u32, base: Option<Uuid>) -> Result<claim::ThinPool> {
    Ok(claim::ThinPool {
        name: NAME.to_owned(),
        uuid: None,
        transaction_id: 0,
        first_thin_id: 1,
        last_thin_id,
        boot_id: claim::boot_id()?,
        base_uuid: base.map(|uuid| uuid.to_string()),
    })
}

fn claim_of(last_thin_id: u32, base: Option<Uuid>) -> Result<Claim> {
    Ok(Claim::ThinPool(pool_claim(last_thin_id, base)?))
}

/// Makes a base device with a file system, and two snapshots; the file system's UUID.
fn fill(lab: &Lab, operator: &Operator) -> Result<Uuid> {
    message(lab, "create_thin 1")?;
    let table = format!("{} 1", operator.pool.path().display());
    let device = Active::create("aufs2dm-test-base", THIN.0 / 512, ("thin", &table))?;
    mkfs(lab, &device.path())?;
    let uuid = base::uuid(&device.path(), FileSystem::Ext4)?.context("no file system")?;
    device.close()?;
    message(lab, "create_snap 2 1")?;
    message(lab, "create_snap 3 2")?;
    Ok(uuid)
}

/// Unfinished and finished; not from another pool of that name, nor what was added or is in use.
pub(super) fn kernel_claim_takes_back_from_a_pool_what_fits_it_and_nothing_else(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(64), Bytes::mib(4))?;
    let operator = Operator::new(&home, NAME, TABLE)?;
    let target = Target::ThinPool {
        path: Path::new("/dev/mapper").join(NAME),
    };
    expect_taken_back(&claim_of(3, None)?, &home)?;
    let base = fill(lab, &operator)?;
    let mut another = pool_claim(3, Some(base))?;
    another.uuid = Some("LVM-x".to_owned());
    expect_refusal(
        &Claim::ThinPool(another),
        &home,
        "a different pool with the same name",
    )?;
    expect_refusal(&claim_of(2, Some(base))?, &home, "contains thin device 3")?;
    expect_refusal(&claim_of(3, None)?, &home, "made at most one")?;
    let theirs = Some(Uuid::from_u128(7));
    expect_refusal(&claim_of(3, theirs)?, &home, "another pool is there now")?;
    expect_taken_back(&claim_of(9, Some(base))?, &home)?;
    target.check().context("an unfinished run")?;

    // One device, and nothing says whose it is but that it was made since the system was booted.
    message(lab, "create_thin 1")?;
    let mut before_the_boot = pool_claim(3, None)?;
    "another".clone_into(&mut before_the_boot.boot_id);
    let words = "the system has been rebooted since";
    expect_refusal(&Claim::ThinPool(before_the_boot), &home, words)?;
    expect_taken_back(&claim_of(3, None)?, &home)?;

    let base = fill(lab, &operator)?;
    message(lab, "set_transaction_id 0 3")?;
    expect_refusal(&claim_of(4, Some(base))?, &home, "its transaction id is 3")?;
    // Somebody works with a device of it.
    let node = operator.pool.path();
    let table = format!("0 2048 thin {} 2", node.display());
    let create = [
        "create",
        "aufs2dm-test-theirs",
        "--noudevsync",
        "--table",
        &table,
    ];
    run(lab.command("dmsetup").args(create))?;
    expect_refusal(&claim_of(3, Some(base))?, &home, "is in use")?;
    run(lab
        .command("dmsetup")
        .args(["remove", "--noudevsync", "aufs2dm-test-theirs"]))?;
    expect_taken_back(&claim_of(3, Some(base))?, &home)?;
    let facts = target.check().context("a finished run")?;
    ensure!(facts.transaction_id == 0, "{facts:?}");

    // Devices that were made one by one, each in a transaction of its own.
    message(lab, "create_thin 1")?;
    message(lab, "set_transaction_id 0 1")?;
    message(lab, "create_snap 2 1")?;
    message(lab, "set_transaction_id 1 2")?;
    let words = "something else made thin device 2";
    expect_refusal(&claim_of(2, Some(base))?, &home, words)?;

    operator.close()?;
    expect_refusal(&claim_of(3, None)?, &home, "does not exist")
}

/// Wiped when nobody uses them and they are the run's.
pub(super) fn kernel_claim_wipes_its_own_devices_and_no_others(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let mut home = Home::new(scratch, Bytes::mib(64), Bytes::mib(4))?;
    // Those of a root are never an operator's.
    for file in [&mut home.data, &mut home.metadata] {
        let name = file.file_name().context("a file")?;
        let elsewhere = scratch.join(name);
        fs::rename(&*file, &elsewhere)?;
        *file = elsewhere;
    }
    let claim = |last_thin_id, base: Option<Uuid>| -> Result<Claim> {
        Ok(Claim::Devices(claim::Devices {
            data: claim::Device::look_at(&home.data)?,
            metadata: claim::Device::look_at(&home.metadata)?,
            last_thin_id,
            boot_id: claim::boot_id()?,
            base_uuid: base.map(|uuid| uuid.to_string()),
        }))
    };
    expect_taken_back(&claim(2, None)?, &home)?;

    let pool = home.pool()?;
    pool.create_thin(id(1))?;
    let device = pool.activate(id(1), THIN, What::Base)?;
    mkfs(lab, device.path())?;
    let base = base::uuid(device.path(), FileSystem::Ext4)?.context("no file system")?;
    device.flush()?;
    device.close()?;
    for number in 2..4 {
        pool.create_snap(id(number), id(1))?;
    }
    pool.close()?;
    expect_refusal(&claim(2, Some(base))?, &home, "contains thin device 3")?;
    expect_refusal(&claim(3, None)?, &home, "made at most one")?;
    let theirs = Some(Uuid::from_u128(7));
    expect_refusal(&claim(3, theirs)?, &home, "another pool is there now")?;
    let operator = Operator::new(&home, NAME, TABLE)?;
    expect_refusal(&claim(3, Some(base))?, &home, "is in use")?;
    let status = run(lab.command("dmsetup").args(["status", NAME]))?;
    ensure!(status.contains("thin-pool 0 "), "{status}");
    operator.close()?;
    expect_taken_back(&claim(3, Some(base))?, &home)?;
    home.expect_blank_metadata()
}

/// A dry run names it and changes nothing; a run that cannot take it back ends and keeps it; a run into loop files takes it
/// back and converts.
pub(super) fn kernel_claim_is_dealt_with_by_whatever_run_comes_next(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(16), Bytes::mib(4))?;
    let operator = Operator::new(&home, NAME, TABLE)?;
    let root = directory(scratch, "aufs")?.join("docker");
    lab.copy(&roots::aufs(lab)?, &root)?;
    let stage = directory(&root, ".aufs2dm")?;
    let claim = claim_of(2, None)?;
    begin_journal(lab, scratch, &stage, &claim)?;
    claim.write(&stage)?;
    message(lab, "create_thin 1")?;
    message(lab, "create_thin 7")?;
    let pool = format!("/dev/mapper/{NAME}");
    let convert = |more: &[&str]| {
        let mut tool = lab.tool();
        tool.args(["convert", "--root"]).arg(&root);
        tool.arg("--pidfile").arg(scratch.join("docker.pid"));
        tool.args(more).output()
    };
    let tells = |more: &[&str], code, words: &[&str]| -> Result<()> {
        let output = convert(more)?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(code), "{more:?}: {told}");
        for words in words {
            ensure!(told.contains(words), "{more:?}: {told:?} has not: {words}");
        }
        Ok(())
    };
    let named =
        "thin devices 1 to 2 in the pool aufs2dm-test-operator: left behind by an interrupted run";
    tells(&["--dry-run"], 0, &[named, "would be removed"])?;
    let same_pool = ["--dry-run", "--thin-pool", pool.as_str()];
    tells(&same_pool, 1, &[named, "already contains thin devices (2"])?;
    for engine in ["direct", "kernel"] {
        let words = ["contains thin device 7", "remove ", "/.aufs2dm/claim.json"];
        tells(&["--engine", engine], 1, &words)?;
        ensure!(Claim::read(&stage)?.as_ref() == Some(&claim), "{engine}");
    }
    message(lab, "delete 7")?;
    tells(&["--engine", "direct"], 0, &[named, "is removed"])?;
    ensure!(Claim::read(&stage)?.is_none(), "the record stayed");
    Target::ThinPool { path: pool.into() }.check()?;
    operator.close()
}
