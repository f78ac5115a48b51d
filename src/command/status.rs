//! The state of a conversion.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use super::active_run::ActiveRun;
use super::conditions::written_since;
use super::dead_end::dead_end;
use super::error::Error;
use super::recorded_options::RecordedOptions;
use crate::chain::Chain;
use crate::commit::{
    AufsChanges, Changes, CommitRecord, Conversion, Depth, JournalState, State, VerificationRecord,
    Verifications,
};
use crate::daemon::first_start::told_aufs;
use crate::daemon::{Host, PidFileEntry, named};
use crate::docker::{self, Root};
use crate::shell::own;
use crate::verify::LayerDamage;

/// The state of a conversion, and the possible next steps. The field names are part of the `--json` interface.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The root.
    pub root: PathBuf,
    /// The state: `none`, `writing`, `switching`, `converted`, `rolling-back`, `committing`, `committed`; `unknown` if
    /// an active run changes it too fast to be determined.
    pub state: &'static str,
    /// The run that is working on it now.
    pub running: Option<ActiveRun>,
    /// The pid files of Docker that exist.
    pub docker_pid_files: Vec<PidFileEntry>,
    /// For a converted root: the setting that still makes Docker on this host use aufs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_aufs: Option<String>,
    /// The state in words, with the commands to run next.
    pub meaning: String,
    /// The version of the tool that started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// When it was started, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<u64>,
    /// Devices that a resumed run need not write again.
    pub durable_devices: usize,
    /// The planned number of devices.
    #[serde(skip)]
    layers: Option<u32>,
    /// When the result was moved into place, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switched_at: Option<u64>,
    /// The verification that counts: a failed one takes precedence over a full one, and a full one over a quick one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<VerificationRecord>,
    /// What was written to the devicemapper side after the full verification that counts, as far as this can be
    /// determined; if there is any, `commit` requires another verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_since: Option<String>,
    /// Layers that already differed from what Docker had unpacked before they were converted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<LayerDamage>,
    /// What Docker has done on the converted root since.
    #[serde(skip_serializing_if = "Changes::is_empty")]
    pub changes: Changes,
    /// What happened to the aufs side since it was converted.
    #[serde(skip_serializing_if = "AufsChanges::is_empty")]
    pub aufs_changes: AufsChanges,
    /// Whether the aufs side is incomplete, or differs from what was converted.
    pub way_back_broken: bool,
}

/// Maximum number of looks at a root that a run is changing.
const LOOKS: u32 = 10;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Reports the state; changes nothing and takes no lock. If an active run lets a passing state show, the root is looked
/// at again.
///
/// # Errors
///
/// The path is not a root, or its journal cannot be read.
pub fn status(root: &Path, host: &Host) -> Result<Status, Error> {
    let status = steady(root)?;
    let is_converted = ["converted", "committed"].contains(&status.state);
    Ok(Status {
        docker_pid_files: named(host),
        told_aufs: is_converted.then(|| told_aufs(host)).flatten(),
        ..status
    })
}

fn steady(root: &Path) -> Result<Status, Error> {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut looks = 1;
    loop {
        let before = ActiveRun::on(&path);
        let found = look(&path);
        let after = ActiveRun::on(&path);
        let is_steady = ActiveRun::is_same(before.as_ref(), after.as_ref());
        let is_last = looks == LOOKS;
        match (found, after) {
            (Ok(status), running) if is_steady || is_last => return Ok(status.with(running)),
            (Err(_), Some(running)) if is_last => {
                return Ok(Status::new(path, "unknown", String::new()).with(Some(running)));
            }
            (Err(error), None) if is_steady || is_last => return Err(error),
            _ => {}
        }
        looks += 1;
        sleep(PAUSE);
    }
}

fn look(path: &Path) -> Result<Status, Error> {
    let path = path.to_owned();
    let Some(conversion) = Conversion::find(&path)? else {
        return none(path);
    };
    let story = conversion.story();
    let aufs_changes = conversion.aufs_changes(Depth::Names)?.unwrap_or_default();
    let changes = conversion.changes()?;
    let written_since = written_since_proof(&path, &conversion);
    let latest = story.verified.latest.as_ref();
    let way_back_broken = story.state == State::Converted
        && (!aufs_changes.is_whole() || latest.is_some_and(|verified| verified.aufs_changed));
    Ok(Status {
        running: None,
        docker_pid_files: Vec::new(),
        told_aufs: None,
        layers: RecordedOptions::devices_of(story),
        state: story.state.name(),
        meaning: dead_end(&path)
            .map(|end| end_of(&end, &path))
            .or_else(|| used_meaning(story, &changes, &path))
            .unwrap_or_else(|| {
                let facts = (way_back_broken, written_since.is_some());
                meaning(story, facts, (&path, &changes))
            }),
        tool: Some(story.begun.tool.clone()),
        begun_at: Some(story.begun.at),
        durable_devices: story.durable.len(),
        switched_at: story.switched_at,
        verified: story
            .verified
            .decisive()
            .cloned()
            .map(|verified| VerificationRecord {
                damaged: Vec::new(),
                ..verified.told()
            }),
        written_since,
        damaged: story.verified.damaged.clone(),
        changes,
        aufs_changes,
        way_back_broken,
        root: path,
    })
}

/// What the full verification that counts has not seen of the devicemapper side as it is now.
fn written_since_proof(path: &Path, conversion: &Conversion) -> Option<String> {
    let story = conversion.story();
    let proof = story.verified.full.as_ref()?;
    if story.state != State::Converted {
        return None;
    }
    // Nothing is known of devices that are absent or in use.
    written_since(path, conversion, proof).ok().flatten()
}

/// The text of an error without the root, which is printed before it.
fn end_of(end: &Error, path: &Path) -> String {
    let text = Chain(end).to_string();
    let root = format!("{}: ", path.display());
    text.strip_prefix(&root).map_or(text.clone(), str::to_owned)
}

/// The state in words. Removing the aufs side is not advised before everything was proven.
fn meaning(
    story: &JournalState,
    (way_back_broken, is_written): (bool, bool),
    (path, changes): (&Path, &Changes),
) -> String {
    let rollback = own("rollback", path);
    match (story.state, &story.verified) {
        (State::Converted, _) if way_back_broken => format!(
            "is converted, and the aufs side is not what was converted: `{rollback}` refuses to go back to it"
        ),
        (
            State::Converted,
            Verifications {
                undecided: Some(_), ..
            },
        ) => format!(
            "is converted, but files differ between the devices and aufs, and nothing shows which side is right: `{}` \
             names them",
            own("verify --full", path)
        ),
        (
            State::Converted,
            Verifications {
                failed: Some(_), ..
            },
        ) if changes.loses_by_going_back() => format!(
            "is converted, and a verification of it failed: `{}` goes back to aufs, without what was done since the \
             conversion",
            own("rollback --force", path)
        ),
        (
            State::Converted,
            Verifications {
                failed: Some(_), ..
            },
        ) => {
            format!("is converted, and a verification of it failed: `{rollback}` goes back to aufs")
        }
        (State::Converted, Verifications { full: None, .. }) => {
            format!("is converted: `{rollback}` goes back to aufs")
        }
        (State::Converted, _) if is_written => {
            format!("is converted: `{rollback}` goes back to aufs")
        }
        (State::Committing, _) if story.aufs_is_whole => format!(
            "the removal of the aufs side was interrupted before any of it was removed: `{}` finishes it, \
             `{rollback}` moves the aufs side back to its place and goes back to it",
            own("commit", path)
        ),
        (state, _) => state.meaning(path),
    }
}

/// The state in words of a root on which Docker has worked although it is only partly converted.
fn used_meaning(story: &JournalState, changes: &Changes, path: &Path) -> Option<String> {
    if changes.is_empty() {
        return None;
    }
    let force = own("rollback --force", path);
    match story.state {
        State::Switching => Some(format!(
            "a conversion was interrupted while it was moving its result into place, and Docker has worked on that: \
             `{}` continues and keeps what Docker did, `{force}` goes back and loses it",
            own("resume", path)
        )),
        State::RollingBack => Some(format!(
            "a rollback was interrupted, and Docker has worked on the devicemapper side: `{force}` finishes it and loses what Docker did"
        )),
        _ => None,
    }
}

fn none(path: PathBuf) -> Result<Status, Error> {
    let mut state = "none";
    let mut damaged = Vec::new();
    let meaning = match Root::open(&path) {
        Ok(root) if root.check_target_free().is_err() => {
            "no conversion by aufs2dm; beside the aufs side it has a devicemapper side that aufs2dm did not create, or \
             no longer knows".to_owned()
        }
        Ok(_) => format!("not converted: `{}` converts it", own("convert", &path)),
        Err(docker::Error::NotAufs { .. }) if CommitRecord::read(&path).is_some() => {
            state = "committed";
            CommitRecord::read(&path).map_or_else(String::new, |record| {
                let meaning = record.meaning(&path);
                damaged = record.damaged;
                meaning
            })
        }
        Err(docker::Error::NotAufs { .. }) if path.join("devicemapper").is_dir() => {
            format!(
                "no conversion by aufs2dm in progress; it is a devicemapper root without an aufs side: `{}` shows it, \
                 `{}` checks it",
                own("inspect", &path),
                own("verify", &path)
            )
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Status {
        damaged,
        ..Status::new(path, state, meaning)
    })
}

impl Status {
    /// The status of a root that has no conversion to report.
    fn new(root: PathBuf, state: &'static str, meaning: String) -> Self {
        Self {
            root,
            state,
            running: None,
            docker_pid_files: Vec::new(),
            told_aufs: None,
            meaning,
            tool: None,
            begun_at: None,
            durable_devices: 0,
            layers: None,
            switched_at: None,
            verified: None,
            written_since: None,
            damaged: Vec::new(),
            changes: Changes::default(),
            aufs_changes: AufsChanges::default(),
            way_back_broken: false,
        }
    }

    /// Adds the run that is working on the root: what it will leave is unknown, so nothing else is advised.
    fn with(mut self, running: Option<ActiveRun>) -> Self {
        self.running = running.map(|one| one.of_layers(self.durable_devices, self.layers));
        if let Some(running) = &self.running {
            self.meaning = running.meaning();
        }
        self
    }
}
