//! The kernel's version, for features that cannot be found out by trying.

use std::ffi::{OsStr, OsString};

use nix::sys::utsname::uname;

/// The first version in which `syncfs` reports writes that failed since the file system was opened. Source: linux
/// commit 735e4ae5ba28 "vfs: track per-sb writeback errors and report them to syncfs".
const SYNCFS_TELLS_ERRORS: (u32, u32) = (5, 8);

/// The running kernel's release, such as `5.10.0-28-amd64`.
pub fn release() -> OsString {
    uname().map_or_else(|_| OsString::new(), |names| names.release().to_owned())
}

/// The major and minor number; `None` for a release that does not begin with two numbers, some unusual new one.
pub fn kernel_version() -> Option<(u32, u32)> {
    parse(&release())
}

/// Whether `syncfs` reports file data that could not be written.
pub fn syncfs_tells_errors() -> bool {
    kernel_version() >= Some(SYNCFS_TELLS_ERRORS)
}

/// Parses a release such as `3.10.0-1160.el7.x86_64`.
fn parse(release: &OsStr) -> Option<(u32, u32)> {
    let mut numbers = release
        .to_str()?
        .split(|letter: char| !letter.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_begin_with_two_numbers() {
        for (release, version) in [
            ("2.6.32-754.el6.x86_64", Some((2, 6))),
            ("3.10.0-1160.el7.x86_64", Some((3, 10))),
            ("3.15", Some((3, 15))),
            ("4.9-rc1", Some((4, 9))),
            ("10.0.1", Some((10, 0))),
            ("strange", None),
            ("", None),
        ] {
            assert_eq!(parse(release.as_ref()), version, "{release}");
        }
    }
}
