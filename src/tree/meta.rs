//! The attributes that every inode has, whatever its type: mode, owner, times, xattrs.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A point in time: seconds since 1970 (negative before) and nanoseconds, 0 to 999,999,999.
///
/// It takes twelve bytes instead of sixteen: three of them are stored for every file of a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(i64, u32)", into = "(i64, u32)")]
pub struct Timestamp {
    sec_high: i32,
    sec_low: u32,
    nsec: u32,
}

impl From<(i64, u32)> for Timestamp {
    fn from((sec, nsec): (i64, u32)) -> Self {
        Self::new(sec, nsec)
    }
}

impl From<Timestamp> for (i64, u32) {
    fn from(time: Timestamp) -> Self {
        (time.sec(), time.nsec())
    }
}

impl Timestamp {
    /// The time `sec` seconds after 1970 and `nsec` nanoseconds, which `stat` keeps below one second.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the two halves of `sec`
    pub const fn new(sec: i64, nsec: u32) -> Self {
        Self {
            sec_high: (sec >> 32) as i32,
            sec_low: sec as u32,
            nsec,
        }
    }

    /// The times that an inode of ext4 holds, 1901 to 2446, in seconds since 1970. Source: linux v6.6 `fs/ext4/ext4.h`,
    /// `EXT4_TIMESTAMP_MIN` and `EXT4_EXTRA_TIMESTAMP_MAX`.
    pub const KEPT: RangeInclusive<i64> = -(1 << 31)..=(1 << 34) - (1 << 31) - 1;

    /// The nearest time that ext4 holds: what a file gets that is copied there. At both ends of the range the kernel
    /// drops the nanoseconds. Source: linux v6.6 `fs/inode.c`, `timestamp_truncate`.
    #[must_use]
    pub fn clamped(self) -> Self {
        let (first, last) = (*Self::KEPT.start(), *Self::KEPT.end());
        let sec = self.sec().clamp(first, last);
        if sec == first || sec == last {
            Self::new(sec, 0)
        } else {
            self
        }
    }

    /// Seconds since 1970, negative before.
    #[allow(clippy::cast_lossless)] // `From` is not const
    pub const fn sec(self) -> i64 {
        ((self.sec_high as i64) << 32) | self.sec_low as i64
    }

    /// Nanoseconds within the second.
    pub const fn nsec(self) -> u32 {
        self.nsec
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.sec(), self.nsec).cmp(&(other.sec(), other.nsec))
    }
}

/// A device special file's number, as `stat` splits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// The major number, which stands for the driver.
    pub major: u32,
    /// The minor number, which stands for the driver's unit.
    pub minor: u32,
}

/// Extended attributes by full name (`user.a`, `system.posix_acl_access`), each with the value that `getxattr` returns.
///
/// Cloning is cheap. Most inodes have none, which takes no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Xattrs(Option<Arc<XattrMap>>);

type XattrMap = BTreeMap<Box<[u8]>, Box<[u8]>>;

impl Xattrs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Names and values, in the names' byte order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .flat_map(|map| map.iter().map(|(name, value)| (&**name, &**value)))
    }
}

impl FromIterator<(Box<[u8]>, Box<[u8]>)> for Xattrs {
    fn from_iter<I: IntoIterator<Item = (Box<[u8]>, Box<[u8]>)>>(pairs: I) -> Self {
        let map: BTreeMap<_, _> = pairs.into_iter().collect();
        Self((!map.is_empty()).then(|| Arc::new(map)))
    }
}

/// The attributes that every inode has: permission bits, owner, times, xattrs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: 0 to 0o7777, no file type.
    pub mode: u16,
    /// Owner, as on disk (already shifted under userns-remap).
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access. All times that are read are [clamped](Timestamp::clamped).
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode. It cannot be set in a mounted file system, but can in a written image.
    pub ctime: Timestamp,
    /// All extended attributes, including ACLs.
    pub xattrs: Xattrs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_keeps_seconds_of_either_sign() {
        for sec in [
            0,
            1,
            -1,
            i64::from(i32::MIN),
            4_294_967_296,
            i64::MAX,
            i64::MIN,
        ] {
            let time = Timestamp::new(sec, 999_999_999);
            assert_eq!((time.sec(), time.nsec()), (sec, 999_999_999));
        }
    }

    #[test]
    fn a_time_that_ext4_does_not_hold_becomes_the_nearest_one_that_it_does() {
        let (first, last) = (-2_147_483_648, 15_032_385_535);
        for ((sec, nsec), expected) in [
            ((0, 5), (0, 5)),
            ((first + 1, 5), (first + 1, 5)),
            ((last - 1, 5), (last - 1, 5)),
            ((first, 5), (first, 0)),
            ((last, 5), (last, 0)),
            ((-62_135_596_800, 5), (first, 0)),
            ((16_725_225_600, 5), (last, 0)),
            ((i64::MAX, 0), (last, 0)),
            ((i64::MIN, 0), (first, 0)),
        ] {
            let clamped = Timestamp::new(sec, nsec).clamped();
            assert_eq!((clamped.sec(), clamped.nsec()), expected, "{sec}.{nsec}");
        }
    }

    #[test]
    fn timestamps_order_by_time() {
        assert!(Timestamp::new(-1, 5) < Timestamp::new(0, 0));
        assert!(Timestamp::new(7, 1) < Timestamp::new(7, 2));
    }

    #[test]
    fn meta_stays_small() {
        assert!(size_of::<Meta>() <= 56);
    }

    #[test]
    fn no_xattrs_take_no_memory() {
        assert!(Xattrs::from_iter([]).is_empty());
        assert_eq!(size_of::<Xattrs>(), size_of::<usize>());
    }
}
