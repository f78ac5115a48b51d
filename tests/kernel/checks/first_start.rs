//! What is foreseen of the first start against what Docker does.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use aufs2dm::daemon::Host;
use aufs2dm::daemon::first_start::{Outlook, look_ahead};
use aufs2dm::devicemapper::driver_files as devicemapper;
use aufs2dm::devicemapper::{
    FileSystemIdentity, Home, Pool as PoolFacts, Severity, Target, start_checks,
};
use aufs2dm::docker::{Orphans, Root as AufsRoot, Survey};
use aufs2dm::units::Bytes;

use crate::{
    dockerd::try_dockerd,
    lab::{Lab, run},
    pool::Pool,
    roots::{self, Root},
    storage::Storage,
    variant::DIRECT,
};

/// What the pool of a root tells before anything is damaged.
struct BeforeDamage {
    transaction_id: u64,
    devices: BTreeSet<u32>,
    base: FileSystemIdentity,
}

impl BeforeDamage {
    fn of(lab: &Lab, root: &Root) -> Result<Self> {
        let pool = Pool::activate(root)?;
        let base = pool.thin("base")?;
        let tag = |tag: &str| -> Result<String> {
            let mut blkid = lab.command("blkid");
            blkid
                .args(["-p", "-s", tag, "-o", "value"])
                .arg(base.path());
            Ok(run(&mut blkid)?.trim().to_owned())
        };
        let base_identity = FileSystemIdentity {
            uuid: tag("UUID")?,
            kind: tag("TYPE")?,
        };
        base.close()?;
        let status = pool.status()?;
        let first = status.split(' ').next().context("an empty status")?;
        let facts = Self {
            transaction_id: first.parse()?,
            devices: pool
                .devices()
                .values()
                .map(|device| device.device_id)
                .collect(),
            base: base_identity,
        };
        pool.close()?;
        Ok(facts)
    }

    /// The refusals that are foreseen.
    fn refusals(&self, root: &Path) -> Vec<String> {
        let home = Home {
            driver: root.join("devicemapper"),
            image: root.join("image/devicemapper"),
            root: Some(root.to_owned()),
        };
        let file_system_of = |_| Ok::<_, io::Error>(self.base.clone());
        let pool = PoolFacts {
            transaction_id: self.transaction_id,
            devices: &self.devices,
            files: None,
            is_given: false,
            file_system_of: &file_system_of,
        };
        let faults = start_checks(&home, &pool);
        let refusals = faults
            .iter()
            .filter(|fault| fault.severity() == Severity::Refusal);
        refusals.map(ToString::to_string).collect()
    }
}

/// A converted root that is whole, or damaged in a way that the daemon's driver notices, or told an option that it does not
/// know: the daemon starts where nothing was foreseen, and refuses where a refusal was.
pub(super) fn docker_starts_and_refuses_as_foreseen(lab: &Lab, scratch: &Path) -> Result<()> {
    let root = roots::converted(lab, scratch, DIRECT)?;
    let facts = BeforeDamage::of(lab, &root)?;
    let file = |name: &str| root.path().join("devicemapper/metadata").join(name);
    let layer = a_layer(&root)?;
    let device_set = fs::read_to_string(file("deviceset-metadata"))?;
    let wrong_uuid = device_set.replace(&facts.base.uuid, "00000000-0000-0000-0000-000000000000");
    let device = fs::read_to_string(file(&layer))?;
    let large_id = device.replacen("\"device_id\":", "\"device_id\":9999999", 1);
    for (name, text, log) in [
        (
            "README".to_owned(),
            "a note\n",
            "Error looking up device README",
        ),
        (
            layer.clone(),
            &device[..device.len() / 2],
            "Error looking up device",
        ),
        (layer.clone(), &large_id, "Error looking up device"),
        (
            "deviceset-metadata".to_owned(),
            &wrong_uuid,
            "does not match with stored UUID",
        ),
        (
            "deviceset-metadata".to_owned(),
            "{",
            "unexpected end of JSON input",
        ),
    ] {
        let before = fs::read(file(&name)).ok();
        fs::write(file(&name), text)?;
        refuses(lab, (&root, &facts), log).with_context(|| format!("{name}: {text}"))?;
        match before {
            Some(before) => fs::write(file(&name), before)?,
            None => fs::remove_file(file(&name))?,
        }
    }
    foreign_option(lab, scratch, root.path())?;
    // A directory with a name that is a device's, a dot-file, and no base: a new one is made.
    fs::create_dir(file("sub"))?;
    fs::copy(file(&layer), file("sub").join(&layer))?;
    fs::write(file(".note"), "x")?;
    fs::remove_file(file("base"))?;
    starts(lab, (&root, &facts))
}

/// The name of some layer's file.
fn a_layer(root: &Root) -> Result<String> {
    let names = crate::pool::read_devices(root.path())?;
    names
        .into_keys()
        .find(|name| name != "base")
        .context("no layer")
}

fn refuses(lab: &Lab, (root, facts): (&Root, &BeforeDamage), log: &str) -> Result<()> {
    let foreseen = facts.refusals(root.path());
    ensure!(!foreseen.is_empty(), "no refusal was foreseen");
    let told = try_dockerd(lab, root)?
        .err()
        .with_context(|| format!("Docker starts, against {foreseen:?}"))?;
    ensure!(
        told.contains(log),
        "{log:?} is not in the daemon's log:\n{told}"
    );
    Ok(())
}

fn starts(lab: &Lab, (root, facts): (&Root, &BeforeDamage)) -> Result<()> {
    let foreseen = facts.refusals(root.path());
    ensure!(foreseen.is_empty(), "foreseen: {foreseen:?}");
    let started = try_dockerd(lab, root)?;
    ensure!(
        started.is_ok(),
        "Docker does not start:\n{}",
        started.err().unwrap_or_default()
    );
    Ok(())
}

/// An option of another driver, told by a unit's flag as the daemon is told by its command line.
fn foreign_option(lab: &Lab, scratch: &Path, root: &Path) -> Result<()> {
    for (option, refused) in [
        ("overlay2.override_kernel_check=true", true),
        ("dm.basesize=1G", true),
        ("dm.fs=xfs", false),
    ] {
        let host = scratch.join("host");
        let unit = format!(
            "[Service]\nExecStart=/usr/bin/dockerd -s devicemapper --storage-opt {option} --storage-opt dm.override_udev_sync_check=true\n"
        );
        fs::create_dir_all(host.join("etc/systemd/system"))?;
        fs::write(host.join("etc/systemd/system/docker.service"), unit)?;
        let outlook = outlook(root, &host)?;
        ensure!(outlook.is_refusal() == refused, "{option}: {outlook:#?}");
        let told = Root::new(root.to_owned(), Storage::files(), vec![option.to_owned()]);
        let started = try_dockerd(lab, &told)?;
        ensure!(started.is_err() == refused, "{option}: {started:?}");
    }
    Ok(())
}

fn outlook(root: &Path, host: &Path) -> Result<Outlook> {
    let root = AufsRoot::open(root)?;
    let model = Survey::read(&root).into_model(Orphans::Convert)?;
    let target = Target {
        storage_opts: Vec::new(),
        base_size: Bytes::gib(10),
        data_block: devicemapper::DEFAULT_BLOCK_SIZE,
        file_system: devicemapper::FileSystem::Ext4,
        files: None,
        space: None,
    };
    let host = Host {
        root: PathBuf::from(host),
        ..Host::default()
    };
    Ok(look_ahead(&host, &root, &model, &target, None))
}
