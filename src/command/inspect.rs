//! What a root contains, and what this tool did with it.

use std::path::Path;

use serde::Serialize;

use super::active_run::ActiveRun;
use super::error::Error;
use crate::chain::Chain;
use crate::commit::{CommitRecord, Conversion, JournalState, State};
use crate::date;
use crate::docker::{self, Inventory, Root, RootParts, Survey};
use crate::shell::own;
use crate::tree::shown;

/// A root in numbers and lists. The field names are part of the `--json` interface.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// What this tool did with it; null if nothing was done or nothing is known.
    pub conversion: Option<ConversionSummary>,
    /// What it contains: on the side that Docker uses, if there are two.
    #[serde(flatten)]
    pub inventory: Inventory,
}

/// A conversion. Times are in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConversionSummary {
    /// Its state, as `status` names it.
    pub state: &'static str,
    /// The version of the tool that started it.
    pub tool: String,
    /// When it was started.
    pub begun_at: u64,
    /// When its result was moved into place.
    pub switched_at: Option<u64>,
    /// When the aufs side was removed.
    pub committed_at: Option<u64>,
    /// The state in words.
    pub meaning: String,
}

/// Inspects a root; changes nothing.
///
/// # Errors
///
/// It is not a Docker root in a form that can be read.
pub fn inspect(root: &Path) -> Result<Inspection, Error> {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let running = ActiveRun::on(&path);
    let found = match Conversion::find(&path) {
        Ok(found) => found,
        Err(error) => {
            // An active run causes such states in passing.
            if running.is_none() {
                log::warn!("{}", Chain(&error));
            }
            None
        }
    };
    let mut conversion = match &found {
        Some(found) => Some(ConversionSummary::by(found.story(), &path)),
        None => ConversionSummary::committed(&path),
    };
    if let (Some(running), Some(conversion)) = (running, &mut conversion) {
        conversion.meaning = running.meaning();
    }
    let is_in_place = found
        .is_some_and(|found| matches!(found.story().state, State::Converted | State::Committing));
    let inventory = inventory(&path, is_in_place)?;
    // A record does not apply to a root that has an aufs side again.
    let conversion =
        conversion.filter(|one| one.committed_at.is_none() || inventory.driver == "devicemapper");
    Ok(Inspection {
        conversion,
        inventory,
    })
}

pub(super) fn inventory(path: &Path, is_in_place: bool) -> Result<Inventory, Error> {
    let has_devices = Inventory::is_devicemapper(path);
    if is_in_place && has_devices {
        return Ok(Inventory::of_devicemapper(path)?);
    }
    match Root::open(path) {
        Err(docker::Error::NotAufs { .. } | docker::Error::MissingPart { .. }) if has_devices => {
            Ok(Inventory::of_devicemapper(path)?)
        }
        Err(docker::Error::MissingPart { .. } | docker::Error::LinkedPart { .. }) => {
            let parts = RootParts::open(path)?;
            let inventory = Inventory::new(parts.data_dir(), &Survey::of_parts(&parts));
            Ok(inventory.map_err(docker::Error::from)?)
        }
        opened => {
            let root = opened?;
            let inventory = Inventory::new(root.data_dir(), &Survey::read(&root));
            Ok(inventory.map_err(docker::Error::from)?)
        }
    }
}

impl ConversionSummary {
    fn by(story: &JournalState, path: &Path) -> Self {
        let tool = story.begun.tool.escape_debug().to_string();
        let meaning = match (story.state, story.switched_at) {
            (State::Converted, Some(at)) => format!(
                "converted on {} by aufs2dm {tool}; {}",
                date::utc(at),
                aufs_side(path)
            ),
            (state, _) => state.meaning(path),
        };
        Self {
            state: story.state.name(),
            tool: story.begun.tool.clone(),
            begun_at: story.begun.at,
            switched_at: story.switched_at,
            committed_at: None,
            meaning,
        }
    }

    fn committed(path: &Path) -> Option<Self> {
        let record = CommitRecord::read(path)?;
        let tool = record.tool.escape_debug().to_string();
        let converted = match record.switched_at {
            Some(at) => format!("converted on {} by aufs2dm {tool}", date::utc(at)),
            None => format!("converted by aufs2dm {tool}"),
        };
        let meaning = format!(
            "{converted}; the aufs side was removed on {} by commit",
            date::utc(record.committed_at)
        );
        Some(Self {
            state: "committed",
            tool: record.tool,
            begun_at: record.begun_at,
            switched_at: record.switched_at,
            committed_at: Some(record.committed_at),
            meaning,
        })
    }
}

/// What happened to the aufs side of a converted root, in words.
fn aufs_side(path: &Path) -> String {
    match Root::open(path) {
        Ok(_) => format!(
            "the aufs side is kept, `{}` goes back to it",
            own("rollback", path)
        ),
        Err(docker::Error::MissingPart { path: missing }) => format!(
            "the aufs side is incomplete, {} is missing: `{}` shows the details",
            shown(&missing),
            own("status", path)
        ),
        Err(_) => format!(
            "the aufs side is missing: `{}` shows the details",
            own("status", path)
        ),
    }
}
