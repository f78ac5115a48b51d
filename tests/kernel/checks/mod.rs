//! The checks, in the order they run.

mod broken_off;
mod conformance;
mod container_damage;
mod containers;
mod copied;
mod damaged;
mod devices;
mod diff;
mod faults;
#[path = "../../../benches/lab/filling.rs"]
mod filling;
mod first_start;
mod harness;
mod images;
mod interrupted;
mod kernel_claim;
mod kernel_pool;
mod kernel_target;
mod kernel_word;
mod leftover_removal;
mod lists;
mod lvm;
mod machine;
mod pool_state;
mod power;
mod random;
mod refusals;
mod resumed;
mod used;
mod xfs;

use std::{fmt::Display, path::Path, sync::OnceLock};

use anyhow::{Result, bail};

use crate::{
    lab::Lab,
    storage::Target,
    variant::{self, Engine, FileSystem, Variant, kernel},
};

/// One test: a claim and the function that tries it.
#[derive(Debug)]
pub(crate) struct Check {
    /// The claim, as a function name; with the way of converting that it is about.
    pub(crate) name: String,
    /// When it is run.
    pub(crate) when: When,
    run: Run,
}

/// Gets the lab and an empty directory of its own.
type Plain = fn(&Lab, &Path) -> Result<()>;
/// The same on a root converted in one way.
type OnVariant = fn(&Lab, &Path, Variant) -> Result<()>;

/// When a check is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// With all others.
    Always,
    /// With `--ignored`: it takes too long for every run.
    Ignored,
    /// With `--bench`, as `cargo bench` says it: what else the machine does changes its outcome.
    Timed,
}

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

    /// Whether the two work on copies of one converted root.
    pub(crate) fn shares_a_root_with(&self, other: &Self) -> bool {
        matches!((&self.run, &other.run), (Run::On(a, _), Run::On(b, _)) if a == b)
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
    kernel_word::the_kernels_word_is_clean_and_changes_no_byte,
];

/// Those for the ways of [`IN_FULL`].
const FURTHER: &[(&str, OnVariant)] = named![
    devices::every_device_can_be_written_and_snapshotted,
    diff::docker_diff_follows_the_drivers_rule,
    images::docker_saves_layers_with_their_original_digests,
    images::docker_builds_on_a_converted_image,
    images::docker_removes_everything_and_the_pool_is_clean,
    random::random_stacks_equal_the_reference_merge,
];

/// The longest check, for the direct engine; the kernel engine's ways of [`IN_FULL`] share it.
const EVERY_IMAGE: &[(&str, OnVariant)] = named![images::docker_runs_every_image];
const A_SHARE: &[(&str, OnVariant)] = named![images::docker_runs_its_share_of_the_images];

/// The ways that have a share each.
fn sharing() -> impl Iterator<Item = Variant> {
    let all = IN_FULL.iter().copied();
    all.filter(|variant| variant.engine == Engine::Kernel)
}

/// Those for the ways of [`WORKED_ON`].
const AFTER_DOCKERS_WORK: &[(&str, OnVariant)] = named![
    used::what_docker_did_since_is_verified_named_and_lost_only_by_force,
    used::what_a_killed_docker_left_is_named_and_nothing_is_changed,
    damaged::docker_shows_exactly_the_rest_of_a_damaged_root,
];

/// Those that work on a device's ext4 by its blocks.
const OF_EXT4: &[(&str, OnVariant)] = named![
    container_damage::damage_to_a_container_is_not_taken_for_its_work,
    container_damage::what_a_container_moved_is_its_work,
];

/// Those for pools on devices, on the first of its ways.
const OF_DEVICES: &[(&str, OnVariant)] = named![
    container_damage::a_copy_into_a_container_after_the_proof_keeps_both_sides,
    container_damage::a_write_in_place_while_aufs_goes_keeps_the_rest,
    copied::a_copy_of_a_root_leaves_the_pool_of_the_original,
    copied::an_empty_disk_with_the_name_of_the_pools_is_not_the_pool,
];
const ON_DEVICES: Variant = kernel(Target::Devices, FileSystem::Ext4);

/// Those for the operator's pool, on the first of its ways.
const OF_POOLS: &[(&str, OnVariant)] =
    named![pool_state::a_pool_that_cannot_be_looked_at_gets_no_verdict];
const ON_POOLS: Variant = kernel(Target::Pool, FileSystem::Ext4);

/// Those for xfs, on the first of its ways.
const OF_XFS: &[(&str, OnVariant)] =
    named![xfs::every_byte_of_an_xfs_root_is_verified_and_damage_named];
const ON_XFS: Variant = kernel(Target::Files, FileSystem::Xfs);

/// Those for xfs in a pool on devices, on the first of its ways.
const OF_XFS_ON_DEVICES: &[(&str, OnVariant)] =
    named![xfs::the_rest_of_aufs_stays_when_the_disk_of_an_xfs_root_is_empty];
const ON_XFS_AND_DEVICES: Variant = kernel(Target::Devices, FileSystem::Xfs);

/// The ways to convert of which the tool's commands are tried after Docker's work: each target is among them.
const WORKED_ON: &[Variant] = &[
    variant::DIRECT,
    ON_DEVICES,
    kernel(Target::Pool, FileSystem::Xfs),
];

/// The ways to convert that get every check: each target, each file system and each engine is among them, and the kernel
/// engine with each file system.
const IN_FULL: &[Variant] = &[
    variant::DIRECT,
    kernel(Target::Files, FileSystem::Xfs),
    kernel(Target::Devices, FileSystem::Ext4),
    kernel(Target::Pool, FileSystem::Xfs),
];

/// The other ways.
const IN_SHORT: &[Variant] = &[
    kernel(Target::Files, FileSystem::Ext4),
    kernel(Target::Devices, FileSystem::Xfs),
    kernel(Target::Pool, FileSystem::Ext4),
];

/// The kernel engine's parts.
const OF_ITS_PARTS: &[(&str, Plain)] = named![
    kernel_pool::kernel_pool_keeps_what_was_written_and_leaves_no_device,
    kernel_pool::kernel_pool_that_is_dropped_leaves_nothing,
    kernel_pool::kernel_pool_of_a_killed_process_is_known_by_its_uuid,
    kernel_pool::kernel_pool_mounts_two_snapshots_of_one_xfs,
    kernel_pool::kernel_pool_takes_no_name_and_no_id_twice,
    kernel_pool::kernel_pool_names_a_full_data_device_in_seconds,
    kernel_pool::kernel_pool_names_a_full_metadata_device,
    kernel_pool::kernel_pool_names_the_file_whose_file_system_is_full,
    kernel_pool::kernel_pool_ends_writes_that_hang_in_the_operators_pool,
    kernel_pool::kernel_pool_that_is_extended_meanwhile_stays_so,
    kernel_pool::kernel_pool_notices_a_write_that_failed_below,
    kernel_claim::kernel_claim_takes_back_from_a_pool_what_fits_it_and_nothing_else,
    kernel_claim::kernel_claim_wipes_its_own_devices_and_no_others,
    kernel_claim::kernel_claim_is_dealt_with_by_whatever_run_comes_next,
    kernel_target::kernel_target_that_suits_tells_its_facts,
    kernel_target::kernel_target_refuses_pools_that_do_not_suit,
    kernel_target::kernel_target_refuses_devices_that_do_not_suit,
    leftover_removal::what_a_killed_run_left_is_found_named_and_removed,
    leftover_removal::lookalikes_of_leftovers_stay,
    leftover_removal::a_leftover_in_use_stays_and_is_named_with_its_command,
    kernel_word::what_is_damaged_the_kernel_names,
    kernel_word::a_look_that_was_killed_is_taken_down_by_the_next,
    kernel_word::pools_that_the_kernel_has_used_are_read,
];

/// Of the first start.
const OF_THE_FIRST_START: &[(&str, Plain)] =
    named![first_start::docker_starts_and_refuses_as_foreseen];

/// Benchmarks that need a pool: in `benches/`, run by `cargo bench`.
const TIMED: &[(&str, Plain)] = named![filling::filling_takes_no_longer_than_copying];

/// Those of the kernel engine alone.
const OF_THE_KERNEL_ENGINE: &[(&str, Plain)] = named![
    faults::a_data_device_that_fails_ends_the_run_cleanly,
    faults::a_metadata_device_that_fails_ends_the_run_cleanly,
    faults::an_operators_pool_whose_data_device_fails_is_left_as_it_was,
    faults::an_operators_pool_whose_metadata_device_fails_costs_the_root_nothing,
    faults::a_pool_too_small_is_named_and_left_empty,
    faults::a_metadata_device_too_small_is_named,
    faults::a_pool_that_others_fill_meanwhile_does_not_hang_the_run,
    refusals::a_machine_that_lacks_something_is_told_what,
    refusals::devices_that_cannot_be_used_are_refused,
    refusals::pools_that_cannot_be_used_are_refused,
    machine::with_udev_cookies_are_waited_for_and_none_is_left,
    machine::chains_without_a_common_layer_are_filled_at_once,
    conformance::both_engines_make_the_same_of_the_fixture,
    conformance::both_engines_make_the_same_of_random_stacks,
    lvm::lvm_example_of_the_document_works,
    lvm::lvm_pool_with_volumes_of_its_own_is_refused,
    lvm::lvm_pool_with_default_options_is_converted_into_while_it_grows,
    lvm::lvm_pool_that_is_extended_and_suspended_time_and_again_serves,
    lvm::lvm_pool_keeps_its_links_when_its_table_is_changed,
    lvm::lvm_pool_that_fills_up_while_it_is_extended_is_as_lvm_has_it,
    lvm::lvm_pool_that_is_extended_and_gets_full_again_is_given_back,
    interrupted::a_run_that_is_told_to_stop_leaves_nothing,
    interrupted::what_a_killed_run_left_is_named_and_removed_by_the_next,
    resumed::a_killed_run_goes_on_with_the_layers_that_were_done,
    resumed::after_a_power_cut_the_layers_that_were_done_are_there,
    resumed::after_a_boot_a_run_into_given_devices_is_taken_back,
];

/// Those about machines that stop.
const OF_POWER_CUTS: &[(&str, Plain)] =
    named![power::after_a_power_cut_a_conversion_can_be_finished_and_taken_back];

/// Those about a kernel engine that is broken off anywhere, and the same in full.
const OF_FAULTS: &[(&str, Plain)] =
    named![broken_off::a_kernel_conversion_that_is_broken_off_can_be_finished_and_taken_back];
const OF_ALL_FAULTS: &[(&str, Plain)] = named![
    broken_off::every_call_of_a_kernel_conversion_into_files_can_fail_and_be_the_last,
    broken_off::every_call_of_a_kernel_conversion_onto_devices_can_fail_and_be_the_last,
];

/// Those that one way to convert has alone.
fn own(variant: Variant) -> impl Iterator<Item = Check> {
    let all = [
        (variant::DIRECT, OF_EXT4),
        (ON_DEVICES, OF_DEVICES),
        (ON_XFS, OF_XFS),
        (ON_XFS_AND_DEVICES, OF_XFS_ON_DEVICES),
        (ON_POOLS, OF_POOLS),
    ];
    let its = all.into_iter().filter(move |(of, _)| *of == variant);
    its.flat_map(move |(_, checks)| checks.iter().map(move |check| on(variant, check)))
}

/// Every check, in the order they run: by the way to convert, so that each root is converted once. Those that take longest by
/// themselves come first, so that no guest waits for another in the end.
pub(crate) fn all() -> &'static [Check] {
    static ALL: OnceLock<Vec<Check>> = OnceLock::new();
    ALL.get_or_init(|| {
        let plain = |&(name, check): &(&str, Plain)| Check {
            name: name.to_owned(),
            when: When::Always,
            run: Run::Plain(check),
        };
        let longest = OF_FAULTS.iter().chain(OF_POWER_CUTS);
        let mut all: Vec<_> = longest.chain(OF_THE_LAB).map(plain).collect();
        for &variant in IN_FULL {
            let images = match variant.engine {
                Engine::Direct => EVERY_IMAGE,
                Engine::Kernel => A_SHARE,
            };
            let checks = ALWAYS.iter().chain(FURTHER).chain(images);
            all.extend(checks.map(|check| on(variant, check)));
            all.extend(own(variant));
            if WORKED_ON.contains(&variant) {
                let further = AFTER_DOCKERS_WORK.iter();
                all.extend(further.map(|check| on(variant, check)));
            }
        }
        for &variant in IN_SHORT {
            all.extend(ALWAYS.iter().map(|check| on(variant, check)));
            all.extend(own(variant));
        }
        all.extend(OF_THE_FIRST_START.iter().map(plain));
        all.extend(OF_ITS_PARTS.iter().chain(OF_THE_KERNEL_ENGINE).map(plain));
        let whole = sharing().map(|variant| on(variant, &EVERY_IMAGE[0]));
        let ignored = OF_ALL_FAULTS.iter().map(plain).chain(whole);
        all.extend(ignored.map(|check| Check {
            when: When::Ignored,
            ..check
        }));
        all.extend(TIMED.iter().map(plain).map(|check| Check {
            when: When::Timed,
            ..check
        }));
        all
    })
}

fn on(variant: Variant, &(name, check): &(&str, OnVariant)) -> Check {
    Check {
        name: format!("{name}::{variant}"),
        when: When::Always,
        run: Run::On(variant, check),
    }
}

pub(crate) use kernel_pool::{HOLD_VARIABLE, hold};
pub(crate) use kernel_word::{LOOK_VARIABLE, hold_look};

/// How many differences a failure shows.
const SHOWN: usize = 40;

/// Fails when there are differences, and shows the first of them.
pub(crate) fn expect_none<D: Display>(what: &str, differences: &[D]) -> Result<()> {
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
