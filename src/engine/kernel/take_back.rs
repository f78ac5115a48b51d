//! Undoes what a run made outside its staging directory, complete or not, and what Docker has made of it since, and
//! nothing else: what does not look as those two must have left it belongs to somebody else by now.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::claim::{self, Claim, Identity};
use super::driver_files::DriverFiles;
use super::error::Error;
use super::same_pool;
use crate::pool::devices::{self, Candidate};
use crate::pool::target::{self, Contents};
use crate::pool::{ActivePool, Names, Pool};
use crate::shell::word;
use crate::sys::block;
use crate::thin;

/// Removes what the record names, then the record: from then on, anything there is not ours.
///
/// # Errors
///
/// [`Error::NotTakenBack`]; the record stays.
pub(super) fn take_back(claim: &Claim, root: &Path, stage: &Path) -> Result<(), Error> {
    let dockers = DriverFiles::read(root, stage);
    let taken = match claim {
        Claim::ThinPool(pool) => empty_pool(claim, pool, &dockers, root),
        Claim::Devices(devices) => wipe(claim, devices, &dockers),
    };
    taken.map_err(not_taken_back(claim, stage))?;
    log::info!("{}: removed", claim.describe());
    Ok(Claim::remove(stage)?)
}

/// Checks whether undoing is possible; changes nothing.
///
/// # Errors
///
/// [`Error::NotTakenBack`].
pub(super) fn expect_ours(claim: &Claim, root: &Path, stage: &Path) -> Result<(), Error> {
    let dockers = DriverFiles::read(root, stage);
    let looked = match claim {
        Claim::ThinPool(pool) => expect_our_pool(claim, pool, &dockers).map(drop),
        Claim::Devices(devices) => expect_our_devices(claim, devices, &dockers).map(drop),
    };
    looked.map_err(not_taken_back(claim, stage))
}

pub(super) fn not_taken_back(claim: &Claim, stage: &Path) -> impl FnOnce(Error) -> Error {
    move |source| Error::NotTakenBack {
        what: claim.describe(),
        record: stage.join(claim::FILE),
        source: Box::new(source),
    }
}

pub(super) fn not_ours(path: &Path, why: impl Into<String>) -> Error {
    Error::NotOurs {
        what: path.to_owned(),
        why: why.into(),
    }
}

pub(super) fn path_of(claim: &claim::ThinPool) -> PathBuf {
    Path::new("/dev/mapper").join(&claim.name)
}

fn expect_our_pool(
    claim: &Claim,
    pool: &claim::ThinPool,
    dockers: &DriverFiles,
) -> Result<Contents, Error> {
    let path = path_of(pool);
    let held = target::contents(&path)?;
    if held.uuid != pool.uuid {
        return Err(not_ours(&path, "it is a different pool with the same name"));
    }
    let made = PlannedIds {
        transaction_id: pool.transaction_id,
        first: pool.first_thin_id,
        last: pool.last_thin_id,
    };
    made.expect(&held, dockers)
        .map_err(|why| not_ours(&path, why))?;
    // In that case nothing is deleted.
    if held.ids.is_empty() {
        return Ok(held);
    }
    let doubt = match claim.base_uuid() {
        Some(uuid) => {
            let active = ActivePool::find(&path)?;
            same_pool::doubt((&active.data, &active.metadata), uuid)?
        }
        None => doubt_without_base(claim, &held, &|| {
            format!("dmsetup message {} 0 'delete {}'", word(&path), made.first)
        })?,
    };
    match doubt {
        None => Ok(held),
        Some(why) => Err(not_ours(&path, why)),
    }
}

/// Why the pool may not be ours if the record has no base device. Until its base device is durable, a run makes no
/// other device, and nothing on the disk distinguishes its pool from another one. The only proof is that the run
/// started during this boot.
fn doubt_without_base(
    claim: &Claim,
    held: &Contents,
    by_hand: &dyn Fn() -> String,
) -> Result<Option<String>, Error> {
    if held.ids.len() > 1 {
        return Ok(Some(format!(
            "it contains {} thin devices, but a run whose record has no base device made at most one",
            held.ids.len()
        )));
    }
    let same_boot = claim.is_of_this_boot();
    if same_boot.map_err(Error::io(Path::new("/proc"), "read the boot id"))? {
        return Ok(None);
    }
    Ok(Some(format!(
        "the system has been rebooted since, so it is not known whether the run made this pool; if it did, undo it \
         with: {}",
        by_hand()
    )))
}

fn empty_pool(
    claim: &Claim,
    pool: &claim::ThinPool,
    dockers: &DriverFiles,
    root: &Path,
) -> Result<(), Error> {
    let held = expect_our_pool(claim, pool, dockers)?;
    // No device is made, so the names do not matter.
    let adopted = Pool::adopt(Names::new(root, root)?, &path_of(pool))?;
    Ok(adopted.empty(&held.ids, (held.transaction_id, pool.transaction_id))?)
}

/// Overwrites the start of the metadata device with zeros: then there is no pool on it.
fn wipe(claim: &Claim, devices: &claim::Devices, dockers: &DriverFiles) -> Result<(), Error> {
    // Held until the device is wiped.
    let Some((_unused, identity)) = expect_our_devices(claim, devices, dockers)? else {
        return Ok(());
    };
    let path = &devices.metadata.path;
    let file = OpenOptions::new().write(true).open(path);
    let file = file.map_err(Error::io(path, "open"))?;
    let meta = file.metadata().map_err(Error::io(path, "stat"))?;
    if Identity::of(&meta) != Some(identity) {
        return Err(not_ours(path, "it is a different device or file now"));
    }
    file.write_all_at(&[0; 4096], 0)
        .and_then(|()| file.sync_all())
        .map_err(Error::io(path, "wipe"))
}

/// The metadata device, held open, and its identity; `None` if it does not begin with a pool's superblock, because the
/// run got no further.
fn expect_our_devices<'c>(
    claim: &Claim,
    devices: &'c claim::Devices,
    dockers: &DriverFiles,
) -> Result<Option<(Candidate<'c>, Identity)>, Error> {
    let path = &devices.metadata.path;
    let io = |op| Error::io(path, op);
    let same_boot = claim.is_of_this_boot().map_err(io("read the boot id"))?;
    let now = expect_same_devices(devices, same_boot)?;
    let mut first = [0; 4096];
    block::read_direct(path, 0, &mut first).map_err(io("read"))?;
    if !thin::begins_a_pool(&first) {
        return Ok(None);
    }
    let unused = devices::expect_unused(path)?;
    let made = PlannedIds {
        transaction_id: 0,
        first: 1,
        last: devices.last_thin_id,
    };
    let held = target::contents_on(path)?;
    made.expect(&held, dockers)
        .map_err(|why| not_ours(path, why))?;
    let doubt = match claim.base_uuid() {
        Some(uuid) => same_pool::doubt((&devices.data.path, path), uuid)?,
        None => doubt_without_base(claim, &held, &|| devices::wiping(path))?,
    };
    match doubt {
        None => Ok(Some((unused, now))),
        Some(why) => Err(not_ours(path, why)),
    }
}

/// Checks that the paths still lead to the same devices or files. Their numbers only count within one boot; a file must
/// also have only one name.
fn expect_same_devices(devices: &claim::Devices, same_boot: bool) -> Result<Identity, Error> {
    for device in [&devices.data, &devices.metadata] {
        let path = &device.path;
        let is_there = device.is_there().map_err(Error::io(path, "identify"))?;
        if same_boot && !is_there {
            return Err(not_ours(path, "it is a different device or file now"));
        }
    }
    let path = &devices.metadata.path;
    let meta = fs::metadata(path).map_err(Error::io(path, "stat"))?;
    if meta.is_file() && meta.nlink() > 1 {
        let why = format!(
            "it has {} hard links, so it may belong to something else",
            meta.nlink()
        );
        return Err(not_ours(path, why));
    }
    Identity::of(&meta)
        .ok_or_else(|| not_ours(path, "it is neither a block device nor a regular file"))
}

/// The devices that a run makes in a pool. It makes the first device first, and once all exist, adds their number to
/// the transaction id. Undoing does the same in reverse.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedIds {
    pub(super) transaction_id: u64,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl PlannedIds {
    /// Checks that the pool only contains what such a run had made when it ended, at whatever point, or what Docker has
    /// made of that. The error says what comes from neither.
    pub(super) fn expect(self, held: &Contents, dockers: &DriverFiles) -> Result<(), String> {
        let all = self.first..=self.last;
        let number = u64::from(self.last - self.first) + 1;
        let done = self.transaction_id.checked_add(number);
        let is_done = done == Some(held.transaction_id);
        let docker_worked = done.is_some_and(|done| dockers.came_after(done));
        let is_dockers = docker_worked && dockers.left(held.transaction_id);
        if held.transaction_id != self.transaction_id && !is_done && !is_dockers {
            let id = held.transaction_id;
            return Err(format!(
                "something else has used the pool since: its transaction id is {id}"
            ));
        }
        let ids = held.ids.iter().map(|id| id.value());
        for (id, made_in) in ids.zip(held.made_in.iter().copied()) {
            let is_later =
                docker_worked && dockers.has(id) && done.is_some_and(|done| made_in >= done);
            if is_later || all.contains(&id) && made_in == self.transaction_id {
                continue;
            }
            if !all.contains(&id) {
                return Err(format!(
                    "something else has used the pool since: it contains thin device {id}"
                ));
            }
            // A run makes all its devices in one transaction; Docker and LVM use one transaction for each device.
            return Err(format!(
                "something else made thin device {id}: its transaction is {made_in}, not {}",
                self.transaction_id
            ));
        }
        // Docker never removes the base device.
        let is_whole = docker_worked || held.ids.len() as u64 == number;
        let begins = held.ids.first().is_none_or(|id| id.value() == self.first);
        if begins && (is_whole || !is_done) {
            return Ok(());
        }
        Err(
            "something else has used the pool since: some of its thin devices are missing"
                .to_owned(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::ThinId;

    const MADE: PlannedIds = PlannedIds {
        transaction_id: 7,
        first: 1,
        last: 3,
    };

    fn held(transaction_id: u64, ids: &[u32]) -> Contents {
        let made_in = |id: &u32| {
            if *id <= MADE.last {
                MADE.transaction_id
            } else {
                10
            }
        };
        Contents {
            uuid: None,
            transaction_id,
            made_in: ids.iter().map(made_in).collect(),
            ids: ids.iter().map(|id| ThinId::new(*id).unwrap()).collect(),
        }
    }

    #[test]
    fn what_a_run_leaves_at_any_point_is_known() {
        for (transaction_id, ids) in [
            (7, &[][..]),
            (7, &[1]),
            (7, &[1, 3]),
            (7, &[1, 2, 3]),
            (10, &[1, 2, 3]),
        ] {
            let expected = MADE.expect(&held(transaction_id, ids), &DriverFiles::default());
            assert_eq!(expected, Ok(()), "{transaction_id} {ids:?}");
        }
    }

    #[test]
    fn what_a_run_cannot_have_left_is_not_ours() {
        for (transaction_id, ids, words) in [
            (8, &[1][..], "transaction id is 8"),
            (6, &[], "transaction id is 6"),
            (7, &[0, 1], "thin device 0"),
            (7, &[1, 2, 3, 4], "thin device 4"),
            (10, &[1, 2, 3, 9], "thin device 9"),
            (7, &[2], "are missing"),
            (10, &[1, 2], "are missing"),
            (10, &[], "are missing"),
        ] {
            let held = held(transaction_id, ids);
            // The files of a conversion that Docker has not used describe what the conversion made.
            for dockers in [DriverFiles::default(), DriverFiles::with(&[1, 2, 3], 10)] {
                let why = MADE.expect(&held, &dockers).unwrap_err();
                assert!(why.contains(words), "{transaction_id} {ids:?}: {why}");
            }
        }
    }

    #[test]
    fn devices_that_were_made_one_by_one_are_not_ours() {
        let mut dockers_own = held(7, &[1, 2]);
        dockers_own.made_in = vec![7, 8];
        for dockers in [DriverFiles::default(), DriverFiles::with(&[1, 2], 13)] {
            let why = MADE.expect(&dockers_own, &dockers).unwrap_err();
            assert!(why.contains("made thin device 2"), "{why}");
        }
        // Docker's driver makes no devices before the conversion is done.
        let mut early = held(13, &[1, 4]);
        early.made_in = vec![7, 9];
        let why = MADE
            .expect(&early, &DriverFiles::with(&[1, 4], 13))
            .unwrap_err();
        assert!(why.contains("thin device 4"), "{why}");
    }

    #[test]
    fn what_docker_made_and_removed_since_is_taken_back_too() {
        // Device 2 was removed, 4 and 5 were made, 5 is not yet known to the pool.
        let dockers = DriverFiles::with(&[1, 3, 4, 5], 13);
        for (transaction_id, ids, fits) in [
            (13, &[1, 3, 4, 5][..], true),
            (12, &[1, 3, 4, 5], true),
            (12, &[1, 2, 3], true),
            (12, &[1], true),
            // While it is being undone.
            (7, &[1, 3, 4], true),
            (7, &[], true),
            (11, &[1, 3, 4], false),
            (14, &[1, 3, 4], false),
            (13, &[1, 3, 6], false),
            (13, &[3, 4], false),
        ] {
            let expected = MADE.expect(&held(transaction_id, ids), &dockers);
            assert_eq!(
                expected.is_ok(),
                fits,
                "{transaction_id} {ids:?}: {expected:?}"
            );
        }
    }

    #[test]
    fn a_record_with_the_largest_transaction_id_is_no_overflow() {
        let made = PlannedIds {
            transaction_id: u64::MAX,
            first: 0,
            last: 0xff_ffff,
        };
        let none = DriverFiles::default();
        assert!(made.expect(&held(5, &[]), &none).is_err());
        assert_eq!(made.expect(&held(u64::MAX, &[]), &none), Ok(()));
    }
}
