//! Fingerprints that show whether a plan, or its input, is the same as before.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::devices::Plan;
use super::layout::{LaidDevice, Layout};
use crate::source::Layer;
use crate::tree::{Kind, LayerTree, Meta, Timestamp};

/// A SHA-256 digest, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A digest over values with a fixed or a preceding length, so that no two sequences look the same.
#[derive(Default)]
struct Sum(Sha256);

impl Sum {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn time(&mut self, time: Timestamp) {
        self.0.update(time.sec().to_le_bytes());
        self.0.update(time.nsec().to_le_bytes());
    }

    fn finish(self) -> Fingerprint {
        Fingerprint(format!("{:x}", self.0.finalize()))
    }
}

/// The state of a layer when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMark {
    /// The layer's id.
    pub id: String,
    /// Its parent, names, attributes, sizes and links. It covers contents only as far as sizes and times reflect them,
    /// and leaves out the times that reading and copying a root change.
    pub content: Fingerprint,
    /// When each of its files was last changed, by the time that nobody can set.
    pub times: Fingerprint,
}

impl LayerMark {
    /// The mark of a layer.
    pub fn of(layer: &Layer) -> Self {
        let parent = layer.parent.as_ref().map_or("", |id| id.as_str());
        let (mut sum, mut times) = (Sum::default(), Sum::default());
        sum.bytes(parent.as_bytes());
        tree((&mut sum, &mut times), &layer.tree);
        Self {
            id: layer.id.to_string(),
            content: sum.finish(),
            times: times.finish(),
        }
    }
}

/// The fingerprint of layers when they were read, without their times of change.
pub fn fingerprint_of<'a>(layers: impl Iterator<Item = &'a LayerMark>) -> Fingerprint {
    let mut sum = Sum::default();
    for layer in layers {
        sum.bytes(layer.id.as_bytes());
        sum.bytes(layer.content.0.as_bytes());
    }
    sum.finish()
}

/// Adds a tree in the order of names, whatever the order in which the directories were read.
fn tree((sum, times): (&mut Sum, &mut Sum), tree: &LayerTree) {
    let mut numbers = vec![None; tree.nr_nodes()];
    let mut stack = vec![LayerTree::ROOT];
    let mut next = 0_u64;
    while let Some(id) = stack.pop() {
        let place = id.index();
        if let Some(number) = numbers[place] {
            // Another link to an entry that was already added.
            sum.number(number);
            continue;
        }
        numbers[place] = Some(next);
        next += 1;
        let node = tree.node(id);
        meta(sum, &node.meta);
        times.time(node.meta.ctime);
        kind(sum, &node.kind);
        if let Kind::Directory(directory) = &node.kind {
            for entry in directory.entries() {
                sum.bytes(entry.name);
                stack.push(entry.node);
            }
        }
    }
}

fn meta(sum: &mut Sum, meta: &Meta) {
    for number in [u64::from(meta.mode), meta.uid.into(), meta.gid.into()] {
        sum.number(number);
    }
    sum.time(meta.mtime);
    for (name, value) in meta.xattrs.iter() {
        sum.bytes(name);
        sum.bytes(value);
    }
}

fn kind(sum: &mut Sum, kind: &Kind) {
    match kind {
        Kind::Directory(directory) => {
            sum.bytes(b"directory");
            sum.number(directory.is_opaque().into());
            sum.number(directory.removed().len() as u64);
            for name in directory.removed() {
                sum.bytes(name);
            }
            sum.number(directory.entries().len() as u64);
        }
        Kind::Regular(regular) => {
            sum.bytes(b"file");
            sum.number(regular.size);
            for segment in regular.segments.iter().flat_map(|segments| segments.iter()) {
                sum.number(segment.start);
                sum.number(segment.end);
            }
        }
        Kind::Symlink(target) => {
            sum.bytes(b"symlink");
            sum.bytes(target);
        }
        other => sum.bytes(format!("{other:?}").as_bytes()),
    }
}

impl Plan {
    /// The fingerprint of its devices, ids and sizes.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut sum = Sum::default();
        self.feed(&mut sum);
        sum.finish()
    }

    fn feed(&self, sum: &mut Sum) {
        sum.bytes(self.file_system.to_string().as_bytes());
        for number in [
            self.base_size.0,
            self.bytes_per_inode.into(),
            self.transaction_before,
        ] {
            sum.number(number);
        }
        for device in &self.devices {
            let layer = device.layer.as_ref().map_or("", |layer| layer.id.as_str());
            sum.bytes(layer.as_bytes());
            sum.number(device.parent.map_or(u64::MAX, |parent| parent.0 as u64));
            sum.number(device.thin_id.value().into());
            sum.number(device.transaction_id);
        }
    }
}

impl Layout {
    /// The fingerprint of the plan and of the place of every block.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut sum = Sum::default();
        self.plan.feed(&mut sum);
        sum.bytes(self.uuid.as_bytes());
        sum.number(self.data_size.0);
        sum.number(self.metadata_size.0);
        for laid in &self.devices {
            place(&mut sum, laid);
        }
        sum.finish()
    }
}

fn place(sum: &mut Sum, laid: &LaidDevice) {
    sum.number(laid.first_block.0);
    sum.number(laid.clusters.len() as u64);
    for &cluster in &laid.clusters {
        sum.number(cluster.into());
    }
    for run in &laid.delta.data {
        for number in [run.physical, run.logical, run.blocks] {
            sum.number(number.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::CacheId;
    use crate::tree::{Listing, NodeId, Regular};

    /// Two files added in this order, one of which may have a second name.
    fn layer(names: [&str; 2], linked: bool) -> Layer {
        let mut tree = LayerTree::new(Meta::default());
        let mut entries: Vec<(Box<[u8]>, NodeId)> = names
            .iter()
            .map(|name| {
                let kind = Kind::Regular(Regular {
                    size: name.len() as u64,
                    segments: None,
                });
                let node = tree.add(Meta::default(), kind);
                (name.as_bytes().into(), node)
            })
            .collect();
        if linked {
            entries.push((b"z".as_slice().into(), entries[0].1));
        }
        tree.set_directory(
            LayerTree::ROOT,
            Listing {
                opaque: false,
                removed: vec![],
                entries,
            },
        );
        Layer {
            id: CacheId::parse(b"abc").unwrap(),
            parent: None,
            branch: "/b".into(),
            tree,
        }
    }

    fn of(layer: &Layer) -> Fingerprint {
        LayerMark::of(layer).content
    }

    #[test]
    fn a_change_behind_the_times_of_modification_shows_in_the_times_alone() {
        let before = LayerMark::of(&layer(["a", "bb"], false));
        let mut changed = layer(["a", "bb"], false);
        changed.tree.node_mut(LayerTree::ROOT).meta.ctime = Timestamp::new(1, 2);
        let after = LayerMark::of(&changed);
        assert_eq!(after.content, before.content);
        assert_ne!(after.times, before.times);
        assert_eq!(
            fingerprint_of([&after].into_iter()),
            fingerprint_of([&before].into_iter())
        );
    }

    #[test]
    fn the_order_in_which_a_directory_is_read_does_not_matter() {
        let (there, back) = (layer(["a", "bb"], false), layer(["bb", "a"], false));
        assert_eq!(of(&there), of(&back));
    }

    #[test]
    fn names_links_sizes_times_and_modes_matter() {
        let before = of(&layer(["a", "bb"], false));
        assert_ne!(of(&layer(["a", "cc"], false)), before);
        assert_ne!(of(&layer(["a", "bb"], true)), before);
        let changes: [fn(&mut Meta); 3] = [
            |meta| meta.mode = 0o644,
            |meta| meta.uid = 7,
            |meta| meta.mtime = Timestamp::new(1, 2),
        ];
        for change in changes {
            let mut layer = layer(["a", "bb"], false);
            let id = layer
                .tree
                .directory(LayerTree::ROOT)
                .unwrap()
                .entry(b"a")
                .unwrap();
            change(&mut layer.tree.node_mut(id).meta);
            assert_ne!(of(&layer), before);
        }
    }
}
