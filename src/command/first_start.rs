//! A preview of Docker's first start on the result, given before anything is written.

use nix::sys::statvfs::statvfs;

use super::container_room;
use super::open_root::OpenRoot;
use crate::daemon::first_start::{Switch, lines_by_hand, look_ahead, plan_switch};
use crate::devicemapper::{LoopFiles, Severity, Space, Target};
use crate::engine::Job;
use crate::units::Bytes;

/// Adds what the operator should know about the first start to the notices; mere remarks go to the log. Returns the
/// change that makes Docker accept the result, if that change was ordered.
pub(super) fn look(source: &mut OpenRoot, job: &dyn Job) -> Option<Switch> {
    let target = target(source, job);
    let host = &source.request.host;
    let switch = source
        .request
        .choices
        .switch_daemon
        .then(|| plan_switch(host, &target));
    source.by_hand = lines_by_hand(host, &target);
    source.is_told = plan_switch(host, &target) == Switch::Nothing;
    let host = &source.request.host;
    let outlook = look_ahead(host, &source.root, &source.model, &target, switch.as_ref());
    for finding in outlook.findings {
        let text = format!("first start: {finding}");
        if finding.severity == Severity::Remark {
            log::info!("{text}");
        } else {
            source.notices.push(text);
        }
    }
    let changes: Vec<String> = match &switch {
        Some(Switch::Edit(edit)) => {
            let path = edit.path.display();
            let notes = edit.notes.iter();
            notes.map(|note| format!("{path}: {note}")).collect()
        }
        // An impossible change is refused elsewhere.
        Some(Switch::ByHand { .. } | Switch::Nothing) | None => Vec::new(),
    };
    source.notices.extend(changes);
    source.notices.extend(container_room::notice(source, job));
    switch
}

/// The root as Docker will find it.
pub(super) fn target(source: &OpenRoot, job: &dyn Job) -> Target {
    let plan = job.plan();
    let needed = job.bytes_needed();
    let disk_free = statvfs(source.root.path()).ok().map(|stat| {
        let free = stat.blocks_available() * stat.fragment_size();
        Bytes(free.saturating_sub(needed.0))
    });
    let files = job.pool_sizes().map(|sizes| LoopFiles {
        data: sizes.data,
        metadata: sizes.metadata,
        disk_free,
    });
    let usage = job.pool_usage();
    // Whether a pool on other devices has room was checked before.
    let space = job.pool_sizes().map(|sizes| Space {
        data: sizes.data,
        data_used: usage.data,
        metadata: sizes.metadata,
        metadata_used: usage.metadata.bytes(),
    });
    Target {
        storage_opts: job.storage_opts(),
        base_size: plan.base_size,
        data_block: job.data_block(),
        file_system: plan.file_system,
        files,
        space,
    }
}
