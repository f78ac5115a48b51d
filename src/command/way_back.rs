//! Whether the aufs side that a rollback goes back to is what was converted.

use std::fmt;

use super::error::Error;
use crate::commit::{Conversion, Depth, State};

/// What speaks against an aufs side.
#[derive(Debug)]
pub(super) enum Flaw {
    /// It is not what was converted, in this.
    Broken(String),
    /// It was written to after this, and nothing has read it since.
    Written(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(what) => write!(f, "it is not what was converted: {what}"),
            Self::Written(since) => write!(
                f,
                "it was written to, or replaced by a copy, after {since}, and nothing has read its bytes since"
            ),
        }
    }
}

impl Flaw {
    /// What there is. Not all of it shows in what the journal noted: the latest verification compared the entries with the devices, and what
    /// was written there since has other times of change.
    pub(super) fn find(conversion: &Conversion) -> Result<Option<Self>, Error> {
        let verified = &conversion.story().verified;
        let latest = verified.latest.as_ref();
        let found = latest.filter(|verified| verified.aufs_changed);
        // A quick one that passes has read no bytes of aufs.
        let found = found.or(verified.aufs_changed.as_ref());
        let as_found = found
            .map(|verified| Self::Broken(format!("as the latest verification found ({verified})")));
        Ok(match Self::find_in_place(conversion)? {
            Some(Self::Written(_)) if as_found.is_some() => as_found,
            None => as_found,
            in_place => in_place,
        })
    }

    /// What of it can be seen now.
    pub(super) fn find_in_place(conversion: &Conversion) -> Result<Option<Self>, Error> {
        let changes = conversion.aufs_changes(Depth::Entries)?;
        let changes = changes.filter(|changes| !changes.is_whole());
        let broken = changes.map(|changes| Self::Broken(changes.broken()));
        Ok(broken.or_else(|| written_since(conversion).map(Self::Written)))
    }
}

/// That aufs was written to after its times were noted: by a rollback that began, the latest full verification that did, or the conversion. It may
/// be an xattr, or bytes whose time was set back.
fn written_since(conversion: &Conversion) -> Option<String> {
    let story = conversion.story();
    // What is undecided says more, and whatever was written since is undecided, too.
    if story.verified.undecided.is_some() {
        return None;
    }
    let going_back = story.aufs_times_going_back.as_deref();
    let (known, since) = match (&story.verified.of_aufs, going_back) {
        // What it was then was found right, or taken for that.
        (_, Some(times)) if story.state == State::RollingBack => {
            (times, "the rollback began".to_owned())
        }
        (Some(seen), _) => (
            seen.aufs_times.as_deref()?,
            format!("the verification {seen}"),
        ),
        (None, _) => (conversion.aufs_times_then()?, "the conversion".to_owned()),
    };
    (conversion.aufs_times().as_deref() != Some(known)).then_some(since)
}

/// Makes sure that no good copy goes: nothing speaks against the aufs side.
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
