//! Moves the staged result into place, and takes it back.

use std::path::{Path, PathBuf};

use super::changes::Changes;
use super::clock::now;
use super::content::new_objects;
use super::error::Error;
use super::journal::Journal;
use super::moves::{Roots, UndoOutcome};
use super::record::{Record, SwitchPlan};
use super::whereabouts::Whereabouts;
use crate::chain::Chain;
use crate::daemon::NotAlone;
use crate::daemon::first_start::{self, Switch, SwitchError, is_applied, restore_by_hand};

/// A check that nobody else is working on the root.
pub type ExpectAlone<'a> = &'a dyn Fn() -> Result<(), NotAlone>;

/// The error if somebody else is at work; `words` is the command that continues.
pub(super) fn not_alone(root: &Path, words: &'static str) -> impl FnOnce(NotAlone) -> Error {
    let root = root.to_owned();
    move |cause| Error::NotAlone { root, cause, words }
}

/// What happens to a move if the daemon cannot be switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDaemonFailure {
    /// The move is undone: the operator ordered both.
    TakeBack,
    /// The move stays. A file that an operator can edit must not block an interrupted move for good.
    Stay,
}

/// Does all steps of a move that has not begun. If somebody else is at work, it does none of them, and undoes the
/// preparations.
///
/// # Errors
///
/// [`Error::NotAlone`], and as for [`forward`].
pub(super) fn begin(
    switching: &SwitchPlan,
    ground: Roots<'_>,
    journal: &Journal,
    (alone, untold): (ExpectAlone<'_>, OnDaemonFailure),
) -> Result<(), Error> {
    match alone() {
        Ok(()) => forward(switching, ground, journal, untold),
        Err(cause) => {
            // Nothing has moved, but `switching` is durable and the configs have their second names. Without
            // `taken-back` the next run would take this for a move that was interrupted and end it.
            let cause = not_alone(ground.root, "convert")(cause);
            Err(undo(cause, switching, ground, journal))
        }
    }
}

/// Does all steps, or the remaining ones. The result is durable and recorded on return.
///
/// If a step fails, the steps before it are undone.
///
/// # Errors
///
/// The cause of a failed step; [`Error::HalfWay`] if the steps before it could not be undone.
pub(super) fn forward(
    switching: &SwitchPlan,
    ground: Roots<'_>,
    journal: &Journal,
    untold: OnDaemonFailure,
) -> Result<(), Error> {
    let Err(cause) = advance(switching, ground, journal, untold) else {
        return Ok(());
    };
    Err(undo(cause, switching, ground, journal))
}

/// Like [`forward`], but if a step fails, the steps before it stay done.
///
/// # Errors
///
/// The cause of the failed step.
pub(super) fn advance(
    switching: &SwitchPlan,
    ground: Roots<'_>,
    journal: &Journal,
    untold: OnDaemonFailure,
) -> Result<(), Error> {
    // The daemon is told once the moves are durable: it must not be sent to a driver whose home a power cut may take
    // back. `switched` comes last, so a kill anywhere before it leaves `switching`, and the next run repeats all of
    // this, each part of which finds what it has done already.
    switching
        .moves
        .iter()
        .try_for_each(|step| step.forward(ground))
        .and_then(|()| sync(switching, ground))
        .and_then(|()| tell_daemon(switching, untold))
        .and_then(|()| journal.append(&Record::Switched { at: now() }))
}

fn tell_daemon(switching: &SwitchPlan, untold: OnDaemonFailure) -> Result<(), Error> {
    let Some(daemon) = &switching.daemon else {
        return Ok(());
    };
    match first_start::apply(daemon) {
        Err(error) if untold == OnDaemonFailure::Stay => {
            log::warn!(
                "{}; it does not set devicemapper: change it by hand before Docker starts",
                Chain(&error)
            );
            Ok(())
        }
        told => told.map_err(Error::Daemon),
    }
}

/// Undoes what was done of a failed move. Returns the cause, together with any further failure.
fn undo(cause: Error, switching: &SwitchPlan, ground: Roots<'_>, journal: &Journal) -> Error {
    // In reverse order: the daemon was told last.
    let restored = match restore_daemon(switching) {
        // Whoever changed it since knows what it is to be, and what was never told need not be taken back.
        Err(SwitchError::Changed { .. } | SwitchError::OriginalGone { .. }) => Ok(None),
        Err(_) if switching.daemon.as_ref().and_then(is_applied) == Some(false) => Ok(None),
        restored => restored.map_err(Error::Daemon),
    };
    // The moves come back whether or not the daemon's file did. If either failed, `taken-back` is not written: the
    // journal stays at `switching`, from which there is a way on and a way back.
    let taken_back = back(switching, ground)
        .and(restored)
        .and_then(|_| journal.append(&Record::TakenBack));
    match taken_back {
        Ok(()) => cause,
        Err(left) => Error::HalfWay {
            root: ground.root.to_owned(),
            cause: Box::new(cause),
            left: Box::new(left),
        },
    }
}

/// The result of going back.
#[derive(Debug, Default)]
pub struct SwitchUndo {
    /// What could not be restored, in words.
    pub gone: Vec<String>,
    /// The daemon's file that is again as it was before the conversion.
    pub daemon: Option<PathBuf>,
}

/// Restores the daemon's file, or says what to do by hand: the root matters more than a file that an operator can edit.
pub(super) fn restore_daemon_or_say(switching: &SwitchPlan) -> SwitchUndo {
    match restore_daemon(switching) {
        Ok(daemon) => SwitchUndo {
            gone: Vec::new(),
            daemon,
        },
        Err(error) => {
            let record = switching.daemon.as_ref().and_then(Switch::record);
            let by_hand = record.map_or_else(String::new, |record| restore_by_hand(&record));
            SwitchUndo {
                gone: vec![format!("{}; {by_hand}", Chain(&error))],
                daemon: None,
            }
        }
    }
}

/// Restores the daemon's file, and returns its path if it had been changed.
fn restore_daemon(switching: &SwitchPlan) -> Result<Option<PathBuf>, SwitchError> {
    match switching.daemon.as_ref().and_then(Switch::record) {
        Some(record) => first_start::restore(&record).map(|()| Some(record.path)),
        None => Ok(None),
    }
}

/// Undoes all steps, latest first, and makes that durable. Returns what cannot be restored.
///
/// # Errors
///
/// Why a step could not be undone; the others are undone nevertheless.
pub(super) fn back(switching: &SwitchPlan, ground: Roots<'_>) -> Result<Vec<String>, Error> {
    let mut gone = Vec::new();
    let mut first_error = None;
    // Go on past a failure. Steps do not depend on each other and can be repeated, so each that comes back now is one
    // less for the next attempt.
    for step in switching.moves.iter().rev() {
        match step.back(ground) {
            Ok(UndoOutcome::Done) => {}
            Ok(UndoOutcome::DirectoryGone) => gone.push(format!(
                "{}: its container was removed, so it is not restored",
                step.to()
            )),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first_error {
        return Err(error);
    }
    sync(switching, ground)?;
    // Last, since every rename above has set them anew. After a failure they stay as they are: the next attempt moves
    // them once more.
    for times in &switching.times {
        times.put_back(ground.root);
    }
    Ok(gone)
}

fn sync(switching: &SwitchPlan, ground: Roots<'_>) -> Result<(), Error> {
    // One pass at the end is enough. Before it a power cut may keep any of the moves, in any order, and each of them
    // shows by what lies where whether it was done.
    switching
        .moves
        .iter()
        .try_for_each(|step| step.sync(ground))
}

/// What Docker did on the devicemapper side since it was staged, wherever its parts are now.
pub(super) fn changes(switching: &SwitchPlan, at: &Whereabouts) -> Result<Changes, Error> {
    let data = switching.data.as_ref();
    let pool_data = data.map_or(Ok(false), |data| data.is_written_in(&at.home.path))?;
    let store = (&*at.root, &*at.image.path);
    Ok(Changes {
        pool_data,
        new_objects: new_objects(store, switching.aufs.as_ref())?,
        ..switching.written.changes(at)?
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;
    use crate::commit::file_digests::{FileDigests, Parts};
    use crate::commit::moves::Move;
    use crate::commit::times::Times;
    use crate::daemon::first_start::ConfigEdit;
    use crate::daemon::{Finding, RunningDocker};

    struct Fixture {
        dir: tempfile::TempDir,
        journal: Journal,
    }

    const CONTAINERS: [&str; 2] = ["c1", "c2"];

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::Builder::new().prefix("it's ").tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            for (name, content) in [
                ("image/aufs/repositories.json", "tags"),
                ("containers/c1/config.v2.json", "old 1"),
                ("containers/c2/config.v2.json", "old 2"),
                ("stage/devicemapper/metadata/base", "base"),
                ("stage/devicemapper/metadata/transaction-metadata", "2"),
                ("stage/image/repositories.json", "tags"),
                ("stage/containers/c1/config.v2.json", "new 1"),
                ("stage/containers/c2/config.v2.json", "new 2"),
            ] {
                fs::create_dir_all(path(name).parent().unwrap()).unwrap();
                fs::write(path(name), content).unwrap();
            }
            let times = Times::of(dir.path(), "").unwrap();
            let journal = Journal::create(&path("stage"), times, Value::Null).unwrap();
            Self { dir, journal }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.path(name)).unwrap()
        }

        fn switching(&self) -> SwitchPlan {
            let place = |from: &str, to: &str| Move::Place {
                from: from.to_owned(),
                to: to.to_owned(),
                stood: format!("originals/{from}"),
            };
            let mut moves = vec![
                place("devicemapper", "devicemapper"),
                place("image", "image/devicemapper"),
            ];
            moves.extend(CONTAINERS.map(|id| {
                let path = format!("containers/{id}/config.v2.json");
                Move::Replace {
                    from: path.clone(),
                    original: format!("originals/{path}"),
                    to: path,
                }
            }));
            let stage = self.path("stage");
            SwitchPlan {
                moves,
                times: vec![],
                written: FileDigests::of(&Parts {
                    home: &stage.join("devicemapper"),
                    image: &stage.join("image"),
                    configs: &stage,
                    root: self.dir.path(),
                })
                .unwrap(),
                data: None,
                aufs: None,
                daemon: None,
            }
        }

        fn begin(&self) -> SwitchPlan {
            let switching = self.switching();
            let stage = self.path("stage");
            let ground = self.ground(&stage);
            for step in &switching.moves {
                step.keep_original(ground).unwrap();
            }
            let record = Record::Switching(Box::new(switching.clone()));
            self.journal.append(&record).unwrap();
            switching
        }

        fn ground<'a>(&'a self, stage: &'a Path) -> Roots<'a> {
            Roots {
                root: self.dir.path(),
                stage,
                configs: stage,
            }
        }

        fn forward(&self, switching: &SwitchPlan) -> Result<(), Error> {
            let stage = self.path("stage");
            let ground = self.ground(&stage);
            forward(switching, ground, &self.journal, OnDaemonFailure::TakeBack)
        }

        fn back(&self, switching: &SwitchPlan) -> Result<Vec<String>, Error> {
            back(switching, self.ground(&self.path("stage")))
        }

        fn is_in_place(&self) {
            assert_eq!(self.read("devicemapper/metadata/base"), "base");
            assert_eq!(self.read("image/devicemapper/repositories.json"), "tags");
            assert_eq!(self.read("image/aufs/repositories.json"), "tags");
            assert_eq!(self.read("containers/c1/config.v2.json"), "new 1");
            assert_eq!(self.read("containers/c2/config.v2.json"), "new 2");
        }

        /// Every file outside of the staging directory, with its content.
        fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
            let mut files: Vec<_> = walkdir::WalkDir::new(self.dir.path())
                .into_iter()
                .map(Result::unwrap)
                .filter(|entry| !entry.path().starts_with(self.path("stage")))
                .map(|entry| {
                    let content = fs::read(entry.path()).unwrap_or_default();
                    (entry.path().to_owned(), content)
                })
                .collect();
            files.sort();
            files
        }
    }

    #[test]
    fn all_is_moved_in_place_and_back() {
        let fixture = Fixture::new();
        let before = fixture.files();
        let switching = fixture.begin();
        fixture.forward(&switching).unwrap();
        fixture.is_in_place();
        assert_eq!(fixture.back(&switching).unwrap(), Vec::<String>::new());
        assert_eq!(fixture.files(), before);
    }

    #[test]
    fn an_empty_directory_that_stood_there_comes_back() {
        let fixture = Fixture::new();
        fs::create_dir(fixture.path("image/devicemapper")).unwrap();
        let before = fixture.files();
        let switching = fixture.begin();
        fixture.forward(&switching).unwrap();
        fixture.is_in_place();
        fixture.back(&switching).unwrap();
        assert_eq!(fixture.files(), before);
    }

    #[test]
    fn a_failed_step_takes_back_the_ones_before_it() {
        let fixture = Fixture::new();
        let before = fixture.files();
        let switching = fixture.begin();
        // Neither staged nor in place: it can be neither done nor have been.
        fs::remove_file(fixture.path("stage/containers/c2/config.v2.json")).unwrap();
        fs::remove_file(fixture.path("containers/c2/config.v2.json")).unwrap();
        let error = fixture.forward(&switching).unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error}");
        assert_eq!(fixture.files(), before);
    }

    #[test]
    fn nothing_is_moved_where_somebody_else_is_at_work() {
        let fixture = Fixture::new();
        let before = fixture.files();
        let switching = fixture.begin();
        let stage = fixture.path("stage");
        let daemon = || {
            let findings = vec![Finding::Daemon { pid: 7 }];
            Err(RunningDocker::Found { findings }.into())
        };
        let error = begin(
            &switching,
            fixture.ground(&stage),
            &fixture.journal,
            (&daemon, OnDaemonFailure::Stay),
        )
        .unwrap_err();
        assert!(matches!(error, Error::NotAlone { .. }), "{error}");
        assert_eq!(fixture.files(), before);
        for name in ["devicemapper", "image", "containers/c1/config.v2.json"] {
            assert!(stage.join(name).exists(), "{name}");
        }
        let journal = fixture.read("stage/journal");
        assert!(journal.lines().last().unwrap().contains("taken-back"));
        let alone = || Ok(());
        fixture.begin();
        begin(
            &switching,
            fixture.ground(&stage),
            &fixture.journal,
            (&alone, OnDaemonFailure::Stay),
        )
        .unwrap();
        fixture.is_in_place();
    }

    #[test]
    fn a_daemon_that_cannot_be_told_takes_a_move_back_but_not_one_that_is_gone_on_with() {
        for untold in [OnDaemonFailure::TakeBack, OnDaemonFailure::Stay] {
            let fixture = Fixture::new();
            // Below a file there is no directory.
            let path = fixture.path("image/aufs/repositories.json/daemon.json");
            let edit = ConfigEdit {
                host_root: PathBuf::new(),
                path,
                content: "{}".to_owned(),
                old: None,
                notes: Vec::new(),
            };
            let before = fixture.files();
            let mut switching = fixture.begin();
            switching.daemon = Some(Switch::Edit(edit));
            let stage = fixture.path("stage");
            let ground = fixture.ground(&stage);
            let done = forward(&switching, ground, &fixture.journal, untold);
            if untold == OnDaemonFailure::Stay {
                done.unwrap();
                fixture.is_in_place();
                let said = restore_daemon_or_say(&switching);
                assert!(said.daemon.is_none() && said.gone.len() == 1, "{said:?}");
                assert!(said.gone[0].contains("daemon.json"), "{said:?}");
                assert_eq!(fixture.back(&switching).unwrap(), Vec::<String>::new());
            } else {
                let error = done.unwrap_err();
                assert!(matches!(error, Error::Daemon(_)), "{error}");
                let journal = fixture.read("stage/journal");
                assert!(journal.lines().last().unwrap().contains("taken-back"));
            }
            assert_eq!(fixture.files(), before);
        }
    }

    #[test]
    fn what_stands_in_the_way_is_named_and_kept() {
        let fixture = Fixture::new();
        fs::create_dir_all(fixture.path("image/devicemapper/layerdb")).unwrap();
        let before = fixture.files();
        let switching = fixture.begin();
        let error = fixture.forward(&switching).unwrap_err();
        assert!(
            matches!(error, Error::Exists { path } if path == fixture.path("image/devicemapper"))
        );
        assert_eq!(fixture.files(), before);
    }

    #[test]
    fn from_a_kill_between_any_two_steps_there_is_a_way_on_and_a_way_back() {
        for steps in 0..=4 {
            for on in [true, false] {
                let fixture = Fixture::new();
                let before = fixture.files();
                let switching = fixture.begin();
                let stage = fixture.path("stage");
                for step in &switching.moves[..steps] {
                    step.forward(fixture.ground(&stage)).unwrap();
                }
                if on {
                    fixture.forward(&switching).unwrap();
                    fixture.is_in_place();
                } else {
                    fixture.back(&switching).unwrap();
                    assert_eq!(fixture.files(), before, "{steps}");
                }
            }
        }
    }

    #[test]
    fn from_a_kill_while_going_back_there_is_a_way_back() {
        for steps in 0..=4 {
            let fixture = Fixture::new();
            fs::create_dir(fixture.path("image/devicemapper")).unwrap();
            let before = fixture.files();
            let switching = fixture.begin();
            fixture.forward(&switching).unwrap();
            let stage = fixture.path("stage");
            for step in switching.moves.iter().rev().take(steps) {
                step.back(fixture.ground(&stage)).unwrap();
            }
            fixture.back(&switching).unwrap();
            assert_eq!(fixture.files(), before, "{steps}");
        }
    }

    #[test]
    fn what_docker_did_since_is_found_and_named() {
        let fixture = Fixture::new();
        let switching = fixture.begin();
        fixture.forward(&switching).unwrap();
        let stage = fixture.path("stage");
        let at = || Whereabouts::in_place(fixture.ground(&stage));
        let look = || changes(&switching, &at()).unwrap();
        assert!(look().is_empty(), "{}", look());
        fs::write(fixture.path("devicemapper/metadata/abc"), "{}").unwrap();
        fs::write(
            fixture.path("devicemapper/metadata/transaction-metadata"),
            "3",
        )
        .unwrap();
        fs::write(
            fixture.path("containers/c1/config.v2.json"),
            r#"{"Name":"/web"}"#,
        )
        .unwrap();
        fs::remove_dir_all(fixture.path("containers/c2")).unwrap();
        fs::create_dir(fixture.path("containers/c3")).unwrap();
        let expected = Changes {
            transactions: true,
            new_devices: vec!["abc".to_owned()],
            changed_containers: vec!["web".to_owned()],
            removed_containers: vec!["c2".to_owned()],
            new_containers: vec!["c3".to_owned()],
            ..Changes::default()
        };
        assert_eq!(look(), expected);
        // Going back restores what there is a place for, and reports the rest.
        let gone = fixture.back(&switching).unwrap();
        assert!(
            gone.len() == 1 && gone[0].starts_with("containers/c2/config.v2.json: "),
            "{gone:?}"
        );
        assert_eq!(fixture.read("containers/c1/config.v2.json"), "old 1");
    }
}
