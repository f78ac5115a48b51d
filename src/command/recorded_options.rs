//! The options of a conversion as its journal records them: everything that a later run needs to make the same plan
//! again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::conversion_origin::ConversionOrigin;
use super::request::{Choices, Request};
use super::writer::Writer;
use crate::commit::{EditedConfig, JournalState};
use crate::docker::{self, DamageRecord, Model, Use};
use crate::engine::Job;
use crate::engine::kernel::{RequestedTarget, storage_opts};
use crate::plan::{self, Fingerprint, LayerMark, fingerprint_of};
use crate::pool::target::Target;
use crate::sys::birth;

/// The options in the form that the journal stores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedOptions {
    #[serde(flatten)]
    pub(super) choices: Choices,
    /// The number of planned thin devices. Earlier versions did not record it.
    #[serde(default)]
    pub(super) devices: Option<u32>,
    /// The options that the plan was made with.
    pub(super) options: plan::Options,
    /// Where the options were given. Earlier versions did not record it.
    #[serde(default)]
    pub(super) begun_at: Option<ConversionOrigin>,
    /// What was planned with these options.
    pub(super) planned: Option<PlanRecord>,
}

/// A record by which a later run recognizes the same source and plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PlanRecord {
    /// The layers as they were read.
    pub(super) source: Fingerprint,
    /// The plan made from them.
    pub(super) plan: Fingerprint,
    /// Each of the layers, by the index of its device in the plan. Earlier versions did not record them.
    #[serde(default)]
    pub(super) layers: BTreeMap<usize, LayerMark>,
    /// When each container was last started according to its config, by the config's path in the root. Earlier versions
    /// did not record this.
    #[serde(default)]
    pub(super) started: BTreeMap<String, String>,
    /// Images without their layers, and containers with a layer of their own, by id. Earlier versions did not record
    /// them.
    #[serde(default)]
    pub(super) images_without_layers: BTreeSet<String>,
    #[serde(default)]
    pub(super) containers: BTreeSet<String>,
    /// What was damaged, and what becomes of it. Earlier versions refused damage.
    #[serde(default, skip_serializing_if = "DamageRecord::is_empty")]
    pub(super) damage: DamageRecord,
    /// The directory of the branches. Earlier versions did not record it.
    #[serde(default)]
    branches: Option<Directory>,
}

/// The identity of a directory, which a copy does not share: its inode, and its creation time in seconds since 1970 and
/// nanoseconds, if the file system reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Directory {
    inode: u64,
    born: Option<(i64, u32)>,
}

/// When a container was last started, according to its config; `None` if it does not say.
pub(super) fn started_at(config: &[u8]) -> Option<String> {
    docker::started_at(config).ok()?
}

/// Ids of aufs images without their layers. Empty if the store cannot be read.
pub(super) fn images_without_layers(root: &Path) -> BTreeSet<String> {
    let found = docker::images_without_layers(&root.join("image/aufs"));
    found.map_or_else(|_| BTreeSet::new(), |images| images.into_keys().collect())
}

/// Ids of containers that have a layer of their own.
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
    /// The record of a plan that was made from `layers`.
    pub(super) fn of(
        (root, model): (&Path, &Model),
        job: &dyn Job,
        layers: Vec<LayerMark>,
        configs: &[EditedConfig],
    ) -> Self {
        let source = fingerprint_of(layers.iter());
        let mut marks: HashMap<String, LayerMark> = layers
            .into_iter()
            .map(|mark| (mark.id.clone(), mark))
            .collect();
        let devices = job.plan().devices.iter().enumerate();
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
            plan: job.fingerprint(),
            layers: layers.collect(),
            started: started.collect(),
            images_without_layers: images_without_layers(root),
            containers: with_own_layer(model),
            damage: DamageRecord::default(),
            branches: Directory::of_branches(root),
        }
    }

    /// The same record with what was damaged.
    pub(super) fn with_damage(self, damage: &DamageRecord) -> Self {
        Self {
            damage: damage.clone(),
            ..self
        }
    }

    /// Whether `root` has the branches that were read, and not a copy of them, which would have its own times.
    pub(super) fn is_same_place(&self, root: &Path) -> bool {
        self.branches == Directory::of_branches(root)
    }

    /// The layers that are durable in `story`, each as it was when the conversion began.
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

    /// What was planned, if the journal has it.
    pub(super) fn planned_in(story: &JournalState) -> Option<PlanRecord> {
        let order: Self = serde_json::from_value(story.begun.order.clone()).ok()?;
        order.planned
    }

    /// The recorded location of the pool, if there is one. The direct engine always uses loop files.
    pub(super) fn target_of(order: &serde_json::Value) -> Option<Target> {
        let recorded = Self::deserialize(order).ok()?;
        Some(recorded.choices.writer.target().clone())
    }

    /// The number of planned thin devices, if the journal has it.
    pub(super) fn devices_of(story: &JournalState) -> Option<u32> {
        let order: Self = serde_json::from_value(story.begun.order.clone()).ok()?;
        order.devices
    }

    /// The storage options that let Docker find the recorded pool; none for loop files, or if the journal does not have
    /// them.
    pub(super) fn storage_opts_of(story: &JournalState) -> Vec<String> {
        let target = Self::target_of(&story.begun.order);
        target.as_ref().map_or_else(Vec::new, storage_opts)
    }

    /// What is made outside the root, if anything.
    pub(super) fn outside(&self) -> Option<RequestedTarget> {
        let target = self.choices.writer.target();
        (*target != Target::LoopFiles).then(|| RequestedTarget {
            target: target.clone(),
            transaction_before: self.options.transaction_before,
            devices: self.devices,
        })
    }

    /// Replaces the name of the operator's pool by its device-mapper name: a path such as `/dev/dm-3` may lead to
    /// another device after a reboot.
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

/// Makes the paths absolute: a later run may be started in another directory.
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

    /// The options in the journal of a conversion that version 0.1.0 began.
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
