//! What an earlier run left in a root.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::journal::JournalState;
use super::moves::Roots;
use super::remove::expect_unmounted_stage;
use super::state::State;
use super::{area, originals, second_place, second_staging};
use crate::docker::{Dir, FileKind};
use crate::staging::{JOURNAL, STAGE_NAME};

/// What an earlier run left in a root.
#[derive(Debug)]
pub enum Leftover {
    /// Nothing.
    None,
    /// A staging directory in which no conversion was begun: it can be replaced.
    Stage(PathBuf),
    /// A conversion in any state, with its staging directory.
    Conversion(PathBuf, Box<JournalState>),
}

impl Leftover {
    /// Looks for leftovers in `root`; changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`] if something in the staging directory does not have the form that this tool creates,
    /// [`Error::Journal`] if the journal cannot be understood, [`Error::Mounted`], [`Error::JournalLost`] if it lacks a
    /// conversion that exists, [`Error::ContainersNotMounted`] and similar errors if the containers are not those that
    /// were converted, and [`Error::Io`].
    pub fn look_for(root: &Path) -> Result<Self, Error> {
        // This comes first: a mount there hides what is below it, and does not belong to this tool.
        expect_unmounted_stage(root)?;
        let path = root.join(STAGE_NAME);
        let lost = |found| Error::JournalLost {
            path: path.join(JOURNAL),
            found,
        };
        let place = area::open_beside(root)?;
        let Some(area) = area::open(root)? else {
            return match place {
                Some(place) if second_staging::is_begun(&place)? => {
                    Err(lost(place.path().to_owned()))
                }
                _ => Ok(Self::None),
            };
        };
        match JournalState::read(&path)? {
            Some(mut story) => {
                second_staging::check(root, &story, place.as_ref())?;
                let configs = second_place::configs(root, &path, story.beside.as_ref());
                story.settle(Roots {
                    root,
                    stage: &path,
                    configs: &configs,
                });
                if let Some(found) = moved_unknown_to(&story, (root, &configs), &area)? {
                    return Err(lost(found));
                }
                Ok(Self::Conversion(path, Box::new(story)))
            }
            None => match begun_without_journal(root, &area, place.as_ref())? {
                Some(found) => Err(lost(found)),
                None => Ok(Self::Stage(path)),
            },
        }
    }

    /// The staging directory.
    pub fn stage(&self) -> Option<&Path> {
        match self {
            Self::None => None,
            Self::Stage(path) | Self::Conversion(path, _) => Some(path),
        }
    }

    /// The state of the conversion, if one was begun.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Conversion(_, story) => Some(story.state),
            _ => None,
        }
    }
}

/// The sign that a conversion was begun although no journal says so. The journal is the first thing created in the
/// staging directory and the last one removed, so nothing is beside it unless it was lost.
fn begun_without_journal(
    root: &Path,
    area: &Dir,
    place: Option<&Dir>,
) -> Result<Option<PathBuf>, Error> {
    if let Some(place) = place
        && second_staging::is_begun(place)?
    {
        return Ok(Some(place.path().to_owned()));
    }
    let entries = area.list()?;
    let beside = entries.iter().find(|entry| entry.name != JOURNAL);
    match beside {
        Some(entry) => Ok(Some(area.join(&entry.name))),
        None => devicemapper_beside_aufs(root),
    }
}

/// The sign that more was moved than the journal says, which means that its end is missing. While layers are being
/// written, the driver's home is in the staging directory, and each original is a second name of the config in place.
fn moved_unknown_to(
    story: &JournalState,
    (root, configs): (&Path, &Path),
    area: &Dir,
) -> Result<Option<PathBuf>, Error> {
    if story.state != State::Writing {
        return Ok(None);
    }
    match originals::only_copy(root, configs)? {
        None if area.has_dir("devicemapper")? => Ok(None),
        None => devicemapper_beside_aufs(root),
        found => Ok(found),
    }
}

/// The devicemapper side, if it is in place and the aufs side exists too.
fn devicemapper_beside_aufs(root: &Path) -> Result<Option<PathBuf>, Error> {
    let root = Dir::open(root)?;
    let has_aufs = root
        .dir_if_any("image")
        .is_ok_and(|image| image.is_some_and(|image| image.has_dir("aufs").unwrap_or(true)));
    if !has_aufs || root.kind("devicemapper")? != Some(FileKind::Directory) {
        return Ok(None);
    }
    let home = root.dir("devicemapper")?;
    Ok((!home.list()?.is_empty()).then(|| home.path().to_owned()))
}
