//! What is damaged in a root, without converting it.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::damage::Damage;
use super::error::Error;
use super::inspect::inventory;
use super::layer_proof::is_layer;
use super::read::read_branch;
use crate::chain::Chain;
use crate::commit::{Conversion, State};
use crate::docker::{
    self, AufsLayer, CacheId, Class, Hits, Inventory, Model, Orphans, ProblemSummary, Root,
    RootParts, Survey,
};
use crate::progress::Cancel;

/// What is damaged in a root. The field names are part of the `--json` interface.
#[derive(Debug, Serialize)]
pub struct Health {
    /// The root.
    #[serde(with = "crate::path_form")]
    pub root: PathBuf,
    /// What was looked at, in words.
    pub looked_at: &'static str,
    /// Everything that is damaged.
    pub damage: Vec<Damage>,
}

/// Looks for damage on the side of a root that Docker uses; changes nothing.
///
/// # Errors
///
/// It is not a Docker root, or [`Error::Interrupted`].
pub fn health(root: &Path, cancel: &Cancel) -> Result<Health, Error> {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let found = Conversion::find(&path).ok().flatten();
    let is_in_place = found
        .is_some_and(|found| matches!(found.story().state, State::Converted | State::Committing));
    if is_in_place && Inventory::is_devicemapper(&path) {
        return of_devices(&path);
    }
    match Root::open(&path) {
        Ok(root) => of_aufs(&root, cancel),
        Err(docker::Error::NotAufs { .. } | docker::Error::MissingPart { .. })
            if Inventory::is_devicemapper(&path) =>
        {
            of_devices(&path)
        }
        Err(error @ (docker::Error::MissingPart { .. } | docker::Error::LinkedPart { .. })) => {
            of_parts(path, &error)
        }
        Err(error) => Err(error.into()),
    }
}

/// What there is of a root that cannot be opened, with the reason.
fn of_parts(path: PathBuf, why: &docker::Error) -> Result<Health, Error> {
    let survey = Survey::of_parts(&RootParts::open(&path)?);
    let whole = Damage {
        class: Class::WholeRoot,
        object: "Docker root".to_owned(),
        hits: Hits {
            everything: true,
            ..Hits::default()
        },
        path: path.clone(),
        cause: why.to_string(),
        consequence: Class::WholeRoot.consequence().to_owned(),
    };
    let others = survey.problems().iter().map(Damage::of);
    Ok(Health {
        root: path,
        looked_at: "what there is of Docker's stores",
        damage: std::iter::once(whole).chain(others).collect(),
    })
}

fn of_devices(path: &Path) -> Result<Health, Error> {
    let inventory = inventory(path, true)?;
    let damage = inventory.problems.into_iter();
    Ok(Health {
        root: path.to_owned(),
        looked_at: "the stores of the devicemapper side",
        damage: damage.map(|problem| of_problem(path, problem)).collect(),
    })
}

fn of_problem(path: &Path, problem: ProblemSummary) -> Damage {
    Damage {
        class: problem.class.unwrap_or(Class::Damaged),
        object: "devicemapper side".to_owned(),
        hits: problem.hits,
        path: path.join("image/devicemapper"),
        cause: problem.message,
        consequence: String::new(),
    }
}

fn of_aufs(root: &Root, cancel: &Cancel) -> Result<Health, Error> {
    let proof = |branch: &CacheId, chain, diff| is_layer(root, cancel, (branch, chain, diff));
    let survey = Survey::with_proof(root, &proof);
    let mut damage: Vec<Damage> = survey.problems().iter().map(Damage::of).collect();
    if let Ok(model) = survey.into_model(Orphans::Convert) {
        let read = |layer| look_at_branch(root, &model, layer, cancel);
        let looked: Result<Vec<_>, Error> = model.aufs.par_iter().map(read).collect();
        damage.extend(looked?.into_iter().flatten());
    }
    damage.sort_by(|a, b| (a.class, &a.path).cmp(&(b.class, &b.path)));
    Ok(Health {
        root: root.path().to_owned(),
        looked_at: "Docker's stores and the names and attributes in all layers; files' contents were not read",
        damage,
    })
}

fn look_at_branch(
    root: &Root,
    model: &Model,
    layer: &AufsLayer,
    cancel: &Cancel,
) -> Result<Option<Damage>, Error> {
    match read_branch((root, model), layer, cancel) {
        Ok(_) => Ok(None),
        Err(Error::Branch {
            layer,
            hits,
            source,
        }) => {
            let cause = Chain(&source).to_string();
            Ok(Some(Damage::of_layer(
                &layer,
                root.branch(&layer),
                cause,
                hits,
            )))
        }
        Err(error) => Err(error),
    }
}
