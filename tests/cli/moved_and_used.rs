//! A move, forward or back, that was killed half way, and a Docker that has worked since on what was in place: nothing of that is lost
//! without `--force`, and where there was no Docker, no `--force` is needed.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::commit_conditions::Ready;
use super::support::root::container_id;
use super::support::trace::{assert_same, contents};

const SWITCHED: &str = "{\"record\":\"switched\"";

/// Where a run was killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Killed {
    /// `convert`, after the first rename.
    OneMoved,
    /// `convert`, between the directories and the configs.
    DirectoriesMoved,
    /// `convert`, before it noted that all is in place.
    AllMoved,
    /// `rollback`, before its first step.
    NoneBack,
    /// `rollback`, with the config back.
    ConfigBack,
    /// `rollback`, with the config and the image store back.
    ImageBack,
}

use Killed::*;

const ALL: [Killed; 6] = [
    OneMoved,
    DirectoriesMoved,
    AllMoved,
    NoneBack,
    ConfigBack,
    ImageBack,
];

impl Killed {
    fn going_back(self) -> bool {
        matches!(self, NoneBack | ConfigBack | ImageBack)
    }

    /// The root as it is then.
    fn root(self) -> Ready {
        let ready = Ready::new();
        let web = format!("containers/{}", container_id("web"));
        let config = ready.path(&web).join("config.v2.json");
        let stage = ready.path(".aufs2dm");
        let original = stage.join("originals").join(&web).join("config.v2.json");
        let staged = stage.join(&web);
        match self {
            OneMoved | DirectoriesMoved => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&staged)
                    .unwrap();
                fs::rename(&config, staged.join("config.v2.json")).unwrap();
                fs::hard_link(&original, &config).unwrap();
            }
            ConfigBack | ImageBack => fs::rename(&original, &config).unwrap(),
            AllMoved | NoneBack => {}
        }
        if let OneMoved | ImageBack = self {
            fs::rename(ready.path("image/devicemapper"), stage.join("image")).unwrap();
        }
        if self.going_back() {
            ready.note("rolling-back");
        } else {
            let journal = fs::read_to_string(stage.join("journal")).unwrap();
            let end = journal.find(SWITCHED).unwrap();
            fs::write(stage.join("journal"), &journal[..end]).unwrap();
        }
        ready
    }
}

/// What a Docker does with devicemapper.
type Work = fn(&Path);

fn new_device(root: &Path) {
    fs::write(root.join("devicemapper/metadata/new"), "{}").unwrap();
}

/// In the words that name it.
const WORKS: [(&str, Work); 3] = [
    ("1 new layers (new)", new_device),
    ("the pool's data was written to", |root| {
        let data = root.join("devicemapper/devicemapper/data");
        let file = File::options().read(true).write(true).open(data).unwrap();
        let mut bytes = [0; 512];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        file.write_all_at(&bytes, 4096).unwrap();
    }),
    ("1 new containers (db)", |root| {
        let path = root.join("containers").join(container_id("db"));
        fs::create_dir(&path).unwrap();
        let config = r#"{"Name":"/db","Driver":"devicemapper"}"#;
        fs::write(path.join("config.v2.json"), config).unwrap();
    }),
];

#[track_caller]
fn lost_only_by_force(killed: Killed, ready: &Ready, words: &str) {
    let before = contents(&ready.root.path());
    let mut next = vec![words, "nothing was changed", "rollback --force"];
    if !killed.going_back() {
        next.push("`aufs2dm resume");
    }
    ready.run("rollback", &[]).expect(1, &next);
    if killed.going_back() {
        ready.run("resume", &[]).expect(1, &next);
    }
    assert_same(&before, &contents(&ready.root.path()));
    let status = ready.run("status", &[]);
    for words in [words, "rollback --force", "Docker has worked on"] {
        assert!(
            status.out.contains(words),
            "{killed:?}: {words}: {status:?}"
        );
    }
    let told: Value = serde_json::from_str(&ready.run("status", &["--json"]).out).unwrap();
    assert!(told["changes"].is_object(), "{told}");
    ready.run("rollback", &["--force"]).expect(0, &[words]);
    assert!(!ready.path("devicemapper").exists() && ready.path("aufs/diff").exists());
}

#[test]
fn what_docker_did_while_a_move_was_interrupted_is_lost_only_by_force() {
    for killed in ALL {
        for (words, work) in WORKS {
            let ready = killed.root();
            work(&ready.root.path());
            lost_only_by_force(killed, &ready, words);
        }
    }
}

#[test]
fn what_docker_wrote_in_the_image_store_and_the_configs_is_lost_only_by_force() {
    for killed in [DirectoriesMoved, AllMoved, ConfigBack] {
        let ready = killed.root();
        let name = format!("imagedb/content/sha256/{}", "5".repeat(64));
        fs::write(ready.path("image/devicemapper").join(&name), "{}").unwrap();
        lost_only_by_force(killed, &ready, &name);
    }
    for killed in [AllMoved, NoneBack] {
        let ready = killed.root();
        let config = format!("containers/{}/config.v2.json", container_id("web"));
        let text = fs::read_to_string(ready.path(&config)).unwrap();
        fs::write(
            ready.path(&config),
            text.replace("\"State\":{", "\"State\":{\"Pid\":7,"),
        )
        .unwrap();
        lost_only_by_force(killed, &ready, "containers started or changed");
    }
}

#[test]
fn an_interrupted_move_that_docker_never_saw_is_ended_without_force() {
    for killed in ALL {
        for verb in ["rollback", "resume"] {
            let ready = killed.root();
            let status = ready.run("status", &[]);
            assert!(!status.out.contains("--force"), "{killed:?}: {status:?}");
            ready.run(verb, &[]).expect(0, &[]);
            let is_back = verb == "rollback" || killed.going_back();
            assert_eq!(ready.path("devicemapper").exists(), !is_back, "{killed:?}");
            if !is_back {
                ready.run("verify", &["--full"]).expect(0, &[]);
                ready.run("rollback", &[]).expect(0, &[]);
            }
        }
    }
}

#[test]
fn what_a_docker_with_aufs_did_meanwhile_needs_no_force() {
    for killed in [DirectoriesMoved, ConfigBack] {
        let ready = killed.root();
        let path = ready.path("containers").join(container_id("db"));
        fs::create_dir(&path).unwrap();
        fs::write(
            path.join("config.v2.json"),
            r#"{"Name":"/db","Driver":"aufs"}"#,
        )
        .unwrap();
        let config = format!("containers/{}/config.v2.json", container_id("web"));
        let text = fs::read_to_string(ready.path(&config)).unwrap();
        let changed = text.replace("\"State\":{", "\"State\":{\"Pid\":7,");
        fs::write(ready.path("new"), &changed).unwrap();
        fs::rename(ready.path("new"), ready.path(&config)).unwrap();
        ready.run("rollback", &[]).expect(0, &[]);
        assert_eq!(fs::read_to_string(ready.path(&config)).unwrap(), changed);
        assert!(path.exists());
    }
}

#[test]
fn a_resume_keeps_what_docker_did_and_a_rollback_after_it_names_it() {
    for killed in [DirectoriesMoved, AllMoved] {
        for (words, work) in WORKS {
            let ready = killed.root();
            work(&ready.root.path());
            ready.run("resume", &[]).expect(0, &[]);
            ready
                .run("rollback", &[])
                .expect(1, &[words, "rollback --force"]);
        }
    }
}

/// What a Docker makes that does not find its image store.
fn own_image_store(ready: &Ready) -> PathBuf {
    let store = ready.path("image/devicemapper");
    fs::create_dir_all(store.join("imagedb/content/sha256")).unwrap();
    fs::write(store.join("repositories.json"), "{}").unwrap();
    store
}

#[test]
fn what_docker_made_where_the_rest_belongs_is_named_and_nothing_is_taken_back() {
    let ready = OneMoved.root();
    new_device(&ready.root.path());
    let store = own_image_store(&ready);
    let before = contents(&ready.root.path());
    let next = format!(
        "mv --backup=numbered -t {}",
        ready.path("kept-files").display()
    );
    let words = [
        "image/devicemapper: created by something else",
        &next,
        "`aufs2dm resume",
    ];
    ready.run("resume", &[]).expect(1, &words);
    assert_same(&before, &contents(&ready.root.path()));
    ready
        .run("rollback", &[])
        .expect(1, &["1 new layers (new)"]);
    assert_same(&before, &contents(&ready.root.path()));
    fs::rename(&store, ready.path("kept")).unwrap();
    ready.run("resume", &[]).expect(0, &[]);
    assert!(ready.path("devicemapper/metadata/new").exists());
}

#[test]
fn a_resume_that_fails_leaves_in_place_what_docker_has_worked_on() {
    let ready = DirectoriesMoved.root();
    new_device(&ready.root.path());
    let config = format!("containers/{}/config.v2.json", container_id("web"));
    let written = ready.path("new");
    fs::write(&written, r#"{"Name":"/web","Driver":"aufs","New":1}"#).unwrap();
    fs::rename(&written, ready.path(&config)).unwrap();
    let words = [
        "Docker has worked on what is already in place",
        "resume",
        "rollback --force",
    ];
    ready.run("resume", &[]).expect(5, &words);
    assert!(ready.path("devicemapper/metadata/new").exists());
    ready
        .run("rollback", &[])
        .expect(1, &["1 new layers (new)"]);
}
