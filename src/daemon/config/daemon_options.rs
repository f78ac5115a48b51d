//! The options of the daemon: as flags of its command line, and as keys of `daemon.json`.
//!
//! Source: the flags of `daemon/config*.go`, `cmd/dockerd/config*.go` and `cmd/dockerd/options.go` in moby's tags from
//! v1.10.3 to v24.0.9; since v17.09 `daemon/config/config.go`, `skipValidateOptions`, for keys that are no flags.
//! Distributions have added some, which are known without a release.

use crate::devicemapper::Version;

/// An option.
#[derive(Clone, Copy, Debug)]
pub(super) struct DaemonOption {
    /// Its long flag, without the dashes.
    pub(super) name: &'static str,
    /// Its letter, if it has one.
    letter: Option<char>,
    /// Whether the flag is followed by a value.
    takes_value: bool,
    /// Its key in `daemon.json`, if that is not the flag's name.
    key: Option<&'static str>,
    /// The first release that has it, if that is later than 1.10.
    since: Option<Version>,
    /// The first release that no longer has it.
    until: Option<Version>,
}

impl DaemonOption {
    const fn short(mut self, letter: char) -> Self {
        self.letter = Some(letter);
        self
    }

    const fn key(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    const fn since(mut self, major: u16, minor: u16) -> Self {
        self.since = Some(Version::new(major, minor));
        self
    }

    const fn until(mut self, major: u16, minor: u16) -> Self {
        self.until = Some(Version::new(major, minor));
        self
    }

    fn is_in(&self, version: Version) -> bool {
        self.since.is_none_or(|since| version >= since)
            && self.until.is_none_or(|until| version < until)
    }
}

/// One whose flag takes a value.
const fn value(name: &'static str) -> DaemonOption {
    DaemonOption {
        name,
        letter: None,
        takes_value: true,
        key: None,
        since: None,
        until: None,
    }
}

/// One that is on or off.
const fn switch(name: &'static str) -> DaemonOption {
    DaemonOption {
        takes_value: false,
        ..value(name)
    }
}

/// Every option of the daemon on Linux.
#[rustfmt::skip]
const OPTIONS: [DaemonOption; 91] = [
    value("add-runtime").key("runtimes").since(1, 12),
    value("allow-nondistributable-artifacts").since(17, 6),
    value("api-cors-header"),
    switch("api-enable-cors").until(17, 9),
    value("authorization-plugin").key("authorization-plugins"),
    value("bip"),
    value("bridge").short('b'),
    value("cgroup-parent"),
    value("cluster-advertise").until(24, 0),
    value("cluster-store").until(24, 0),
    value("cluster-store-opt").key("cluster-store-opts").until(24, 0),
    value("config-file"),
    value("containerd").since(1, 11),
    value("containerd-namespace").since(19, 3),
    value("containerd-plugins-namespace").since(19, 3),
    value("cpu-rt-period").since(1, 13),
    value("cpu-rt-runtime").since(1, 13),
    switch("cri-containerd").since(18, 9),
    value("data-root").since(17, 5),
    switch("debug").short('D'),
    value("default-address-pool").key("default-address-pools").since(18, 6),
    value("default-cgroupns-mode").since(20, 10),
    value("default-gateway"),
    value("default-gateway-v6"),
    value("default-ipc-mode").since(17, 9),
    value("default-network-opt").key("default-network-opts").since(24, 0),
    value("default-runtime").since(1, 12),
    value("default-shm-size").since(17, 4),
    value("default-ulimit").key("default-ulimits"),
    value("deprecated-key-path").since(17, 6).until(19, 3),
    switch("disable-legacy-registry").until(19, 3),
    value("dns"),
    value("dns-opt").key("dns-opts"),
    value("dns-search"),
    value("exec-opt").key("exec-opts"),
    value("exec-root"),
    switch("experimental").since(1, 13),
    value("fixed-cidr"),
    value("fixed-cidr-v6"),
    value("graph").short('g').until(24, 0),
    value("group").short('G'),
    value("host").short('H').key("hosts"),
    value("host-gateway-ip").since(23, 0),
    value("http-proxy").since(23, 0),
    value("https-proxy").since(23, 0),
    switch("icc"),
    switch("init").since(1, 13),
    value("init-path").since(1, 13),
    value("insecure-registry").key("insecure-registries"),
    value("ip"),
    switch("ip-forward"),
    switch("ip-masq"),
    switch("ip6tables").since(20, 10),
    switch("iptables"),
    switch("ipv6"),
    value("label").key("labels"),
    switch("live-restore").since(1, 12),
    value("log-driver"),
    value("log-level").short('l'),
    value("log-opt").key("log-opts"),
    value("max-concurrent-downloads").since(1, 12),
    value("max-concurrent-uploads").since(1, 12),
    value("max-download-attempts").since(20, 10),
    value("metrics-addr").since(1, 13),
    value("mtu"),
    value("network-control-plane-mtu").since(17, 9),
    value("network-diagnostic-port").since(17, 12),
    switch("no-new-privileges").since(17, 6),
    value("no-proxy").since(23, 0),
    value("node-generic-resource").key("node-generic-resources").since(17, 12),
    value("oom-score-adjust").since(1, 12),
    value("pidfile").short('p'),
    switch("raw-logs").since(1, 11),
    value("registry-mirror").key("registry-mirrors"),
    switch("restart").short('r'),
    switch("rootless").since(19, 3),
    value("seccomp-profile").since(1, 13),
    switch("selinux-enabled"),
    value("shutdown-timeout").since(1, 13),
    value("storage-driver").short('s'),
    value("storage-opt").key("storage-opts"),
    value("swarm-default-advertise-addr").since(1, 12),
    switch("tls"),
    value("tlscacert"),
    value("tlscert"),
    value("tlskey"),
    switch("tlsverify"),
    switch("userland-proxy"),
    value("userland-proxy-path").since(1, 13),
    value("userns-remap"),
    switch("validate").since(23, 0),
];

/// Keys of `daemon.json` that are no flags, and keys and flags that distributions have added.
const OTHERS: [DaemonOption; 11] = [
    value("add-registry"),
    value("block-registry"),
    switch("builder").since(17, 9),
    value("deprecated-key-path").since(18, 9),
    switch("enable-secrets"),
    switch("features").since(17, 9),
    switch("help").short('h'),
    value("max-log-file"),
    value("registries"),
    switch("signature-verification"),
    switch("version").short('v'),
];

/// Keys whose value is an object of its own. Docker takes the members of any other object for keys.
const OBJECTS: [&str; 7] = [
    "builder",
    "cluster-store-opts",
    "default-network-opts",
    "default-ulimits",
    "features",
    "log-opts",
    "runtimes",
];

/// What Docker makes of a key in `daemon.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum KeyMeaning {
    /// It is an option.
    Option,
    /// It is the name of a flag whose key is another one: Docker accepts and ignores it.
    Ignored {
        /// The key of that option.
        key: &'static str,
    },
    /// Docker does not start with it.
    Unknown {
        /// The key that it looks like.
        similar: Option<&'static str>,
    },
    /// This release does not have the option yet, or any more, and does not start with it.
    OtherRelease,
}

fn all() -> impl Iterator<Item = &'static DaemonOption> {
    OPTIONS.iter().chain(&OTHERS)
}

/// What Docker makes of a key. Source: `findConfigurationConflicts` in `daemon/config/config.go`.
pub(super) fn key_meaning(key: &str, version: Option<Version>) -> KeyMeaning {
    let option = all().find(|one| one.key == Some(key) || one.name == key);
    match (option, version) {
        (None, _) => KeyMeaning::Unknown {
            similar: similar_key(key),
        },
        (Some(option), Some(version)) if !option.is_in(version) => KeyMeaning::OtherRelease,
        (Some(DaemonOption { key: Some(own), .. }), _) if *own != key => {
            KeyMeaning::Ignored { key: own }
        }
        _ => KeyMeaning::Option,
    }
}

/// Whether an object with this key has options of its own, and not keys of Docker.
pub(super) fn is_object(key: &str) -> bool {
    OBJECTS.contains(&key)
}

/// Whether a flag, as it is written without a value, takes the next word as its value; `None` for an unknown one.
pub(super) fn takes_value(flag: &str) -> Option<bool> {
    if let Some(name) = flag.strip_prefix("--") {
        return all()
            .find(|one| one.name == name)
            .map(|one| one.takes_value);
    }
    // `-DH fd://`: the last letter decides, unless the value is in the same word.
    let letters: Vec<char> = flag.strip_prefix('-')?.chars().collect();
    let of = |letter: &char| all().find(|one| one.letter == Some(*letter));
    for (at, letter) in letters.iter().enumerate() {
        if of(letter)?.takes_value {
            return Some(at + 1 == letters.len());
        }
    }
    (!letters.is_empty()).then_some(false)
}

/// The key that was probably meant.
fn similar_key(key: &str) -> Option<&'static str> {
    let plain = key.to_ascii_lowercase().replace(['_', ' ', '.'], "-");
    let keys = || all().map(|one| one.key.unwrap_or(one.name));
    if let Some(option) = all().find(|one| one.name == plain || one.key == Some(&*plain)) {
        return Some(option.key.unwrap_or(option.name));
    }
    let distance = |known: &&str| edits(plain.as_bytes(), known.as_bytes());
    let nearest = keys().min_by_key(distance)?;
    // Short names differ from everything by little.
    (distance(&nearest) <= 2 && nearest.len() > 5).then_some(nearest)
}

/// The number of letters to insert, remove or replace (Levenshtein), up to what matters here.
fn edits(a: &[u8], b: &[u8]) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_release() {
        let old = Some(Version::new(1, 13));
        let new = Some(Version::new(24, 0));
        for (key, version, meaning) in [
            ("storage-driver", old, KeyMeaning::Option),
            ("storage-opts", None, KeyMeaning::Option),
            ("data-root", old, KeyMeaning::OtherRelease),
            ("data-root", new, KeyMeaning::Option),
            ("graph", new, KeyMeaning::OtherRelease),
            ("graph", old, KeyMeaning::Option),
            (
                "storage-opt",
                None,
                KeyMeaning::Ignored {
                    key: "storage-opts",
                },
            ),
            ("hosts", None, KeyMeaning::Option),
            ("host", None, KeyMeaning::Ignored { key: "hosts" }),
            ("features", new, KeyMeaning::Option),
            ("default-address-pools", new, KeyMeaning::Option),
        ] {
            assert_eq!(key_meaning(key, version), meaning, "{key} {version:?}");
        }
    }

    #[test]
    fn a_key_is_told_by_the_one_it_looks_like() {
        for (key, similar) in [
            ("storage-drivers", Some("storage-driver")),
            ("storage_driver", Some("storage-driver")),
            ("Storage-Driver", Some("storage-driver")),
            ("storage_opt", Some("storage-opts")),
            ("data_root", Some("data-root")),
            ("note", None),
            ("storage", None),
        ] {
            let meaning = key_meaning(key, None);
            assert_eq!(meaning, KeyMeaning::Unknown { similar }, "{key}");
        }
    }

    #[test]
    fn flags_take_values_as_docker_reads_them() {
        for (flag, takes) in [
            ("--storage-driver", Some(true)),
            ("-s", Some(true)),
            ("-saufs", Some(false)),
            ("-D", Some(false)),
            ("-DH", Some(true)),
            ("--debug", Some(false)),
            ("--storage-drive", None),
            ("-", None),
        ] {
            assert_eq!(takes_value(flag), takes, "{flag}");
        }
    }
}
