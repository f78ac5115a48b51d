//! The options of the devicemapper driver, and whether an option fits a converted root.
//!
//! Source: moby v20.10 `daemon/graphdriver/devmapper/deviceset.go`, `NewDeviceSet`. The releases are the first tags in
//! which the options appear.

use super::file_system_options::{is_mkfs_option, is_mount_option};
use super::target::Target;
use super::version::Version;
use crate::tree::escape;
use crate::units::Bytes;

/// An option's kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Size,
    Truth,
    /// A percentage; the `%` is required.
    Percent,
    /// A whole number from 0.
    Number,
    LogLevel,
    /// An option of the automatic LVM setup.
    DirectLvm,
}

/// Each option, its kind, and the first release that supports it.
const OPTIONS: [(&str, Kind, Version); 23] = [
    ("dm.basesize", Kind::Size, Version::new(0, 12)),
    ("dm.loopdatasize", Kind::Size, Version::new(0, 12)),
    ("dm.loopmetadatasize", Kind::Size, Version::new(0, 12)),
    ("dm.fs", Kind::Text, Version::new(0, 12)),
    ("dm.mkfsarg", Kind::Text, Version::new(0, 12)),
    ("dm.mountopt", Kind::Text, Version::new(0, 12)),
    ("dm.metadatadev", Kind::Text, Version::new(0, 12)),
    ("dm.datadev", Kind::Text, Version::new(0, 12)),
    ("dm.blkdiscard", Kind::Truth, Version::new(0, 12)),
    ("dm.blocksize", Kind::Size, Version::new(1, 2)),
    ("dm.thinpooldev", Kind::Text, Version::new(1, 4)),
    (
        "dm.override_udev_sync_check",
        Kind::Truth,
        Version::new(1, 7),
    ),
    ("dm.use_deferred_removal", Kind::Truth, Version::new(1, 7)),
    ("dm.use_deferred_deletion", Kind::Truth, Version::new(1, 9)),
    ("dm.min_free_space", Kind::Percent, Version::new(1, 11)),
    (
        "dm.xfs_nospace_max_retries",
        Kind::Number,
        Version::new(1, 13),
    ),
    ("dm.libdm_log_level", Kind::LogLevel, Version::new(17, 7)),
    ("dm.directlvm_device", Kind::DirectLvm, Version::new(17, 6)),
    (
        "dm.directlvm_device_force",
        Kind::DirectLvm,
        Version::new(17, 6),
    ),
    ("dm.thinp_percent", Kind::DirectLvm, Version::new(17, 6)),
    ("dm.thinp_metapercent", Kind::DirectLvm, Version::new(17, 6)),
    (
        "dm.thinp_autoextend_threshold",
        Kind::DirectLvm,
        Version::new(17, 6),
    ),
    (
        "dm.thinp_autoextend_percent",
        Kind::DirectLvm,
        Version::new(17, 6),
    ),
];

/// Docker's default for `dm.min_free_space`.
pub(super) const MIN_FREE_PERCENT: u64 = 10;

/// The first release in which deferred removal and deletion are on by default, if the kernel supports them.
const DEFERRED_BY_DEFAULT: Version = Version::new(17, 7);

/// Whether an option fits the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It fits.
    Fits,
    /// Docker starts with it, but it does not do what one might expect.
    Odd(String),
    /// With it, Docker does not start on the root.
    Refused(String),
}

/// Splits an option as the driver does.
pub(super) fn parse(option: &str) -> Option<(String, &str)> {
    let (key, value) = option.split_once('=')?;
    Some((key.trim().to_lowercase(), value.trim()))
}

/// Checks one option.
pub(crate) fn judge(option: &str, target: &Target, version: Option<Version>) -> Verdict {
    let refused = |why: String| Verdict::Refused(why);
    let Some((key, value)) = parse(option) else {
        return refused("is not key=value, so Docker does not start; remove it".to_owned());
    };
    let Some(&(_, kind, since)) = OPTIONS.iter().find(|(name, ..)| *name == key) else {
        return refused(match key.split_once('.') {
            Some((driver, _)) if driver != "dm" => format!(
                "belongs to {driver}: devicemapper does not know it and does not start; remove it"
            ),
            _ => "is unknown to devicemapper, which then does not start; remove it".to_owned(),
        });
    };
    if let Some(version) = version.filter(|version| *version < since) {
        return refused(format!(
            "came with Docker {since}, and the installed {version} does not start with it; remove it"
        ));
    }
    if let Err(wanted) = check_value(kind, value) {
        return refused(format!(
            "is not {wanted}, so Docker does not start; fix or remove it"
        ));
    }
    match &*key {
        "dm.basesize" => base_size(value, target),
        "dm.blocksize" => block_size(value, target),
        "dm.loopdatasize" => loop_size(value, target.files.map(|files| files.data)),
        "dm.loopmetadatasize" => loop_size(value, target.files.map(|files| files.metadata)),
        "dm.fs" => file_system(value, target),
        "dm.mountopt" => mount_options(value, target),
        "dm.mkfsarg" => mkfs_argument(value, target),
        "dm.thinpooldev" | "dm.datadev" | "dm.metadatadev" => device(&key, value, target),
        _ if kind == Kind::DirectLvm => refused(
            "makes Docker set up its own LVM pool and wipe the device that is named there; remove all dm.directlvm_* \
             and dm.thinp_* options"
                .to_owned(),
        ),
        _ => Verdict::Fits,
    }
}

/// The device that an option names as part of a pool; `None` for any other option.
pub(crate) fn device_of(option: &str) -> Option<&str> {
    let (key, value) = parse(option)?;
    let names_device = ["dm.thinpooldev", "dm.datadev", "dm.metadatadev"].contains(&&*key);
    names_device.then_some(value)
}

/// What is wrong with the combination of all options.
pub(crate) fn judge_all(options: &[&str], version: Option<Version>) -> Option<String> {
    let last = |key: &str| {
        let mut values = options.iter().filter_map(|option| parse(option));
        values
            .rfind(|(name, _)| name == key)
            .and_then(|(_, value)| truth(value))
    };
    let by_default = version.is_none_or(|version| version >= DEFERRED_BY_DEFAULT);
    let removal = last("dm.use_deferred_removal");
    let deletion = last("dm.use_deferred_deletion");
    match (removal, deletion) {
        (Some(false), None) if by_default => Some(
            "dm.use_deferred_removal=false: deferred deletion is on by default and needs deferred removal, so Docker \
             does not start; add dm.use_deferred_deletion=false"
                .to_owned(),
        ),
        (Some(false), Some(true)) => Some(
            "dm.use_deferred_deletion=true: conflicts with dm.use_deferred_removal=false, so Docker does not start; \
             make them agree"
                .to_owned(),
        ),
        (None, Some(true)) if !by_default => Some(
            "dm.use_deferred_deletion=true: Docker does not start with it alone; add dm.use_deferred_removal=true"
                .to_owned(),
        ),
        _ => None,
    }
}

/// The options that name the pool and are missing from those given.
pub(crate) fn missing(given: &[&str], target: &Target) -> Vec<String> {
    let wanted = target.storage_opts.iter();
    let is_given = |wanted: &&String| given.iter().any(|option| is_same(option, wanted));
    wanted.filter(|wanted| !is_given(wanted)).cloned().collect()
}

/// The last `dm.min_free_space` in percent, or the default.
pub(crate) fn min_free_percent(options: &[&str]) -> u64 {
    let values = options.iter().filter_map(|option| parse(option));
    values
        .filter(|(key, _)| key == "dm.min_free_space")
        .filter_map(|(_, value)| value.strip_suffix('%')?.parse().ok())
        .next_back()
        .unwrap_or(MIN_FREE_PERCENT)
}

/// Whether the options turn off the check for udev.
pub(crate) fn overrides_udev_check(options: &[&str]) -> bool {
    let mut values = options.iter().filter_map(|option| parse(option));
    values
        .rfind(|(key, _)| key == "dm.override_udev_sync_check")
        .is_some_and(|(_, value)| truth(value) == Some(true))
}

/// Whether two names mean the same device. Docker accepts the device-mapper name with or without its directory.
fn is_same(a: &str, b: &str) -> bool {
    let plain = |option: &str| {
        parse(option).map(|(key, value)| {
            let bare = value
                .strip_prefix("/dev/mapper/")
                .filter(|_| key == "dm.thinpooldev");
            let value = bare.unwrap_or(value).to_owned();
            (key, value)
        })
    };
    plain(a) == plain(b)
}

fn check_value(kind: Kind, value: &str) -> Result<(), &'static str> {
    let number = || {
        value
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| value.parse::<u64>().ok())
            .flatten()
    };
    match kind {
        Kind::Size if size(value).is_none() => Err("a size such as 10G"),
        Kind::Truth if truth(value).is_none() => Err("true or false"),
        Kind::Number if number().is_none() => Err("a whole number"),
        Kind::LogLevel if !number().is_some_and(|level| (2..=7).contains(&level)) => {
            Err("a level from 2 to 7")
        }
        Kind::Percent => {
            let number = value
                .strip_suffix('%')
                .and_then(|number| number.parse::<u32>().ok());
            match number {
                Some(0..100) => Ok(()),
                _ => Err("a percentage below 100 with a % sign, such as 10%"),
            }
        }
        _ => Ok(()),
    }
}

/// Parses a boolean like Go's `strconv.ParseBool`.
fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size in Docker's binary units. Source: docker/go-units `size.go`, `RAMInBytes`.
fn size(value: &str) -> Option<Bytes> {
    let digits = value
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(value.len());
    let (whole, rest) = value.split_at(digits);
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest
                .find(|letter: char| !letter.is_ascii_digit())
                .unwrap_or(rest.len());
            rest.split_at(end)
        }
        None => ("", rest),
    };
    if rest.starts_with('.') && fraction.is_empty() {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit.strip_suffix('i').unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // Nobody writes more than six digits.
    let fraction = &fraction[..fraction.len().min(6)];
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u64>().unwrap_or(0);
    let part = u64::try_from((u128::from(part) << shift) / u128::from(scale)).ok()?;
    whole.checked_add(part).map(Bytes)
}

fn base_size(value: &str, target: &Target) -> Verdict {
    let (given, ours) = (size(value).unwrap_or_default(), target.base_size);
    if given < ours {
        return Verdict::Refused(format!(
            "is less than the {} bytes of this root's devices, so Docker does not start; remove it",
            ours.0
        ));
    }
    if given > ours {
        return Verdict::Odd(format!(
            "is more than the {} bytes of this root's devices: Docker's first start enlarges the base device, which \
             applies to new images but to no existing layer; remove it unless that is intended",
            ours.0
        ));
    }
    Verdict::Fits
}

fn block_size(value: &str, target: &Target) -> Verdict {
    // Docker counts in whole sectors.
    let sectors = size(value).unwrap_or_default().0 >> 9;
    let is_given_pool = target
        .storage_opts
        .iter()
        .any(|option| option.starts_with("dm.thinpooldev="));
    if is_given_pool || sectors == target.data_block.0 >> 9 {
        return Verdict::Fits;
    }
    Verdict::Refused(format!(
        "is not this pool's block size of {} bytes, and the kernel refuses any other; remove it",
        target.data_block.0
    ))
}

fn loop_size(value: &str, file: Option<Bytes>) -> Verdict {
    let given = size(value).unwrap_or_default();
    match file {
        None => Verdict::Odd("has no effect, because the pool is not in loop files".to_owned()),
        Some(file) if given < file => Verdict::Odd(format!(
            "is less than the file's {} bytes; Docker leaves the file as it is and logs a warning",
            file.0
        )),
        Some(_) => Verdict::Fits,
    }
}

/// Docker gives these options to each mount of a layer.
fn mount_options(value: &str, target: &Target) -> Verdict {
    let mut options = value.split(',').filter(|option| !option.is_empty());
    match options.find(|option| !is_mount_option(option, target.file_system)) {
        None => Verdict::Fits,
        Some(option) => Verdict::Odd(format!(
            "{} is no mount option of {}: Docker starts, but can mount no layer, so no container starts; remove it",
            escape(option.as_bytes()),
            target.file_system
        )),
    }
}

/// Docker gives these arguments to mkfs when it makes a base device.
fn mkfs_argument(value: &str, target: &Target) -> Verdict {
    let mut words = value.split_whitespace();
    match words.find(|word| !is_mkfs_option(word, target.file_system)) {
        None => Verdict::Fits,
        Some(option) => Verdict::Odd(format!(
            "{} is no option of mkfs.{}: it has no effect on this root, whose base device exists, but Docker could make \
             no other one; remove it",
            escape(option.as_bytes()),
            target.file_system
        )),
    }
}

fn file_system(value: &str, target: &Target) -> Verdict {
    if value != "ext4" && value != "xfs" {
        return Verdict::Refused(
            "is neither ext4 nor xfs, so Docker does not start; remove it".to_owned(),
        );
    }
    if value == target.file_system.to_string() {
        return Verdict::Fits;
    }
    Verdict::Odd(format!(
        "is not this root's {}, which Docker continues to use, with a warning",
        target.file_system
    ))
}

fn device(key: &str, value: &str, target: &Target) -> Verdict {
    let option = format!("{key}={value}");
    if target
        .storage_opts
        .iter()
        .any(|ours| is_same(ours, &option))
    {
        return Verdict::Fits;
    }
    let ours = match &target.storage_opts[..] {
        [] => "loop files".to_owned(),
        opts => opts.join(", "),
    };
    Verdict::Refused(format!(
        "names a pool other than this root's ({ours}): Docker does not find the base device there and does not start; \
         remove it"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("10", Some(10)),
            ("10G", Some(10 << 30)),
            ("10gib", Some(10 << 30)),
            ("1.5 k", Some(1536)),
            ("0.5T", Some(1 << 39)),
            ("2p", Some(2 << 50)),
            ("", None),
            ("G", None),
            ("1.", None),
            ("-1", None),
            ("1X", None),
            ("99999999999999P", None),
        ] {
            assert_eq!(size(text), bytes.map(Bytes), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_option_is_judged(option in "(dm\\.[a-z_]{1,12}|dm.basesize|.{0,5})[=]?.{0,12}") {
            let target = Target {
                storage_opts: Vec::new(),
                base_size: Bytes::gib(10),
                data_block: Bytes(65536),
                file_system: crate::devicemapper::driver_files::FileSystem::Ext4,
                files: None,
                space: None,
            };
            judge(&option, &target, None);
            judge_all(&[&option], None);
            min_free_percent(&[&option]);
        }
    }
}
