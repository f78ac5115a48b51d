//! Where a conversion was started, as its journal records it, and whether a later command runs in the same place.
//!
//! A journal is untrusted input. A path from it is used only if it looks like the same host as before, and a pid file
//! that it names is compared but never created.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::commit::{self, Conversion};
use crate::daemon::Host;
use crate::daemon::config::{HostIdentity, Likeness};

/// The place where a conversion was started. The field names are part of the `--json` interface of `status`, except for
/// `host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversionOrigin {
    /// The root as given, made absolute.
    #[serde(with = "crate::path_form")]
    pub root: PathBuf,
    /// The host's `/`.
    #[serde(with = "crate::path_form")]
    pub host_root: PathBuf,
    /// Docker's pid file.
    #[serde(with = "crate::path_form")]
    pub pid_file: PathBuf,
    /// The identity of the host.
    pub host: HostIdentity,
}

/// The part of the recorded options that says where they were given.
#[derive(Deserialize)]
struct RecordedOrigin {
    begun_at: Option<ConversionOrigin>,
}

impl ConversionOrigin {
    /// The place of a conversion that starts now.
    pub(super) fn new(root: &Path, host: &Host) -> Self {
        Self {
            root: absolute(root),
            host_root: absolute(&host.root),
            pid_file: absolute(&host.pid_file),
            host: HostIdentity::of(&host.root),
        }
    }

    /// The place recorded in the journal of the conversion in `root`. `None` if there is no journal, or if it has no
    /// such record or cannot be parsed; other commands report that.
    ///
    /// # Errors
    ///
    /// The journal cannot be read.
    pub fn find(root: &Path) -> Result<Option<Self>, commit::Error> {
        let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        match Conversion::find(&path) {
            Err(commit::Error::Journal { .. } | commit::Error::JournalLost { .. }) => Ok(None),
            found => Ok(found?.as_ref().and_then(Self::of)),
        }
    }

    pub(super) fn of(conversion: &Conversion) -> Option<Self> {
        let order = conversion.story().begun.order.clone();
        let order: RecordedOrigin = serde_json::from_value(order).ok()?;
        // No version writes relative paths: they would mean a different place to each command.
        order.begun_at.filter(|at| {
            [&at.root, &at.host_root, &at.pid_file]
                .iter()
                .all(|path| path.is_absolute())
        })
    }

    /// Whether the host whose `/` is at `host_root` is the one the conversion was started for.
    pub fn compare_host(&self, host_root: &Path) -> Likeness {
        self.host.compare(&HostIdentity::of(host_root))
    }

    /// Whether `path` is the recorded `/` of the host.
    pub fn is_host_root(&self, path: &Path) -> bool {
        is_same_place(&self.host_root, path)
    }

    /// Whether `path` is the recorded pid file, given that the host's `/` is now at `host_root`.
    pub fn is_pid_file(&self, path: &Path, host_root: &Path) -> bool {
        let inner = self.pid_file.strip_prefix(&self.host_root).ok();
        let moved = inner.map(|inner| host_root.join(inner));
        is_same_place(&self.pid_file, path)
            || moved.is_some_and(|moved| is_same_place(&moved, path))
    }
}

/// Whether two paths name the same place, as far as that is known for paths that need not exist.
fn is_same_place(a: &Path, b: &Path) -> bool {
    let resolved = |path: &Path| {
        let whole = path.canonicalize().ok();
        whole.or_else(|| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?)))
    };
    let (a, b) = (absolute(a), absolute(b));
    a == b || resolved(&a).is_some_and(|a| Some(a) == resolved(&b))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(host_root: &str, pid_file: &str) -> ConversionOrigin {
        ConversionOrigin {
            root: "/r".into(),
            host_root: host_root.into(),
            pid_file: pid_file.into(),
            host: HostIdentity::default(),
        }
    }

    #[test]
    fn a_pid_file_moves_with_the_host_that_it_is_below() {
        let rescued = begun("/no/host", "/no/host/run/d.pid");
        for (path, host_root, is_same) in [
            ("/no/host/run/d.pid", "/no/host", true),
            ("/no/other/run/d.pid", "/no/other", true),
            ("/no/other/run/e.pid", "/no/other", false),
            ("/run/d.pid", "/no/other", false),
        ] {
            let found = rescued.is_pid_file(Path::new(path), Path::new(host_root));
            assert_eq!(found, is_same, "{path}");
        }
        let usual = begun("/", "/no/run/d.pid");
        for path in ["/no/run/d.pid", "/mnt/no/run/d.pid"] {
            assert!(usual.is_pid_file(Path::new(path), Path::new("/mnt")));
        }
    }
}
