//! Every attribute of every type of entry, damaged in aufs, on the device, or on both sides alike, before the conversion or after it,
//! in a layer of an image and in one of a container: what `verify --full` must say of that layer, and that it says nothing of others.
//!
//! Each row has a layer of its own, and many are damaged at once, so that few conversions do; those between them are whole and must be
//! called so. No device is written by hand: a device with the damage is one that was converted from a branch with it.

mod inflict;
mod roots;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use aufs2dm::verify::{Contents, LayerReport, Proof, Report, Role, Tree, Verdict};

use self::roots::{Root, Template};
use self::table::{Column, Damage, ENTRIES, Entry, Expected, Row, expected, rows, untold};

/// Of so many layers that follow each other one is damaged at a time. The containers of a row lie on the image of the row before.
const BATCHES: usize = 3;

/// The rows of some types of entries, with what was seen of them.
struct Matrix {
    rows: Vec<Row>,
    template: Template,
    counts: BTreeMap<(Column, bool, Expected), usize>,
    /// What is not as expected, a line each.
    wrong: Vec<String>,
}

impl Matrix {
    fn of(entries: &[Entry]) -> Self {
        let rows = rows(entries);
        Self {
            template: Template::of(entries, &rows),
            rows,
            counts: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    fn batch(&self, batch: usize) -> Vec<(Row, String)> {
        let numbered = self.rows.iter().enumerate();
        numbered
            .filter(|(nth, _)| nth % BATCHES == batch)
            .map(|(nth, row)| (*row, self.template.id(nth).to_owned()))
            .collect()
    }

    fn run(&mut self) {
        let batches: Vec<_> = (0..BATCHES).map(|batch| self.batch(batch)).collect();
        // The whole root last: what was written to the devices after it was converted would be what containers did since.
        let damaged: Vec<Root> = batches.iter().map(|batch| self.damaged(batch)).collect();
        let whole = self.template.put_down();
        all_is_proven(&whole.verify(), false);
        whole.convert();
        all_is_proven(&whole.verify(), true);
        for (batch, damaged) in batches.iter().zip(&damaged) {
            self.after(&whole, damaged, batch);
        }
        all_is_proven(&whole.verify(), true);
    }

    /// A root with the damage of a batch, converted.
    fn damaged(&mut self, batch: &[(Row, String)]) -> Root {
        let root = self.template.put_down();
        for (row, id) in batch {
            root.damage(*row, id);
        }
        self.look(Column::Unconverted, batch, &root.verify());
        root.convert();
        self.look(Column::Before, batch, &root.verify());
        root
    }

    /// Damage since the conversion.
    fn after(&mut self, whole: &Root, damaged: &Root, batch: &[(Row, String)]) {
        let exchange_branches = || {
            for (_, id) in batch {
                whole.exchange_branch(damaged, id);
            }
        };
        let change_elsewhere = || {
            for (row, id) in batch {
                whole.change_elsewhere(*row, id);
            }
        };
        exchange_branches();
        self.look(Column::Aufs, batch, &whole.verify());
        whole.exchange_pool(damaged);
        self.look(Column::Both, batch, &whole.verify());
        exchange_branches();
        self.look(Column::Device, batch, &whole.verify());
        change_elsewhere();
        self.look(Column::DeviceAndAufsElsewhere, batch, &whole.verify());
        change_elsewhere();
        whole.exchange_pool(damaged);
    }

    /// Compares what was said of the layers of a batch, and of all others.
    fn look(&mut self, column: Column, batch: &[(Row, String)], report: &Report) {
        let mut damaged = BTreeSet::new();
        for (row, id) in batch {
            let layer = layer_of(report, id);
            damaged.insert(id.as_str());
            let expected = expected(*row, column);
            *self
                .counts
                .entry((column, row.is_of_image, expected))
                .or_default() += 1;
            if !is_as(layer, *row, expected) {
                self.wrong.push(format!(
                    "{column:?}, {row:?}: not {expected:?}: {}",
                    told(layer)
                ));
            }
        }
        for layer in &report.layers {
            let id = layer.id.as_ref().map_or("base device", |id| id.as_str());
            if !damaged.contains(id) && layer.verdict() != Verdict::Sound {
                self.wrong
                    .push(format!("{column:?}, undamaged layer {id}: {}", told(layer)));
            }
        }
        // A pool of another conversion has another UUID, and is not what the journal says was written.
        let has_own_pool = matches!(column, Column::Unconverted | Column::Before | Column::Aufs);
        if has_own_pool && !report.faults.is_empty() {
            self.wrong.push(format!("{column:?}: {:?}", report.faults));
        }
    }

    #[allow(clippy::print_stdout)] // shown with --nocapture
    fn finish(self) {
        println!("{} rows", self.rows.len());
        for ((column, is_of_image, expected), count) in &self.counts {
            let whose = if *is_of_image { "image" } else { "container" };
            println!("{column:<24?} {whose:<10} {expected:<14?} {count:4}");
        }
        let wrong = self.wrong;
        assert!(
            wrong.is_empty(),
            "{} not as expected:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
    }
}

/// Without damage nothing may be left open, or the rest proves nothing.
fn all_is_proven(report: &Report, is_converted: bool) {
    assert_eq!(report.verdict, Verdict::Sound, "{report}");
    for layer in &report.layers {
        let is_image = layer.role == Role::Image;
        let by_diff_id = matches!(
            layer.contents,
            Contents::Verified {
                by: Proof::DiffId,
                entries: Some(1..),
                ..
            }
        );
        let is_same = matches!(layer.tree, Tree::Same { .. });
        assert!(by_diff_id || !is_image, "{layer:?}");
        assert!(is_same || !is_converted, "{layer:?}");
    }
}

fn layer_of<'r>(report: &'r Report, id: &str) -> &'r LayerReport {
    let is_it = |layer: &&LayerReport| layer.id.as_ref().is_some_and(|own| own.as_str() == id);
    report.layers.iter().find(is_it).unwrap()
}

/// Whether a layer is called what it must be, by faults that name the entry.
fn is_as(layer: &LayerReport, row: Row, expected: Expected) -> bool {
    let is_so = match (layer.verdict(), expected) {
        (Verdict::Sound, Expected::Sound) => return true,
        (Verdict::AufsChanged, Expected::AufsChanged) => {
            let is_same = matches!(layer.tree, Tree::Same { .. }) && !layer.aufs.is_empty();
            matches!(layer.tree, Tree::AufsChanged { .. })
                || (row.damage == Damage::Content && is_same)
        }
        (Verdict::SourceDamaged, Expected::SourceDamaged) | (Verdict::Wrong, Expected::Wrong) => {
            true
        }
        _ => false,
    };
    let (said, within, path) = (told(layer), row.within(), row.entry.path());
    let names = [format!("/{within}/{path}"), format!("/{within}/.wh.{path}")];
    is_so && names.iter().any(|name| said.contains(name))
}

/// All that is said against a layer.
fn told(layer: &LayerReport) -> String {
    let LayerReport {
        contents,
        tree,
        aufs,
        structure,
        ..
    } = layer;
    let verdict = layer.verdict();
    format!("{verdict:?}, {contents:?}, {tree:?}, {aufs:?}, {structure:?}")
}

/// Tries all rows of these types of entries.
fn check(entries: &[Entry]) {
    let mut matrix = Matrix::of(entries);
    matrix.run();
    matrix.finish();
}

const GROUPS: [&[Entry]; 5] = [
    &[Entry::File, Entry::Empty],
    &[Entry::Pair, Entry::Twins, Entry::Whiteout],
    &[Entry::Directory, Entry::Opaque],
    &[Entry::Symlink, Entry::Override, Entry::Socket],
    &[Entry::CharDevice, Entry::BlockDevice, Entry::Fifo],
];

#[test]
fn damage_to_files_is_told_by_side_and_time() {
    check(GROUPS[0]);
}

#[test]
fn damage_to_several_names_of_a_file_and_to_deletions_is_told_by_side_and_time() {
    check(GROUPS[1]);
}

#[test]
fn damage_to_directories_is_told_by_side_and_time() {
    check(GROUPS[2]);
}

#[test]
fn damage_to_links_sockets_and_files_over_others_is_told_by_side_and_time() {
    check(GROUPS[3]);
}

#[test]
fn damage_to_devices_and_pipes_is_told_by_side_and_time() {
    check(GROUPS[4]);
}

#[test]
fn each_type_of_entry_is_in_one_group_and_each_row_is_there_once() {
    let all = GROUPS.concat();
    assert_eq!(all.len(), ENTRIES);
    let rows = rows(&all);
    for (at, row) in rows.iter().enumerate() {
        assert!(!rows[..at].contains(row), "{row:?} is there twice");
    }
    // What the tars of images do not tell stays the exception.
    let of_images = rows.iter().filter(|row| row.is_of_image);
    let is_untold = |row: &&Row| untold(row.entry, row.damage).is_some();
    assert_eq!((rows.len(), of_images.filter(is_untold).count()), (306, 23));
}
