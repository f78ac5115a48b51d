//! What Docker lists and inspects must be what it listed under aufs.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

use super::expect_none;
use crate::{
    dockerd::{Dockerd, with_dockerd},
    lab::Lab,
    roots,
    truth::{Truth, by_id},
    variant::Variant,
};

/// Members of an inspected object that name the storage driver or its devices.
const DRIVER_MEMBERS: [&str; 2] = ["Driver", "GraphDriver"];

/// Images, containers and volumes, their histories, and every member that inspecting shows.
pub(super) fn docker_lists_what_it_listed_before(
    lab: &Lab,
    scratch: &Path,
    variant: Variant,
) -> Result<()> {
    let root = roots::converted(lab, scratch, variant)?;
    let truth = Truth::of_aufs(lab)?;
    let mut differences = Vec::new();
    with_dockerd(lab, &root, |daemon| {
        differences.extend(compare_lists(daemon, &truth)?);
        differences.extend(compare_histories(daemon, &truth)?);
        differences.extend(compare_inspected(daemon, &truth)?);
        Ok(())
    })?;
    expect_none("docker's lists", &differences)
}

fn compare_lists(daemon: &Dockerd<'_>, truth: &Truth) -> Result<Vec<String>> {
    let lists: [(&str, &[&str], &[&str]); 3] = [
        (
            "docker-images.txt",
            &["images", "-a", "--no-trunc", "--digests"],
            &["REPOSITORY", "TAG", "IMAGE ID", "SIZE"],
        ),
        (
            "docker-ps.txt",
            &["ps", "-a", "--no-trunc"],
            &["CONTAINER ID", "IMAGE", "COMMAND", "PORTS", "NAMES"],
        ),
        (
            "docker-volume-ls.txt",
            &["volume", "ls"],
            &["DRIVER", "VOLUME NAME"],
        ),
    ];
    let mut differences = Vec::new();
    for (file, command, columns) in lists {
        differences.extend(compare_tables(
            &truth.text(file)?,
            &daemon.docker(command)?,
            columns,
        )?);
    }
    Ok(differences)
}

fn compare_histories(daemon: &Dockerd<'_>, truth: &Truth) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for image in truth.names("history-")? {
        let found = daemon.docker(&["history", "--no-trunc", &image])?;
        let before = truth.text(&format!("history-{image}.txt"))?;
        differences.extend(compare_tables(
            &before,
            &found,
            &["IMAGE", "CREATED BY", "SIZE", "COMMENT"],
        )?);
    }
    Ok(differences)
}

fn compare_inspected(daemon: &Dockerd<'_>, truth: &Truth) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for (kind, before) in [
        ("image", truth.images()?),
        ("container", truth.containers()?),
    ] {
        let names: Vec<_> = before.keys().map(String::as_str).collect();
        let mut found = by_id(daemon.inspect(kind, &names)?)?;
        for (id, mut before) in before {
            let mut now = found.remove(&id).unwrap_or_default();
            for object in [&mut before, &mut now] {
                if let Some(members) = object.as_object_mut() {
                    members.retain(|name, _| !DRIVER_MEMBERS.contains(&name.as_str()));
                }
                // The daemon lists mounts as its hash map yields them, differently each time.
                if let Some(mounts) = object.get_mut("Mounts").and_then(Value::as_array_mut) {
                    mounts.sort_by_key(ToString::to_string);
                }
            }
            compare_values(&format!("{kind} {id}"), &before, &now, &mut differences);
        }
    }
    Ok(differences)
}

/// Adds a line for each place where two JSON values differ.
fn compare_values(place: &str, before: &Value, now: &Value, differences: &mut Vec<String>) {
    match (before, now) {
        (Value::Object(old), Value::Object(new)) => {
            let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for name in names {
                let (old, new) = (
                    old.get(name).unwrap_or(&Value::Null),
                    new.get(name).unwrap_or(&Value::Null),
                );
                compare_values(&format!("{place}.{name}"), old, new, differences);
            }
        }
        (old, new) if old != new => differences.push(format!("{place}: was {old}, is {new}")),
        _ => {}
    }
}

/// Compares columns of two tables that docker printed, whatever their order of lines and width of columns.
fn compare_tables(before: &str, now: &str, columns: &[&str]) -> Result<Vec<String>> {
    let (before, now) = (rows(before, columns)?, rows(now, columns)?);
    let gone = before
        .difference(&now)
        .map(|row| format!("no longer listed: {row:?}"));
    let new = now
        .difference(&before)
        .map(|row| format!("listed only now: {row:?}"));
    Ok(gone.chain(new).collect())
}

fn rows(table: &str, columns: &[&str]) -> Result<BTreeSet<Vec<String>>> {
    let mut lines = table.lines();
    let header = lines.next().context("an empty table")?;
    let spans = columns
        .iter()
        .map(|name| span(header, name))
        .collect::<Result<Vec<_>>>()?;
    let cell = |line: &str, (from, to): (usize, usize)| {
        line.chars()
            .skip(from)
            .take(to - from)
            .collect::<String>()
            .trim()
            .to_owned()
    };
    Ok(lines
        .map(|line| spans.iter().map(|&span| cell(line, span)).collect())
        .collect())
}

/// Where a column begins and where the next one does: names are separated by at least two blanks.
fn span(header: &str, name: &str) -> Result<(usize, usize)> {
    let padded = format!("   {header}   ");
    let found = padded
        .find(&format!("  {name}  "))
        .with_context(|| format!("no column {name} in {header}"))?;
    let from = (found + 2).saturating_sub(3);
    let after = from + name.len();
    let blanks = header[after..].len() - header[after..].trim_start().len();
    Ok((
        from,
        if after + blanks >= header.len() {
            usize::MAX
        } else {
            after + blanks
        },
    ))
}
