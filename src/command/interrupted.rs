//! The message of a run that was told to stop: the state of the root, and how to continue. The state is looked up after
//! everything possible has been taken back, so it is what the next command will find.

use std::fmt;
use std::path::Path;

use super::error::Error;
use super::interruption::{Interruption, Remains};
use super::recorded_options::RecordedOptions;
use crate::commit::{self, Leftover, State};
use crate::engine::ErrorKind;
use crate::shell::own;
use crate::tree::shown;

impl Interruption {
    /// Looks at what is left in `root`; `again` is the command line that starts the run anew.
    fn look(root: &Path, again: &'static str) -> Self {
        let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        let left = match Leftover::look_for(&root) {
            Ok(Leftover::None | Leftover::Stage(_)) => Remains::Nothing,
            Ok(Leftover::Conversion(_, story)) => match story.state {
                State::Writing if story.durable.is_empty() => Remains::Nothing,
                State::Writing => {
                    Remains::Layers(story.durable.len(), RecordedOptions::devices_of(&story))
                }
                State::Converted => Remains::Converted,
                state => Remains::Unfinished(state),
            },
            Err(error) => {
                log::debug!("{error}");
                Remains::Unknown
            }
        };
        Self { root, again, left }
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = &self.root;
        let again = own(self.again, root);
        write!(f, "interrupted; {}: ", shown(root))?;
        match &self.left {
            Remains::Nothing => write!(
                f,
                "is as it was, and nothing from this run is kept; `{again}`, with the same options, starts over"
            ),
            Remains::Layers(done, all) => {
                let of = all.map_or_else(String::new, |all| format!(" of {all}"));
                write!(
                    f,
                    "is as it was, and {done}{of} layers are written and kept; `{}` continues, `{}` removes them, and \
                     `{}`, with the options of your choice, removes them and starts over",
                    own("resume", root),
                    own("rollback", root),
                    own("convert --restart", root)
                )
            }
            Remains::Converted => write!(
                f,
                "nothing was changed; it is converted and has its aufs side; `{again}`, with the same options, starts \
                 over"
            ),
            Remains::Unfinished(state) => f.write_str(&state.meaning(root)),
            Remains::Unknown => write!(f, "`{}` shows what is left", own("status", root)),
        }
    }
}

impl Error {
    /// The error to show to the operator: if the run was told to stop, it includes what is left in `root`. `again` is
    /// the command line that starts the run anew.
    #[must_use]
    pub fn told(self, root: &Path, again: &'static str) -> Self {
        if self.is_interrupted() {
            return Self::Stopped(Interruption::look(root, again));
        }
        self
    }

    /// Whether the run was told to stop.
    fn is_interrupted(&self) -> bool {
        match self {
            Self::Interrupted | Self::Commit(commit::Error::Interrupted) => true,
            Self::Engine(error) => error.kind() == ErrorKind::Interrupted,
            Self::Resumable { cause, .. } => cause.is_interrupted(),
            _ => false,
        }
    }
}
