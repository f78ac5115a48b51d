//! Each finding where it belongs, and nowhere else.

use std::fs;

use aufs2dm::daemon::first_start::{Switch, plan_switch};
use aufs2dm::devicemapper::{LoopFiles, Severity, Space};
use aufs2dm::units::Bytes;

use super::{CENTOS_UNIT, DAEMON, DEBIAN_UNIT, GOOD_CONFIG, Machine, UPSTREAM_UNIT, package};
use crate::docker::WEB;

const CONFIG: &str = "/etc/docker/daemon.json";
const STATUS: &str = "/var/lib/dpkg/status";
const UNIT: &str = "/lib/systemd/system/docker.service";

/// Fails unless there is exactly one finding, and it has these words.
#[track_caller]
fn one(machine: &Machine, words: &[&str]) {
    let findings = machine.findings();
    assert!(
        findings.len() == 1 && words.iter().all(|word| findings[0].contains(word)),
        "{words:?} in {findings:#?}"
    );
}

/// Fails unless a finding has these words.
#[track_caller]
fn one_of(machine: &Machine, words: &[&str]) {
    let findings = machine.findings();
    let has_all = |one: &String| words.iter().all(|word| one.contains(word));
    assert!(findings.iter().any(has_all), "{words:?} in {findings:#?}");
}

#[track_caller]
fn none(machine: &Machine) {
    let findings = machine.findings();
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn a_host_in_order_gives_no_finding() {
    none(&Machine::new());
    // The driver by a flag in the file that Debian's unit reads.
    let by_flag = Machine::new()
        .without(CONFIG)
        .with("/etc/default/docker", "DOCKER_OPTS=\"-s devicemapper\"\n");
    none(&by_flag);
    let by_drop_in = Machine::new().without(CONFIG).with(UNIT, UPSTREAM_UNIT).with(
        "/etc/systemd/system/docker.service.d/storage.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --storage-driver=devicemapper -H fd://\n",
    );
    none(&by_drop_in);
    let centos = Machine::new()
        .without(CONFIG)
        .with(UNIT, CENTOS_UNIT)
        .with("/etc/sysconfig/docker", "OPTIONS='--selinux-enabled'\n")
        .with(
            "/etc/sysconfig/docker-storage",
            "DOCKER_STORAGE_OPTIONS=\"--storage-driver devicemapper \"\n",
        );
    none(&centos);
    let variable = Machine::new()
        .without(CONFIG)
        .with("/etc/default/docker", "DOCKER_DRIVER=devicemapper\n");
    none(&variable);
}

#[test]
fn releases_without_the_driver_are_named() {
    let of = |version: &str| Machine::new().with(STATUS, &package("docker-ce", version));
    one(&of("5:25.0.3-1~debian"), &["driver-removed", "25.0"]);
    one(&of("5:27.1.1-1"), &["driver-removed"]);
    none(&of("5:24.0.7-1"));
    none(&of("17.03.2~ce-0~ubuntu-xenial"));
}

#[test]
fn a_program_without_the_driver_is_named() {
    let program = "/usr/sbin/dockerd";
    one(
        &Machine::new().with(program, "\x7fELF [graphdriver] trying overlay2"),
        &["driver-left-out", program],
    );
    one(
        &Machine::new().with(program, "#!/bin/sh\nexec dockerd"),
        &["driver-unknown", program],
    );
    // Across the pieces in which it is read.
    let far = "x".repeat((1 << 20) - 40) + DAEMON;
    none(&Machine::new().with(program, &far));
}

#[test]
fn no_docker_at_all_is_a_remark() {
    let machine = Machine::new().without("/usr/sbin/dockerd").without(STATUS);
    one(&machine, &["docker-unknown"]);
    let machine = Machine::new().without(STATUS);
    one(&machine, &["version-unknown", "/usr/sbin/dockerd"]);
}

#[test]
fn a_removed_package_does_not_count() {
    let status = package("docker-ce", "5:26.0.0-1").replace(
        "docker-ce\nStatus: install ok installed",
        "docker-ce\nStatus: deinstall ok config-files",
    );
    one(&Machine::new().with(STATUS, &status), &["version-unknown"]);
}

#[test]
fn another_driver_is_named_with_its_place() {
    for (path, text, place) in [
        (
            CONFIG,
            "{\n\"storage-driver\":\"aufs\"}",
            "/etc/docker/daemon.json, line 2: storage-driver \"aufs\"",
        ),
        (
            "/etc/default/docker",
            "# x\nDOCKER_OPTS=\"--dns 8.8.8.8 -s overlay2\"\n",
            "/etc/default/docker, line 2: -s overlay2",
        ),
        (
            "/etc/default/docker",
            "DOCKER_DRIVER=aufs\n",
            "/etc/default/docker, line 1: DOCKER_DRIVER=aufs",
        ),
        (
            "/run/systemd/system/docker.service.d/10.conf",
            "[Service]\nEnvironment=\"A=b c\" DOCKER_DRIVER=aufs\n",
            "docker.service.d/10.conf, line 2: DOCKER_DRIVER=aufs",
        ),
    ] {
        let machine = Machine::new().with(CONFIG, "{}").with(path, text);
        one(&machine, &["other-driver", place]);
    }
}

#[test]
fn no_driver_named_is_judged_by_the_release() {
    let machine = || Machine::new().with(CONFIG, "{}");
    one(
        &machine(),
        &[
            "driver-not-named",
            "tries aufs first",
            "/etc/docker/daemon.json",
        ],
    );
    let later = machine().with(STATUS, &package("docker-ce", "5:24.0.7-1"));
    one(
        &later,
        &[
            "driver-not-named",
            "Docker 24.0 does not start with devicemapper unless it is set explicitly",
        ],
    );
    assert!(later.outlook().is_refusal());
    // Others beside it, the first by this release's own order.
    let beside = machine();
    fs::create_dir_all(beside.at("/docker/overlay2/l")).unwrap();
    one(
        &beside,
        &["tries overlay2 first", "overlay2, aufs, devicemapper"],
    );
}

#[test]
fn drop_ins_apply_by_name_and_the_first_directory_wins() {
    let machine = Machine::new()
        .with(CONFIG, "{}")
        .with(
            "/etc/systemd/system/docker.service.d/20.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -s devicemapper\n",
        )
        .with(
            "/lib/systemd/system/docker.service.d/20.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -s zfs\n",
        )
        .with(
            "/etc/systemd/system/docker.service.d/10.conf",
            "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -s aufs\n",
        )
        .with(
            "/etc/systemd/system/docker.service.d/30.conf.bak",
            "[Service]\nExecStart=\n",
        );
    none(&machine);
}

#[test]
fn an_administrators_unit_hides_the_packages() {
    let machine = Machine::new().with(CONFIG, "{}").with(
        "/etc/systemd/system/docker.service",
        "[Service]\nExecStart=-/usr/sbin/dockerd --storage-driver \\\n  \"btrfs\"\n",
    );
    one(
        &machine,
        &[
            "other-driver",
            "/etc/systemd/system/docker.service, line 2: --storage-driver btrfs",
        ],
    );
}

#[test]
fn a_masked_unit_is_a_remark() {
    let machine = Machine::new();
    fs::create_dir_all(machine.at("/etc/systemd/system")).unwrap();
    std::os::unix::fs::symlink(
        "/dev/null",
        machine.at("/etc/systemd/system/docker.service"),
    )
    .unwrap();
    one(&machine, &["masked", "systemctl unmask docker.service"]);
}

#[test]
fn hosts_without_systemd_read_their_own_files() {
    let upstart = |init: &str| {
        let machine = Machine::new()
            .with("/sbin/init", "")
            .with(CONFIG, "{}")
            .with(
                "/etc/default/docker",
                "DOCKER_OPTS=\"$DOCKER_OPTS -s aufs\"\n",
            );
        if init.is_empty() {
            machine
        } else {
            machine.with(init, "")
        }
    };
    for init in ["/etc/init/docker.conf", "/etc/init.d/docker"] {
        one(
            &upstart(init),
            &["other-driver", "/etc/default/docker, line 1: -s aufs"],
        );
    }
    let findings = upstart("").findings();
    assert!(
        findings
            .iter()
            .any(|one| one.starts_with("service-unknown")),
        "{findings:#?}"
    );
}

#[test]
fn options_in_files_that_nothing_reads_are_named() {
    let machine = Machine::new().with(UNIT, UPSTREAM_UNIT).with(
        "/etc/default/docker",
        "DOCKER_OPTS=\"--storage-opt dm.basesize=20G\"\n",
    );
    one(
        &machine,
        &[
            "not-read",
            "/etc/default/docker, line 1: --storage-opt dm.basesize=20G",
            "/lib/systemd/system/docker.service",
        ],
    );
    let no_storage = Machine::new().with(UNIT, UPSTREAM_UNIT).with(
        "/etc/default/docker",
        "#DOCKER_OPTS=\"-s aufs\"\nDOCKER_OPTS=\"--dns 8.8.8.8\"\n",
    );
    none(&no_storage);
}

#[test]
fn what_is_told_twice_is_named_with_both_places() {
    let machine = Machine::new().with(
        "/etc/default/docker",
        "DOCKER_OPTS=--storage-driver=devicemapper\n",
    );
    one(
        &machine,
        &[
            "told-twice",
            "/etc/default/docker, line 1",
            "/etc/docker/daemon.json, line 2",
        ],
    );
}

#[test]
fn daemon_json_is_read_as_docker_reads_it() {
    for (text, words) in [
        (
            "{\n  // comment\n  \"storage-driver\": \"devicemapper\"\n}",
            ["config-unreadable", "daemon.json, line 2"],
        ),
        (
            "{\"storage-driver\": [\"devicemapper\"]}",
            ["config-unreadable", "storage-driver: is not a string"],
        ),
        (
            "{\"storage-opts\": {\"dm.fs\": \"xfs\"}}",
            ["config-unreadable", "storage-opts: is not a list"],
        ),
        (
            "{\"graph\": \"/x\",\n\"graph\": \"/y\"}",
            ["config-unreadable", "line 2: graph: occurs twice"],
        ),
        (
            "{\"Storage-Driver\": \"devicemapper\"}",
            ["key-unknown", "\"Storage-Driver\""],
        ),
    ] {
        let machine = Machine::new().with(CONFIG, text);
        one_of(&machine, &words);
        assert!(machine.outlook().is_refusal(), "{text}");
    }
}

#[test]
fn an_empty_daemon_json_stops_releases_before_23() {
    one_of(
        &Machine::new().with(CONFIG, "\n"),
        &["config-empty", "/etc/docker/daemon.json"],
    );
    let later = Machine::new()
        .with(CONFIG, "")
        .with(STATUS, &package("docker-ce", "5:23.0.1-1"));
    assert!(
        !later
            .findings()
            .iter()
            .any(|one| one.starts_with("config-empty"))
    );
}

#[test]
fn another_config_file_is_followed() {
    let machine = Machine::new()
        .with(
            UNIT,
            "[Service]\nExecStart=/usr/sbin/dockerd --config-file=/srv/d.json\n",
        )
        .with("/srv/d.json", "{\"storage-driver\":\"vfs\"}");
    one(&machine, &["other-driver", "/srv/d.json, line 1"]);
}

fn with_option(option: &str) -> Machine {
    Machine::new().with(
        CONFIG,
        &format!("{{\"storage-driver\":\"devicemapper\",\n\"storage-opts\":[\"{option}\"]}}"),
    )
}

#[test]
fn options_that_suit_give_no_finding() {
    for option in [
        "dm.basesize=10G",
        "DM.BASESIZE = 10737418240",
        "dm.blocksize=64K",
        "dm.fs=ext4",
        "dm.mountopt=nodiscard",
        "dm.mkfsarg=-i 4096",
        "dm.min_free_space=0%",
        "dm.blkdiscard=False",
        "dm.override_udev_sync_check=true",
        "dm.xfs_nospace_max_retries=0",
        "dm.libdm_log_level=7",
        "dm.use_deferred_removal=true",
    ] {
        none(&with_option(option));
    }
}

#[test]
fn options_that_keep_docker_from_starting_are_named() {
    for (option, why) in [
        ("overlay2.override_kernel_check=true", "belongs to overlay2"),
        ("zfs.fsname=x", "belongs to zfs"),
        ("dm.base_size=10G", "unknown"),
        ("size=10G", "unknown"),
        ("dm.basesize", "key=value"),
        ("dm.basesize=9G", "less than the 10737418240 bytes"),
        ("dm.basesize=10", "less than the 10737418240 bytes"),
        ("dm.basesize=lots", "a size"),
        ("dm.blocksize=512K", "block size of 65536 bytes"),
        ("dm.fs=btrfs", "neither ext4 nor xfs"),
        (
            "dm.thinpooldev=/dev/mapper/x",
            "a pool other than this root's",
        ),
        ("dm.datadev=/dev/sdb", "a pool other than this root's"),
        ("dm.metadatadev=/dev/sdc", "a pool other than this root's"),
        ("dm.directlvm_device=/dev/sdb", "LVM"),
        ("dm.thinp_percent=95", "LVM"),
        ("dm.min_free_space=10", "percentage"),
        ("dm.min_free_space=100%", "percentage"),
        ("dm.blkdiscard=yes", "true or false"),
        ("dm.xfs_nospace_max_retries=-1", "whole number"),
        ("dm.libdm_log_level=8", "2 to 7"),
    ] {
        one(
            &with_option(option),
            &["option-refused", "/etc/docker/daemon.json, line 2", why],
        );
    }
    one(
        &with_option("dm.use_deferred_removal=false"),
        &["option-refused", "dm.use_deferred_deletion=false"],
    );
}

#[test]
fn options_newer_than_docker_are_named() {
    let old = |option: &str| {
        with_option(option).with(STATUS, &package("docker-engine", "1.10.3-0~trusty"))
    };
    one(
        &old("dm.min_free_space=5%"),
        &["option-refused", "Docker 1.11", "1.10"],
    );
    one(&old("dm.libdm_log_level=3"), &["Docker 17.07"]);
    one(
        &old("dm.use_deferred_deletion=true"),
        &["add dm.use_deferred_removal=true"],
    );
    none(&old("dm.use_deferred_removal=false"));
    none(&old("dm.blkdiscard=true"));
}

#[test]
fn options_that_do_not_do_what_they_say_are_odd() {
    for (option, why) in [
        ("dm.basesize=20G", "enlarges the base device"),
        ("dm.fs=xfs", "is not this root's ext4"),
        ("dm.loopdatasize=200G", "not in loop files"),
    ] {
        let machine = with_option(option);
        one(&machine, &["option-odd", why]);
        assert!(!machine.outlook().is_refusal(), "{option}");
    }
}

#[test]
fn the_pools_options_must_be_there() {
    let pool = "dm.thinpooldev=/dev/mapper/docker-thinpool";
    one(&Machine::new().wants(&[pool]), &["option-missing", pool]);
    none(&with_option(pool).wants(&[pool]));
    none(&with_option("dm.thinpooldev=docker-thinpool").wants(&[pool]));
}

#[test]
fn a_host_without_udev_is_told() {
    let machine = Machine::new().without("/lib/systemd/systemd-udevd");
    one(&machine, &["no-udev", "dm.override_udev_sync_check=true"]);
    none(&with_option("dm.override_udev_sync_check=1").without("/lib/systemd/systemd-udevd"));
}

#[test]
fn another_root_is_told() {
    let with = |text: &str| {
        Machine::new().with(
            CONFIG,
            &format!("{{\"storage-driver\":\"devicemapper\",{text}}}"),
        )
    };
    one(
        &with("\"data-root\":\"/srv/docker\""),
        &["other-root", "/srv/docker"],
    );
    one(&with("\"graph\":\"/srv/docker\""), &["other-root"]);
    one(
        &with("\"userns-remap\":\"default\""),
        &["other-root", "userns-remap"],
    );
    none(&with("\"data-root\":\"/docker\""));
    none(&with("\"userns-remap\":\"\""));
}

#[test]
fn a_pool_that_will_be_too_full_is_told() {
    let space = |data_used, metadata_used| {
        let mut machine = Machine::new();
        machine.target.space = Some(Space {
            data: Bytes::gib(100),
            data_used: Bytes::gib(data_used),
            metadata: Bytes::gib(10),
            metadata_used: Bytes::gib(metadata_used),
        });
        machine
    };
    none(&space(90, 9));
    one(
        &space(91, 9),
        &["pool-too-full", "9.0 GiB of free data space", "10.0 GiB"],
    );
    let findings = space(91, 10).findings();
    assert_eq!(findings.len(), 2, "{findings:#?}");
    let lower = "{\"storage-driver\":\"devicemapper\",\"storage-opts\":[\"dm.min_free_space=5%\"]}";
    none(&space(95, 9).with(CONFIG, lower));
    one(&space(96, 9).with(CONFIG, lower), &["dm.min_free_space=5%"]);
}

#[test]
fn a_disk_smaller_than_its_sparse_file_is_told() {
    let disk = |free| {
        let mut machine = Machine::new();
        machine.target.files = Some(LoopFiles {
            data: Bytes::gib(100),
            metadata: Bytes::gib(2),
            disk_free: Some(Bytes::gib(free)),
        });
        machine.target.space = Some(Space {
            data: Bytes::gib(100),
            data_used: Bytes::gib(20),
            metadata: Bytes::gib(2),
            metadata_used: Bytes(0),
        });
        machine
    };
    none(&disk(80));
    one(
        &disk(9),
        &[
            "disk-smaller-than-pool",
            "9.0 GiB",
            "free up space on the disk",
        ],
    );
    let outlook = disk(79).outlook();
    let remark = outlook
        .findings
        .iter()
        .find(|one| one.code == "disk-smaller-than-pool");
    assert_eq!(remark.unwrap().severity, Severity::Remark);
}

#[test]
fn volumes_of_containers_left_behind_are_named() {
    let path = format!("/docker/containers/{WEB}/config.v2.json");
    let machine = Machine::with_containers();
    let config = fs::read_to_string(machine.at(&path)).unwrap();
    let volumes =
        r#""MountPoints":{"/data":{"Name":"shop-db","Driver":"local"},"/b":{"Source":"/x"}}"#;
    let end = config.rfind('}').unwrap();
    let with_volumes = format!("{},{volumes}}}", &config[..end]);
    let told = |machine: &Machine| {
        let findings = machine.outlook().findings;
        let mut found = findings
            .into_iter()
            .filter(|one| one.code == "volumes-unprotected");
        found.find(|one| one.message.contains("shop-db"))
    };
    let other = with_volumes.replace(r#""Driver":"aufs""#, r#""Driver":"overlay2""#);
    let machine = machine.with(&path, &other);
    let message = told(&machine).unwrap().message;
    for word in ["shop_web_1", "\"overlay2\"", "docker volume prune"] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(told(&machine.with(&path, &with_volumes)), None);
}

#[test]
fn containers_that_start_by_themselves_are_named() {
    let path = format!("/docker/containers/{WEB}/hostconfig.json");
    let machine = Machine::with_containers();
    let host = fs::read_to_string(machine.at(&path)).unwrap();
    let told = |machine: &Machine| {
        let findings = machine.outlook().findings;
        let found = findings.into_iter().find(|one| one.code == "will-start");
        found.is_some_and(|one| one.message.contains("shop_web_1"))
    };
    // Of several members of one name Docker takes the last.
    let end = host.rfind('}').unwrap();
    let with = |name: &str| format!(r#"{},"RestartPolicy":{{"Name":"{name}"}}}}"#, &host[..end]);
    let machine = machine.with(&path, &with("always"));
    assert!(told(&machine));
    assert!(!told(&machine.with(&path, &with("no"))));
}

#[test]
fn after_the_planned_switch_nothing_is_left_to_say() {
    let machine = Machine::new()
        .wants(&["dm.thinpooldev=/dev/mapper/pool"])
        .with(CONFIG, "{\"storage-driver\":\"aufs\",\"storage-opts\":[\"overlay2.size=1G\",\"dm.basesize=1G\"]}");
    let before = machine.outlook();
    assert!(before.is_refusal());
    let switch = plan_switch(&machine.host(), &machine.target);
    assert!(matches!(switch, Switch::Edit(_)), "{switch:?}");
    let after = machine.outlook_after(Some(&switch));
    assert!(
        after.at_least(Severity::Warning).next().is_none(),
        "{after:#?}"
    );
    assert_eq!(machine.outlook(), before, "nothing was written");
}

#[test]
fn units_of_debian_and_upstream_differ_in_what_they_read() {
    let flags = "DOCKER_OPTS=\"-s aufs\"\n";
    let debian = Machine::new()
        .with(CONFIG, "{}")
        .with(UNIT, DEBIAN_UNIT)
        .with("/etc/default/docker", flags);
    one(&debian, &["other-driver"]);
    let upstream = Machine::new()
        .with(CONFIG, GOOD_CONFIG)
        .with(UNIT, UPSTREAM_UNIT)
        .with("/etc/default/docker", flags);
    one(&upstream, &["not-read"]);
}

#[test]
fn keys_that_docker_does_not_know_keep_it_from_starting() {
    let with = |member: &str| {
        let text = format!("{{\"storage-driver\":\"devicemapper\",\n{member}}}");
        Machine::new().with(CONFIG, &text)
    };
    for (member, words) in [
        (
            "\"storage-drivers\":\"aufs\"",
            "line 2: key \"storage-drivers\" is unknown",
        ),
        ("\"storage_driver\":\"aufs\"", "write \"storage-driver\""),
        ("\"Storage-Opts\":[]", "write \"storage-opts\""),
        ("\"note\":\"of 2016\"", "key \"note\" is unknown"),
        // Of an object that is no option, Docker takes the members.
        (
            "\"storage\":{\"driver\":\"aufs\"}",
            "key \"driver\" is unknown",
        ),
    ] {
        let machine = with(member);
        one(&machine, &["key-unknown", "daemon.json", words]);
        assert!(machine.outlook().is_refusal(), "{member}");
        let switch = plan_switch(&machine.host(), &machine.target);
        assert!(matches!(switch, Switch::ByHand { .. }), "{switch:?}");
    }
    for member in [
        "\"log-opts\":{\"max-size\":\"10m\"},\"registry-mirrors\":[],\"features\":{\"x\":true}",
        "\"runtimes\":{\"nvidia\":{\"path\":\"x\"}},\"live-restore\":true,\"bip\":\"10.0.0.1/24\"",
    ] {
        none(&with(member));
    }
    // By release.
    let data_root = "\"data-root\":\"/docker\"";
    none(&with(data_root));
    let old = with(data_root).with(STATUS, &package("docker-engine", "1.13.1-0~xenial"));
    one(&old, &["key-unknown", "unknown to Docker 1.13"]);
}

#[test]
fn a_key_that_is_a_flags_name_is_ignored() {
    let machine = Machine::new().with(
        CONFIG,
        "{\"storage-driver\":\"devicemapper\",\"storage-opt\":[\"dm.basesize=50G\"]}",
    );
    one(
        &machine,
        &["key-ignored", "storage-opt", "\"storage-opts\""],
    );
    assert!(!machine.outlook().is_refusal());
}

#[test]
fn a_byte_order_mark_stops_releases_before_23() {
    let text = format!("\u{feff}{GOOD_CONFIG}");
    let machine = Machine::new().with(CONFIG, &text);
    one(&machine, &["config-mark", "byte-order mark", "sed -i"]);
    let switch = plan_switch(&machine.host(), &machine.target);
    assert!(matches!(switch, Switch::ByHand { .. }), "{switch:?}");
    none(&machine.with(STATUS, &package("docker-ce", "5:23.0.1-1")));
}

#[test]
fn a_word_that_is_no_flag_keeps_docker_from_starting() {
    let machine = Machine::new()
        .with(
            UNIT,
            "[Service]\nEnvironmentFile=/etc/sysconfig/docker\nExecStart=/usr/bin/dockerd $OPTIONS\n",
        )
        .with(
            "/etc/sysconfig/docker",
            "OPTIONS=\"--debug\"\nOPTIONS=\"${OPTIONS} --storage-opt dm.basesize=10G\"\n",
        );
    one_of(
        &machine,
        &[
            "no-flag",
            "/etc/sysconfig/docker, line 2: ${OPTIONS} is not a flag",
            "systemd expands no variables",
        ],
    );
    assert!(machine.outlook().is_refusal());
}

#[test]
fn options_that_the_file_system_does_not_know_are_odd() {
    for (option, why) in [
        ("dm.mountopt=nouuid", "nouuid is no mount option of ext4"),
        (
            "dm.mountopt=noatime,nodiscrd",
            "nodiscrd is no mount option",
        ),
        ("dm.mkfsarg=-k", "-k is no option of mkfs.ext4"),
        ("dm.mkfsarg=--nodiscard", "--nodiscard is no option"),
    ] {
        one(&with_option(option), &["option-odd", why]);
    }
    for option in [
        "dm.mountopt=noatime,barrier=0,data=writeback",
        "dm.mountopt=rw",
        "dm.mkfsarg=-O ^has_journal",
    ] {
        none(&with_option(option));
    }
}

#[test]
fn kernels_without_thin_pools_or_loop_devices_are_named() {
    let thin = "kernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-mod.ko.xz\n";
    let dep = |kernel: &str| format!("/lib/modules/{kernel}/modules.dep");
    let builtin = |kernel: &str| format!("/lib/modules/{kernel}/modules.builtin");
    let all = || {
        Machine::new()
            .with(&dep("3.16"), thin)
            .with(&builtin("3.16"), "kernel/drivers/block/loop.ko\n")
    };
    none(&all());
    let other = all().with(&dep("4.4"), "kernel/drivers/md/dm-thin-pools.ko:\n");
    one(
        &other,
        &["no-thin-pool", "/lib/modules/4.4", "boot another"],
    );
    assert!(!other.outlook().is_refusal());
    let lone = Machine::new().with(&dep("4.4"), "");
    one(&lone, &["no-thin-pool", "/lib/modules/4.4", "dm-thin-pool"]);
    assert!(lone.outlook().is_refusal());
    // Loop devices matter only if the pool is in files.
    let mut in_files = Machine::new().with(&dep("4.4"), thin);
    none(&in_files);
    in_files.target.files = Some(LoopFiles {
        data: Bytes::gib(100),
        metadata: Bytes::gib(2),
        disk_free: None,
    });
    one(&in_files, &["no-loop", "/lib/modules/4.4"]);
}

#[test]
fn device_names_that_do_not_last_are_named() {
    let with = |option: &str| {
        let pool = [option, "dm.metadatadev=/dev/disk/by-id/b"];
        let config = serde_json::json!({"storage-driver": "devicemapper", "storage-opts": pool});
        Machine::new()
            .with(CONFIG, &config.to_string())
            .wants(&pool)
    };
    for device in ["/dev/sdb", "/dev/loop7", "/dev/nvme0n1p1", "/dev/dm-3"] {
        one(
            &with(&format!("dm.datadev={device}")),
            &["device-name", device, "/dev/disk/by-id"],
        );
    }
    for device in ["/dev/mapper/vg-data", "/dev/vg/data", "/dev/disk/by-uuid/x"] {
        none(&with(&format!("dm.datadev={device}")));
    }
}

#[test]
fn a_pool_of_lvm_needs_the_check_that_its_configuration_names() {
    let pool = "dm.thinpooldev=/dev/mapper/docker-thinpool";
    let with = |text: &str| {
        with_option(pool)
            .wants(&[pool])
            .with("/etc/lvm/lvm.conf", text)
    };
    let named = "global {\n\tthin_check_executable = \"/opt/thin_check\"\n}\n";
    one(
        &with(named),
        &["no-thin-check", "lvm.conf, line 2", "/opt/thin_check"],
    );
    none(&with(named).with("/opt/thin_check", ""));
    none(&with("global {\n\tthin_check_executable = \"\"\n}\n"));
    let unnamed = "global {\n\t# thin_check_executable = \"/opt/x\"\n}\n";
    one(&with(unnamed), &["no-thin-check", "/usr/sbin/thin_check"]);
    none(&with(unnamed).with("/sbin/thin_check", ""));
    // A pool in files is no business of LVM.
    none(&Machine::new().with("/etc/lvm/lvm.conf", named));
}

#[test]
fn a_node_of_a_swarm_is_drained_first() {
    let machine = Machine::new()
        .with("/docker/swarm/docker-state.json", "{}")
        .with("/etc/hostname", "worker 3\n");
    one(
        &machine,
        &[
            "swarm-node",
            "docker node update --availability drain 'worker 3'",
        ],
    );
    fs::remove_file(machine.at("/docker/swarm/docker-state.json")).unwrap();
    none(&machine);
}

#[test]
fn what_docker_storage_setup_writes_is_not_the_place_for_a_setting() {
    let machine = || {
        Machine::new().without(CONFIG).with(UNIT, CENTOS_UNIT).with(
            "/etc/sysconfig/docker-storage",
            "DOCKER_STORAGE_OPTIONS=\"--storage-driver devicemapper\"\n",
        )
    };
    none(&machine());
    let setup = machine().with("/etc/sysconfig/docker-storage-setup", "VG=docker\n");
    one(
        &setup,
        &[
            "storage-setup",
            "/etc/sysconfig/docker-storage-setup",
            "systemctl mask docker-storage-setup.service",
        ],
    );
    let aufs = setup.with(
        "/etc/sysconfig/docker-storage",
        "DOCKER_STORAGE_OPTIONS=\"--storage-driver aufs\"\n",
    );
    let Switch::ByHand { lines } = plan_switch(&aufs.host(), &aufs.target) else {
        panic!("nothing by hand");
    };
    assert!(
        lines[0].contains("systemctl mask docker-storage-setup.service"),
        "{lines:#?}"
    );
    // Once it is masked it does nothing.
    fs::create_dir_all(aufs.at("/etc/systemd/system")).unwrap();
    std::os::unix::fs::symlink(
        "/dev/null",
        aufs.at("/etc/systemd/system/docker-storage-setup.service"),
    )
    .unwrap();
    one(&aufs, &["other-driver"]);
}
