//! What a conversion was ordered to do, as its journal keeps it: all that a later run must know to plan the same again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conversion_origin::ConversionOrigin;
use super::request::{Choices, Request};
use super::writer::{EngineJob, Writer, pool_options};
use crate::commit::{EditedConfig, JournalState};
use crate::docker::{self, Model, Use};
use crate::engine::kernel::RequestedTarget;
use crate::plan::{self, Fingerprint, LayerMark, fingerprint_of};
use crate::pool::target::Target;
use crate::sys::birth;

/// The form in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedOptions {
    #[serde(flatten)]
    pub(super) choices: Choices,
    /// How many thin devices were planned. Earlier versions did not note it.
    #[serde(default)]
    pub(super) devices: Option<u32>,
    /// What the plan was made with.
    pub(super) options: plan::Options,
    /// Where it was given. Earlier versions did not note it.
    #[serde(default)]
    pub(super) begun_at: Option<ConversionOrigin>,
    /// What was planned from these options.
    pub(super) planned: Option<PlanRecord>,
}

/// By which a later run sees that it has the same before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PlanRecord {
    /// The layers as they were read.
    pub(super) source: Fingerprint,
    /// The plan made of them.
    pub(super) plan: Fingerprint,
    /// Each of them, by its device's place in the plan. Earlier versions did not note it.
    #[serde(default)]
    pub(super) layers: BTreeMap<usize, LayerMark>,
    /// When containers were last started, as their configs say it, by these' paths in the root. Earlier versions did not note it.
    #[serde(default)]
    pub(super) started: BTreeMap<String, String>,
    /// Images that were without their layers, and containers that had one of their own, by their ids. Earlier versions did not note them.
    #[serde(default)]
    pub(super) images_without_layers: BTreeSet<String>,
    #[serde(default)]
    pub(super) containers: BTreeSet<String>,
    /// The directory of the branches. Earlier versions did not note it.
    #[serde(default)]
    branches: Option<Directory>,
}

/// A directory, as a copy of it is not: its inode, and when it was made, in seconds since 1970 and nanoseconds, where the file system tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    inode: u64,
    born: Option<(i64, u32)>,
}

/// When a container was last started, as its config says it.
pub(super) fn started_at(config: &[u8]) -> Option<String> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let started = config.get("State")?.get("StartedAt")?;
    Some(started.as_str()?.to_owned())
}

/// Images of aufs without their layers, by their ids. A store that cannot be read tells of none.
pub(super) fn images_without_layers(root: &Path) -> BTreeSet<String> {
    let found = docker::images_without_layers(&root.join("image/aufs"));
    found.map_or_else(|_| BTreeSet::new(), |images| images.into_keys().collect())
}

/// Containers that have a layer of their own, by their ids.
pub(super) fn with_own_layer(model: &Model) -> BTreeSet<String> {
    let uses = model.aufs.iter().flat_map(|layer| &layer.uses);
    uses.filter_map(|used| match used {
        Use::Writable(id) => Some(id.to_string()),
        _ => None,
    })
    .collect()
}

impl Directory {
    fn of_branches(root: &Path) -> Option<Self> {
        let path = root.join("aufs/diff");
        Some(Self {
            inode: path.symlink_metadata().ok()?.ino(),
            born: birth(&path),
        })
    }
}

impl PlanRecord {
    /// Of a plan that was made of `layers`.
    pub(super) fn of(
        (root, model): (&Path, &Model),
        work: &EngineJob,
        layers: Vec<LayerMark>,
        configs: &[EditedConfig],
    ) -> Self {
        let source = fingerprint_of(layers.iter());
        let mut marks: HashMap<String, LayerMark> = layers
            .into_iter()
            .map(|mark| (mark.id.clone(), mark))
            .collect();
        let devices = work.plan().devices.iter().enumerate();
        let layers = devices.filter_map(|(at, device)| {
            let layer = device.layer.as_ref()?;
            Some((at, marks.remove(layer.id.as_str())?))
        });
        let started = configs.iter().map(|config| {
            let path = config.path.to_string_lossy().into_owned();
            (path, started_at(&config.original).unwrap_or_default())
        });
        Self {
            source,
            plan: work.fingerprint(),
            layers: layers.collect(),
            started: started.collect(),
            images_without_layers: images_without_layers(root),
            containers: with_own_layer(model),
            branches: Directory::of_branches(root),
        }
    }

    /// Whether `root` has the branches that were read, and no copy of them, which has times of its own.
    pub(super) fn is_same_place(&self, root: &Path) -> bool {
        self.branches == Directory::of_branches(root)
    }

    /// Of those that are durable in `story`, each as it was when the conversion began.
    pub(super) fn durable<'s>(
        &'s self,
        story: &'s JournalState,
    ) -> impl Iterator<Item = &'s LayerMark> {
        let devices = story.durable.iter();
        devices.filter_map(|device| self.layers.get(device))
    }
}

impl RecordedOptions {
    pub(super) fn new(request: &Request, options: &plan::Options) -> Self {
        Self {
            planned: None,
            devices: None,
            begun_at: Some(ConversionOrigin::new(&request.root, &request.host)),
            choices: Choices {
                writer: absolute(request.choices.writer.clone()),
                ..request.choices.clone()
            },
            options: options.clone(),
        }
    }

    /// What was planned, if the journal tells.
    pub(super) fn planned_in(story: &JournalState) -> Option<PlanRecord> {
        let order: Self = serde_json::from_value(story.begun.order.clone()).ok()?;
        order.planned
    }

    /// Where the pool was to be, if an order tells. That of the direct engine is in loop files.
    pub(super) fn target_of(order: &serde_json::Value) -> Option<Target> {
        match Self::deserialize(order).ok()?.choices.writer {
            Writer::Direct => Some(Target::LoopFiles),
            Writer::Kernel { target, .. } => Some(target),
        }
    }

    /// How many thin devices were planned, if the journal tells.
    pub(super) fn devices_of(story: &JournalState) -> Option<u32> {
        let order: Self = serde_json::from_value(story.begun.order.clone()).ok()?;
        order.devices
    }

    /// The storage options by which Docker finds the pool that was ordered; none for loop files, or if the journal does not tell.
    pub(super) fn storage_opts_of(story: &JournalState) -> Vec<String> {
        let order = serde_json::from_value::<Self>(story.begun.order.clone());
        match order.map(|order| order.choices.writer) {
            Ok(Writer::Kernel { target, .. }) => pool_options(&target),
            Ok(Writer::Direct) | Err(_) => Vec::new(),
        }
    }

    /// What is made outside of the root, if anything is.
    pub(super) fn outside(&self) -> Option<RequestedTarget> {
        match &self.choices.writer {
            Writer::Direct
            | Writer::Kernel {
                target: Target::LoopFiles,
                ..
            } => None,
            Writer::Kernel { target, .. } => Some(RequestedTarget {
                target: target.clone(),
                transaction_before: self.options.transaction_before,
                devices: self.devices,
            }),
        }
    }

    /// Names the operator's pool as device-mapper does: a path such as `/dev/dm-3` may lead to another after a boot.
    pub(super) fn name_pool(&mut self, name: Option<&str>) {
        if let (
            Some(name),
            Writer::Kernel {
                target: Target::ThinPool { path },
                ..
            },
        ) = (name, &mut self.choices.writer)
        {
            *path = Path::new("/dev/mapper").join(name);
        }
    }
}

/// A later run may be started elsewhere.
fn absolute(writer: Writer) -> Writer {
    let absolute = |path: std::path::PathBuf| std::path::absolute(&path).unwrap_or(path);
    match writer {
        Writer::Direct => Writer::Direct,
        Writer::Kernel {
            target,
            file_system,
        } => Writer::Kernel {
            target: match target {
                Target::LoopFiles => Target::LoopFiles,
                Target::Devices { data, metadata } => Target::Devices {
                    data: absolute(data),
                    metadata: absolute(metadata),
                },
                Target::ThinPool { path } => Target::ThinPool {
                    path: absolute(path),
                },
            },
            file_system,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What a journal has that was begun by version 0.1.0.
    #[test]
    fn the_options_of_a_journal_are_one_object_each_and_keep_their_names() {
        let recorded = json!({
            "orphans": "leave-out",
            "writer": "direct",
            "switch_daemon": true,
            "verify": false,
            "devices": 31,
            "options": {
                "base_size": null,
                "data_size": 67_108_864,
                "metadata_size": null,
                "checksums": "metadata",
                "transaction_before": 0,
                "uuid": "20774b68-dea4-4a3f-8752-8485289d79ec",
                "hash_seed": [1, 2, 3, 4],
                "created": [1_795_954_145, 255_037_006],
            },
            "begun_at": null,
            "planned": null,
        });
        let options: RecordedOptions = serde_json::from_value(recorded.clone()).unwrap();
        assert_eq!(serde_json::to_value(options).unwrap(), recorded);
    }
}
