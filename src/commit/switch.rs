//! Moves the staged result in place by renames, undone in reverse when one fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{Error, RollbackState};

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

/// Moves everything in place. The aufs side works until the last rename, and again after the undo.
pub(super) fn switch(root: &Path, stage: &Path, configs: &[EditedConfig]) -> Result<(), Error> {
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
            Some(original) => format!("mv '{}' '{}'", original.display(), self.to.display()),
            None => format!("mv '{}' '{}'", self.to.display(), self.from.display()),
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

/// What a run that was killed between two renames had moved, with the way back; `None` when it had moved nothing.
pub(super) fn half_switched(root: &Path, stage: &Path) -> Option<String> {
    let exists = |path: PathBuf| path.symlink_metadata().is_ok();
    let image_moved = exists(root.join("image/devicemapper")) && !exists(stage.join("image"));
    let home_moved = exists(root.join("devicemapper")) && !exists(stage.join("devicemapper"));
    let mut by_hand = Vec::new();
    if exists(stage.join("originals")) {
        let originals = stage.join("originals/containers");
        by_hand.push(format!(
            "cp -a '{}/.' '{}'",
            originals.display(),
            root.join("containers").display()
        ));
    }
    if home_moved && image_moved {
        by_hand.push(format!(
            "rm -rf '{}'",
            root.join("image/devicemapper").display()
        ));
    }
    // The driver's home moves first, so it tells whether anything has.
    if home_moved && (image_moved || exists(stage.join("image"))) {
        by_hand.push(format!(
            "rm -rf '{}' '{}'",
            root.join("devicemapper").display(),
            stage.display()
        ));
        return Some(format!("to go back: {}", by_hand.join(" && ")));
    }
    None
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
                dir: tempfile::tempdir().unwrap(),
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

        fn switch(&self) -> Result<(), Error> {
            let config = |id: &str| EditedConfig {
                path: format!("containers/{id}/config.v2.json").into(),
                content: vec![],
            };
            switch(
                self.dir.path(),
                &self.path("stage"),
                &[config("c1"), config("c2")],
            )
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

    #[test]
    fn a_run_killed_between_two_renames_is_recognised() {
        let fixture = Fixture::new();
        let (root, stage) = (fixture.dir.path(), fixture.path("stage"));
        assert_eq!(half_switched(root, &stage), None);
        let configs = [EditedConfig {
            path: "containers/c1/config.v2.json".into(),
            content: vec![],
        }];
        for step in steps(root, &stage, &configs) {
            step.apply().unwrap();
            assert!(half_switched(root, &stage).is_some(), "{step:?}");
        }
    }
}
