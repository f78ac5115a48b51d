//! `aufs2dm convert`.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use super::args::{ConvertArgs, ResumeArgs, WorkArgs, default_jobs};
use super::output::{print, print_json};
use super::place::Place;
use super::printable::printable;
use super::progress::for_stderr;
use super::quiet::keep_access_times;
use super::remarks::{write_damage, write_flags, write_left_out};
use super::signals::cancel_by_signals;
use crate::command;
use crate::command::{
    Choices, OpenRoot, PlannedConversion, Request, ResumeOutcome, ResumeRequest, Summary, finish,
    status,
};
use crate::devicemapper::driver_files::{SetupHint, daemon_settings};
use crate::progress::Cancel;
use crate::shell::own;
use crate::tree::{escape, shown};
use crate::units::{BLOCK_BYTES, Bytes};

/// Converts a root, or prints the plan for it.
pub(super) fn run(args: &ConvertArgs) -> anyhow::Result<()> {
    let choices = args.choices()?;
    let cancel = cancel_by_signals()?;
    let place = args.root.place()?;
    if args.switch_daemon {
        place.expect_settings()?;
    }
    let progress = for_stderr();
    keep_access_times(&place.root);
    let Place { root, host } = place.clone();
    let source = match OpenRoot::open(request(args, place, (choices, cancel.clone()))) {
        Err(error @ command::Error::AlreadyConverted { .. }) => {
            log::warn!("{error}; nothing was done");
            return if args.root.json {
                print_json(&status(&root, &host)?)
            } else {
                Ok(())
            };
        }
        source => source?,
    };
    let path = source.path().to_owned();
    let words = if args.dry_run {
        "convert --dry-run"
    } else {
        "convert"
    };
    let prepared = source
        .plan(&*progress)
        .map_err(|error| error.told(&path, words))?;
    tell_notices(&prepared);
    if args.dry_run {
        print_summary(&prepared.summary(), args.root.json)?;
        return Ok(prepared.expect_no_obstacles()?);
    }
    let summary = prepared
        .execute(&*progress)
        .map_err(|error| error.told(&path, words))?;
    tell_if_too_late(&cancel, &path);
    print_summary(&summary, args.root.json)
}

/// Nothing stops a conversion that is being moved in place, for that takes a moment.
fn tell_if_too_late(cancel: &Cancel, root: &Path) {
    if cancel.is_set() {
        log::warn!(
            "{}: was converted before it could be interrupted; `{}` goes back",
            root.display(),
            own("rollback", root)
        );
    }
}

/// Goes on with an interrupted conversion.
pub(super) fn resume(args: &ResumeArgs) -> anyhow::Result<()> {
    let cancel = cancel_by_signals()?;
    let place = args.at.place("resume")?;
    let progress = for_stderr();
    let request = ResumeRequest {
        root: place.root,
        host: place.host,
        jobs: args.work.jobs(),
        cancel: cancel.clone(),
        checkpoint: args.work.checkpoint(),
        leave_aufs_changes: args.leave_aufs_changes,
    };
    let path = request.root.clone();
    let told = |error: command::Error| error.told(&path, "resume");
    let ended = match finish(&request).map_err(told)? {
        ResumeOutcome::Nothing => None,
        ResumeOutcome::Converted => Some("is already converted; nothing was done"),
        ResumeOutcome::Switched => Some("is converted: Docker's devicemapper root is in place"),
        ResumeOutcome::RolledBack => Some("is as it was before the conversion"),
        ResumeOutcome::Committed => Some("no longer has an aufs side"),
    };
    if let Some(words) = ended {
        return print_ended(&request, words, args.at.root.json);
    }
    keep_access_times(&request.root);
    let prepared = OpenRoot::resume(request)?.plan(&*progress).map_err(told)?;
    tell_notices(&prepared);
    let summary = prepared.execute(&*progress).map_err(told)?;
    tell_if_too_late(&cancel, &path);
    print_summary(&summary, args.at.root.json)
}

fn print_ended(request: &ResumeRequest, words: &str, json: bool) -> anyhow::Result<()> {
    if json {
        print_json(&status(&request.root, &request.host)?)
    } else {
        print(&format!("{} {words}\n", request.root.display()))
    }
}

fn tell_notices(prepared: &PlannedConversion) {
    for notice in prepared.notices() {
        log::warn!("{notice}");
    }
}

fn print_summary(summary: &Summary, json: bool) -> anyhow::Result<()> {
    let printed = if json {
        print_json(summary)
    } else {
        print(&text(summary))
    };
    match printed {
        // An error would say that the root is as it was.
        Err(error) if summary.converted => {
            log::warn!("{} is converted, but {error:#}", summary.root.display());
            Ok(())
        }
        printed => printed,
    }
}

impl WorkArgs {
    fn jobs(&self) -> NonZeroUsize {
        self.jobs.unwrap_or_else(default_jobs)
    }

    fn checkpoint(&self) -> Duration {
        Duration::from_secs(self.checkpoint.into())
    }
}

fn request(args: &ConvertArgs, place: Place, (choices, cancel): (Choices, Cancel)) -> Request {
    Request {
        root: place.root,
        host: place.host,
        dry_run: args.dry_run,
        restart: args.restart,
        choices,
        plan: args.plan(),
        jobs: args.work.jobs(),
        checkpoint: args.work.checkpoint(),
        cancel,
    }
}

pub(super) fn text(summary: &Summary) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_text(&mut text, summary);
    text
}

fn write_text(text: &mut String, summary: &Summary) -> std::fmt::Result {
    let (will, sizes) = if summary.converted {
        ("converted", "Docker's devicemapper root is in place")
    } else {
        ("would convert", "nothing was written")
    };
    writeln!(text, "{will} {}: {sizes}", summary.root.display())?;
    writeln!(text, "  images      {}", summary.images)?;
    writeln!(
        text,
        "  containers  {} switched to devicemapper, {} of other drivers",
        summary.containers, summary.containers_left
    )?;
    writeln!(
        text,
        "  layers      {} as thin devices of {}, {} entries, {}",
        summary.layers,
        Bytes(summary.base_size),
        summary.entries,
        Bytes(summary.source_bytes)
    )?;
    write_room(text, summary)?;
    write_pool(text, summary)?;
    write_flags(text, &summary.root, &summary.flags)?;
    write_left_out(text, &summary.root, (&summary.damage, &summary.left_out))?;
    write_damage(text, &summary.root, &summary.damaged)?;
    if let Some(elapsed) = summary.elapsed_ms {
        let rate = Bytes(summary.data_bytes * 1000 / elapsed.max(1));
        writeln!(
            text,
            "  time        {}.{:03} s, {rate}/s",
            elapsed / 1000,
            elapsed % 1000
        )?;
        writeln!(text)?;
        write_next(text, summary)?;
        writeln!(
            text,
            "aufs/ and image/aufs/ are as they were. What containers write from now on is in the new root only."
        )?;
        if let Some(data) = summary.data_size {
            writeln!(
                text,
                "Backups: devicemapper/devicemapper/data is a sparse file of {}: use `tar -S` or `rsync -S`, or leave it out.",
                Bytes(data)
            )?;
        }
        writeln!(
            text,
            "Next: start Docker and look at `docker images` and `docker ps -a`. `{}` goes back to aufs; once all is well, `{}`, then `{}` \
             removes the aufs side.",
            own("rollback", &summary.root),
            own("verify --full", &summary.root),
            own("commit", &summary.root)
        )?;
    }
    Ok(())
}

/// What is to be done before Docker starts.
fn write_next(text: &mut String, summary: &Summary) -> std::fmt::Result {
    match (&summary.daemon_json, &summary.by_hand[..]) {
        (Some(file), _) => match &file.original {
            Some(original) => writeln!(
                text,
                "changed {}, the old file is {}",
                shown(&file.path),
                shown(original)
            ),
            None => writeln!(text, "created {}, which did not exist", shown(&file.path)),
        },
        (None, []) if summary.is_told => {
            writeln!(text, "Docker is already configured to use it.")
        }
        (None, []) => {
            writeln!(text, "{}", setup_hint(summary))
        }
        (None, lines) => {
            writeln!(
                text,
                "This host configures Docker differently; before it starts:"
            )?;
            lines
                .iter()
                .try_for_each(|line| writeln!(text, "  {}", printable(line)))?;
            if summary.settings_file.is_none() {
                writeln!(text, "{}", setup_hint(summary))?;
            }
            Ok(())
        }
    }
}

fn setup_hint(summary: &Summary) -> SetupHint<'_> {
    SetupHint {
        settings_file: summary.settings_file.as_deref(),
        base_size: Bytes(summary.base_size),
        storage_opts: &summary.storage_opts,
    }
}

/// The limit that devicemapper sets for each container.
fn write_room(text: &mut String, summary: &Summary) -> std::fmt::Result {
    let limit = Bytes(summary.base_size);
    write!(
        text,
        "  limit       each container's file system has {limit} in all"
    )?;
    let names: Vec<_> = summary
        .fullest
        .iter()
        .map(|room| format!("{} {} %", escape(room.name.as_bytes()), room.percent))
        .collect();
    if !names.is_empty() {
        write!(text, "; fullest: {}", names.join(", "))?;
    }
    writeln!(text, "; --base-size sets it")
}

/// The space that is left, and how Docker counts it.
fn write_space(text: &mut String, summary: &Summary) -> std::fmt::Result {
    let (Some(data), Some(min_free)) = (summary.data_size, summary.min_free) else {
        return Ok(());
    };
    write!(
        text,
        "  room        {} free in the pool, and below {} Docker creates no container and no layer",
        Bytes(data.saturating_sub(summary.data_bytes)),
        Bytes(min_free)
    )?;
    match summary.disk_free {
        Some(free) => writeln!(text, "; {} free on the disk below it", Bytes(free)),
        None => writeln!(text),
    }
}

fn write_pool(text: &mut String, summary: &Summary) -> std::fmt::Result {
    let metadata = Bytes(summary.metadata_blocks * BLOCK_BYTES);
    let data = Bytes(summary.data_bytes);
    // Before it is done the kernel engine has no more than an estimate.
    let (title, most) = match (summary.converted, summary.engine) {
        (false, "kernel") => ("to write", "at most "),
        (false, _) => ("to write", ""),
        (true, _) => ("written", ""),
    };
    writeln!(
        text,
        "  {title:<11} {most}{data} of data, {most}{metadata} of pool metadata"
    )?;
    match (summary.data_size, summary.metadata_size) {
        (Some(data), Some(metadata)) => writeln!(
            text,
            "  pool        {} data file, {} metadata file, both sparse; {} by the {} engine",
            Bytes(data),
            Bytes(metadata),
            summary.file_system,
            summary.engine
        )?,
        _ => writeln!(
            text,
            "  pool        {}; {} by the {} engine",
            summary.storage_opts.join(" "),
            summary.file_system,
            summary.engine
        )?,
    }
    write_space(text, summary)?;
    if !summary.converted
        && !summary.storage_opts.is_empty()
        && let Some(file) = &summary.settings_file
    {
        writeln!(
            text,
            "  daemon.json {}, in {}",
            daemon_settings(&summary.storage_opts),
            shown(file)
        )?;
    }
    Ok(())
}
