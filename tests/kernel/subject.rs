//! A root to be converted under disturbance, and how it is seen that nothing of the run is left.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use aufs2dm::staging::STAGE_NAME;
use sys_mount::MountFlags;

use crate::{
    checks::expect_none,
    lab::Lab,
    leftovers::Leftovers,
    pool::Pool,
    roots::{self, Root},
    runner::directory,
    storage::{Sizes, Storage, Target},
    support::{
        compare::compare,
        merge::reference_merge,
        root::AufsRoot,
        trace::{Trace, age, trace},
        walk::walk,
    },
    tool::{Ended, Running, Stage},
    variant::Variant,
};

/// Layers of the subject's one chain, the container's two among them.
pub(crate) const NR_LAYERS: usize = 6;
/// What each image layer adds, in bytes: enough that a run is met at work on it.
const LAYER_BYTES: usize = 16 << 20;
/// How often a run is begun to be met at a stage.
pub(crate) const TRIES: usize = 5;
/// The layers' names in the root, the container's last.
const NAMES: [&str; NR_LAYERS] = ["one", "two", "three", "four", "subject init", "subject rw"];

/// The parts of a Docker root with something in them.
const PARTS: [&str; 4] = ["aufs", "containers", "image", "volumes"];

/// A root of one chain, in which each layer waits for the one below.
pub(crate) struct Subject {
    original: AufsRoot,
    /// The copy that runs work on.
    path: PathBuf,
}

/// A run that is under way.
#[derive(Debug)]
pub(crate) struct Met {
    /// What it writes to.
    pub(crate) storage: Storage,
    /// How everything was before.
    pub(crate) before: Look,
    /// The run.
    pub(crate) running: Running,
}

/// The root and the machine at one moment.
#[derive(Debug)]
pub(crate) struct Look {
    names: BTreeSet<OsString>,
    trace: Trace,
    /// What the machine had.
    pub(crate) leftovers: Leftovers,
}

impl Subject {
    /// Makes it, with the copy in `scratch`.
    pub(crate) fn new(lab: &Lab, scratch: &Path) -> Result<Self> {
        let _ = tempfile::env::override_temp_dir(lab.work());
        let root = (1..)
            .zip(&NAMES[..4])
            .fold(AufsRoot::new(), |root, (byte, name)| {
                root.layer(name, |layer| {
                    let layer = layer.file(format!("big{byte}"), vec![byte; LAYER_BYTES]);
                    (0..40).fold(layer, |layer, n| {
                        layer.file(format!("dir{byte}/file{n}"), [byte; 3000])
                    })
                })
            });
        let original = root.image("lab/subject:1", NAMES[3]).container(
            "subject",
            ("lab/subject:1", NAMES[3]),
            |layer| {
                let layer = layer.file("log", vec![7; LAYER_BYTES]);
                layer.whiteout("dir1/file7")
            },
        );
        let subject = Self {
            original,
            path: directory(scratch, "subject")?.join("docker"),
        };
        subject.renew(lab)?;
        Ok(subject)
    }

    /// Puts the copy back to what it was before any run.
    pub(crate) fn renew(&self, lab: &Lab) -> Result<()> {
        if self.path.exists() {
            fs::remove_dir_all(&self.path)?;
        }
        lab.copy(&self.original.path(), &self.path)
    }

    /// The root that runs work on.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The driver id of a layer, the base being 0.
    pub(crate) fn layer(&self, number: usize) -> &str {
        self.original.id(NAMES[number])
    }

    /// Takes down how everything is.
    pub(crate) fn look(&self) -> Result<Look> {
        self.age();
        let trace = self.trace();
        Ok(Look {
            names: self.names()?,
            trace,
            leftovers: Leftovers::now()?,
        })
    }

    /// What a run must not touch, by path.
    fn trace(&self) -> Trace {
        let parts = PARTS.iter().map(|part| trace(&self.path.join(part)));
        let trace = parts.flatten().collect();
        self.age(); // the looking itself moved access times
        trace
    }

    fn age(&self) {
        for part in PARTS {
            age(&self.path.join(part));
        }
    }

    fn names(&self) -> Result<BTreeSet<OsString>> {
        let entries = fs::read_dir(&self.path)?;
        Ok(entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<_, _>>()?)
    }

    /// Fails unless root and machine are as they were: every byte, owner, xattr and time, no name more, and no mount, dm
    /// device or loop device.
    pub(crate) fn is_unharmed(&self, before: &Look) -> Result<()> {
        self.is_unharmed_beside(before, &[])
    }

    /// The same, but for the record of what could not be taken back; only where the run said that it stays.
    pub(crate) fn is_unharmed_but_for_a_record(&self, before: &Look, ended: &Ended) -> Result<()> {
        let stage = self.path.join(STAGE_NAME);
        if !stage.join("claim.json").exists() {
            return self.is_unharmed(before);
        }
        ensure!(
            ended
                .stderr
                .contains("is kept, because it contains the record"),
            "{} is left, and not a word of it:\n{}",
            stage.display(),
            ended.stderr
        );
        self.is_unharmed_beside(before, &[STAGE_NAME])
    }

    fn is_unharmed_beside(&self, before: &Look, allowed: &[&str]) -> Result<()> {
        before.leftovers.compare()?;
        let mut names = self.names()?;
        names.retain(|name| !allowed.iter().any(|allowed| name == allowed));
        ensure!(
            names == before.names,
            "the root has {names:?}, had {:?}",
            before.names
        );
        let now = self.trace();
        let paths: BTreeSet<_> = before.trace.keys().chain(now.keys()).collect();
        let differing: Vec<_> = paths
            .into_iter()
            .filter(|path| before.trace.get(*path) != now.get(*path))
            .map(|path| {
                let (was, is) = (before.trace.get(path), now.get(path));
                format!("{}: was {was:?}, is {is:?}", path.display())
            })
            .collect();
        expect_none("the root", &differing)
    }

    /// Starts the tool on the copy. It notes each layer as it is done.
    pub(crate) fn start(&self, lab: &Lab, variant: Variant, storage: &Storage) -> Result<Running> {
        let mut arguments = variant.all_arguments(storage);
        arguments.extend(["--checkpoint", "0"].map(OsString::from));
        self.start_with(lab.tool(), &arguments)
    }

    /// Starts the tool on the copy anew, whatever layers an earlier run has written.
    pub(crate) fn restart(
        &self,
        lab: &Lab,
        variant: Variant,
        storage: &Storage,
    ) -> Result<Running> {
        let mut arguments = variant.all_arguments(storage);
        arguments.extend(["--checkpoint", "0", "--restart"].map(OsString::from));
        self.start_with(lab.tool(), &arguments)
    }

    /// Starts a run that goes on with what an earlier one began.
    pub(crate) fn resume(&self, lab: &Lab) -> Result<Running> {
        let arguments = ["--checkpoint", "0"].map(OsString::from);
        Running::start(
            lab.tool(),
            self.scratch()?,
            ("resume", &self.path),
            &arguments,
        )
    }

    /// Starts a run on new devices and meets it at a stage. What is there for milliseconds can be missed, so it is tried
    /// several times.
    pub(crate) fn meet(
        &self,
        lab: &Lab,
        variant: Variant,
        sizes: Sizes,
        stage: &Stage,
    ) -> Result<Met> {
        for _ in 0..TRIES {
            let storage = self.storage(variant.target, sizes)?;
            let before = self.look()?;
            let mut running = self.start(lab, variant, &storage)?;
            if running.reaches(stage)? {
                return Ok(Met {
                    storage,
                    before,
                    running,
                });
            }
            running.end()?.expect(0, &[])?;
            storage.close()?;
            self.renew(lab)?;
        }
        bail!("{variant}: no run was met at {stage:?}")
    }

    /// New devices for runs on the copy.
    pub(crate) fn storage(&self, target: Target, sizes: Sizes) -> Result<Storage> {
        Storage::create(target, self.scratch()?, sizes)
    }

    /// Where the devices' files are.
    pub(crate) fn scratch(&self) -> Result<&Path> {
        self.path.parent().context("it lies in a directory")
    }

    /// The same with a command and options of one's own.
    pub(crate) fn start_with(&self, tool: Command, arguments: &[OsString]) -> Result<Running> {
        Running::start(tool, self.scratch()?, ("convert", &self.path), arguments)
    }

    /// Fails unless the tool refuses, and says these words.
    pub(crate) fn refuses(
        &self,
        tool: Command,
        arguments: &[OsString],
        words: &[&str],
    ) -> Result<()> {
        let ended = self.start_with(tool, arguments)?.end()?;
        ended
            .expect(1, words)
            .with_context(|| format!("{arguments:?}"))
    }

    /// Fails unless a run succeeds and the result is right; renews the copy.
    pub(crate) fn converts(&self, lab: &Lab, variant: Variant, storage: Storage) -> Result<()> {
        let before = Leftovers::now()?;
        let ended = self.start(lab, variant, &storage)?.end()?;
        ended.expect(0, &[])?;
        before.compare()?;
        self.is_right(lab, storage)
    }

    /// Fails unless the copy is converted and its topmost device right; renews the copy.
    pub(crate) fn is_right(&self, lab: &Lab, storage: Storage) -> Result<()> {
        let root = Root::new(self.path.clone(), storage, Vec::new());
        roots::thin_check(lab, &root)?;
        let pool = Pool::activate(&root)?;
        self.topmost_is_right(&pool)?;
        pool.close()?;
        self.renew(lab)
    }

    /// Fails unless the topmost device of the converted copy is right.
    pub(crate) fn topmost_is_right(&self, pool: &Pool) -> Result<()> {
        let target = self.path.with_file_name("mnt");
        let thin = pool.thin(self.layer(NR_LAYERS - 1))?;
        let mounted = thin.mount(&target, MountFlags::RDONLY)?;
        // The copy's branches: looking at them has moved their times.
        let branches = NAMES.map(|name| self.path.join("aufs/diff").join(self.original.id(name)));
        let wanted = reference_merge(&branches);
        let differences = compare(&wanted, &walk(&target.join("rootfs")));
        mounted.close()?;
        thin.close()?;
        expect_none("the converted container", &differences)
    }
}
