//! What a killed run made outside its root is taken back by its record, unless it is somebody else's by now.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aufs2dm::{
    crc64::crc64,
    engine::kernel::{
        Previous, Target,
        claim::{self, Claim},
    },
    units::Bytes,
};

use super::kernel_pool::{Home, Operator, id};
use crate::{
    lab::{Lab, run},
    roots,
    runner::directory,
};

const NAME: &str = "aufs2dm-test-operator";
/// The rest of its table, as Docker would make it.
const TABLE: &str = "128 0 1 skip_block_zeroing";

/// Makes the staging directory one in which a conversion was begun.
fn begin_journal(stage: &Path) -> Result<()> {
    let line = r#"{"record":"begun","version":1,"tool":"x","at":1,"root":{"path":"","accessed":[1,0],"modified":[1,0]},"order":null}"#;
    let inside = line.strip_suffix('}').context("an object")?;
    let sum = crc64(line.as_bytes());
    let journal = stage.join("journal");
    fs::write(&journal, format!("{inside},\"crc64\":\"{sum:016x}\"}}\n"))?;
    fs::set_permissions(&journal, Permissions::from_mode(0o600))?;
    fs::set_permissions(stage, Permissions::from_mode(0o700))?;
    Ok(())
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
    let left = Previous::find(&home.root, Some(&stage))?;
    ensure!(left.describe() == [claim.describe()], "{left:?}");
    left.remove()?;
    ensure!(Claim::read(&stage)?.is_none(), "the record stayed");
    Ok(())
}

/// It stays, and so does the record.
fn expect_refusal(claim: &Claim, home: &Home, words: &str) -> Result<()> {
    let stage = write(claim, home)?;
    let refused = Previous::find(&home.root, Some(&stage))?.remove();
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

fn claim_of(uuid: Option<&str>, last_thin_id: u32) -> Claim {
    Claim::ThinPool(claim::ThinPool {
        name: NAME.to_owned(),
        uuid: uuid.map(str::to_owned),
        transaction_id: 0,
        first_thin_id: 1,
        last_thin_id,
        base_uuid: None,
    })
}

/// Unfinished and finished; not from another pool of that name, nor what was added or is in use.
pub(super) fn kernel_claim_takes_back_from_a_pool_what_fits_it_and_nothing_else(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(16), Bytes::mib(4))?;
    let operator = Operator::new(&home, NAME, TABLE)?;
    let target = Target::ThinPool {
        path: Path::new("/dev/mapper").join(NAME),
    };
    let fill = || {
        ["create_thin 1", "create_snap 2 1", "create_snap 3 2"]
            .iter()
            .try_for_each(|words| message(lab, words))
    };
    expect_taken_back(&claim_of(None, 3), &home)?;
    fill()?;
    expect_refusal(&claim_of(Some("LVM-x"), 3), &home, "another pool")?;
    expect_refusal(&claim_of(None, 2), &home, "holds the thin device 3")?;
    expect_taken_back(&claim_of(None, 9), &home)?;
    target.check().context("an unfinished run")?;

    fill()?;
    message(lab, "set_transaction_id 0 3")?;
    expect_refusal(&claim_of(None, 4), &home, "its transaction id is 3")?;
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
    expect_refusal(&claim_of(None, 3), &home, "is in use")?;
    run(lab
        .command("dmsetup")
        .args(["remove", "--noudevsync", "aufs2dm-test-theirs"]))?;
    expect_taken_back(&claim_of(None, 3), &home)?;
    let facts = target.check().context("a finished run")?;
    ensure!(facts.transaction_id == 0, "{facts:?}");

    operator.close()?;
    expect_refusal(&claim_of(None, 3), &home, "does not exist")
}

/// Wiped when nobody uses them and it is the same boot.
pub(super) fn kernel_claim_wipes_its_own_devices_and_no_others(
    lab: &Lab,
    scratch: &Path,
) -> Result<()> {
    let home = Home::new(scratch, Bytes::mib(16), Bytes::mib(4))?;
    let devices = claim::Devices {
        data: claim::Device::look_at(&home.data)?,
        metadata: claim::Device::look_at(&home.metadata)?,
        last_thin_id: 2,
        boot_id: claim::boot_id()?,
        base_uuid: None,
    };
    let ours = Claim::Devices(devices.clone());
    expect_taken_back(&ours, &home)?;

    let pool = home.pool()?;
    for number in 1..4 {
        pool.create_thin(id(number))?;
    }
    pool.close()?;
    expect_refusal(&ours, &home, "holds the thin device 3")?;
    let three = |boot_id: &str| {
        Claim::Devices(claim::Devices {
            last_thin_id: 3,
            boot_id: boot_id.to_owned(),
            ..devices.clone()
        })
    };
    expect_refusal(&three("another"), &home, "the system was booted since")?;
    let operator = Operator::new(&home, NAME, TABLE)?;
    expect_refusal(&three(&devices.boot_id), &home, "is in use")?;
    let status = run(lab.command("dmsetup").args(["status", NAME]))?;
    ensure!(status.contains("thin-pool 0 "), "{status}");
    operator.close()?;
    expect_taken_back(&three(&devices.boot_id), &home)?;
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
    begin_journal(&stage)?;
    let claim = claim_of(None, 2);
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
    let named = "thin devices 1 to 2 in the pool aufs2dm-test-operator: left by a run";
    tells(&["--dry-run"], 0, &[named, "would be taken down"])?;
    let same_pool = ["--dry-run", "--thin-pool", pool.as_str()];
    tells(&same_pool, 1, &[named, "holds thin devices already (2"])?;
    for engine in ["direct", "kernel"] {
        let words = ["holds the thin device 7", "remove ", "/.aufs2dm/claim.json"];
        tells(&["--engine", engine], 1, &words)?;
        ensure!(Claim::read(&stage)?.as_ref() == Some(&claim), "{engine}");
    }
    message(lab, "delete 7")?;
    tells(&["--engine", "direct"], 0, &[named, "is taken down"])?;
    ensure!(Claim::read(&stage)?.is_none(), "the record stayed");
    Target::ThinPool { path: pool.into() }.check()?;
    operator.close()
}
