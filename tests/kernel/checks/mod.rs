//! The checks, in the order they run.

mod containers;
mod devices;
mod diff;
mod harness;
mod images;
mod lists;
mod random;

use std::{fmt::Display, path::Path, sync::OnceLock};

use anyhow::{Result, bail};

use crate::{
    lab::Lab,
    storage::Target,
    variant::{self, FileSystem, Variant, kernel},
};

/// One test: a claim and the function that tries it.
#[derive(Debug)]
pub(crate) struct Check {
    /// The claim, as a function name; with the way of converting that it is about.
    pub(crate) name: String,
    run: Run,
}

/// Gets the lab and an empty directory of its own.
type Plain = fn(&Lab, &Path) -> Result<()>;
/// The same on a root converted in one way.
type OnVariant = fn(&Lab, &Path, Variant) -> Result<()>;

#[derive(Debug)]
enum Run {
    Plain(Plain),
    On(Variant, OnVariant),
}

impl Check {
    /// Tries the claim.
    pub(crate) fn run(&self, lab: &Lab, scratch: &Path) -> Result<()> {
        match self.run {
            Run::Plain(check) => check(lab, scratch),
            Run::On(variant, check) => check(lab, scratch, variant),
        }
    }
}

macro_rules! named {
    ($($module:ident :: $name:ident),* $(,)?) => { &[$((stringify!($name), $module::$name)),*] };
}

/// The lab's own.
const OF_THE_LAB: &[(&str, Plain)] = named![
    harness::lab_reads_every_device_that_docker_wrote,
    harness::lab_docker_starts_on_the_root_it_wrote,
    harness::lab_reads_what_docker_wrote_to_devices,
    harness::lab_reads_what_docker_wrote_to_a_pool,
    harness::lab_notices_what_a_check_leaves_behind,
];

/// Those for every way to convert.
const ALWAYS: &[(&str, OnVariant)] = named![
    devices::every_device_equals_the_tree_that_aufs_showed,
    lists::docker_lists_what_it_listed_before,
    containers::docker_starts_every_converted_container,
];

/// Those for the ways of [`IN_FULL`].
const FURTHER: &[(&str, OnVariant)] = named![
    devices::every_device_can_be_written_and_snapshotted,
    images::docker_runs_every_image,
    diff::docker_diff_follows_the_drivers_rule,
    images::docker_saves_layers_with_their_original_digests,
    images::docker_builds_on_a_converted_image,
    images::docker_removes_everything_and_the_pool_is_clean,
    random::random_stacks_equal_the_reference_merge,
];

/// The ways to convert that get every check: each target, each file system and each engine is among them.
const IN_FULL: &[Variant] = &[variant::DIRECT];

/// The other ways.
const IN_SHORT: &[Variant] = &[];

/// Every check, in the order they run: by the way to convert, so that each root is converted once.
pub(crate) fn all() -> &'static [Check] {
    static ALL: OnceLock<Vec<Check>> = OnceLock::new();
    ALL.get_or_init(|| {
        let plain = |&(name, check): &(&str, Plain)| Check {
            name: name.to_owned(),
            run: Run::Plain(check),
        };
        let mut all: Vec<_> = OF_THE_LAB.iter().map(plain).collect();
        for &variant in IN_FULL {
            all.extend(ALWAYS.iter().chain(FURTHER).map(|check| on(variant, check)));
        }
        for &variant in IN_SHORT {
            all.extend(ALWAYS.iter().map(|check| on(variant, check)));
        }
        all
    })
}

fn on(variant: Variant, &(name, check): &(&str, OnVariant)) -> Check {
    Check {
        name: format!("{name}::{variant}"),
        run: Run::On(variant, check),
    }
}

/// How many differences a failure shows.
const SHOWN: usize = 40;

/// Fails when there are differences, and shows the first of them.
fn expect_none<D: Display>(what: &str, differences: &[D]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = differences
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect();
    bail!(
        "{what}: {} differences:\n  {}",
        differences.len(),
        shown.join("\n  ")
    )
}
