//! What the first start of Docker on the result will be, told before anything is written.

use nix::sys::statvfs::statvfs;

use super::source::Source;
use super::writer::Work;
use crate::docker::devicemapper::DEFAULT_BLOCK_SIZE;
use crate::docker::first_start::{
    LoopFiles, Severity, Space, Switch, Target, look_ahead, plan_switch,
};
use crate::units::Bytes;

/// What the operator should know of the first start. What is only a remark goes to the log.
pub(super) fn notices(source: &Source, work: &Work) -> Vec<String> {
    let target = target(source, work);
    let outlook = look_ahead(
        &source.request.host,
        &source.root,
        &source.model,
        &target,
        None,
    );
    for remark in outlook
        .findings
        .iter()
        .filter(|one| one.severity == Severity::Remark)
    {
        log::info!("first start: {remark}");
    }
    let serious = outlook.at_least(Severity::Warning);
    serious
        .map(|finding| format!("first start: {finding}"))
        .collect()
}

/// What is to be changed for Docker to take the result, if that was ordered. What only the operator can change is told.
pub(super) fn switch(source: &mut Source, work: &Work) -> Option<Switch> {
    if !source.request.switch_daemon {
        return None;
    }
    let switch = plan_switch(&source.request.host, &target(source, work));
    match &switch {
        Switch::Edit(edit) => source.notices.extend(
            edit.notes
                .iter()
                .map(|note| format!("{}: {note}", edit.path.display())),
        ),
        Switch::ByHand { lines } => source.notices.extend(
            lines
                .iter()
                .map(|line| format!("--switch-daemon cannot change it, do so by hand: {line}")),
        ),
        Switch::Nothing => {}
    }
    Some(switch)
}

/// The root that Docker will find.
pub(super) fn target(source: &Source, work: &Work) -> Target {
    let plan = work.plan();
    let needed = work.pool_bytes();
    let disk_free = statvfs(source.root.path()).ok().map(|stat| {
        let free = stat.blocks_available() * stat.fragment_size();
        Bytes(free.saturating_sub(needed.0))
    });
    let files = work.pool_sizes().map(|sizes| LoopFiles {
        data: sizes.data,
        metadata: sizes.metadata,
        disk_free,
    });
    let (data_block, space) = match work {
        Work::Direct(layout) => {
            let space = Space {
                data: layout.data_size,
                data_used: layout.data_bytes(),
                metadata: layout.metadata_size,
                metadata_used: layout.metadata_blocks.bytes(),
            };
            (DEFAULT_BLOCK_SIZE, Some(space))
        }
        Work::Kernel(work) => {
            let facts = &work.kernel.facts;
            let needs = plan.needs(facts.data_block);
            // Whether there is room in a given pool was found out before.
            let space = work.sizes.map(|sizes| Space {
                data: sizes.data,
                data_used: needs.data,
                metadata: sizes.metadata,
                metadata_used: needs.metadata.bytes(),
            });
            (facts.data_block, space)
        }
    };
    Target {
        storage_opts: work.storage_opts(),
        base_size: plan.base_size,
        data_block,
        file_system: plan.file_system,
        files,
        space,
    }
}
