//! How long a whole conversion takes, against a raw copy of the same bytes: the figures of docs/benchmarks.md.
//!
//! `cargo bench --bench end_to_end [-- FILTER]`, as root (branches need owners). Absolute times say little on a shared
//! machine: every figure is a ratio of two things done in turn in one run. `BENCH_DIR` names where the trees are made
//! (default: below `target/`); the largest takes 3 GB.

// The figures are what a benchmark is for.
#![allow(clippy::print_stdout)]

mod layerdb;
mod root;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use root::{AufsRoot, FileSizes};

const ROUNDS: usize = 5;

type Scenario = (&'static str, fn(&Path));

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let scenarios: [Scenario; 5] = [
        ("convert_against_dd", convert_against_dd),
        ("verification", verification),
        ("chain_of_100_against_one_layer", chain_against_one_layer),
        ("directory_of_200000", large_directory),
        ("memory_of_a_million_files", memory),
    ];
    let dir = std::env::var_os("BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench"),
        PathBuf::from,
    );
    for (name, run) in scenarios {
        if filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()))
        {
            println!("\n## {name}\n");
            let dir = dir.join(name);
            fs::create_dir_all(&dir).expect("the bench directory can be made");
            run(&dir);
        }
    }
}

/// The tree of ten layers, about 1.1 GB in 36,500 files, warm and cold.
fn convert_against_dd(dir: &Path) {
    let root = AufsRoot::at(&dir.join("docker"));
    root.build_once(|root| root.chain(10, 36_540, &FileSizes::like_installed_software()));
    let raw = dir.join("raw");
    println!(
        "| cache | convert / dd: median (min-max) | dd, s | convert, s | pool blocks x 64 KiB / changed 4 KiB blocks |"
    );
    println!("|---|---|---|---|---|");
    for cold in [false, true] {
        let mut rounds = Vec::new();
        let mut space = String::new();
        for _ in 0..=ROUNDS {
            let bytes = root.bytes();
            settle(&root, cold);
            root::make_raw(&raw, bytes, cold);
            let dd = time(
                Command::new("dd")
                    .args(["bs=1M", "conv=fsync"])
                    .arg(operand("if", &raw))
                    .arg(operand("of", &dir.join("copy"))),
            );
            remove(&dir.join("copy"));
            settle(&root, cold);
            let (convert, summary) = convert(&root);
            space = format!("{:.4}", summary.space_ratio());
            root.take_back();
            rounds.push((dd, convert));
        }
        // The first round warms up.
        rounds.remove(0);
        let (ratio, dd, convert) = (
            spread(&rounds, |(a, b)| b / a),
            spread(&rounds, |(a, _)| a),
            spread(&rounds, |(_, b)| b),
        );
        println!(
            "| {} | {ratio} | {dd} | {convert} | {space} |",
            if cold { "cold" } else { "warm" }
        );
    }
}

/// What verification costs: at the end of a conversion, and by itself, reading all back.
fn verification(dir: &Path) {
    let root = AufsRoot::at(&dir.join("docker"));
    root.build_once(|root| {
        root.chain(10, 36_540, &FileSizes::like_installed_software());
        root.record();
    });
    println!(
        "| cache | verified / not: median (min-max) | not, s | verified, s | verify --full / not |"
    );
    println!("|---|---|---|---|---|");
    for cold in [false, true] {
        let (mut rounds, mut full) = (Vec::new(), Vec::new());
        for _ in 0..=ROUNDS {
            settle(&root, cold);
            let without = time(
                tool("convert", &root)
                    .arg("--no-verify")
                    .stdout(Stdio::null()),
            );
            root.take_back();
            settle(&root, cold);
            let (with, _) = convert(&root);
            settle(&root, cold);
            let all = time(tool("verify", &root).arg("--full").stdout(Stdio::null()));
            root.take_back();
            rounds.push((without, with));
            full.push((without, all));
        }
        rounds.remove(0);
        full.remove(0);
        println!(
            "| {} | {} | {} | {} | {} |",
            if cold { "cold" } else { "warm" },
            spread(&rounds, |(without, with)| with / without),
            spread(&rounds, |(without, _)| without),
            spread(&rounds, |(_, with)| with),
            spread(&full, |(without, all)| all / without),
        );
    }
}

/// The same 36,540 files in a chain of 100 layers and in one.
fn chain_against_one_layer(dir: &Path) {
    let roots = [1, 100].map(|layers| {
        let root = AufsRoot::at(&dir.join(format!("{layers}-layers")));
        root.build_once(|root| root.chain(layers, 36_540, &FileSizes::like_installed_software()));
        root
    });
    let mut rounds = Vec::new();
    for _ in 0..=ROUNDS {
        let [one, chain] = [&roots[0], &roots[1]].map(|root| {
            settle(root, false);
            let (time, _) = convert(root);
            root.take_back();
            time
        });
        rounds.push((one, chain));
    }
    rounds.remove(0);
    println!(
        "chain of 100 / one layer: {}",
        spread(&rounds, |(one, chain)| chain / one)
    );
}

/// One directory of n entries: the time for each entry must not grow with n.
fn large_directory(dir: &Path) {
    println!("| entries | us per entry |");
    println!("|---|---|");
    for entries in [50_000, 100_000, 200_000] {
        let root = AufsRoot::at(&dir.join(format!("{entries}")));
        root.build_once(|root| root.one_directory(entries));
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                settle(&root, false);
                let (time, _) = convert(&root);
                root.take_back();
                time * 1e6 / f64::from(entries)
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "| {entries} | {:.1} ({:.1}-{:.1}) |",
            times[ROUNDS / 2],
            times[0],
            times[ROUNDS - 1]
        );
    }
}

/// Peak memory of one conversion of a million files.
fn memory(dir: &Path) {
    let root = AufsRoot::on_tmpfs(&dir.join("docker"));
    root.build_once(|root| root.many_small(1_000_000));
    let (time, summary) = convert(&root);
    println!(
        "peak memory: {} MiB, {time:.1} s, {} entries",
        summary.peak_kib / 1024,
        summary.entries
    );
}

/// What a conversion says of itself.
struct Summary {
    data_bytes: f64,
    changed_blocks: f64,
    entries: u64,
    peak_kib: u64,
}

impl Summary {
    fn space_ratio(&self) -> f64 {
        self.data_bytes / (self.changed_blocks * 4096.0)
    }
}

fn convert(root: &AufsRoot) -> (f64, Summary) {
    let began = Instant::now();
    let output = tool("convert", root)
        .arg("--json")
        .stderr(Stdio::inherit())
        .output()
        .expect("the binary runs");
    let elapsed = began.elapsed().as_secs_f64();
    assert!(output.status.success(), "the conversion succeeds");
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("--json prints JSON");
    let number = |name: &str| {
        json[name]
            .as_u64()
            .unwrap_or_else(|| panic!("the summary has {name}"))
    };
    #[allow(clippy::cast_precision_loss)] // ratios of two decimals
    let summary = Summary {
        data_bytes: number("data_bytes") as f64,
        changed_blocks: number("changed_blocks") as f64,
        entries: number("entries"),
        peak_kib: number("peak_memory_kib"),
    };
    (elapsed, summary)
}

/// A command of the tool on the root.
fn tool(command: &str, root: &AufsRoot) -> Command {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_aufs2dm"));
    tool.args([command, "--root"])
        .arg(root.path())
        .arg("--pidfile")
        .arg(root.path().with_extension("pid"));
    tool
}

fn time(command: &mut Command) -> f64 {
    let began = Instant::now();
    let status = command
        .stderr(Stdio::null())
        .status()
        .expect("the command runs");
    assert!(status.success());
    began.elapsed().as_secs_f64()
}

/// Brings the page cache into the state that is measured.
fn settle(root: &AufsRoot, cold: bool) {
    assert!(Command::new("sync").status().expect("sync runs").success());
    if cold {
        fs::write("/proc/sys/vm/drop_caches", "3").expect("root may drop the caches");
    } else {
        root.read_all();
    }
    std::thread::sleep(Duration::from_millis(200));
}

fn operand(name: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(format!("{name}="));
    text.push(path);
    text
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("a file of ours can be removed");
}

fn spread(rounds: &[(f64, f64)], figure: impl Fn((f64, f64)) -> f64) -> String {
    let mut figures: Vec<_> = rounds.iter().map(|&round| figure(round)).collect();
    figures.sort_by(f64::total_cmp);
    format!(
        "{:.2} ({:.2}-{:.2})",
        figures[figures.len() / 2],
        figures[0],
        figures[figures.len() - 1]
    )
}
