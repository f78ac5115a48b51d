//! The location of a root's pool.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::error::Error;
use super::recorded_options::RecordedOptions;
use super::request::VerifyRequest;
use crate::commit::{CommitRecord, Conversion};
use crate::pool::target::Target;
use crate::verify::Mode;

/// The pool to use: the one that was asked for; otherwise where the conversion made it, or the one that was committed;
/// otherwise the loop files that Docker creates by default.
pub(super) fn pool_of(
    path: &Path,
    conversion: Option<&Conversion>,
    asked: Option<&Target>,
) -> Target {
    let recorded = || match conversion {
        Some(conversion) => recorded_target(conversion),
        None => committed_target(path),
    };
    asked
        .cloned()
        .or_else(recorded)
        .unwrap_or(Target::LoopFiles)
}

/// Where a conversion makes its pool, if its journal says so.
pub(super) fn recorded_target(conversion: &Conversion) -> Option<Target> {
    RecordedOptions::target_of(&conversion.story().begun.order)
}

fn committed_target(path: &Path) -> Option<Target> {
    RecordedOptions::target_of(&CommitRecord::read(path)?.order)
}

/// Checks that the pool of a root without a known conversion can be located: it was asked for or recorded, or there are
/// loop files. Without these, it is on devices that only Docker's options or the operator can name.
///
/// # Errors
///
/// [`Error::PoolUnknown`].
pub(super) fn expect_known(request: &VerifyRequest, path: &Path) -> Result<(), Error> {
    let home = path.join("devicemapper");
    let is_there = |name| {
        home.join("devicemapper")
            .join(name)
            .symlink_metadata()
            .is_ok()
    };
    let is_known = request.target.is_some()
        || committed_target(path).is_some()
        || !home.join("metadata").is_dir()
        || ["data", "metadata"].into_iter().any(is_there);
    if is_known {
        return Ok(());
    }
    Err(Error::PoolUnknown {
        words: match request.mode {
            Mode::Quick => "verify",
            Mode::Full => "verify --full",
        },
        path: path.to_owned(),
    })
}

/// Whether a requested pool is the one that was converted into, by whatever name. A different pool proves nothing about
/// it.
pub(super) fn is_of(conversion: &Conversion, asked: Option<&Target>) -> bool {
    let recorded = recorded_target(conversion).unwrap_or(Target::LoopFiles);
    match (asked, &recorded) {
        (None, _) | (Some(Target::LoopFiles), Target::LoopFiles) => true,
        (
            Some(Target::Devices { data, metadata }),
            Target::Devices {
                data: own_data,
                metadata: own_metadata,
            },
        ) => is_same_device(data, own_data) && is_same_device(metadata, own_metadata),
        (Some(Target::ThinPool { path }), Target::ThinPool { path: own }) => {
            is_same_device(path, own)
        }
        (Some(_), _) => false,
    }
}

/// Whether two paths lead to the same device or the same file.
fn is_same_device(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let meta = fs::metadata(path).ok()?;
        Some(if meta.file_type().is_block_device() {
            (0, meta.rdev())
        } else {
            (meta.dev(), meta.ino())
        })
    };
    one == other || identity(one).is_some_and(|one| identity(other) == Some(one))
}
