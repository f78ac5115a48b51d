//! What the host hands to the guest, and the lines that come back.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Names the job file to the guest's init: unknown `NAME=value` words of a kernel's command line become init's environment.
pub(crate) const JOB_VARIABLE: &str = "AUFS2DM_JOB";

/// Begins each line of the guest that is meant for the host; all others are console noise.
const MARK: &str = "@aufs2dm ";

/// Tells the guest in place of an index that no group is left.
pub(crate) const NO_MORE: &str = "no more";

/// The guest's orders, as JSON in a file that it reads through hostfs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Where `tests/lab/fetch.sh` put the lab.
    pub(crate) lab: PathBuf,
    /// Names of the checks, in groups. The host names a group by its index each time the guest is ready.
    pub(crate) groups: Vec<Vec<String>>,
    /// A shell command to run instead of the checks.
    pub(crate) shell: Option<String>,
    /// The host's PATH.
    pub(crate) path: String,
    /// The host's directory for this guest, where the job file is.
    pub(crate) directory: PathBuf,
}

/// What the guest tells the host.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// The guest is ready for a group of checks, and reads its index from the console, or [`NO_MORE`].
    Ready,
    /// A check begins.
    Started {
        /// Its name.
        name: String,
    },
    /// A check ended.
    Finished(Outcome),
    /// All is done; the guest is about to power off.
    Done,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The check's name.
    pub(crate) name: String,
    /// The failure's text, or none when it passed.
    pub(crate) failure: Option<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Event {
    /// The event as a console line, without the newline.
    pub(crate) fn to_line(&self) -> String {
        let json = serde_json::to_string(self).expect("events are plain data");
        format!("{MARK}{json}")
    }

    /// Reads a console line back; none for any other line.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let (_, json) = line.split_once(MARK)?;
        serde_json::from_str(json.trim_end()).ok()
    }
}
