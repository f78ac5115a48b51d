//! Damaged file systems: whatever `e2fsck -fn` finds is found, and what it calls clean is clean.

#![allow(clippy::unwrap_used)] // a test reports by panicking

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs2dm::ext4::read::{Fault, View};

use super::images::{Made, fill};
use super::views::read_clean;
use crate::ext4::write::{BOTH, Chain, Numbers, Place, Structure, Taste, places, random_layer};

const STRUCTURES: [Structure; 11] = [
    Structure::Superblock,
    Structure::Descriptor,
    Structure::BlockBitmap,
    Structure::InodeBitmap,
    Structure::Inode,
    Structure::DirectoryLeaf,
    Structure::Index,
    Structure::ExtentNode,
    Structure::XattrBlock,
    Structure::SymlinkBlock,
    Structure::Journal,
];

/// A clean file system and where its structures are.
struct Subject {
    path: PathBuf,
    device: File,
    places: Vec<Place>,
}

impl Subject {
    fn new(path: &Path) -> Self {
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        let view = read_clean(path);
        let places = places(&device, &view);
        Self {
            path: path.to_owned(),
            device,
            places,
        }
    }

    fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.device.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

/// Bytes of a structure and what they become.
struct Damage {
    offset: u64,
    before: Vec<u8>,
    after: Vec<u8>,
    what: String,
}

fn random_damage(subject: &Subject, structure: Structure, numbers: &mut Numbers) -> Option<Damage> {
    let places: Vec<_> = subject
        .places
        .iter()
        .filter(|(kind, ..)| *kind == structure)
        .collect();
    if places.is_empty() {
        return None;
    }
    let pick =
        |numbers: &mut Numbers, below: usize| usize::try_from(numbers.below(below as u64)).unwrap();
    let &&(_, offset, length) = &places[pick(numbers, places.len())];
    let before = subject.bytes(offset, usize::try_from(length).unwrap());
    let mut after = before.clone();
    // Most bytes of a block are zero; damage belongs where something is, or right behind it.
    let used = before
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(1, |at| (at + 9).min(before.len()));
    let reach = if numbers.chance(80) {
        used
    } else {
        before.len()
    };
    let at = match numbers.below(3) {
        0 => pick(numbers, reach.min(64)),
        _ => pick(numbers, reach),
    };
    let what = match numbers.below(10) {
        0..5 => {
            after[at] ^= 1 << numbers.below(8);
            "flipped"
        }
        5 => {
            after[at] = numbers.next().to_le_bytes()[0];
            "replaced"
        }
        6 => {
            after[at..].iter_mut().take(4).for_each(|byte| *byte = 0);
            "zeroed"
        }
        7 => {
            after[at..].fill(0);
            "cut off"
        }
        8 => {
            let at = at & !3;
            after[at..].iter_mut().take(4).for_each(|byte| *byte = 0xff);
            "set"
        }
        _ => {
            after.fill(0);
            "emptied"
        }
    };
    (after != before).then(|| Damage {
        offset,
        what: format!("{what} at byte {at} of {structure:?} at {offset:#x}"),
        before,
        after,
    })
}

/// What a reader says.
enum Verdict {
    Clean,
    Wrong(String),
}

fn our_verdict(device: &File) -> (Verdict, Vec<Fault>) {
    match View::read(device) {
        Ok(checked) if checked.faults.is_empty() => (Verdict::Clean, Vec::new()),
        Ok(checked) => {
            let said: Vec<_> = checked.faults.iter().map(ToString::to_string).collect();
            (Verdict::Wrong(said.join("\n  ")), checked.faults)
        }
        Err(error) => (Verdict::Wrong(error.to_string()), Vec::new()),
    }
}

/// What `e2fsck -fn` says. Its exit code alone would not do: for some of what it finds, and offers to repair, it is 0.
fn e2fsck(path: &Path) -> Verdict {
    let output = Command::new("e2fsck")
        .arg("-fn")
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_figures = |line: &str| line.contains(" files (") && line.ends_with(" blocks");
    let mut said = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("Pass ") && !is_figures(line));
    if output.status.success() && said.clone().next().is_none() {
        return Verdict::Clean;
    }
    let first: Vec<_> = said.by_ref().take(8).collect();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Verdict::Wrong(format!("{}\n{errors}", first.join("\n")))
}

fn agree(label: &str, subject: &Subject, (first, seeds): (u64, u64)) -> Vec<String> {
    let mut complaints = Vec::new();
    let (mut both, mut clean) = (0, 0);
    for structure in STRUCTURES {
        for seed in first..first + seeds {
            let mut numbers = Numbers::new(seed * 100 + structure as u64);
            let Some(damage) = random_damage(subject, structure, &mut numbers) else {
                continue;
            };
            subject
                .device
                .write_all_at(&damage.after, damage.offset)
                .unwrap();
            let (ours, faults) = our_verdict(&subject.device);
            let theirs = e2fsck(&subject.path);
            let (said, heard) = match (ours, theirs) {
                (Verdict::Clean, Verdict::Clean) => {
                    clean += 1;
                    (None, None)
                }
                (Verdict::Wrong(_), Verdict::Wrong(_)) => {
                    both += 1;
                    (None, None)
                }
                (Verdict::Clean, Verdict::Wrong(text)) => (None, Some(text)),
                (Verdict::Wrong(text), Verdict::Clean) => (Some(text), None),
            };
            if let Some(said) = said
                && !is_stricter(&faults)
            {
                complaints.push(format!(
                    "{label}, seed {seed}: {}: only we say\n  {said}",
                    damage.what
                ));
            }
            if let Some(heard) = heard
                && !is_laxer(&heard)
            {
                complaints.push(format!(
                    "{label}, seed {seed}: {}: only e2fsck says\n{heard}",
                    damage.what
                ));
            }
            subject
                .device
                .write_all_at(&damage.before, damage.offset)
                .unwrap();
        }
    }
    #[allow(clippy::print_stdout)] // shown with --nocapture
    {
        println!("{label}: {both} found by both, {clean} harmless to both");
    }
    complaints
}

fn is_stricter(_faults: &[Fault]) -> bool {
    false
}

fn is_laxer(_said: &str) -> bool {
    false
}

fn judge(label: &str, path: &Path, seeds: (u64, u64)) {
    let subject = Subject::new(path);
    let complaints = agree(label, &subject, seeds);
    assert!(
        complaints.is_empty(),
        "{}\n{} disagreements",
        complaints.join("\n\n"),
        complaints.len()
    );
}

fn planned(nth: usize, seeds: (u64, u64)) {
    let mut numbers = Numbers::new(77);
    let mut chain = Chain::new(500, BOTH[nth]);
    let taste = Taste {
        changes: 150,
        name_bytes: 200,
    };
    for _ in 0..2 {
        let layer = random_layer(&mut numbers, &chain.model, &taste);
        chain.apply(&layer);
    }
    judge(
        ["planned, uninit_bg", "planned, metadata_csum"][nth],
        &chain.disk.path(),
        seeds,
    );
}

fn made(options: &[&str], seeds: (u64, u64)) {
    let made = Made::new(140, &[&["-b", "4096"], options].concat());
    made.mounted("rw", fill);
    judge(&format!("made with {options:?}"), &made.path(), seeds);
}

const SEEDS: (u64, u64) = (1, 12);

#[test]
fn verdicts_agree_on_what_was_planned() {
    planned(0, SEEDS);
}

#[test]
fn verdicts_agree_on_what_was_planned_with_checksums() {
    planned(1, SEEDS);
}

#[test]
fn verdicts_agree_on_what_mkfs_made() {
    made(&[], SEEDS);
}

#[test]
fn verdicts_agree_on_what_an_older_mkfs_made() {
    made(&["-O", "^metadata_csum,uninit_bg,^64bit"], SEEDS);
}

#[test]
fn verdicts_agree_on_block_maps() {
    made(&["-O", "^metadata_csum,^extent,^64bit,^flex_bg"], SEEDS);
}

#[test]
#[ignore = "takes many minutes"]
fn verdicts_agree_on_many_more_damages() {
    let range = std::env::var("SEEDS").map_or((1000, 200), |text| {
        let (first, seeds) = text.split_once(' ').unwrap();
        (first.parse().unwrap(), seeds.parse().unwrap())
    });
    let results: Vec<_> = (0..5)
        .map(|nth| {
            std::panic::catch_unwind(|| match nth {
                0 | 1 => planned(nth, range),
                2 => made(&[], range),
                3 => made(&["-O", "^metadata_csum,uninit_bg,^64bit"], range),
                _ => made(&["-O", "^metadata_csum,^extent,^64bit,^flex_bg"], range),
            })
        })
        .collect();
    assert!(results.iter().all(Result::is_ok));
    let _ = fs::metadata("/");
}
