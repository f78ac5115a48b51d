//! The location of each part of the devicemapper side: in place, or in the staging directory, if an interrupted move
//! left it there or a rollback brought it back there.

use std::path::PathBuf;

use super::config_paths::directory_of_config;
use super::error::Error;
use super::moves::{Move, Roots};
use super::record::SwitchPlan;

/// The parts that Docker changes, with their locations.
#[derive(Debug)]
pub(super) struct Whereabouts {
    /// The Docker root, which has the containers.
    pub(super) root: PathBuf,
    /// The driver's home.
    pub(super) home: Part,
    /// The image store.
    pub(super) image: Part,
    /// The configs that are replaced now, by path in the root: going back restores the old ones over them. `None`: all
    /// of them, because everything is in place.
    replaced: Option<Vec<String>>,
}

/// A part: a directory.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    /// Whether Docker uses it. If the part is staged or missing altogether, this tool removed what is gone.
    pub(super) is_in_place: bool,
}

impl Part {
    fn of(step: &Move, ground: Roots<'_>) -> Self {
        let is_staged = step.is_staged(ground);
        let (staged, place) = (step.staged(ground), ground.root.join(step.to()));
        Self {
            is_in_place: !is_staged && place.symlink_metadata().is_ok(),
            path: if is_staged { staged } else { place },
        }
    }
}

impl Whereabouts {
    /// Everything is in place, according to the journal.
    pub(super) fn in_place(ground: Roots<'_>) -> Self {
        let part = |inner: &str| Part {
            path: ground.root.join(inner),
            is_in_place: true,
        };
        Self {
            root: ground.root.to_owned(),
            home: part("devicemapper"),
            image: part("image/devicemapper"),
            replaced: None,
        }
    }

    /// Looks for each part of an unfinished move.
    pub(super) fn look(switching: &SwitchPlan, ground: Roots<'_>) -> Self {
        let mut found = Self::in_place(ground);
        let mut replaced = Vec::new();
        for step in &switching.moves {
            match step {
                Move::Place { to, .. } if to == "devicemapper" => {
                    found.home = Part::of(step, ground);
                }
                Move::Place { .. } => found.image = Part::of(step, ground),
                Move::Replace { to, .. } if step.is_replaced(ground) => replaced.push(to.clone()),
                Move::Replace { .. } => {}
            }
        }
        Self {
            replaced: Some(replaced),
            ..found
        }
    }

    /// Whether everything is in place.
    pub(super) fn is_all_in_place(&self) -> bool {
        self.replaced.is_none()
    }

    /// Whether a config is the one for devicemapper.
    pub(super) fn is_replaced(&self, path: &str) -> bool {
        let is_this = |one: &String| one == path;
        self.replaced
            .as_ref()
            .is_none_or(|all| all.iter().any(is_this))
    }

    /// Whether any config of a container is the one for devicemapper.
    pub(super) fn has_replaced(&self, container: &str) -> bool {
        let of = |path: &String| {
            directory_of_config(path).and_then(|path| path.split('/').nth(1)) == Some(container)
        };
        self.replaced.as_ref().is_none_or(|all| all.iter().any(of))
    }
}

/// What is in the place of a part that is still staged: Docker has created it since.
///
/// # Errors
///
/// [`Error::Io`].
pub(super) fn in_the_way(switching: &SwitchPlan, ground: Roots<'_>) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for step in &switching.moves {
        let to = ground.root.join(step.to());
        let is_directory = to.symlink_metadata().is_ok_and(|meta| meta.is_dir());
        if !matches!(step, Move::Place { .. }) || !is_directory || !step.is_staged(ground) {
            continue;
        }
        let mut entries = to.read_dir().map_err(Error::io(&to, "read"))?;
        if entries.next().is_some() {
            found.push(to);
        }
    }
    Ok(found)
}
