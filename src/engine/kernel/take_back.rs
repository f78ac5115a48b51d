//! Takes back what a run made outside its staging directory, complete or not, and what Docker has made of it since; and only
//! that: what does not look as the two must have left it is somebody else's by now.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::claim::{self, Claim};
use super::devices::Candidate;
use super::dockers::Dockers;
use super::target::Contents;
use super::{Error, Names, Pool, devices, same_pool, target};
use crate::sys::block;
use crate::thin;

/// Removes what the record says, then the record: what comes there from now on is not ours.
///
/// # Errors
///
/// [`Error::NotTakenBack`]; the record stays.
pub(super) fn take_back(claim: &Claim, root: &Path, stage: &Path) -> Result<(), Error> {
    let dockers = Dockers::read(root, stage);
    let taken = match claim {
        Claim::ThinPool(pool) => empty_pool(pool, &dockers, root),
        Claim::Devices(devices) => wipe(devices, &dockers),
    };
    taken.map_err(not_taken_back(claim, stage))?;
    log::info!("{}: taken back", claim.describe());
    Ok(Claim::remove(stage)?)
}

/// Finds out whether it could be done; changes nothing.
///
/// # Errors
///
/// [`Error::NotTakenBack`].
pub(super) fn expect_ours(claim: &Claim, root: &Path, stage: &Path) -> Result<(), Error> {
    let dockers = Dockers::read(root, stage);
    let looked = match claim {
        Claim::ThinPool(pool) => expect_our_pool(pool, &dockers).map(drop),
        Claim::Devices(devices) => expect_our_devices(devices, &dockers).map(drop),
    };
    looked.map_err(not_taken_back(claim, stage))
}

fn not_taken_back(claim: &Claim, stage: &Path) -> impl FnOnce(Error) -> Error {
    move |source| Error::NotTakenBack {
        what: claim.describe(),
        record: stage.join(claim::FILE),
        source: Box::new(source),
    }
}

fn not_ours(path: &Path, why: impl Into<String>) -> Error {
    Error::NotOurs {
        what: path.to_owned(),
        why: why.into(),
    }
}

fn path_of(claim: &claim::ThinPool) -> PathBuf {
    Path::new("/dev/mapper").join(&claim.name)
}

fn expect_our_pool(claim: &claim::ThinPool, dockers: &Dockers) -> Result<Contents, Error> {
    let path = path_of(claim);
    let held = target::contents(&path)?;
    if held.uuid != claim.uuid {
        return Err(not_ours(&path, "it is another pool of that name"));
    }
    let made = Made {
        transaction_id: claim.transaction_id,
        first: claim.first_thin_id,
        last: claim.last_thin_id,
    };
    made.expect(&held, dockers)
        .map_err(|why| not_ours(&path, why))?;
    Ok(held)
}

fn empty_pool(claim: &claim::ThinPool, dockers: &Dockers, root: &Path) -> Result<(), Error> {
    let held = expect_our_pool(claim, dockers)?;
    // No device is made, so the names are of no meaning.
    let pool = Pool::adopt(Names::new(root, root)?, &path_of(claim))?;
    Ok(pool.empty(&held.ids, (held.transaction_id, claim.transaction_id))?)
}

/// Makes the metadata device begin with zeros again: then there is no pool on it.
fn wipe(claim: &claim::Devices, dockers: &Dockers) -> Result<(), Error> {
    // Until it is wiped.
    let Some(_unused) = expect_our_devices(claim, dockers)? else {
        return Ok(());
    };
    let path = &claim.metadata.path;
    let file = OpenOptions::new().write(true).open(path);
    let file = file.map_err(Error::io(path, "open"))?;
    file.write_all_at(&[0; 4096], 0)
        .and_then(|()| file.sync_all())
        .map_err(Error::io(path, "wipe"))
}

/// The metadata device, held; `None` where it begins with zeros already, as the run got no further.
fn expect_our_devices<'c>(
    claim: &'c claim::Devices,
    dockers: &Dockers,
) -> Result<Option<Candidate<'c>>, Error> {
    let path = &claim.metadata.path;
    let io = |op| Error::io(path, op);
    let same = claim.metadata.is_there().map_err(io("look at"))?;
    let same_boot = claim::boot_id().map_err(io("find out the boot of"))? == claim.boot_id;
    if same_boot && !same {
        return Err(not_ours(path, "it is another device or file now"));
    }
    let mut first = [0; 4096];
    block::read_direct(path, 0, &mut first).map_err(io("read"))?;
    if !thin::begins_a_pool(&first) {
        return Ok(None);
    }
    let unused = devices::expect_unused(path)?;
    let made = Made {
        transaction_id: 0,
        first: 1,
        last: claim.last_thin_id,
    };
    let held = target::contents_on(path)?;
    made.expect(&held, dockers)
        .map_err(|why| not_ours(path, why))?;
    if !same_boot && let Some(why) = same_pool::doubt(claim)? {
        return Err(not_ours(path, why));
    }
    Ok(Some(unused))
}

/// What a run makes in a pool: the first device first, and when all are there their number is added to the transaction id.
/// Taking back goes the same way backwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made {
    pub(super) transaction_id: u64,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Made {
    /// Whether the pool holds what such a run had made when it ended at whatever point, or what Docker has made of that; else
    /// what is not from the two.
    pub(super) fn expect(self, held: &Contents, dockers: &Dockers) -> Result<(), String> {
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
        let is_known = |id: &u32| all.contains(id) || docker_worked && dockers.has(*id);
        if let Some(id) = ids.clone().find(|id| !is_known(id)) {
            return Err(format!(
                "something else has used the pool since: it holds the thin device {id}"
            ));
        }
        // Docker never removes the base device.
        let is_whole = docker_worked || held.ids.len() as u64 == number;
        let begins = held.ids.first().is_none_or(|id| id.value() == self.first);
        if begins && (is_whole || !is_done) {
            return Ok(());
        }
        Err("something else has used the pool since: some of its thin devices are gone".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thin::ThinId;

    const MADE: Made = Made {
        transaction_id: 7,
        first: 1,
        last: 3,
    };

    fn held(transaction_id: u64, ids: &[u32]) -> Contents {
        Contents {
            uuid: None,
            transaction_id,
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
            let expected = MADE.expect(&held(transaction_id, ids), &Dockers::default());
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
            (7, &[2], "are gone"),
            (10, &[1, 2], "are gone"),
            (10, &[], "are gone"),
        ] {
            let held = held(transaction_id, ids);
            // The files of a conversion that Docker has not used say what the conversion made.
            for dockers in [Dockers::default(), Dockers::with(&[1, 2, 3], 10)] {
                let why = MADE.expect(&held, &dockers).unwrap_err();
                assert!(why.contains(words), "{transaction_id} {ids:?}: {why}");
            }
        }
    }

    #[test]
    fn what_docker_made_and_removed_since_is_taken_back_too() {
        // Device 2 removed, 4 and 5 made, 5 not yet told to the pool.
        let dockers = Dockers::with(&[1, 3, 4, 5], 13);
        for (transaction_id, ids, fits) in [
            (13, &[1, 3, 4, 5][..], true),
            (12, &[1, 3, 4, 5], true),
            (12, &[1, 2, 3], true),
            (12, &[1], true),
            // While it is taken back.
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
        let made = Made {
            transaction_id: u64::MAX,
            first: 0,
            last: 0xff_ffff,
        };
        let none = Dockers::default();
        assert!(made.expect(&held(5, &[]), &none).is_err());
        assert_eq!(made.expect(&held(u64::MAX, &[]), &none), Ok(()));
    }
}
