//! The tools of the format's authors: package thin-provisioning-tools. A missing tool is a failure.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Output};

use aufs2dm::thin::DataPlace;
use aufs2dm::units::MetaBlocks;

use super::layers::{Told, ToldPool};

/// Fails unless `thin_check` finds nothing wrong.
pub(crate) fn thin_check(file: &File) {
    succeed(Command::new("thin_check").arg(path(file)));
}

/// What `thin_check` says is wrong with a file, leaks and under-full nodes included; `None` if nothing is.
pub(crate) fn thin_check_says(path: &Path) -> Option<String> {
    let output = Command::new("thin_check").arg(path).output();
    let output = output.expect("thin_check: install thin-provisioning-tools");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(words)
}

/// What `thin_dump` prints.
pub(crate) fn dump(file: &File) -> String {
    let output = succeed(Command::new("thin_dump").arg(path(file)));
    String::from_utf8(output.stdout).unwrap()
}

/// A metadata file that `thin_restore` made from a dump, and its size: large, since a dump knows of no shared nodes.
pub(crate) fn restore(text: &str) -> (File, MetaBlocks) {
    let size = MetaBlocks(16_384);
    let mut xml = tempfile::tempfile().unwrap();
    xml.write_all(text.as_bytes()).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(size.bytes().0).unwrap();
    let mut command = Command::new("thin_restore");
    succeed(command.args(["-i", &path(&xml), "-o", &path(&file)]));
    (file, size)
}

/// A path to an open file for a process that runs meanwhile.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd())
}

fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: install thin-provisioning-tools"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// Takes a dump apart: one element a line.
pub(crate) fn parse_dump(text: &str) -> ToldPool {
    let mut pool = None;
    let mut devices: Vec<(u32, Told)> = Vec::new();
    for line in text.lines().map(str::trim) {
        let number = |name| number(line, name);
        let small = |name| u32::try_from(number(name)).unwrap();
        let mut map = |thin: u64, data: u64, len: u64| {
            let mappings = &mut devices.last_mut().unwrap().1.mappings;
            for i in 0..len {
                let data_block = data + i;
                let time = small("time");
                let before = mappings.insert(thin + i, DataPlace { data_block, time });
                assert_eq!(before, None, "mapped once");
            }
        };
        match line.split([' ', '>']).next().unwrap() {
            "<superblock" => {
                pool = Some((
                    number("time"),
                    number("transaction"),
                    number("nr_data_blocks"),
                ));
            }
            "<device" => {
                let told = Told {
                    transaction_id: number("transaction"),
                    creation_time: small("creation_time"),
                    snapshotted_time: small("snap_time"),
                    mappings: BTreeMap::new(),
                };
                devices.push((small("dev_id"), told));
            }
            "<single_mapping" => map(number("origin_block"), number("data_block"), 1),
            "<range_mapping" => {
                map(
                    number("origin_begin"),
                    number("data_begin"),
                    number("length"),
                );
            }
            "</device" | "</superblock" | "" => {}
            other => panic!("unknown element {other}"),
        }
    }
    (pool.unwrap(), devices.into_iter().collect())
}

/// An attribute of an element.
fn number(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!(" {name}=\"")).unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}
