//! Docker's version numbers.

use std::fmt;

use serde::Serialize;

/// A release: `1.13` as well as `20.10`. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl Version {
    /// A release.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The version at the start of a package's version, like `20.10.24+dfsg1-1` or `5:19.03.15~3-0~debian-buster`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split_once(':').map_or(text, |(_, rest)| rest);
        let (major, rest) = text.split_once('.')?;
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let number = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| text.parse().ok()).flatten()
        };
        Some(Self::new(number(major)?, number(&rest[..digits])?))
    }

    /// The version in the output of `dockerd --version`: `Docker version 20.10.24+dfsg1, build 297e128`.
    pub(crate) fn of_output(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once("version ")?;
        Self::parse(rest.split([',', ' ', '\n']).next()?)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The months of the releases from 17.03 to 20.10 have two digits.
        let width = if (17..=20).contains(&self.major) {
            2
        } else {
            1
        };
        let minor = self.minor;
        write!(f, "{}.{minor:0width$}", self.major)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_versions_of_all_times_are_read() {
        for (text, major, minor) in [
            ("1.6.2~dfsg1-1ubuntu4~14.04.1", 1, 6),
            ("1.13.1-0~ubuntu-xenial", 1, 13),
            ("17.03.2~ce-0~ubuntu-xenial", 17, 3),
            ("5:19.03.15~3-0~debian-buster", 19, 3),
            ("20.10.24+dfsg1-1+deb12u1", 20, 10),
            ("5:24.0.7-1~debian.12~bookworm", 24, 0),
        ] {
            assert_eq!(
                Version::parse(text),
                Some(Version::new(major, minor)),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in [
            "",
            "dev",
            "library-import",
            "1",
            ".1",
            "a.b",
            "99999999.1",
            "-1.2",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dockers_own_word_is_read() {
        for (text, version) in [
            (
                "Docker version 20.10.24+dfsg1, build 297e128\n",
                Some(Version::new(20, 10)),
            ),
            (
                "Docker version 1.13.1, build 7d71120/1.13.1",
                Some(Version::new(1, 13)),
            ),
            ("Docker version library-import, build library-import", None),
            ("segfault", None),
        ] {
            assert_eq!(Version::of_output(text), version, "{text}");
        }
    }

    #[test]
    fn later_is_greater() {
        assert!(Version::new(1, 13) < Version::new(17, 3));
        assert!(Version::new(18, 9) < Version::new(19, 3));
        assert_eq!(Version::new(18, 9).to_string(), "18.09");
        assert_eq!(Version::new(1, 9).to_string(), "1.9");
        assert_eq!(Version::new(23, 0).to_string(), "23.0");
    }
}
