//! What a conversion was to make outside of its staging directory. The record of what it made must agree with this:
//! what the record names is deleted or zeroed, and anybody who had the disk can have written a record.

use std::path::{Path, PathBuf};

use super::claim::{Claim, Devices, ThinPool};
use super::take_back::path_of;
use crate::pool::target::{self, Target};

/// The target of a conversion, according to its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedTarget {
    /// The place of the pool.
    pub target: Target,
    /// The pool's transaction id before the first device was made.
    pub transaction_before: u64,
    /// The number of thin devices that were planned; `None` if the journal does not say.
    pub devices: Option<u32>,
}

impl RequestedTarget {
    /// Why a record does not belong to this conversion; `None` if it does.
    pub(super) fn doubt(&self, claim: &Claim) -> Option<String> {
        match (&self.target, claim) {
            (Target::LoopFiles, _) => {
                Some("the target of the conversion was loop files".to_owned())
            }
            (Target::Devices { data, metadata }, Claim::Devices(devices)) => {
                self.doubt_devices((data, metadata), devices)
            }
            (Target::ThinPool { path }, Claim::ThinPool(pool)) => self.doubt_pool(path, pool),
            (target, _) => Some(format!("the target of the conversion was {}", name(target))),
        }
    }

    fn doubt_devices(
        &self,
        (data, metadata): (&PathBuf, &PathBuf),
        claim: &Devices,
    ) -> Option<String> {
        if (&claim.data.path, &claim.metadata.path) != (data, metadata) {
            return Some(format!(
                "the target of the conversion was {}",
                name(&self.target)
            ));
        }
        self.doubt_ids(1, claim.last_thin_id)
    }

    fn doubt_pool(&self, path: &Path, claim: &ThinPool) -> Option<String> {
        // If a block device does not exist, another path of it gives no pool name. And the node of a renamed pool may
        // still lead to it.
        let is_named =
            *path == path_of(claim) || target::pool_name(path).is_ok_and(|name| name == claim.name);
        if !is_named {
            return Some(format!(
                "the target of the conversion was {}",
                name(&self.target)
            ));
        }
        let before = self.transaction_before;
        if claim.transaction_id != before {
            return Some(format!(
                "the conversion found the pool at transaction id {before}, not {}",
                claim.transaction_id
            ));
        }
        self.doubt_ids(claim.first_thin_id, claim.last_thin_id)
    }

    /// Checks the ids in a record. A plan's devices are numbered from 1 without a gap.
    fn doubt_ids(&self, first: u32, last: u32) -> Option<String> {
        match self.devices {
            None => Some("the journal does not say how many thin devices were planned".to_owned()),
            Some(planned) if (first, last) == (1, planned) => None,
            Some(planned) => Some(format!(
                "the conversion planned the thin devices 1 to {planned}, not {first} to {last}"
            )),
        }
    }
}

fn name(target: &Target) -> String {
    match target {
        Target::LoopFiles => "loop files".to_owned(),
        Target::Devices { data, metadata } => {
            format!("{} and {}", data.display(), metadata.display())
        }
        Target::ThinPool { path } => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kernel::claim::{Device, Identity};

    fn device(path: &str, inode: u64) -> Device {
        Device {
            path: path.into(),
            identity: Identity::File { dev: 1, inode },
        }
    }

    fn devices() -> Devices {
        Devices {
            data: device("/srv/data", 1),
            metadata: device("/srv/metadata", 2),
            last_thin_id: 9,
            boot_id: "b".to_owned(),
            base_uuid: None,
        }
    }

    fn pool() -> ThinPool {
        ThinPool {
            name: "no-such-pool".to_owned(),
            uuid: None,
            transaction_id: 4,
            first_thin_id: 1,
            last_thin_id: 9,
            boot_id: "b".to_owned(),
            base_uuid: None,
        }
    }

    fn ordered(target: Target) -> RequestedTarget {
        RequestedTarget {
            target,
            transaction_before: 4,
            devices: Some(9),
        }
    }

    fn to_devices() -> RequestedTarget {
        ordered(Target::Devices {
            data: "/srv/data".into(),
            metadata: "/srv/metadata".into(),
        })
    }

    fn to_pool(path: &str) -> RequestedTarget {
        ordered(Target::ThinPool { path: path.into() })
    }

    #[test]
    fn the_record_of_the_conversion_itself_is_believed() {
        assert_eq!(to_devices().doubt(&Claim::Devices(devices())), None);
        let pool = Claim::ThinPool(pool());
        assert_eq!(to_pool("/dev/mapper/no-such-pool").doubt(&pool), None);
    }

    #[test]
    fn a_record_of_other_devices_is_not_believed() {
        let forgeries: [fn(&mut Devices); 4] = [
            |one| one.data.path = "/srv/other".into(),
            |one| one.metadata.path = "/var/lib/docker/devicemapper/devicemapper/metadata".into(),
            |one| one.last_thin_id = 10,
            |one| one.last_thin_id = 8,
        ];
        for (number, forge) in forgeries.into_iter().enumerate() {
            let mut claim = devices();
            forge(&mut claim);
            let why = to_devices().doubt(&Claim::Devices(claim));
            assert!(why.is_some(), "forgery {number}");
        }
    }

    #[test]
    fn a_record_of_another_pool_is_not_believed() {
        let forgeries: [fn(&mut ThinPool); 4] = [
            |one| one.name = "vg-other".to_owned(),
            |one| one.transaction_id = 5,
            |one| one.first_thin_id = 2,
            |one| one.last_thin_id = 0xff_ffff,
        ];
        for (number, forge) in forgeries.into_iter().enumerate() {
            let mut claim = pool();
            forge(&mut claim);
            let why = to_pool("/dev/mapper/no-such-pool").doubt(&Claim::ThinPool(claim));
            assert!(why.is_some(), "forgery {number}");
        }
        // A device that does not exist belongs to no pool.
        let why = to_pool("/dev/no-such-device").doubt(&Claim::ThinPool(pool()));
        assert!(why.is_some());
    }

    #[test]
    fn a_record_of_another_kind_of_target_is_not_believed() {
        let claims = [Claim::Devices(devices()), Claim::ThinPool(pool())];
        for claim in &claims {
            assert!(ordered(Target::LoopFiles).doubt(claim).is_some());
        }
        assert!(to_devices().doubt(&claims[1]).is_some());
        let to_pool = to_pool("/dev/mapper/no-such-pool");
        assert!(to_pool.doubt(&claims[0]).is_some());
    }

    #[test]
    fn without_the_number_of_devices_no_record_is_believed() {
        let mut ordered = to_devices();
        ordered.devices = None;
        let why = ordered.doubt(&Claim::Devices(devices())).unwrap();
        assert!(why.contains("how many"), "{why}");
    }
}
