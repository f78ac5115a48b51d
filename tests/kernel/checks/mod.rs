//! The checks, in the order they run.

mod containers;
mod devices;
mod diff;
mod harness;
mod images;
mod kernel_claim;
mod kernel_pool;
mod kernel_target;
mod leftover_removal;
mod lists;
mod random;

use std::{fmt::Display, path::Path};

use anyhow::{Result, bail};

use crate::lab::Lab;

/// One test: a claim and the function that tries it.
#[derive(Debug)]
pub(crate) struct Check {
    /// The claim, as a function name.
    pub(crate) name: &'static str,
    /// Gets the lab and an empty directory of its own.
    pub(crate) run: fn(&Lab, &Path) -> Result<()>,
}

macro_rules! checks {
    ($($module:ident :: $name:ident),* $(,)?) => {
        /// Every check.
        pub(crate) const CHECKS: &[Check] = &[$(Check { name: stringify!($name), run: $module::$name }),*];
    };
}

checks! {
    harness::lab_reads_every_device_that_docker_wrote,
    harness::lab_docker_starts_on_the_root_it_wrote,
    harness::lab_notices_what_a_check_leaves_behind,
    devices::every_device_equals_the_tree_that_aufs_showed,
    devices::every_device_can_be_written_and_snapshotted,
    lists::docker_lists_what_it_listed_before,
    images::docker_runs_every_image,
    containers::docker_starts_every_converted_container,
    diff::docker_diff_follows_the_drivers_rule,
    images::docker_saves_layers_with_their_original_digests,
    images::docker_builds_on_a_converted_image,
    images::docker_removes_everything_and_the_pool_is_clean,
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
    random::random_stacks_equal_the_reference_merge,
}

pub(crate) use kernel_pool::{HOLD_VARIABLE, hold};

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
