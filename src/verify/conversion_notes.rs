//! What a conversion noted, by which it is told which side is at fault where aufs and a device differ.
//!
//! A device that still has the digest of its [entries](super::delta) is what it was when the two were alike, so aufs alone is
//! otherwise. Nothing else decides that: a branch that was changed in one place says nothing of a difference in another, and a
//! time of change nothing of who was wrong before it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::docker::CacheId;

/// What became of a branch since it was converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchNow {
    /// Nothing was noted of it.
    Unknown,
    /// Names, types, owners, sizes and times are what they were.
    Same,
    /// They are not.
    Changed,
    /// It is gone.
    Missing,
}

/// What the conversion that is in place noted.
#[derive(Clone, Copy)]
pub struct ConversionNotes<'a> {
    /// Looks at a branch.
    pub branch: &'a (dyn Fn(&CacheId) -> BranchNow + Sync),
    /// Whether what the image store beside the devices has at a path, relative to the store, is what was copied there.
    pub is_copied: &'a (dyn Fn(&Path) -> bool + Sync),
    /// The digests of the entries of the layers' devices, by the layers' ids.
    pub entries: &'a BTreeMap<String, String>,
    /// Likewise of the bytes of their files, where no tar tells what these must be.
    pub bytes: &'a BTreeMap<String, String>,
    /// Whether something on the aufs side, by its path, is what it was when the root was converted, or was left out then.
    pub is_as_it_was: &'a (dyn Fn(&Path) -> bool + Sync),
    /// When the conversion wrote the driver's note of a layer's device, in seconds since 1970.
    pub written_at: &'a (dyn Fn(&CacheId) -> Option<i64> + Sync),
    /// When the conversion was in place, in seconds since 1970.
    pub switched_at: Option<i64>,
}

/// What is known of the bytes that a layer's files had when both sides were alike, where they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BytesThen<'a> {
    /// Aufs had them just now: no conversion is in place yet.
    Aufs,
    /// Nothing.
    Unknown,
    /// Their digest on the device.
    Noted(&'a str),
}

impl fmt::Debug for ConversionNotes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted").finish_non_exhaustive()
    }
}
