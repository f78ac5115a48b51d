//! Takes back what a run made outside its staging directory, complete or not, and only that: what does not look as that run
//! must have left it is somebody else's by now.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::claim::{self, Claim};
use super::target::Contents;
use super::{Error, Names, Pool, devices, target};
use crate::sys::block;
use crate::thin;

/// Removes what the record says, then the record: what comes there from now on is not ours.
///
/// # Errors
///
/// [`Error::NotTakenBack`]; the record stays.
pub(super) fn take_back(claim: &Claim, root: &Path, stage: &Path) -> Result<(), Error> {
    let taken = match claim {
        Claim::ThinPool(pool) => empty_pool(pool, root),
        Claim::Devices(devices) => wipe(devices),
    };
    taken.map_err(|source| Error::NotTakenBack {
        what: claim.describe(),
        record: stage.join(claim::FILE),
        source: Box::new(source),
    })?;
    log::info!("{}: taken back", claim.describe());
    Ok(Claim::remove(stage)?)
}

fn not_ours(path: &Path, why: impl Into<String>) -> Error {
    Error::NotOurs {
        what: path.to_owned(),
        why: why.into(),
    }
}

fn empty_pool(claim: &claim::ThinPool, root: &Path) -> Result<(), Error> {
    let path = Path::new("/dev/mapper").join(&claim.name);
    let held = target::contents(&path)?;
    if held.uuid != claim.uuid {
        return Err(not_ours(&path, "it is another pool of that name"));
    }
    let made = Made {
        transaction_id: claim.transaction_id,
        first: claim.first_thin_id,
        last: claim.last_thin_id,
    };
    made.expect(&held).map_err(|why| not_ours(&path, why))?;
    // No device is made, so the names are of no meaning.
    let pool = Pool::adopt(Names::new(root, root)?, &path)?;
    Ok(pool.empty(&held.ids, (held.transaction_id, claim.transaction_id))?)
}

/// Makes the metadata device begin with zeros again: then there is no pool on it. It does already where the run got no further.
fn wipe(claim: &claim::Devices) -> Result<(), Error> {
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
        return Ok(());
    }
    if !same_boot {
        return Err(not_ours(
            path,
            format!(
                "the system was booted since, and it may be another device now; if it is the same, wipe it: {}",
                devices::wiping(path)
            ),
        ));
    }
    // Until it is wiped.
    let _unused = devices::expect_unused(path)?;
    let made = Made {
        transaction_id: 0,
        first: 1,
        last: claim.last_thin_id,
    };
    let held = target::contents_on(path)?;
    made.expect(&held).map_err(|why| not_ours(path, why))?;
    let file = OpenOptions::new().write(true).open(path);
    let file = file.map_err(io("open"))?;
    file.write_all_at(&[0; 4096], 0)
        .and_then(|()| file.sync_all())
        .map_err(io("wipe"))
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
    /// Whether the pool holds what such a run had made when it ended at whatever point; else what is not from it.
    pub(super) fn expect(self, held: &Contents) -> Result<(), String> {
        let all = self.first..=self.last;
        let number = u64::from(self.last - self.first) + 1;
        let is_done = self.transaction_id.checked_add(number) == Some(held.transaction_id);
        if held.transaction_id != self.transaction_id && !is_done {
            let id = held.transaction_id;
            return Err(format!(
                "something else has used the pool since: its transaction id is {id}"
            ));
        }
        let ids = held.ids.iter().map(|id| id.value());
        if let Some(id) = ids.clone().find(|id| !all.contains(id)) {
            return Err(format!(
                "something else has used the pool since: it holds the thin device {id}"
            ));
        }
        let is_whole = held.ids.len() as u64 == number;
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
            let expected = MADE.expect(&held(transaction_id, ids));
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
            let why = MADE.expect(&held(transaction_id, ids)).unwrap_err();
            assert!(why.contains(words), "{transaction_id} {ids:?}: {why}");
        }
    }

    #[test]
    fn a_record_with_the_largest_transaction_id_is_no_overflow() {
        let made = Made {
            transaction_id: u64::MAX,
            first: 0,
            last: 0xff_ffff,
        };
        assert!(made.expect(&held(5, &[])).is_err());
        assert_eq!(made.expect(&held(u64::MAX, &[])), Ok(()));
    }
}
