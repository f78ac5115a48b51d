//! Identifies the host that a root directory belongs to, so that it is recognized if it is mounted elsewhere.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::host_files::HostFiles;

/// Where a host keeps its machine id. Source: machine-id(5); dbus-uuidgen(1) for hosts without systemd.
const MACHINE_ID: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The facts that identify a host. Each of them may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostIdentity {
    /// The host's machine id, 32 hexadecimal digits.
    #[serde(default)]
    machine_id: Option<String>,
    /// The device number and the inode number of `/etc`.
    #[serde(default)]
    etc: Option<(u64, u64)>,
}

/// Whether two identities belong to the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// It is the same host.
    Same,
    /// It is another host.
    Other,
    /// The identities do not tell.
    Unknown,
}

impl HostIdentity {
    /// The identity of the host whose `/` is at `root`.
    pub fn of(root: &Path) -> Self {
        let files = HostFiles::new(root);
        let etc = files.place(Path::new("/etc"));
        let etc = etc
            .symlink_metadata()
            .ok()
            .filter(std::fs::Metadata::is_dir);
        Self {
            machine_id: MACHINE_ID.iter().find_map(|path| {
                let text = files.read(Path::new(path)).ok().flatten()?;
                machine_id(&text)
            }),
            etc: etc.map(|meta| (meta.dev(), meta.ino())),
        }
    }

    /// Compares two identities.
    ///
    /// Machines that were made from one image may share their machine id, so `/etc` must be the same inode too. Its
    /// device number changes with the order in which disks are found, so it counts only if there is no machine id.
    pub fn compare(&self, other: &Self) -> Likeness {
        let inode = |identity: &Self| identity.etc.map(|(_, inode)| inode);
        match (&self.machine_id, &other.machine_id) {
            (Some(a), Some(b)) if a != b => Likeness::Other,
            (Some(_), Some(_)) if self.etc.is_some() && inode(self) == inode(other) => {
                Likeness::Same
            }
            (Some(_), Some(_)) => Likeness::Unknown,
            _ if self.etc.is_some() && self.etc == other.etc => Likeness::Same,
            _ => Likeness::Unknown,
        }
    }
}

/// The machine id in the file; `None` for `uninitialized` and anything else.
fn machine_id(text: &[u8]) -> Option<String> {
    let text = text.trim_ascii();
    let is_number = text.len() == 32 && text.iter().all(u8::is_ascii_hexdigit);
    let is_set = text.iter().any(|&digit| digit != b'0');
    (is_number && is_set).then(|| String::from_utf8_lossy(text).to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789ABCDEF\n";

    fn identity(machine_id: Option<&str>, etc: Option<(u64, u64)>) -> HostIdentity {
        HostIdentity {
            machine_id: machine_id.map(str::to_owned),
            etc,
        }
    }

    #[test]
    fn a_number_and_an_inode_make_the_same_host_whatever_the_device() {
        let here = identity(Some("a"), Some((1, 2)));
        for (there, likeness) in [
            (identity(Some("a"), Some((1, 2))), Likeness::Same),
            (identity(Some("a"), Some((9, 2))), Likeness::Same),
            (identity(Some("a"), Some((1, 3))), Likeness::Unknown),
            (identity(Some("a"), None), Likeness::Unknown),
            (identity(Some("b"), Some((1, 2))), Likeness::Other),
            (identity(None, Some((1, 2))), Likeness::Same),
            (identity(None, Some((9, 2))), Likeness::Unknown),
            (identity(None, None), Likeness::Unknown),
        ] {
            assert_eq!(here.compare(&there), likeness, "{there:?}");
            assert_eq!(there.compare(&here), likeness, "{there:?}");
        }
        let nothing = HostIdentity::default();
        assert_eq!(nothing.compare(&nothing), Likeness::Unknown);
    }

    #[test]
    fn a_number_is_read_below_the_hosts_root_only() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(HostIdentity::of(dir.path()), HostIdentity::default());
        let etc = dir.path().join("etc");
        fs::create_dir_all(&etc).unwrap();
        let number = || HostIdentity::of(dir.path()).machine_id;
        for none in ["", "uninitialized\n", "x", &"0".repeat(32), &"g".repeat(32)] {
            fs::write(etc.join("machine-id"), none).unwrap();
            assert_eq!(number(), None, "{none}");
        }
        fs::remove_file(etc.join("machine-id")).unwrap();
        // The link refers to the host's file, not to one on this system.
        std::os::unix::fs::symlink("/var/lib/dbus/machine-id", etc.join("machine-id")).unwrap();
        fs::create_dir_all(dir.path().join("var/lib/dbus")).unwrap();
        fs::write(dir.path().join("var/lib/dbus/machine-id"), ID).unwrap();
        assert_eq!(number(), Some(ID.trim_end().to_ascii_lowercase()));
    }
}
