//! Moves the staged result in place by renames, undone in reverse when one fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{Error, RollbackState};
use crate::engine::kernel::claim;
use crate::shell::quoted;

/// A container's configuration file with the storage driver changed.
#[derive(Clone, Debug)]
pub struct EditedConfig {
    /// The file, relative to the Docker root: `containers/<id>/config.v2.json`.
    pub path: PathBuf,
    /// Its new content.
    pub content: Vec<u8>,
}

/// One rename that can be taken back.
#[derive(Debug)]
struct Move {
    from: PathBuf,
    to: PathBuf,
    /// Where the file that stands at `to` is kept; `None` when nothing may stand there.
    original: Option<PathBuf>,
}

/// In the staging directory while results are being moved out of it, and not before or after: a root's own `devicemapper`
/// must never be taken for the half-moved result of a run.
const MARKER: &str = "switching";

/// Moves everything in place. The aufs side works until the last rename, and again after the undo.
pub(super) fn switch(root: &Path, stage: &Path, configs: &[EditedConfig]) -> Result<(), Error> {
    let marker = stage.join(MARKER);
    File::create_new(&marker).map_err(Error::io(&marker, "create"))?;
    sync_parent(&marker)?;
    move_all(root, stage, configs)?;
    // From here on the originals are of no use; without the marker a kill while they are removed is harmless.
    let ended = fs::remove_file(&marker).map_err(Error::io(&marker, "remove"));
    if let Err(error) = ended.and_then(|()| sync_parent(&marker)) {
        log::warn!(
            "the result is in place, but {error}: remove {} by hand",
            stage.display()
        );
    }
    Ok(())
}

fn move_all(root: &Path, stage: &Path, configs: &[EditedConfig]) -> Result<(), Error> {
    let mut done = Vec::new();
    for step in steps(root, stage, configs) {
        if let Err(cause) = step.apply() {
            return Err(undo(&done, cause));
        }
        done.push(step);
    }
    // Durable before the caller removes the originals.
    done.iter()
        .try_for_each(|step| sync_parent(&step.to))
        .map_err(|cause| undo(&done, cause))
}

fn steps(root: &Path, stage: &Path, configs: &[EditedConfig]) -> Vec<Move> {
    let whole = |from: &str, to: &str| Move {
        from: stage.join(from),
        to: root.join(to),
        original: None,
    };
    let config = |config: &EditedConfig| Move {
        from: stage.join(&config.path),
        to: root.join(&config.path),
        original: Some(stage.join("originals").join(&config.path)),
    };
    let mut steps = vec![
        whole("devicemapper", "devicemapper"),
        whole("image", "image/devicemapper"),
    ];
    steps.extend(configs.iter().map(config));
    steps
}

impl Move {
    fn apply(&self) -> Result<(), Error> {
        if let Some(original) = &self.original {
            let parent = original
                .parent()
                .expect("it lies below the staging directory");
            fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
            fs::hard_link(&self.to, original).map_err(Error::io(&self.to, "keep"))?;
        } else if self.to.symlink_metadata().is_ok() {
            // An empty directory of that name is replaced by rename; anything in it is not ours to judge.
            fs::remove_dir(&self.to).map_err(|_| Error::Exists {
                path: self.to.clone(),
            })?;
        }
        fs::rename(&self.from, &self.to).map_err(Error::io(&self.to, "move the result to"))
    }

    fn take_back(&self) -> Result<(), Error> {
        match &self.original {
            Some(original) => {
                fs::rename(original, &self.to).map_err(Error::io(&self.to, "restore"))
            }
            None => fs::rename(&self.to, &self.from).map_err(Error::io(&self.to, "take back")),
        }
    }

    fn by_hand(&self) -> String {
        match &self.original {
            Some(original) => format!("mv -f {} {}", quoted(original), quoted(&self.to)),
            None => format!("mv {} {}", quoted(&self.to), quoted(&self.from)),
        }
    }
}

/// Takes back what was done, latest first, and goes on where one fails.
fn undo(done: &[Move], cause: Error) -> Error {
    let by_hand: Vec<_> = done
        .iter()
        .rev()
        .filter(|step| step.take_back().is_err())
        .map(Move::by_hand)
        .collect();
    if by_hand.is_empty() {
        return cause;
    }
    Error::RollbackFailed {
        cause: Box::new(cause),
        state: RollbackState(by_hand),
    }
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().expect("it lies below the Docker root");
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io(parent, "sync"))
}

/// The shell commands that take back what a run had moved when it was killed between two renames; `None` when it had moved
/// nothing, or everything.
pub(super) fn half_switched(root: &Path, stage: &Path) -> Option<String> {
    let exists = |path: PathBuf| path.symlink_metadata().is_ok();
    if !exists(stage.join(MARKER)) {
        return None;
    }
    let mut by_hand = Vec::new();
    let originals = stage.join("originals/containers");
    if exists(originals.clone()) {
        // The last original may still be in its place too, as a hard link, which a plain `cp` takes for an error.
        by_hand.push(format!(
            "cp -a --remove-destination {}/. {}",
            quoted(&originals),
            quoted(&root.join("containers"))
        ));
    }
    let mut moved = Vec::new();
    for (from, to) in [
        ("image", "image/devicemapper"),
        ("devicemapper", "devicemapper"),
    ] {
        if !exists(stage.join(from)) && exists(root.join(to)) {
            moved.push(quoted(&root.join(to)));
        }
    }
    if moved.is_empty() {
        return None;
    }
    // The record of a pool elsewhere must stay, for the next run to empty that. Without the marker it takes all the rest away.
    let has_record = exists(stage.join(claim::FILE));
    moved.push(if has_record {
        quoted(&stage.join(MARKER))
    } else {
        quoted(stage)
    });
    by_hand.push(format!("rm -rf {}", moved.join(" ")));
    Some(by_hand.join(" && "))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let fixture = Self {
                dir: tempfile::Builder::new().prefix("it's ").tempdir().unwrap(),
            };
            for (path, content) in [
                ("image/aufs/repositories.json", "tags"),
                ("containers/c1/config.v2.json", "old 1"),
                ("containers/c2/config.v2.json", "old 2"),
                ("stage/devicemapper/data", "pool"),
                ("stage/image/repositories.json", "tags"),
                ("stage/containers/c1/config.v2.json", "new 1"),
                ("stage/containers/c2/config.v2.json", "new 2"),
            ] {
                let path = fixture.path(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
            fixture
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }

        fn configs() -> [EditedConfig; 2] {
            ["c1", "c2"].map(|id| EditedConfig {
                path: format!("containers/{id}/config.v2.json").into(),
                content: vec![],
            })
        }

        fn switch(&self) -> Result<(), Error> {
            switch(self.dir.path(), &self.path("stage"), &Self::configs())
        }
    }

    #[test]
    fn all_is_moved_in_place() {
        let fixture = Fixture::new();
        fixture.switch().unwrap();
        assert_eq!(fixture.read("devicemapper/data"), "pool");
        assert_eq!(fixture.read("image/devicemapper/repositories.json"), "tags");
        assert_eq!(fixture.read("image/aufs/repositories.json"), "tags");
        assert_eq!(fixture.read("containers/c1/config.v2.json"), "new 1");
        assert_eq!(fixture.read("containers/c2/config.v2.json"), "new 2");
    }

    #[test]
    fn a_failed_step_takes_back_the_ones_before_it() {
        let fixture = Fixture::new();
        fs::remove_file(fixture.path("stage/containers/c2/config.v2.json")).unwrap();
        assert!(matches!(fixture.switch().unwrap_err(), Error::Io { .. }));
        assert!(!fixture.path("devicemapper").exists());
        assert!(!fixture.path("image/devicemapper").exists());
        assert_eq!(fixture.read("containers/c1/config.v2.json"), "old 1");
        assert_eq!(fixture.read("containers/c2/config.v2.json"), "old 2");
        assert_eq!(fixture.read("stage/devicemapper/data"), "pool");
    }

    #[test]
    fn what_stands_in_the_way_is_named_and_kept() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path("image/devicemapper/layerdb")).unwrap();
        let error = fixture.switch().unwrap_err();
        assert!(
            matches!(error, Error::Exists { path } if path == fixture.path("image/devicemapper"))
        );
        assert!(fixture.path("image/devicemapper/layerdb").exists());
        assert!(!fixture.path("devicemapper").exists());
    }

    /// Every file below the root with its content.
    fn files(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<_> = walkdir::WalkDir::new(root)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| (entry.path().to_owned(), fs::read(entry.path()).unwrap()))
            .filter(|(path, _)| !path.starts_with(root.join("stage")))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn the_way_back_from_a_kill_between_any_two_renames_works_as_told() {
        // Even steps are complete, odd ones have only kept the original.
        for killed_after in 0..7 {
            let fixture = Fixture::new();
            let (root, stage) = (fixture.dir.path(), fixture.path("stage"));
            let before = files(root);
            fs::write(stage.join(MARKER), "").unwrap();
            let configs = Fixture::configs();
            let all = steps(root, &stage, &configs);
            for step in all.iter().take(killed_after.min(all.len())) {
                step.apply().unwrap();
            }
            if let Some(next) = all.get(killed_after)
                && let Some(original) = &next.original
            {
                fs::create_dir_all(original.parent().unwrap()).unwrap();
                fs::hard_link(&next.to, original).unwrap();
            }
            let Some(commands) = half_switched(root, &stage) else {
                assert_eq!(killed_after, 0);
                continue;
            };
            let status = std::process::Command::new("sh")
                .args(["-ec", &commands])
                .status()
                .unwrap();
            assert!(status.success(), "{commands}");
            assert_eq!(files(root), before, "{commands}");
            assert!(!stage.exists());
        }
    }

    #[test]
    fn going_back_by_hand_keeps_the_record_of_what_lies_elsewhere() {
        let fixture = Fixture::new();
        let stage = fixture.path("stage");
        fs::write(stage.join(MARKER), "").unwrap();
        fs::write(stage.join(claim::FILE), "{}").unwrap();
        fs::rename(stage.join("devicemapper"), fixture.path("devicemapper")).unwrap();
        let commands = half_switched(fixture.dir.path(), &stage).unwrap();
        let status = std::process::Command::new("sh")
            .args(["-ec", &commands])
            .status()
            .unwrap();
        assert!(status.success(), "{commands}");
        assert!(!fixture.path("devicemapper").exists());
        assert!(stage.join(claim::FILE).exists(), "{commands}");
        assert_eq!(half_switched(fixture.dir.path(), &stage), None);
    }

    #[test]
    fn a_devicemapper_root_of_dockers_own_is_never_taken_for_a_half_moved_result() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path("devicemapper/devicemapper")).unwrap();
        fs::create_dir_all(fixture.path("image/devicemapper")).unwrap();
        // What is left of a run that was killed while it removed its staging directory.
        fs::create_dir(fixture.path("leftover")).unwrap();
        assert_eq!(
            half_switched(fixture.dir.path(), &fixture.path("leftover")),
            None
        );
    }

    #[test]
    fn after_the_last_rename_nothing_is_half_moved() {
        let fixture = Fixture::new();
        fixture.switch().unwrap();
        assert!(fixture.path("stage/originals").exists());
        assert_eq!(
            half_switched(fixture.dir.path(), &fixture.path("stage")),
            None
        );
    }
}
