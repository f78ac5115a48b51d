//! What starts Docker is found on every kind of host, or said to be unknown.

use aufs2dm::daemon::config::pid_files;
use aufs2dm::daemon::first_start::{Switch, lines_by_hand, plan_switch, settings_file};

use super::{GOOD_CONFIG, Machine};

const CONFIG: &str = "/etc/docker/daemon.json";
const UNIT: &str = "/lib/systemd/system/docker.service";

/// A host on which nothing starts Docker.
fn bare() -> Machine {
    Machine::new().without(UNIT).without(CONFIG)
}

/// The same, with an init other than systemd.
fn without_systemd() -> Machine {
    bare().with("/sbin/init", "")
}

/// Fails unless the change for this host is made by hand, in a line with all of these words, and no finding says that
/// what starts Docker is unknown.
#[track_caller]
fn by_hand(machine: &Machine, words: &[&str]) {
    let findings = machine.findings();
    let is_unknown = |one: &String| one.starts_with("service-unknown");
    assert!(!findings.iter().any(is_unknown), "{findings:#?}");
    let lines: Vec<_> = lines_by_hand(&machine.host(), &machine.target)
        .iter()
        .map(|line| machine.shorten(line))
        .collect();
    let has_all = |line: &String| words.iter().all(|word| line.contains(word));
    assert!(
        lines.iter().any(has_all),
        "{words:?} in {lines:#?} {findings:#?}"
    );
}

/// Fails unless a warning says that what starts Docker is unknown, with these words, and nothing names a file to edit.
#[track_caller]
fn unknown(machine: &Machine, words: &[&str]) {
    let findings = machine.findings();
    let is_told = |one: &&String| one.starts_with("service-unknown");
    let finding = findings.iter().find(is_told);
    let finding = finding.unwrap_or_else(|| panic!("{findings:#?}"));
    for word in words.iter().chain(&["look at the command line of dockerd"]) {
        assert!(finding.contains(word), "{word:?} in {finding}");
    }
    assert!(
        !findings.iter().any(|one| one.contains("daemon.json")),
        "{findings:#?}"
    );
    assert_eq!(settings_file(&machine.host()), None);
    let switch = plan_switch(&machine.host(), &machine.target);
    assert!(matches!(switch, Switch::ByHand { .. }), "{switch:?}");
}

#[test]
fn a_host_that_shows_nothing_is_unknown_and_no_file_is_named() {
    unknown(&bare(), &["nothing on this host shows what starts Docker"]);
    unknown(&without_systemd(), &["nothing on this host"]);
    let machine = bare().wants(&["dm.thinpooldev=/dev/mapper/p"]);
    let lines = lines_by_hand(&machine.host(), &machine.target).join("\n");
    assert!(
        lines.contains("--storage-driver devicemapper --storage-opt dm.thinpooldev=/dev/mapper/p"),
        "{lines}"
    );
}

#[test]
fn a_settings_file_alone_shows_no_start() {
    let machine = bare().with(CONFIG, "{}");
    assert_eq!(settings_file(&machine.host()), None);
    let switch = plan_switch(&machine.host(), &machine.target);
    assert!(matches!(switch, Switch::ByHand { .. }), "{switch:?}");
}

#[test]
fn units_of_any_name_are_found_by_their_command() {
    let path = "/etc/systemd/system/docker-default.service";
    by_hand(
        &bare().with(
            path,
            "[Service]\nExecStart=/usr/bin/dockerd --pidfile=/run/d.pid --storage-driver=aufs\n",
        ),
        &[path, "line 2", "--storage-driver=devicemapper"],
    );
    // Without a word of Docker in it.
    let engine = bare()
        .with(
            "/etc/systemd/system/engine.service",
            "[Service]\nExecStart=/opt/start-engine\n",
        )
        .with("/opt/start-engine", "#!/bin/sh\nexec dockerd -s aufs\n");
    by_hand(&engine, &["/opt/start-engine, line 2", "`-s aufs`"]);
    // One that reads daemon.json.
    let plain = bare().with(path, "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n");
    assert!(
        settings_file(&plain.host())
            .unwrap()
            .ends_with("etc/docker/daemon.json")
    );
    // Docker's own comes first.
    let both = plain.with(UNIT, "[Service]\nExecStart=/usr/bin/dockerd -s aufs\n");
    by_hand(&both, &["/lib/systemd/system/docker.service, line 2"]);
}

#[test]
fn of_several_units_the_one_that_is_enabled_counts() {
    let unit = |name: &str| format!("/etc/systemd/system/docker-{name}.service");
    let text = |driver: &str| format!("[Service]\nExecStart=/usr/bin/dockerd -s {driver}\n");
    let machine = bare()
        .with(&unit("a"), &text("aufs"))
        .with(&unit("b"), &text("zfs"));
    unknown(&machine, &["docker-a.service", "docker-b.service"]);
    let machine = machine.with(
        "/etc/systemd/system/multi-user.target.wants/docker-b.service",
        "",
    );
    by_hand(&machine, &["docker-b.service, line 2", "`-s zfs`"]);
}

#[test]
fn what_is_no_daemon_is_no_start() {
    for command in [
        "/usr/bin/docker start -a web",
        "/usr/bin/docker run -d --name web nginx",
        "/usr/bin/docker-cleanup dockerd",
        "/bin/sh -c 'pidof dockerd && command -v dockerd'",
        "/usr/bin/dockerd --version",
        "/usr/sbin/start-stop-daemon --stop --exec /usr/bin/dockerd",
    ] {
        let text = format!("[Service]\nExecStart={command}\n");
        unknown(
            &bare().with("/etc/systemd/system/docker-web.service", &text),
            &["nothing on this host"],
        );
    }
}

#[test]
fn wrappers_are_followed_to_the_daemon() {
    let unit = |command: &str| {
        let text = format!(
            "[Service]\nEnvironment=DRIVER=aufs\nEnvironment=\"OPTS=-D -s aufs\"\nExecStart={command}\n"
        );
        Machine::new().without(CONFIG).with(UNIT, &text)
    };
    for command in [
        "/bin/sh -c \"exec dockerd -s aufs\"",
        "/bin/sh -c 'exec dockerd -H fd:// $OPTS 2>&1 | /usr/bin/logger'",
        "/bin/bash -ec 'ulimit -n 1; /usr/bin/docker-current daemon $OPTS'",
        "/bin/sh -c 'dockerd \"$@\"' sh -s aufs",
        "/usr/bin/env A=b dockerd -s aufs",
        "/usr/bin/nice -n 5 /usr/bin/dockerd --storage-driver ${DRIVER}",
        "/usr/bin/nsenter -t 1 -m -- /bin/sh -c 'dockerd -s ${DRIVER}'",
        "@/usr/bin/docker dockerd daemon -s aufs",
        "/usr/bin/docker -d -D -s aufs",
    ] {
        by_hand(
            &unit(command),
            &["docker.service, line ", "aufs", "devicemapper"],
        );
    }
    for script in [
        "#!/bin/sh\nset -e\n. /etc/dockerenv\nexec /usr/bin/dockerd $MY_OPTS \"$@\"\n",
        "#!/bin/bash\n[ -r /etc/dockerenv ] && source /etc/dockerenv\nARGS=\"-D ${MY_OPTS}\"\ndockerd ${ARGS} &>>/var/log/d\n",
        "#!/bin/sh\nset -- dockerd\nMY_OPTS=${NONE:-}\n. /etc/dockerenv; exec \"$@\" $MY_OPTS\n",
    ] {
        let machine = unit("/usr/local/bin/start-docker --debug")
            .with("/usr/local/bin/start-docker", script)
            .with("/etc/dockerenv", "# x\nMY_OPTS=\"--icc=false -s aufs\"\n");
        by_hand(&machine, &["/etc/dockerenv, line 2: replace `-s aufs`"]);
    }
    // The arguments of the unit, through a script.
    let passed = unit("/usr/lib/coreos/dockerd daemon --storage-driver=aufs").with(
        "/usr/lib/coreos/dockerd",
        "#!/bin/bash\nexec docker \"$@\" --selinux-enabled\n",
    );
    by_hand(
        &passed,
        &["docker.service, line 4", "--storage-driver=aufs"],
    );
}

#[test]
fn a_wrapper_that_cannot_be_followed_is_unknown() {
    let unit = |command: &str| {
        let text = format!("[Service]\nExecStart={command}\n");
        Machine::new().without(CONFIG).with(UNIT, &text)
    };
    unknown(
        &unit("/opt/bin/engine -s aufs"),
        &["docker.service, line 2: starts /opt/bin/engine"],
    );
    let binary = unit("/opt/bin/engine").with("/opt/bin/engine", "\x7fELF dockerd");
    unknown(&binary, &["/opt/bin/engine"]);
    let python = unit("/opt/bin/engine").with("/opt/bin/engine", "#!/usr/bin/python\nimport os\n");
    unknown(&python, &["/opt/bin/engine"]);
    // Scripts that start each other without end.
    let circle = unit("/opt/a")
        .with("/opt/a", "#!/bin/sh\n. /opt/b\n/opt/b\n")
        .with("/opt/b", "#!/bin/sh\n. /opt/a\n. /opt/b\n/opt/a\n");
    unknown(&circle, &["/opt/a"]);
}

#[test]
fn upstart_reads_its_defaults() {
    let job = "description \"Docker daemon\"\nlimit nofile 524288 1048576\nrespawn\n\nscript\n\t# modify these in \
               /etc/default/$UPSTART_JOB\n\tDOCKER=/usr/bin/docker\n\tDOCKER_OPTS=\n\tif [ -f \
               /etc/default/$UPSTART_JOB ]; then\n\t\t. /etc/default/$UPSTART_JOB\n\tfi\n\texec \"$DOCKER\" daemon \
               $DOCKER_OPTS\nend script\n\npost-start script\n\tDOCKER_OPTS=\n\tif ! printf \"%s\" \"$DOCKER_OPTS\" | \
               grep -qE -e '-H'; then\n\t\texit 0\n\tfi\nend script\n";
    let machine = without_systemd().with("/etc/init/docker.conf", job).with(
        "/etc/default/docker",
        "#DOCKER_OPTS=\"-s zfs\"\nDOCKER_OPTS=\"-s aufs\"\n",
    );
    by_hand(
        &machine,
        &["/etc/default/docker, line 2: replace `-s aufs`"],
    );
    // The job itself.
    let own = without_systemd().with("/etc/init/docker.conf", "exec dockerd -s aufs\n");
    by_hand(&own, &["/etc/init/docker.conf, line 1"]);
    // With systemd as init it does nothing.
    let idle = bare()
        .with("/lib/systemd/systemd", "")
        .with("/etc/init/docker.conf", "exec dockerd -s aufs\n");
    std::fs::create_dir_all(idle.at("/sbin")).unwrap();
    std::os::unix::fs::symlink("/lib/systemd/systemd", idle.at("/sbin/init")).unwrap();
    unknown(&idle, &["nothing on this host"]);
}

#[test]
fn system_v_scripts_read_their_settings() {
    let debian = "#!/bin/sh\nBASE=docker\nDOCKERD=/usr/bin/dockerd\nDOCKER_PIDFILE=/var/run/$BASE.pid\nDOCKER_OPTS=\nif [ -f \
                  /etc/default/$BASE ]; then\n\t. /etc/default/$BASE\nfi\ncase \"$1\" in\n\tstart)\n\t\tstart-stop-daemon \
                  --start --background --exec \"$DOCKERD\" --pidfile x --make-pidfile -- -p \"$DOCKER_PIDFILE\" \
                  $DOCKER_OPTS >> log 2>&1\n\t\t;;\n\tstop)\n\t\tstart-stop-daemon --stop --pidfile x\n\t\t;;\nesac\n";
    let machine = without_systemd().with("/etc/init.d/docker", debian).with(
        "/etc/default/docker",
        "DOCKER_OPTS=\"--storage-driver aufs\"\n",
    );
    by_hand(
        &machine,
        &["/etc/default/docker, line 1", "--storage-driver aufs"],
    );
    let red_hat = "#!/bin/sh\nprog=\"docker\"\nexec=\"/usr/bin/$prog\"\n[ -e /etc/sysconfig/$prog ] && . \
                   /etc/sysconfig/$prog\n[ -e /etc/sysconfig/$prog-storage ] && . /etc/sysconfig/$prog-storage\nstart() \
                   {\n    \"$unshare\" -m -- $exec -d $other_args $DOCKER_STORAGE_OPTIONS &>> $logfile &\n}\n";
    let machine = without_systemd()
        .with(
            "/etc/rc.d/init.d/docker",
            &red_hat.replace("$unshare", "/usr/bin/unshare"),
        )
        .with("/etc/sysconfig/docker", "other_args='--selinux-enabled'\n")
        .with(
            "/etc/sysconfig/docker-storage",
            "\nDOCKER_STORAGE_OPTIONS=-saufs\n",
        );
    by_hand(
        &machine,
        &["/etc/sysconfig/docker-storage, line 2", "-saufs"],
    );
    // A variable that the script does not use has no effect.
    let other = without_systemd()
        .with("/etc/init.d/docker", debian)
        .with("/etc/default/docker", "OPTIONS='-s aufs'\n");
    let findings = other.findings();
    assert!(
        findings.iter().any(|one| one.starts_with("not-read")),
        "{findings:#?}"
    );
}

#[test]
fn openrc_reads_conf_d() {
    let script = "#!/sbin/openrc-run\n# x\ncommand=\"${DOCKERD_BINARY:-/usr/bin/dockerd}\"\npidfile=\"${DOCKER_PIDFILE:-/run/${RC_SVCNAME}.pid}\"\n\
                  command_args=\"-p \\\"${pidfile}\\\" ${DOCKER_OPTS}\"\nstart_stop_daemon_args=\"--background\"\n";
    let old = "#!/sbin/runscript\nstart() {\n\tstart-stop-daemon --start --background \\\n\t\t--exec \
               /usr/bin/docker -- -d -p /run/d.pid \\\n\t\t${DOCKER_OPTS}\n}\n";
    for script in [script, old] {
        let machine = without_systemd().with("/etc/init.d/docker", script).with(
            "/etc/conf.d/docker",
            "# any\nDOCKER_OPTS=\"--storage-driver=aufs\"\n",
        );
        by_hand(
            &machine,
            &["/etc/conf.d/docker, line 2: replace `--storage-driver=aufs`"],
        );
    }
}

#[test]
fn other_scripts_are_found_by_what_they_run() {
    for (path, text) in [
        (
            "/etc/rc.local",
            "#!/bin/sh -e\n\nnohup /usr/bin/dockerd -s aufs >/dev/null 2>&1 &\nexit 0\n",
        ),
        (
            "/etc/sv/docker/run",
            "#!/bin/sh\n\nexec chpst -o 1 dockerd -s aufs 2>&1\n",
        ),
        (
            "/etc/init.d/docker-engine",
            "#!/bin/sh\nstart() {\n  daemon /usr/bin/docker daemon -s aufs\n}\n",
        ),
        (
            "/etc/supervisor/conf.d/docker.conf",
            "[program:docker]\n\ncommand=/usr/bin/dockerd -s aufs\n",
        ),
    ] {
        by_hand(
            &without_systemd().with(path, text),
            &[path, "line 3", "`-s aufs`"],
        );
    }
}

#[test]
fn boot2docker_keeps_flags_in_its_profile() {
    let machine = without_systemd().with(
        "/var/lib/boot2docker/profile",
        "\nEXTRA_ARGS='\n--label provider=virtualbox\n--storage-driver aufs\n'\nCACERT=/x\n",
    );
    by_hand(
        &machine,
        &[
            "/var/lib/boot2docker/profile",
            "--storage-driver devicemapper",
        ],
    );
    let old = without_systemd().with("/var/lib/boot2docker/profile", "DOCKER_STORAGE=aufs\n");
    by_hand(&old, &["profile, line 1", "aufs"]);
    // daemon.json is in memory there.
    let unnamed = without_systemd()
        .with("/var/lib/boot2docker/profile", "DOCKER_STORAGE=auto\n")
        .wants(&["dm.thinpooldev=/dev/mapper/p"]);
    by_hand(
        &unnamed,
        &["EXTRA_ARGS in /var/lib/boot2docker/profile: add `--storage-driver devicemapper`"],
    );
    by_hand(
        &unnamed,
        &["add `--storage-opt dm.thinpooldev=/dev/mapper/p`"],
    );
    assert_eq!(settings_file(&unnamed.host()), None);
}

#[test]
fn rancheros_keeps_flags_in_its_cloud_config() {
    for text in [
        "hostname: a\nrancher:\n  docker:\n    storage_driver: aufs\n  network: {}\n",
        "rancher:\n  docker:\n    args:\n    - daemon\n    - --storage-driver=aufs\n",
        "rancher:\n  docker:\n    extra_args: ['-s', 'aufs']\n",
        "rancher:\n  docker:\n    extra_args:\n      - \"-s\"\n      - aufs\n    tls: true\n",
    ] {
        let machine = without_systemd().with("/var/lib/rancher/conf/cloud-config.yml", text);
        by_hand(
            &machine,
            &["cloud-config.yml, line", "aufs", "devicemapper"],
        );
    }
    let other = without_systemd().with(
        "/var/lib/rancher/conf/cloud-config.yml",
        "rancher:\n  system_docker:\n    storage_driver: overlay\n",
    );
    by_hand(
        &other,
        &["ros config set rancher.docker.storage_driver devicemapper"],
    );
}

#[test]
fn a_snap_and_a_storage_box_have_settings_files_of_their_own() {
    let snap = || {
        bare().with(
            "/etc/systemd/system/snap.docker.dockerd.service",
            "[Service]\nExecStart=/usr/bin/snap run docker.dockerd\n",
        )
    };
    let config = "/var/snap/docker/current/config/daemon.json";
    let machine = snap().with(config, "{\"storage-driver\": \"aufs\"}");
    let Switch::Edit(edit) = plan_switch(&machine.host(), &machine.target) else {
        panic!("no edit");
    };
    assert!(edit.path.ends_with(&config[1..]), "{edit:?}");
    assert!(
        settings_file(&snap().host())
            .unwrap()
            .ends_with(&config[1..])
    );
    let findings = machine.findings();
    assert!(
        findings
            .iter()
            .any(|one| one.contains("/var/snap/docker/common/var-lib-docker")),
        "{findings:#?}"
    );
    for package in ["Docker", "ContainerManager"] {
        let config = format!("/var/packages/{package}/etc/dockerd.json");
        let machine = without_systemd().with(
            &config,
            "{\"storage-driver\": \"aufs\", \"pidfile\": \"/run/s.pid\"}",
        );
        let Switch::Edit(edit) = plan_switch(&machine.host(), &machine.target) else {
            panic!("no edit");
        };
        assert!(edit.path.ends_with(&config[1..]), "{edit:?}");
        let pid = pid_files(&machine.at("/"));
        assert!(pid.contains(&machine.at("/run/s.pid")), "{pid:?}");
    }
}

#[test]
fn settings_in_order_on_any_host_need_nothing() {
    for machine in [
        without_systemd().with("/etc/init/docker.conf", "exec dockerd -s devicemapper\n"),
        without_systemd().with(
            "/var/lib/boot2docker/profile",
            "EXTRA_ARGS='-s devicemapper'\n",
        ),
        Machine::new()
            .with(UNIT, "[Service]\nExecStart=/bin/sh -c 'exec dockerd'\n")
            .with(CONFIG, GOOD_CONFIG),
    ] {
        let switch = plan_switch(&machine.host(), &machine.target);
        assert_eq!(switch, Switch::Nothing, "{:#?}", machine.findings());
    }
}

#[test]
fn hostile_scripts_are_read_to_an_end() {
    let deep = format!(
        "#!/bin/sh\nA={}{}\n",
        "${B:-".repeat(5000),
        "}".repeat(5000)
    );
    let grows =
        "#!/bin/sh\nA=xxxxxxxxxxxxxxxx\n".to_owned() + &"A=$A$A\n".repeat(60) + "dockerd $A $A\n";
    for text in [
        &*deep,
        &grows,
        "#!/bin/sh\n$(",
        "#!/bin/sh\ncat <<EOF\ndockerd -s aufs",
        "#!/bin/sh\nexec dockerd '",
        "#!/bin/sh\n${",
        "#!/bin/sh\n`\\",
        "#!/bin/sh\n<",
    ] {
        let machine = without_systemd().with("/etc/init.d/docker", text);
        machine.findings();
        let unit = format!(
            "[Service]\nExecStart=/bin/sh -c '{}'\n",
            text.replace('\n', ";")
        );
        Machine::new().with(UNIT, &unit).findings();
    }
}
