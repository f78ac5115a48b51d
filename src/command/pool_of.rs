//! Where a root's pool is.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::error::Error;
use super::recorded_options::RecordedOptions;
use super::request::VerifyRequest;
use crate::commit::{CommitRecord, Conversion};
use crate::pool::target::Target;
use crate::verify::Mode;

/// The pool that was asked for; else where the conversion made it, or the one that was committed; else in loop files, as Docker makes it
/// by itself.
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

/// Where a conversion makes its pool, if its journal tells.
pub(super) fn recorded_target(conversion: &Conversion) -> Option<Target> {
    RecordedOptions::target_of(&conversion.story().begun.order)
}

fn committed_target(path: &Path) -> Option<Target> {
    RecordedOptions::target_of(&CommitRecord::read(path)?.order)
}

/// Makes sure that the pool of a root of which no conversion is known can be told: that it is asked for, or recorded, or that there are
/// loop files. Where there are none it is on devices that only Docker's options name, or the operator.
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

/// Whether a pool that was asked for is the one that was converted into, by whatever name. Another one proves nothing of it.
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

/// Whether two paths lead to one device, or to one file.
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
