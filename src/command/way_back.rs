//! Whether the aufs side that a rollback goes back to is what was converted.

use std::fmt;

use super::error::Error;
use crate::commit::{Conversion, Depth, State};

/// A reason against going back to an aufs side.
#[derive(Debug)]
pub(super) enum Flaw {
    /// How it differs from what was converted.
    Broken(String),
    /// The event after which it was written to; nothing has read it since.
    Written(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => write!(f, "it is not what was converted: {what}"),
            Self::Written(since) => write!(
                f,
                "it was written to, or replaced by a copy, after {since}, and its bytes have not been read since"
            ),
        }
    }
}

impl Flaw {
    /// The flaw of the aufs side, if it has one. The journal's records do not show all flaws: the latest verification
    /// compared the entries with the devices, and anything written there since has other change times.
    pub(super) fn find(conversion: &Conversion) -> Result<Option<Self>, Error> {
        let verified = &conversion.story().verified;
        let latest = verified.latest.as_ref();
        let found = latest.filter(|verified| verified.aufs_changed);
        // A quick verification that passes has read no bytes of aufs.
        let found = found.or(verified.aufs_changed.as_ref());
        let as_found =
            found.map(|verified| Self::Broken(format!("a verification found this ({verified})")));
        Ok(match Self::find_in_place(conversion)? {
            Some(Self::Written(_)) if as_found.is_some() => as_found,
            None => as_found,
            in_place => in_place,
        })
    }

    /// The flaw that is visible now.
    pub(super) fn find_in_place(conversion: &Conversion) -> Result<Option<Self>, Error> {
        let changes = conversion.aufs_changes(Depth::Entries)?;
        let changes = changes.filter(|changes| !changes.is_whole());
        let broken = changes.map(|changes| Self::Broken(changes.broken()));
        Ok(broken.or_else(|| written_since(conversion).map(Self::Written)))
    }
}

/// The event since which aufs was written to, if it was: the beginning of a rollback, the latest full verification that
/// recorded its times, or the conversion. An xattr may have changed, or bytes whose modification time was set back.
fn written_since(conversion: &Conversion) -> Option<String> {
    let story = conversion.story();
    // An undecided verification says more, and anything written since is undecided too.
    if story.verified.undecided.is_some() {
        return None;
    }
    let going_back = story.aufs_times_going_back.as_deref();
    let (known, since) = match (&story.verified.of_aufs, going_back) {
        // At that time it was found right, or assumed to be.
        (_, Some(times)) if story.state == State::RollingBack => {
            (times, "the rollback began".to_owned())
        }
        (Some(seen), _) => (
            seen.aufs_times.as_deref()?,
            format!("the verification ({seen})"),
        ),
        (None, _) => (conversion.aufs_times_then()?, "the conversion".to_owned()),
    };
    (conversion.aufs_times().as_deref() != Some(known)).then_some(since)
}

/// Checks that no good copy is lost: there is nothing wrong with the aufs side.
pub(super) fn expect_right(conversion: &Conversion, flaw: Option<Flaw>) -> Result<(), Error> {
    let path = conversion.root().to_owned();
    let story = conversion.story();
    match flaw {
        Some(Flaw::Broken(broken)) => return Err(Error::WayBackBroken { path, broken }),
        Some(Flaw::Written(since)) => {
            return Err(Error::WayBackUnread {
                path,
                since,
                can_verify: story.state == State::Converted,
            });
        }
        None => {}
    }
    match &story.verified.undecided {
        Some(verified) => Err(Error::Undecided {
            path,
            verified: verified.to_string(),
        }),
        None => Ok(()),
    }
}
