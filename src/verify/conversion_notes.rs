//! The records of a conversion, which show which side is at fault if aufs and a device differ.
//!
//! A device that still has the recorded digest of its [entries](super::delta) is what it was when the two sides were
//! the same, so only aufs has changed. Nothing else decides that: a change in one place of a branch says nothing about
//! a difference in another place, and a change time says nothing about which side was wrong before it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::docker::CacheId;

/// The state of a branch compared with the conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchNow {
    /// There is no record of it.
    Unknown,
    /// Names, types, owners, sizes and times are unchanged.
    Same,
    /// They have changed.
    Changed,
    /// It is gone.
    Missing,
}

/// The records of the conversion that is in place.
#[derive(Clone, Copy)]
pub struct ConversionNotes<'a> {
    /// Determines the state of a branch.
    pub branch: &'a (dyn Fn(&CacheId) -> BranchNow + Sync),
    /// Whether a path in the image store beside the devices, relative to the store, has what was copied there.
    pub is_copied: &'a (dyn Fn(&Path) -> bool + Sync),
    /// The digests of the entries of the layers' devices, by layer id.
    pub entries: &'a BTreeMap<String, String>,
    /// The digests of the bytes of their files, by layer id, if no tar says what these must be.
    pub bytes: &'a BTreeMap<String, String>,
    /// Whether a path on the aufs side is as it was when the root was converted, or was left out then.
    pub is_as_it_was: &'a (dyn Fn(&Path) -> bool + Sync),
    /// When the conversion wrote the driver's metadata file of a layer's device, in seconds since 1970.
    pub written_at: &'a (dyn Fn(&CacheId) -> Option<i64> + Sync),
    /// When the result was moved into place, in seconds since 1970.
    pub switched_at: Option<i64>,
}

/// What is known about the bytes of a layer's files when both sides were the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotedBytes<'a> {
    /// Aufs has them now: no conversion is in place yet.
    Aufs,
    /// Nothing is known.
    Unknown,
    /// Their digest on the device.
    Noted(&'a str),
}

impl fmt::Debug for ConversionNotes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConversionNotes").finish_non_exhaustive()
    }
}
