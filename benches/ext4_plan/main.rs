//! What planning ext4 file systems costs in time and memory: `cargo bench --bench ext4_plan`.

// The figures are what a benchmark is for.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../../tests/library/ext4/write/build.rs"]
mod ext4_build;

use std::fs;
use std::process::Command;
use std::time::Instant;

use aufs2dm::ext4::write::Image;
use aufs2dm::ext4::{Checksums, Params};
use aufs2dm::tree::Timestamp;

use ext4_build::{child, file, flat_layer, many_files, one_file};

const COSTS: [(&str, fn()); 3] = [
    ("a_million_files", cost_of_a_million_files),
    ("five_thousand_layers", cost_of_five_thousand_layers),
    ("a_large_directory", cost_of_a_large_directory),
];

/// Each in a process of its own: memory that one has freed would hide what the next takes.
fn main() {
    let chosen =
        std::env::args().find_map(|word| COSTS.into_iter().find(|(name, _)| *name == word));
    if let Some((_, cost)) = chosen {
        return cost();
    }
    for (name, _) in COSTS {
        let program = std::env::current_exe().unwrap();
        let status = Command::new(program).arg(name).status().unwrap();
        assert!(status.success(), "{name}");
    }
}

/// A base of 100 GiB.
fn params() -> Params {
    Params {
        blocks: 102_400 * 256,
        inodes_per_group: Params::INODES_PER_GROUP,
        uuid: *b"\x7f0123456789abcde",
        hash_seed: [0x1234_5678, 0x9abc_def0, 0xdead_beef, 0x0bad_cafe],
        checksums: Checksums::default(),
        created: Timestamp::new(1_700_000_000, 0),
    }
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn measure<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (before, start) = (resident(), Instant::now());
    let result = work();
    let grown = resident().saturating_sub(before) / 1024;
    println!(
        "{what}: {:.3} s, {grown} KiB more",
        start.elapsed().as_secs_f64()
    );
    result
}

fn cost_of_a_million_files() {
    let (empty, _) = Image::format(params()).unwrap();
    let layer = measure("a layer tree of 1,000,000 files", || {
        many_files(1_000_000, 3000)
    });
    let (image, delta) = measure("planned", || child(&empty, &layer));
    let runs = delta.data.capacity() * size_of_val(&delta.data[0]) / 1024;
    println!("of which data runs: {runs} KiB");
    measure("encoded", || {
        let mut out = vec![0; 65_536];
        for &cluster in &delta.metadata {
            image.encode_cluster(cluster, &mut out);
        }
    });
}

fn cost_of_five_thousand_layers() {
    let (empty, _) = Image::format(params()).unwrap();
    let layer = many_files(100_000, 3000);
    let mut images = measure("base of 100,000 files", || vec![child(&empty, &layer).0]);
    measure("5000 layers of one file", || {
        for nth in 0..5000 {
            let (next, _) = child(images.last().unwrap(), &one_file(nth, 1000));
            images.push(next);
        }
    });
}

fn cost_of_a_large_directory() {
    let (empty, _) = Image::format(params()).unwrap();
    let names = (0..200_000).map(|nth| (format!("a name of {nth}").into_bytes(), file(0)));
    let names = flat_layer(names);
    let (large, _) = measure("a directory of 200,000 names", || child(&empty, &names));
    let mut images = vec![large];
    measure("1000 names more, a layer each", || {
        for nth in 0..1000 {
            let name = format!("another name {nth}").into_bytes();
            let layer = flat_layer([(name, file(0))].into_iter());
            images.push(child(images.last().unwrap(), &layer).0);
        }
    });
}
