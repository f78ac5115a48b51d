//! The state of a conversion.

use std::path::Path;

use serde::Serialize;

use crate::shell::own;

/// The state of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Layers are being written; the root is as it was.
    Writing,
    /// The result is being moved into place.
    Switching,
    /// The result is in place, and the aufs side is still there.
    Converted,
    /// The conversion is being taken back.
    RollingBack,
    /// The aufs side is being removed.
    Committing,
}

impl State {
    /// Its name, which is part of the `--json` interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Switching => "switching",
            Self::Converted => "converted",
            Self::RollingBack => "rolling-back",
            Self::Committing => "committing",
        }
    }

    /// The state of `root` in words, with the commands to run next.
    pub fn meaning(self, root: &Path) -> String {
        let [resume, rollback, commit] =
            ["resume", "rollback", "commit"].map(|verb| own(verb, root));
        match self {
            Self::Writing => format!(
                "a conversion was interrupted while it was writing layers: `{resume}` continues it, `{rollback}` \
                 undoes it"
            ),
            Self::Switching => format!(
                "a conversion was interrupted while it was moving its result into place: `{resume}` continues, \
                 `{rollback}` goes back"
            ),
            Self::Converted => format!(
                "is converted: `{rollback}` goes back to aufs, `{commit}` removes the aufs side"
            ),
            Self::RollingBack => {
                format!("a rollback was interrupted: `{rollback}` finishes it")
            }
            Self::Committing => {
                format!("the removal of the aufs side was interrupted: `{commit}` finishes it")
            }
        }
    }
}
