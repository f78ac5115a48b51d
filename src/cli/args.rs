//! The command line, and what it means.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::log_format::LogFormat;
use crate::command::{Choices, Writer};
use crate::devicemapper::driver_files::FileSystem;
use crate::docker::Orphans;
use crate::ext4::Checksums;
use crate::plan;
use crate::pool::target::Target;
use crate::units::Bytes;

/// Converts a stopped Docker's aufs layers into devicemapper thin snapshots.
#[derive(Debug, Parser)]
#[command(
    name = "aufs2dm",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes:\n  0  done\n  1  failed: the root is unchanged, or the message says what is kept or left\n  2  wrong usage\n  3  verification found something wrong, or inspect --health found damage\n  4  \
                  interrupted: the last line says what remains and how to go on\n  5  stopped halfway through a move: the message says what finishes it"
)]
pub(super) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
    /// Print more on stderr: -v for each layer, -vv for each step, -vvv for each file.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(super) verbose: u8,
    /// Format of messages and progress on stderr; `json` prints one object per line with ts, level and msg.
    #[arg(
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t,
        global = true
    )]
    pub(super) log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show what a Docker root holds: images, containers, layers, sizes. Changes nothing.
    #[command(
        after_help = "Example:\n  aufs2dm inspect --root /var/lib/docker\n  aufs2dm inspect --json | jq .images"
    )]
    Inspect(InspectArgs),
    /// Convert a stopped Docker's aufs root into a devicemapper root beside it.
    #[command(
        after_help = "Example:\n  systemctl stop docker.socket docker\n  aufs2dm convert --dry-run\n  aufs2dm convert\n\n\
                      aufs/ and image/aufs stay as they are. Then start Docker with \"storage-driver\": \"devicemapper\"."
    )]
    Convert(ConvertArgs),
    /// Verify a root: layers against the digests that Docker recorded, devices against aufs, and every structure on its
    /// own. Changes none of Docker's files.
    #[command(
        after_help = "Example:\n  aufs2dm verify\n  aufs2dm verify --full --json | jq .verdict\n\nIn a root that is not converted, \
                      the aufs layers are verified. Exit code 3: something is wrong."
    )]
    Verify(VerifyArgs),
    /// Resume an interrupted conversion. Finished layers are not written again.
    #[command(after_help = "Example:\n  aufs2dm status\n  aufs2dm resume")]
    Resume(ResumeArgs),
    /// Restore the root as it was before `convert`.
    #[command(
        aliases = ["revert", "undo"], // else clap suggests `convert`
        after_help = "Example:\n  systemctl stop docker.socket docker\n  aufs2dm rollback\n\nRefused if Docker has used the \
                      converted root since: its changes would be lost. --force goes back anyway."
    )]
    Rollback(RollbackArgs),
    /// Remove the aufs side of a converted root for good.
    #[command(
        after_help = "Example:\n  aufs2dm verify --full\n  aufs2dm commit\n\nThere is no way back afterwards."
    )]
    Commit(CommitArgs),
    /// Show the state of a conversion and what to do next. Changes nothing.
    #[command(after_help = "Example:\n  aufs2dm status --json | jq -r .state")]
    Status(StatusArgs),
}

/// The root a command works on.
#[derive(Debug, Args)]
pub(super) struct RootArgs {
    /// Docker's data directory, or a userns-remapped root in it (DIR/100000.100000)
    /// [default: /var/lib/docker; with --host-root the data-root set for the daemon there, else DIR/var/lib/docker].
    #[arg(long, value_name = "DIR")]
    pub(super) root: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Docker's pid file, as its option `pidfile` sets it [default: /var/run/docker.pid].
    #[arg(long, value_name = "FILE")]
    pub(super) pidfile: Option<PathBuf>,
    /// The host's /, below which Docker's configuration lies: in a rescue system, where it is mounted [default: /, or
    /// what the conversion was started with].
    #[arg(long, value_name = "DIR")]
    pub(super) host_root: Option<PathBuf>,
}

/// The root of a conversion that may have been begun.
#[derive(Debug, Args)]
pub(super) struct BegunArgs {
    /// The root.
    #[command(flatten)]
    pub(super) root: RootArgs,
    /// Confirm that --host-root and --pidfile are right although the conversion was started with others.
    #[arg(long)]
    pub(super) host_moved: bool,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The root.
    #[command(flatten)]
    pub(super) root: RootArgs,
    /// Show only what is damaged, and what a conversion does with it. Reads the names in all layers; exit code 3 if anything is damaged.
    #[arg(long)]
    pub(super) health: bool,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The root.
    #[command(flatten)]
    pub(super) at: BegunArgs,
    /// Check all metadata and attributes, and the contents of a sample of the layers (the default).
    #[arg(long, conflicts_with = "full")]
    pub(super) quick: bool,
    /// Check all contents too. Takes as long as reading the pool.
    #[arg(long)]
    pub(super) full: bool,
    /// Threads [default: four for each CPU, at least 8].
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    jobs: Option<NonZeroUsize>,
    /// The pool's data device, Docker's dm.datadev [default: what the conversion used, else loop files].
    #[arg(
        long,
        value_name = "DEVICE",
        requires = "metadata_device",
        conflicts_with = "thin_pool"
    )]
    data_device: Option<PathBuf>,
    /// The pool's metadata device, Docker's dm.metadatadev.
    #[arg(
        long,
        value_name = "DEVICE",
        requires = "data_device",
        conflicts_with = "thin_pool"
    )]
    metadata_device: Option<PathBuf>,
    /// The active thin pool, Docker's dm.thinpooldev.
    #[arg(long, value_name = "DEVICE")]
    thin_pool: Option<PathBuf>,
}

impl VerifyArgs {
    /// The pool, if it was named.
    pub(super) fn target(&self) -> Option<Target> {
        match (&self.data_device, &self.metadata_device, &self.thin_pool) {
            (Some(data), Some(metadata), _) => Some(Target::Devices {
                data: data.clone(),
                metadata: metadata.clone(),
            }),
            (_, _, Some(path)) => Some(Target::ThinPool { path: path.clone() }),
            _ => None,
        }
    }

    /// Threads.
    pub(super) fn jobs(&self) -> NonZeroUsize {
        self.jobs.unwrap_or_else(self::default_jobs)
    }
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The root.
    #[command(flatten)]
    pub(super) at: BegunArgs,
    /// How fast, and how safe.
    #[command(flatten)]
    pub(super) work: WorkArgs,
    /// Finish a move although the aufs side was written to after it was converted. Those changes are not on the devices; they stay in aufs.
    #[arg(long)]
    pub(super) leave_aufs_changes: bool,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The root.
    #[command(flatten)]
    pub(super) at: BegunArgs,
    /// Go back although Docker has used the converted root since: its changes are lost.
    #[arg(long)]
    pub(super) force: bool,
    /// Go back although parts of the aufs side are missing or damaged: their contents are lost.
    #[arg(long)]
    pub(super) onto_damaged: bool,
}

/// Arguments of `commit`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of the command line
pub(super) struct CommitArgs {
    /// The root.
    #[command(flatten)]
    pub(super) at: BegunArgs,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Also remove layers that the conversion left out.
    #[arg(long)]
    pub(super) drop_left_out: bool,
    /// Remove the aufs side although it has changed since it was converted: Docker has used it, or it is damaged.
    #[arg(long)]
    pub(super) drop_aufs_changes: bool,
    /// Empty `aufs` although it is a symbolic link, a bind mount, or a file system that is also mounted elsewhere. Another root may use it.
    #[arg(long)]
    pub(super) drop_linked_aufs: bool,
    /// Accept a full verification that could not check every layer.
    #[arg(long)]
    pub(super) unverified: bool,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The root.
    #[command(flatten)]
    pub(super) at: BegunArgs,
}

/// How layers are written.
#[derive(Debug, Args)]
pub(super) struct WorkArgs {
    /// Threads that read and write [default: four for each CPU, at least 8].
    #[arg(long, value_name = "N", value_parser = parse_jobs)]
    pub(super) jobs: Option<NonZeroUsize>,
    /// How often finished layers are made durable, so that `resume` need not write them again; 0 means after each layer.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(super) checkpoint: u32,
}

/// Arguments of `convert`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of the command line
pub(super) struct ConvertArgs {
    /// The root.
    #[command(flatten)]
    pub(super) root: RootArgs,
    /// Read everything, print the plan, write nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Start over: remove the layers that an interrupted conversion has written.
    #[arg(long)]
    pub(super) restart: bool,
    /// How fast, and how safe.
    #[command(flatten)]
    pub(super) work: WorkArgs,
    /// Virtual size of each device, Docker's dm.basesize [default: 10G, or what the layers need].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) base_size: Option<Bytes>,
    /// Size of the sparse data file, Docker's dm.loopdatasize [default: 100G, or what the layers need].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with_all = ["data_device", "thin_pool"])]
    pub(super) data_size: Option<Bytes>,
    /// Size of the sparse metadata file, Docker's dm.loopmetadatasize [default: 2G, or what the pool needs].
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with_all = ["data_device", "thin_pool"])]
    pub(super) metadata_size: Option<Bytes>,
    /// Create the pool on this block device instead of a loop file, Docker's dm.datadev (kernel engine).
    #[arg(
        long,
        value_name = "DEVICE",
        requires = "metadata_device",
        conflicts_with = "thin_pool"
    )]
    pub(super) data_device: Option<PathBuf>,
    /// Block device for the pool's metadata, Docker's dm.metadatadev (kernel engine).
    #[arg(
        long,
        value_name = "DEVICE",
        requires = "data_device",
        conflicts_with = "thin_pool"
    )]
    pub(super) metadata_device: Option<PathBuf>,
    /// Fill this active, empty thin pool, Docker's dm.thinpooldev, e.g. /dev/mapper/docker-thinpool (kernel engine).
    #[arg(long, value_name = "DEVICE")]
    pub(super) thin_pool: Option<PathBuf>,
    /// File system of the devices; xfs needs the kernel engine.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t)]
    pub(super) fs: Fs,
    /// Do not read the result back before it is moved into place.
    #[arg(long)]
    pub(super) no_verify: bool,
    /// Set the storage driver and the pool in daemon.json; the old file is kept beside it, and `rollback` restores it.
    #[arg(long)]
    pub(super) switch_daemon: bool,
    /// Leave out layers that no image, container or build cache refers to.
    #[arg(long)]
    pub(super) skip_orphans: bool,
    /// Leave out damaged images and containers, with everything that is built on them, instead of refusing.
    #[arg(long)]
    pub(super) skip_damaged: bool,
    /// Do not rebuild damaged records from other data of the root.
    #[arg(long)]
    pub(super) no_repair: bool,
    /// Which engine writes the pool: `direct` needs no device-mapper; `auto` means `direct` for ext4 in new loop files, else `kernel`.
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t)]
    pub(super) engine: Engine,
    /// Direct engine: checksum all ext4 metadata, not just group descriptors (needs e2fsprogs 1.43 to check, Linux 3.6 to mount).
    #[arg(long)]
    pub(super) metadata_csum: bool,
}

/// What writes the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Engine {
    /// Whichever suits the target.
    #[default]
    Auto,
    /// aufs2dm's own writer, without device-mapper.
    Direct,
    /// The kernel's dm-thin.
    Kernel,
}

/// File system of the devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Fs {
    /// ext4.
    #[default]
    Ext4,
    /// xfs.
    Xfs,
}

impl ConvertArgs {
    /// What is chosen of the result.
    ///
    /// # Errors
    ///
    /// As [`Self::writer`].
    pub(super) fn choices(&self) -> Result<Choices, clap::Error> {
        Ok(Choices {
            orphans: if self.skip_orphans {
                Orphans::LeaveOut
            } else {
                Orphans::Convert
            },
            repair: !self.no_repair,
            skip_damaged: self.skip_damaged,
            writer: self.writer()?,
            switch_daemon: self.switch_daemon,
            verify: !self.no_verify,
        })
    }

    /// What is chosen of the plan.
    pub(super) fn plan(&self) -> plan::Choices {
        plan::Choices {
            base_size: self.base_size,
            data_size: self.data_size,
            metadata_size: self.metadata_size,
            checksums: if self.metadata_csum {
                Checksums::Metadata
            } else {
                Checksums::GroupDescriptors
            },
        }
    }

    /// What writes the pool, and where.
    ///
    /// # Errors
    ///
    /// When the options contradict each other; to be told as wrong usage.
    fn writer(&self) -> Result<Writer, clap::Error> {
        let target = match (&self.data_device, &self.metadata_device, &self.thin_pool) {
            (Some(data), Some(metadata), _) => Target::Devices {
                data: data.clone(),
                metadata: metadata.clone(),
            },
            (_, _, Some(path)) => Target::ThinPool { path: path.clone() },
            _ => Target::LoopFiles,
        };
        let file_system = match self.fs {
            Fs::Ext4 => FileSystem::Ext4,
            Fs::Xfs => FileSystem::Xfs,
        };
        let direct = target == Target::LoopFiles && file_system == FileSystem::Ext4;
        match self.engine {
            Engine::Direct if !direct => Err(conflict(
                "--engine direct writes ext4 in new loop files; --fs xfs, --data-device and --thin-pool need --engine \
                 kernel",
            )),
            Engine::Auto | Engine::Direct if direct => Ok(Writer::Direct),
            _ if self.metadata_csum => Err(conflict(
                "--metadata-csum is for the direct engine; for the kernel engine /etc/mke2fs.conf says what mkfs.ext4 does",
            )),
            _ => Ok(Writer::Kernel {
                target,
                file_system,
            }),
        }
    }
}

fn conflict(message: &str) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, message)
}

/// Each thread has a buffer and a stack: thousands of them cost more than they can win.
const MAX_JOBS: usize = 512;

fn parse_jobs(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .ok()
        .filter(|jobs: &NonZeroUsize| jobs.get() <= MAX_JOBS)
        .ok_or_else(|| format!("a whole number from 1 to {MAX_JOBS}"))
}

/// A size as Docker takes it: a whole number of bytes, or with one of the binary units K, M, G, T (`10G`, `10GB`, `10GiB`).
fn parse_size(text: &str) -> Result<Bytes, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => {
            return Err(
                "a size is a whole number with an optional unit K, M, G or T, such as 20G"
                    .to_owned(),
            );
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a size begins with a whole number, such as 20G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .map(Bytes)
        .ok_or_else(|| "the size is too large".to_owned())
}

/// On a cold disk most threads wait for small files, so there are more of them than cores.
pub(super) fn default_jobs() -> NonZeroUsize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    NonZeroUsize::new((4 * cores).clamp(8, 64)).expect("at least 8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(arguments: &[&str]) -> Result<Writer, clap::Error> {
        let cli = Cli::try_parse_from([&["aufs2dm", "convert"], arguments].concat())?;
        let Command::Convert(args) = cli.command else {
            panic!("it is the command convert")
        };
        args.writer()
    }

    #[test]
    fn the_engine_suits_the_target_unless_one_is_named() {
        for arguments in [&[][..], &["--engine=auto"], &["--engine=direct"]] {
            assert_eq!(writer(arguments).unwrap(), Writer::Direct, "{arguments:?}");
        }
        for arguments in [
            &["--engine=kernel"][..],
            &["--fs=xfs"],
            &["--thin-pool=/dev/mapper/pool"],
            &["--data-device=/dev/a", "--metadata-device=/dev/b"],
        ] {
            let writer = writer(arguments).unwrap();
            assert!(matches!(writer, Writer::Kernel { .. }), "{arguments:?}");
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        for arguments in [
            &["--engine=direct", "--fs=xfs"][..],
            &["--engine=direct", "--thin-pool=/dev/mapper/pool"],
            &["--data-device=/dev/a"],
            &["--metadata-device=/dev/a"],
            &[
                "--data-device=/dev/a",
                "--metadata-device=/dev/b",
                "--thin-pool=/dev/mapper/pool",
            ],
            &["--thin-pool=/dev/mapper/pool", "--data-size=10G"],
            &[
                "--data-device=/dev/a",
                "--metadata-device=/dev/b",
                "--metadata-size=1G",
            ],
            &["--engine=kernel", "--metadata-csum"],
        ] {
            assert!(writer(arguments).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_take_dockers_binary_units() {
        for (text, bytes) in [
            ("10", 10),
            ("10G", 10 << 30),
            ("1kb", 1024),
            ("2MiB", 2 << 20),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for text in ["", "G", "1.5G", "-1", "10X", "99999999999T"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
