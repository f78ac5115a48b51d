//! How a host starts Docker: units, scripts, files with variables, `daemon.json`.

use std::fs;

use aufs2dm::daemon::Host;
use aufs2dm::daemon::config::{data_root, hindrances, pid_files};
use aufs2dm::daemon::first_start::{Switch, check_recorded, plan_switch};
use aufs2dm::devicemapper::Target;
use aufs2dm::devicemapper::driver_files::FileSystem;
use aufs2dm::units::Bytes;

use super::files::{pieces, put};

/// The files, in the order of their letters.
const FILES: [&str; 12] = [
    "etc/docker/daemon.json",
    "lib/systemd/system/docker.service",
    "etc/systemd/system/docker.service.d/override.conf",
    "etc/default/docker",
    "etc/sysconfig/docker",
    "etc/sysconfig/docker-storage",
    "etc/init.d/docker",
    "etc/init/docker.conf",
    "etc/systemd/system/other.service",
    "var/lib/dpkg/status",
    "etc/conf.d/docker",
    "etc/docker/other.json",
];

/// Any settings are read, and paths in them lead below the host's root. What is planned from them for `daemon.json` is what the
/// check of a recorded plan accepts, and leaves nothing to do once it is made.
///
/// The input is a list of the host's files.
pub(super) fn daemon(input: &[u8]) {
    let place = tempfile::tempdir().expect("the disk has room");
    let root = place.path();
    for directory in ["usr/bin", "run/systemd/system", "lib/systemd/system"] {
        fs::create_dir_all(root.join(directory)).expect("the disk has room");
    }
    fs::write(root.join("usr/bin/dockerd"), "").expect("the disk has room");
    for piece in pieces(input) {
        put(root, &FILES, piece);
    }
    assert!(!pid_files(root).is_empty());
    assert!(data_root(root).path.starts_with(root));
    let host = Host {
        root: root.to_owned(),
        ..Host::default()
    };
    let target = Target {
        storage_opts: vec!["dm.thinpooldev=/dev/mapper/pool".to_owned()],
        base_size: Bytes::gib(10),
        data_block: Bytes(64 << 10),
        file_system: FileSystem::Ext4,
        files: None,
        space: None,
    };
    let mut planned = plan_switch(&host, &target);
    let _ = hindrances(&planned);
    check_recorded(&mut planned, &host, &target.storage_opts).expect("a plan of ours is accepted");
    if let Switch::Edit(edit) = planned {
        assert!(edit.path.starts_with(root));
        let parent = edit.path.parent().expect("it is a file");
        if fs::create_dir_all(parent).is_ok() && fs::write(&edit.path, &edit.content).is_ok() {
            let again = plan_switch(&host, &target);
            assert_eq!(again, Switch::Nothing);
        }
    }
}
