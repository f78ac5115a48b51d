//! Everything that a conversion wrote is damaged, and `verify` names it: pool data by what lies there, pool metadata by the kind of
//! block, each kind of small file. Bits flip, runs and whole structures become zeros, files end early; times of modification
//! stay, as they do on a disk that loses bytes.
//!
//! What goes unnoticed must be harmless by somebody else's word: of file systems, that of `e2fsck` and of the tree that the
//! kernel shows; of small files, the narrow list in `exempt.rs`.

mod data;
mod exempt;
mod root;
mod wound;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use aufs2dm::ext4::Checksums;
use aufs2dm::verify::{Report, Verdict};

use self::data::{BASE, Data, Spot};
use self::root::Converted;
use self::wound::{Change, Wound};
use crate::thin::agreement::{Image, Random};

/// How much is tried.
#[derive(Clone, Copy)]
struct Effort {
    seed: u64,
    /// Places of each kind of structure of file systems, each damaged in three ways.
    places: usize,
    /// Blocks of each kind of the pool's metadata, the same.
    blocks: usize,
    /// Files of each kind, each damaged in five ways.
    files: usize,
    /// Bytes of a file that is added: with more than 16 MiB a device's mapping has nodes below its root.
    extra: u64,
}

/// What came of it.
#[derive(Default)]
struct Tally {
    /// By kind: damages that were named, and harmless ones.
    counts: BTreeMap<String, (u32, u32)>,
    complaints: Vec<String>,
}

impl Tally {
    fn named(&mut self, kind: &str) {
        self.counts.entry(kind.to_owned()).or_default().0 += 1;
    }

    fn harmless(&mut self, kind: &str) {
        self.counts.entry(kind.to_owned()).or_default().1 += 1;
    }

    fn end(self, label: &str) {
        let mut text = String::new();
        for (kind, (named, harmless)) in &self.counts {
            writeln!(text, "  {kind}: {named} named, {harmless} harmless").unwrap();
        }
        let sum = |of: fn(&(u32, u32)) -> u32| self.counts.values().map(of).sum::<u32>();
        let (named, harmless) = (sum(|counts| counts.0), sum(|counts| counts.1));
        #[allow(clippy::print_stdout)] // shown with --nocapture
        {
            println!("{label}: {named} damages named, {harmless} harmless\n{text}");
        }
        assert!(
            self.complaints.is_empty(),
            "{}\n{} complaints",
            self.complaints.join("\n\n"),
            self.complaints.len()
        );
    }
}

/// What `verify` says: nothing wrong, or what.
enum Word {
    Sound,
    Wrong(Box<Report>),
    /// It could not be asked, for the reason it gives.
    Refused(String),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Sound => "nothing is wrong".to_owned(),
            Self::Wrong(report) => report.to_string(),
            Self::Refused(text) => text.clone(),
        }
    }

    /// The layers that are wrong.
    fn layers(&self) -> BTreeSet<String> {
        let Self::Wrong(report) = self else {
            return BTreeSet::new();
        };
        let wrong = report
            .layers
            .iter()
            .filter(|layer| layer.verdict() == Verdict::Wrong);
        wrong
            .map(|layer| {
                layer
                    .id
                    .as_ref()
                    .map_or(BASE.to_owned(), ToString::to_string)
            })
            .collect()
    }
}

/// The ways to damage a stretch of bytes of which `used` mean something.
fn changes(bytes: &[u8], random: &mut Random) -> Vec<Change> {
    // Most bytes of a block are zeros; damage belongs where something is, or right behind it.
    let used = bytes.iter().rposition(|&byte| byte != 0);
    let used = used.map_or(1, |at| (at + 5).min(bytes.len()));
    let set: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
    let mut all = Vec::new();
    let at = random.below(used);
    all.push(Change::at(at, vec![bytes[at] ^ 1 << random.below(8)]));
    if !set.is_empty() {
        let at = random.of(&set);
        let run = (1 + random.below(32)).min(bytes.len() - at);
        all.push(Change::at(at, vec![0; run]));
        all.push(Change::at(0, vec![0; bytes.len()]));
    }
    all
}

fn damage_data(root: &Converted, effort: Effort, tally: &mut Tally) {
    let data = Data::of(root);
    let mut random = Random(effort.seed);
    let file = File::open(root.data()).unwrap();
    let mut silent: Vec<(Spot, Change)> = Vec::new();
    for (kind, spots) in &data.spots {
        for _ in 0..effort.places {
            let spot = &spots[random.below(spots.len())];
            let mut bytes = vec![0; usize::try_from(spot.bytes).unwrap()];
            file.read_exact_at(&mut bytes, spot.offset).unwrap();
            for change in changes(&bytes, &mut random) {
                let change = change.moved(spot.offset);
                let Some(wound) = Wound::inflict(&root.data(), &change, data.end) else {
                    continue;
                };
                let word = root.verify();
                drop(wound);
                if matches!(word, Word::Sound) {
                    silent.push((spot.clone(), change));
                } else if data.is_named(spot, &word) {
                    tally.named(kind);
                } else {
                    let text = word.text();
                    tally.complaints.push(format!(
                        "{kind}, {change}, {spot:?}: said of others\n{text}"
                    ));
                }
            }
        }
    }
    for (spot, change) in silent {
        match data.harm(root, &spot, &change) {
            None => tally.harmless(spot.kind),
            Some(harm) => tally.complaints.push(format!(
                "{}, {change}, {spot:?}: not noticed, but {harm}",
                spot.kind
            )),
        }
    }
    for at in [data.end - 4096, data.end, data.len - 1] {
        let change = Change::Cut(at);
        let subject = ("data cut", &*root.data(), &change);
        expect_words(
            root,
            subject,
            &["devicemapper/devicemapper/data"],
            tally,
            data.end,
        );
    }
}

fn damage_metadata(root: &Converted, effort: Effort, tally: &mut Tally) {
    const START: usize = 4 << 20;
    let path = root.metadata();
    let mut bytes = vec![0; START];
    File::open(&path)
        .unwrap()
        .read_exact_at(&mut bytes, 0)
        .unwrap();
    let roles = Image::of(bytes.clone()).roles;
    let mut by_role: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (block, (role, _)) in &roles {
        by_role.entry(role).or_default().push(*block);
    }
    let mut random = Random(effort.seed);
    let last = roles.keys().next_back().unwrap() + 1;
    for (role, blocks) in by_role {
        for _ in 0..effort.blocks {
            let block = random.of(&blocks);
            let place = block * 4096..(block + 1) * 4096;
            let number = format!("block {block}");
            for change in changes(&bytes[place.clone()], &mut random) {
                let change = change.moved(place.start as u64);
                let words = if block == 0 { "superblock" } else { &number };
                let kind = format!("pool metadata: {role}");
                let subject = (kind.as_str(), path.as_path(), &change);
                expect_words(root, subject, &[words], tally, last as u64 * 4096);
            }
        }
    }
    for cut in [0, last - 1, last] {
        let change = Change::Cut(cut as u64 * 4096);
        let subject = ("pool metadata cut", path.as_path(), &change);
        let words = ["devicemapper/devicemapper/metadata"];
        expect_words(root, subject, &words, tally, last as u64 * 4096);
    }
}

/// One damage that is to be named by one of these words.
fn expect_words(
    root: &Converted,
    (kind, path, change): (&str, &Path, &Change),
    words: &[&str],
    tally: &mut Tally,
    data_end: u64,
) {
    let before = exempt::Content::of(path, data_end);
    let Some(wound) = Wound::inflict(path, change, data_end) else {
        return;
    };
    let after = exempt::Content::of(path, data_end);
    let word = root.verify();
    let excuse = match word {
        Word::Sound => before.excuse(root, kind, &after),
        _ => None,
    };
    drop(wound);
    before.heal(kind, path);
    let text = word.text();
    let complaint = match (&word, excuse) {
        (Word::Sound, Some(_)) => return tally.harmless(kind),
        (Word::Sound, None) => "not noticed",
        _ if words.iter().any(|word| text.contains(word)) => return tally.named(kind),
        _ => "not named",
    };
    let path = path.display();
    tally
        .complaints
        .push(format!("{kind}, {change}, {path}: {complaint}\n{text}"));
}

/// A file's kind: its path without ids.
fn kind_of(path: &Path) -> String {
    let is_id = |name: &str| name.len() >= 64 && name[..64].bytes().all(|b| b.is_ascii_hexdigit());
    let names = path.iter().map(|name| name.to_str().unwrap());
    let names: Vec<_> = names
        .map(|name| if is_id(name) { "*" } else { name })
        .collect();
    names.join("/")
}

fn damage_files(root: &Converted, effort: Effort, tally: &mut Tally) {
    let mut by_kind: BTreeMap<String, Vec<&Path>> = BTreeMap::new();
    for path in root.files() {
        by_kind.entry(kind_of(path)).or_default().push(path);
    }
    let mut random = Random(effort.seed);
    for (kind, paths) in by_kind {
        for _ in 0..effort.files.min(paths.len()) {
            let path = random.of(&paths);
            let at = root.path().join(path);
            let bytes = fs::read(&at).unwrap();
            let len = bytes.len() as u64;
            let mut all = changes(&bytes, &mut random);
            // Zeros all over are what a power cut leaves; a file may also end early, or be empty.
            all.push(Change::Cut(random.below(bytes.len()) as u64));
            all.push(Change::Cut(0));
            if kind == ".aufs2dm/journal" {
                // As a power cut leaves it while its last line is written.
                all.push(Change::Cut(len - 5));
            }
            let shown = path.to_str().unwrap();
            let ids = path.iter().map(|name| name.to_str().unwrap());
            let mut words: Vec<&str> = ids.filter(|name| name.len() >= 64).collect();
            words.push(shown);
            words.push(if kind.starts_with(".aufs2dm") {
                ".aufs2dm"
            } else {
                shown
            });
            match kind.as_str() {
                ".aufs2dm/journal" => words.push("was interrupted while it was moving its result"),
                "image/devicemapper/repositories.json" => words.push(": refers to image "),
                _ => {}
            }
            for change in all {
                expect_words(root, (&kind, &at, &change), &words, tally, len);
            }
        }
    }
}

/// What every run tries.
const EFFORT: Effort = Effort {
    seed: 1,
    places: 2,
    blocks: 1,
    files: 1,
    extra: 0,
};

/// A root, what is done to it, and what comes of that.
struct Trial {
    label: &'static str,
    root: Converted,
    effort: Effort,
    tally: Tally,
}

impl Trial {
    fn new(label: &'static str, checksums: Checksums, effort: Effort) -> Self {
        Self {
            label,
            root: Converted::new(checksums, effort.extra),
            effort,
            tally: Tally::default(),
        }
    }

    fn with(mut self, damage: fn(&Converted, Effort, &mut Tally)) -> Self {
        damage(&self.root, self.effort, &mut self.tally);
        self
    }

    fn end(self) {
        let word = self.root.verify();
        assert!(matches!(word, Word::Sound), "healed, but {}", word.text());
        self.tally.end(self.label);
    }
}

fn with_group_sums(effort: Effort) {
    let label = "checksums of groups";
    Trial::new(label, Checksums::GroupDescriptors, effort)
        .with(damage_data)
        .end();
}

fn with_all_sums(effort: Effort) {
    let label = "checksums of all metadata";
    Trial::new(label, Checksums::Metadata, effort)
        .with(damage_data)
        .with(damage_metadata)
        .end();
}

fn beside_the_aufs_side(effort: Effort) {
    Trial::new("small files", Checksums::GroupDescriptors, effort)
        .with(damage_files)
        .end();
}

fn after_commit(effort: Effort) {
    let label = "small files, after commit";
    let mut trial = Trial::new(label, Checksums::GroupDescriptors, effort);
    trial.root.commit();
    trial.with(damage_files).end();
}

#[test]
fn damage_to_pool_data_is_named() {
    with_group_sums(EFFORT);
}

/// A branch that was changed in one place tells nothing of what the device has in another.
#[test]
fn damage_to_pool_data_is_named_although_aufs_was_changed_too() {
    let label = "checksums of groups, aufs changed since";
    let mut trial = Trial::new(label, Checksums::GroupDescriptors, EFFORT);
    trial.root.change_aufs();
    trial.with(damage_data).end();
}

#[test]
fn damage_to_pool_data_with_all_checksums_and_to_pool_metadata_is_named() {
    with_all_sums(EFFORT);
}

#[test]
fn damage_to_small_files_is_named() {
    beside_the_aufs_side(EFFORT);
}

#[test]
fn without_the_aufs_side_small_files_are_still_judged() {
    after_commit(EFFORT);
}

/// Writes a file as Docker does: a new one under the old name.
fn replace(path: &Path, edit: impl Fn(&str) -> String) {
    let before = fs::read_to_string(path).unwrap();
    let after = edit(&before);
    assert_ne!(after, before, "{}", path.display());
    let new = path.with_file_name(".tmp-new");
    fs::write(&new, after).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn what_docker_did_since_is_no_damage() {
    let root = Converted::new(Checksums::GroupDescriptors, 0);
    let store = root.path().join("image/devicemapper");
    let text = fs::read_to_string(store.join("repositories.json")).unwrap();
    let names: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (repository, tags) = names["Repositories"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let tags: Vec<&str> = tags
        .as_object()
        .unwrap()
        .values()
        .map(|id| id.as_str().unwrap())
        .collect();
    // `docker rmi`: the names go, then the image; its layers are still in use by a container.
    replace(&store.join("repositories.json"), |text| {
        let mut names: serde_json::Value = serde_json::from_str(text).unwrap();
        names["Repositories"]
            .as_object_mut()
            .unwrap()
            .remove(repository);
        names.to_string()
    });
    let removed = tags[0].strip_prefix("sha256:").unwrap();
    let metadata = store.join("imagedb/metadata/sha256").join(removed);
    if metadata.exists() {
        fs::remove_dir_all(metadata).unwrap();
    }
    fs::remove_file(store.join("imagedb/content/sha256").join(removed)).unwrap();
    // A start of a container.
    let config = root
        .files()
        .find(|path| path.starts_with("containers"))
        .unwrap();
    replace(&root.path().join(config), |text| {
        text.replacen("\"RestartCount\":0", "\"RestartCount\":1", 1)
    });
    let word = root.verify();
    assert!(matches!(word, Word::Sound), "{}", word.text());
    // What nobody wrote is damage all the same.
    let config = root.path().join(config);
    let change = Change::at(0, vec![b'[']);
    let len = fs::metadata(&config).unwrap().len();
    let wound = Wound::inflict(&config, &change, len).unwrap();
    assert!(matches!(root.verify(), Word::Wrong(_)));
    drop(wound);
}

/// What takes too long for every run.
const MORE: Effort = Effort {
    seed: 1000,
    places: 12,
    blocks: 6,
    files: 4,
    extra: 17 << 20,
};

#[test]
#[ignore = "takes minutes"]
fn many_more_damages_to_pool_data_are_named() {
    with_group_sums(MORE);
}

#[test]
#[ignore = "takes minutes"]
fn many_more_damages_to_pool_data_with_all_checksums_and_to_pool_metadata_are_named() {
    with_all_sums(MORE);
}

#[test]
#[ignore = "takes minutes"]
fn many_more_damages_to_small_files_are_named() {
    beside_the_aufs_side(MORE);
    after_commit(MORE);
}
