//! Verifications as the journal records them, and what they prove together.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::device_side::DeviceSide;
use crate::date;
use crate::verify::{LayerCounts, LayerDamage, Verdict};
use crate::words::counted;

/// A verification. The field names are part of the `--json` interface, except for `seen` and `aufs_times`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationRecord {
    /// Seconds since 1970.
    pub at: u64,
    /// Whether all contents were read back.
    pub full: bool,
    /// Its verdict. A journal of an earlier version does not have it, so verifications in such a journal count for
    /// nothing.
    #[serde(default = "not_verified")]
    pub verdict: Verdict,
    /// How much it checked.
    #[serde(default)]
    pub counts: LayerCounts,
    /// Whether the aufs side differed from what was converted, whatever the result for the devices.
    #[serde(default)]
    pub aufs_changed: bool,
    /// Whether files differed between the two sides, with nothing to show which side is right.
    #[serde(default)]
    pub undecided: bool,
    /// Layers that already differed from what Docker had unpacked before they were converted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<LayerDamage>,
    /// The devicemapper side that it saw, to determine later whether that was written to since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<DeviceSide>,
    /// When the entries of the aufs side were last changed before the verification, as a digest. Only a full
    /// verification records this, and only if it found nothing against aufs and read everything that was written there
    /// since the time recorded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aufs_times: Option<String>,
}

fn not_verified() -> Verdict {
    Verdict::NotVerified
}

impl VerificationRecord {
    /// The verification for people and programs, without what only `commit` compares.
    #[must_use]
    pub fn told(self) -> Self {
        Self {
            seen: None,
            aufs_times: None,
            ..self
        }
    }

    /// Whether nothing was wrong with the devices.
    pub fn passed(&self) -> bool {
        matches!(
            self.verdict,
            Verdict::Sound | Verdict::SourceDamaged | Verdict::AufsChanged
        )
    }
}

/// For example `in full on 2026-01-31 23:59:59 UTC, nothing wrong with the devices (30 layers, 28 not read in aufs)`.
impl fmt::Display for VerificationRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.full { "in full" } else { "quickly" };
        let found = match self.verdict {
            Verdict::Sound if self.full => "nothing wrong with the devices",
            Verdict::Sound => "nothing wrong in what was read",
            Verdict::SourceDamaged => "the devices contain what aufs had, which was damaged before",
            Verdict::AufsChanged => {
                "the devices are right, THE AUFS SIDE IS NOT WHAT WAS CONVERTED"
            }
            Verdict::NotVerified => "NOT VERIFIED: layers could not be checked",
            Verdict::Undecided => "THE TWO SIDES DIFFER in files, and nothing shows which is right",
            Verdict::Wrong => "SOMETHING IS WRONG with the devices",
        };
        write!(f, "{how} on {}, {found}", date::utc(self.at))?;
        let counts = &self.counts;
        write!(f, " ({}", counted(counts.layers, "layer"))?;
        for (count, what) in [
            (counts.not_read, "not read"),
            (counts.not_compared, "not compared with aufs"),
            (counts.not_verifiable, "not verifiable"),
            (counts.not_verified, "NOT VERIFIED"),
            (counts.not_read_in_aufs, "not read in aufs"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        f.write_str(")")
    }
}

/// All verifications in a journal, as far as they still count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verifications {
    /// The latest.
    pub latest: Option<VerificationRecord>,
    /// The latest full one that passed, unless a later one failed.
    pub full: Option<VerificationRecord>,
    /// The latest full one that passed, regardless of later ones: it has not seen what was written after it.
    pub proven: Option<VerificationRecord>,
    /// The latest that recorded when the entries of the aufs side were last changed. The results of later ones for the
    /// devices say nothing about aufs.
    pub of_aufs: Option<VerificationRecord>,
    /// The latest that did not pass, unless a later full one did. A quick one checks only a part, so it clears nothing;
    /// nor does one that could not check everything, which leaves an earlier finding in force.
    pub failed: Option<VerificationRecord>,
    /// The latest that found differing files with nothing to show which side is right, unless a later full one found
    /// none.
    pub undecided: Option<VerificationRecord>,
    /// The latest full one that found the aufs side to differ from what was converted, unless a later full one passed
    /// without that finding.
    pub aufs_changed: Option<VerificationRecord>,
    /// Damage from before the conversion, for each layer as found by the latest verification that checked it.
    pub damaged: Vec<LayerDamage>,
}

impl Verifications {
    pub(super) fn add(&mut self, verified: VerificationRecord) {
        if verified.full && verified.verdict != Verdict::NotVerified {
            self.damaged.clear();
            self.undecided = None;
        }
        if verified.full && verified.aufs_changed {
            self.aufs_changed = Some(verified.clone());
        } else if verified.full && verified.passed() {
            self.aufs_changed = None;
        }
        if verified.undecided {
            self.undecided = Some(verified.clone());
        }
        for damage in &verified.damaged {
            self.damaged.retain(|known| known.layer != damage.layer);
            self.damaged.push(damage.clone());
        }
        if !verified.passed() {
            self.full = None;
            let found = |one: &VerificationRecord| one.verdict != Verdict::NotVerified;
            if found(&verified) || !self.failed.as_ref().is_some_and(found) {
                self.failed = Some(verified.clone());
            }
        } else if verified.full {
            self.full = Some(verified.clone());
            self.proven = Some(verified.clone());
            self.failed = None;
        }
        if verified.aufs_times.is_some() {
            self.of_aufs = Some(verified.clone());
        }
        self.latest = Some(verified);
    }

    /// The one that counts: a failed one takes precedence over a full one, and a full one over a quick one.
    pub fn decisive(&self) -> Option<&VerificationRecord> {
        let latest = self.latest.as_ref();
        self.failed.as_ref().or(self.full.as_ref()).or(latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: Verdict = Verdict::Wrong;
    const SOUND: Verdict = Verdict::Sound;

    fn after(verifications: &[(bool, Verdict)]) -> Verifications {
        let mut all = Verifications::default();
        for (at, &(full, verdict)) in verifications.iter().enumerate() {
            all.add(VerificationRecord {
                at: at as u64,
                full,
                verdict,
                counts: LayerCounts::default(),
                aufs_changed: false,
                undecided: verdict == Verdict::Undecided,
                damaged: Vec::new(),
                seen: None,
                aufs_times: None,
            });
        }
        all
    }

    #[test]
    fn what_one_had_before_it_is_known_whatever_later_ones_find() {
        for later in [WRONG, Verdict::Undecided, Verdict::NotVerified] {
            let mut all = after(&[]);
            all.add(VerificationRecord {
                aufs_times: Some("then".to_owned()),
                ..after(&[(true, SOUND)]).latest.unwrap()
            });
            for full in [false, true] {
                all.add(after(&[(full, later)]).latest.unwrap());
                assert_eq!(all.full, None);
                let times = all.of_aufs.as_ref().and_then(|one| one.aufs_times.clone());
                assert_eq!(times.as_deref(), Some("then"));
                assert_eq!(all.proven.as_ref().map(|one| one.verdict), Some(SOUND));
            }
        }
    }

    #[test]
    fn a_quick_one_that_passes_leaves_the_full_one_before_it() {
        let all = after(&[(true, SOUND), (false, SOUND)]);
        assert_eq!(all.full.as_ref().map(|one| one.at), Some(0));
        assert_eq!(all.latest.as_ref().map(|one| one.at), Some(1));
        assert_eq!(all.failed, None);
    }

    #[test]
    fn what_a_full_one_found_of_aufs_stays_until_a_full_one_finds_it_no_more() {
        let changed = |full| VerificationRecord {
            aufs_changed: true,
            ..after(&[(full, Verdict::AufsChanged)]).latest.unwrap()
        };
        let with = |full, later: &[(bool, Verdict)]| {
            let mut all = after(&[]);
            all.add(changed(full));
            for one in later {
                all.add(after(&[*one]).latest.unwrap());
            }
            all.aufs_changed.is_some()
        };
        assert!(with(true, &[]));
        assert!(with(true, &[(false, SOUND), (true, WRONG)]));
        assert!(!with(true, &[(true, SOUND)]));
        assert!(!with(false, &[]));
    }

    #[test]
    fn one_that_could_not_look_leaves_what_an_earlier_one_found() {
        let unable = (true, Verdict::NotVerified);
        for found in [WRONG, Verdict::Undecided] {
            for full in [false, true] {
                let all = after(&[(true, SOUND), (full, found), unable]);
                assert_eq!(all.failed.map(|one| one.verdict), Some(found));
                assert_eq!(all.full, None);
                let all = after(&[(full, found), unable, (true, SOUND)]);
                assert_eq!(all.failed, None);
            }
        }
        let all = after(&[unable, (true, WRONG)]);
        assert_eq!(all.failed.map(|one| one.verdict), Some(WRONG));
    }

    #[test]
    fn what_is_undecided_stays_so_until_a_full_one_decides_it() {
        let undecided = (true, Verdict::Undecided);
        for later in [
            &[][..],
            &[(false, SOUND)],
            &[(false, WRONG)],
            &[(true, Verdict::NotVerified)],
        ] {
            let all = after(&[&[undecided], later].concat());
            assert_eq!(all.undecided.map(|one| one.at), Some(0), "{later:?}");
        }
        for later in [SOUND, WRONG] {
            assert_eq!(after(&[undecided, (true, later)]).undecided, None);
        }
    }

    #[test]
    fn any_that_fails_voids_all_before_it_and_only_a_full_one_clears_it_up() {
        for full in [true, false] {
            let failed = after(&[(true, SOUND), (full, WRONG)]);
            assert_eq!(
                (failed.full.is_some(), failed.failed.is_some()),
                (false, true)
            );
            let quick = after(&[(true, SOUND), (full, WRONG), (false, SOUND)]);
            assert_eq!(
                (quick.full.is_some(), quick.failed.is_some()),
                (false, true)
            );
            assert_eq!(quick.decisive().map(|one| one.at), Some(1));
            let cleared = after(&[(true, SOUND), (full, WRONG), (true, Verdict::SourceDamaged)]);
            assert_eq!(
                (cleared.full.is_some(), cleared.failed.is_some()),
                (true, false)
            );
        }
    }
}
