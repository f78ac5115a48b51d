//! Reads the layers' branches, many in parallel, and the containers' configurations.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;

use super::damage::Damage;
use super::error::Error;
use super::lost_flags::LostFlags;
use super::open_root::OpenRoot;
use crate::aufs::{self, Branch, Counts, OpaqueDirs};
use crate::chain::Chain;
use crate::commit::EditedConfig;
use crate::docker::{AufsLayer, CacheId, Model, Root, Use, config_with_driver};
use crate::progress::{Cancel, Phase, Progress};
use crate::units::Bytes;

/// The driver that containers are switched to, as their configurations spell it.
const DRIVER: &str = "devicemapper";

/// All layers after they were read.
pub(super) struct LayersRead {
    pub(super) layers: Vec<crate::source::Layer>,
    pub(super) counts: Counts,
    pub(super) lost_flags: LostFlags,
    /// Names in the branches that whiteouts hide, as paths relative to the root.
    pub(super) hidden: BTreeSet<String>,
    pub(super) notices: Vec<String>,
}

/// Reads every layer's branch. Those that cannot be read are left out, if that is allowed.
pub(super) fn read_layers(
    source: &mut OpenRoot,
    progress: &dyn Progress,
) -> Result<LayersRead, Error> {
    let pool = threads(source.request.jobs)?;
    let layers = &source.model.aufs;
    progress.start(Phase::Read, layers.len() as u64);
    let read: Vec<(CacheId, Result<Branch, Error>)> = pool.install(|| {
        let read = |layer: &AufsLayer| {
            let branch = read_layer(source, layer);
            progress.inc(1);
            (layer.id.clone(), branch)
        };
        layers.par_iter().map(read).collect()
    });
    progress.finish();
    let mut branches = HashMap::with_capacity(read.len());
    let mut damage = Vec::new();
    for (id, branch) in read {
        match branch {
            Ok(branch) => {
                branches.insert(id, branch);
            }
            Err(Error::Branch {
                layer,
                hits,
                source: error,
            }) => {
                let path = source.root.branch(&layer);
                let cause = Chain(&error).to_string();
                damage.push((id, Damage::of_layer(&layer, path, cause, hits)));
            }
            Err(error) => return Err(error),
        }
    }
    source.settle_damage(damage)?;
    let of_layer = |layer: &AufsLayer| branches.remove(&layer.id);
    let branches = source.model.aufs.iter().filter_map(of_layer).collect();
    Ok(assemble(source, branches))
}

/// A pool of threads for reading branches.
pub(super) fn threads(jobs: NonZeroUsize) -> Result<rayon::ThreadPool, Error> {
    let jobs = jobs.get();
    rayon::ThreadPoolBuilder::new()
        .num_threads(jobs)
        .build()
        .map_err(|source| Error::Threads { jobs, source })
}

/// Reads one layer's branch.
pub(super) fn read_layer(source: &OpenRoot, layer: &AufsLayer) -> Result<Branch, Error> {
    read_branch((&source.root, &source.model), layer, &source.request.cancel)
}

/// Reads one layer's branch in a root that is not being converted.
pub(super) fn read_branch(
    (root, model): (&Root, &Model),
    layer: &AufsLayer,
    cancel: &Cancel,
) -> Result<Branch, Error> {
    log::info!("layer {}", layer.id);
    let branch = root.branch(&layer.id);
    if layer.is_empty {
        let owner = root.owner();
        return Ok(Branch::empty((owner.uid, owner.gid)));
    }
    let tar_split = layer.uses.iter().find_map(|used| match used {
        Use::ImageLayer(chain) => Some(root.tar_split(chain)),
        _ => None,
    });
    let stop = || cancel.is_set();
    aufs::read_branch_unless(&stop, &branch, tar_split.as_deref()).map_err(|error| match error {
        aufs::Error::Stopped => Error::Interrupted,
        error => Error::Branch {
            layer: layer.id.clone(),
            hits: model.users_of(&layer.id),
            source: error,
        },
    })
}

/// The layer that a branch was read from.
pub(super) fn layer_of(
    (root, model): (&Root, &Model),
    layer: &AufsLayer,
    branch: Branch,
) -> crate::source::Layer {
    crate::source::Layer {
        id: layer.id.clone(),
        parent: layer.parent.map(|place| model.aufs[place].id.clone()),
        branch: root.branch(&layer.id),
        tree: branch.tree,
    }
}

fn assemble(source: &OpenRoot, branches: Vec<Branch>) -> LayersRead {
    let mut notices = double_opaque(&source.model, &branches);
    let mut counts = Counts::default();
    let mut lost_flags = LostFlags::none();
    let mut hidden = BTreeSet::new();
    let mut layers = Vec::with_capacity(branches.len());
    for (layer, branch) in source.model.aufs.iter().zip(branches) {
        let users = source.model.users_of(&layer.id);
        notices.extend(
            branch
                .findings
                .iter()
                .map(|finding| format!("layer {}: {finding} ({users})", layer.id)),
        );
        lost_flags.add(&layer.id, &branch.flagged, &users);
        hidden.extend(branch.findings.iter().filter_map(|finding| {
            let inner = finding.hidden()?;
            let inner = String::from_utf8_lossy(inner);
            Some(format!("aufs/diff/{}/{inner}", layer.id))
        }));
        counts.entries += branch.counts.entries;
        counts.bytes = Bytes(counts.bytes.0 + branch.counts.bytes.0);
        counts.whiteouts += branch.counts.whiteouts;
        counts.opaque_markers += branch.counts.opaque_markers;
        layers.push(layer_of((&source.root, &source.model), layer, branch));
    }
    LayersRead {
        layers,
        counts,
        lost_flags,
        hidden,
        notices,
    }
}

/// Notices about directories that aufs displayed wrongly because two layers of a chain mark them opaque.
fn double_opaque(model: &Model, branches: &[Branch]) -> Vec<String> {
    let mut chains: Vec<OpaqueDirs> = Vec::with_capacity(branches.len());
    let mut notices = Vec::new();
    for (layer, branch) in model.aufs.iter().zip(branches) {
        // Parents come before their children in the model.
        let below = layer
            .parent
            .map(|place| chains[place].clone())
            .unwrap_or_default();
        let (chain, doubles) = below.on_top(&Arc::from(layer.id.as_str()), &branch.tree);
        notices.extend(
            doubles
                .iter()
                .map(|double| format!("{double} ({})", model.users_of(&layer.id))),
        );
        chains.push(chain);
    }
    notices
}

/// The containers' configurations with the driver replaced, in memory.
pub(super) fn switch_configs(root: &Root, model: &Model) -> Result<Vec<EditedConfig>, Error> {
    let mut edited = Vec::new();
    let left_out = &model.left_out.containers;
    for (id, container) in model
        .containers
        .iter()
        .filter(|(id, container)| container.is_aufs() && !left_out.contains(id))
    {
        for name in &container.configs {
            let path = PathBuf::from("containers").join(id.as_str()).join(name);
            let content = root.read_config(id, name)?;
            let changed = config_with_driver(&content, DRIVER).map_err(|source| Error::Config {
                path: root.path().join(&path),
                source,
            })?;
            edited.extend(changed.map(|edited| EditedConfig {
                path,
                original: content,
                content: edited,
            }));
        }
    }
    Ok(edited)
}
