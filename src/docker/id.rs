//! The ids of Docker's stores, each with a checked type of its own.
//!
//! Some of them are file names that come from file *contents*, so a value is checked before it can become part of a
//! path.

use std::fmt;

use serde::{Serialize, Serializer};
use thiserror::Error;

use super::digest::Digest;

/// Why a text is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// Longer than a file name can be.
    #[error("is {len} bytes long, more than the 255 of a file name")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A byte that no id of a driver contains.
    #[error("contains byte 0x{byte:02x}, which no layer id may contain")]
    BadByte {
        /// The first such byte.
        byte: u8,
    },
    /// A name that the driver gives another meaning in the directory of device files.
    #[error("is a name that the devicemapper driver reserves")]
    Reserved,
    /// Not `sha256:` and 64 lower-case hexadecimal digits.
    #[error("is not a sha256 digest")]
    NotADigest,
    /// Not 64 lower-case hexadecimal digits, with or without `-init`.
    #[error("is not 64 hexadecimal digits with or without -init")]
    NotAMountId,
    /// Neither 64 hexadecimal digits nor a `BuildKit` id.
    #[error("is not a container id")]
    NotAContainerId,
}

/// An image's id: the digest of its config's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(Digest);

impl ImageId {
    /// Reads `sha256:<hex64>`.
    ///
    /// # Errors
    /// [`IdError::NotADigest`].
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        Digest::parse(text).map(Self).ok_or(IdError::NotADigest)
    }

    /// Reads the file name in `imagedb/content/sha256`.
    pub fn from_file_name(name: &[u8]) -> Option<Self> {
        Digest::parse_hex(name).map(Self)
    }

    /// The file name in `imagedb/content/sha256`.
    pub fn file_name(&self) -> String {
        self.0.hex()
    }

    /// Whether `config` is this image's config.
    pub fn verifies(&self, config: &[u8]) -> bool {
        Digest::of(config) == self.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A layer's content: the digest of its uncompressed tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiffId(Digest);

impl DiffId {
    /// Reads `sha256:<hex64>`.
    ///
    /// # Errors
    /// [`IdError::NotADigest`].
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        Digest::parse(text).map(Self).ok_or(IdError::NotADigest)
    }

    /// Whether a tar with this SHA-256 digest is this layer's.
    pub fn is_of(&self, sha256: [u8; 32]) -> bool {
        self.0 == Digest::from(sha256)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for DiffId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A stack of layers, identified by a digest made of the [`DiffId`]s from the bottom up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(Digest);

impl ChainId {
    /// The chain id of one layer on top of `parent`. A base layer's chain id is its diff id. Above that, it is the
    /// digest of both texts with a space between them.
    /// Source: moby v20.10 `layer/layer.go`, `createChainIDFromParent`.
    pub fn on(parent: Option<ChainId>, diff: DiffId) -> Self {
        match parent {
            None => Self(diff.0),
            Some(parent) => Self(Digest::of(format!("{parent} {diff}").as_bytes())),
        }
    }

    /// Reads `sha256:<hex64>`.
    ///
    /// # Errors
    /// [`IdError::NotADigest`].
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        Digest::parse(text).map(Self).ok_or(IdError::NotADigest)
    }

    /// Reads the directory name in `layerdb/sha256`.
    pub fn from_file_name(name: &[u8]) -> Option<Self> {
        Digest::parse_hex(name).map(Self)
    }

    /// The directory name in `layerdb/sha256`.
    pub fn file_name(&self) -> String {
        self.0.hex()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ChainId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a layer's directory in the graph driver: a single safe file name, and so also a safe device name.
///
/// Docker creates `<hex64>`, `<hex64>-init` and `BuildKit`'s 25 characters, but accepts any text in `cache-id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CacheId(Box<str>);

impl CacheId {
    /// Checks a layer id of the driver. It may hold ASCII letters, digits and `#+-.:=@_`: the characters that a
    /// device-mapper name can contain without being mangled.
    ///
    /// # Errors
    /// The [`IdError`] for what is wrong with it; [`IdError::Reserved`] for a name that would clash with the driver's
    /// own files.
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > 255 {
            return Err(IdError::TooLong { len: text.len() });
        }
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(byte);
        if let Some(&byte) = text.iter().find(|byte| !allowed(byte)) {
            return Err(IdError::BadByte { byte });
        }
        // Source: moby v20.10 daemon/graphdriver/devmapper/deviceset.go, deviceFileWalkFunction: files with these names
        // are not devices, so a layer with such a name would be lost at the next start. `.` and `..` are among them.
        let reserved = matches!(
            text,
            b"base" | b"deviceset-metadata" | b"transaction-metadata"
        );
        if reserved || text.starts_with(b".") || text.ends_with(b".migrated") {
            return Err(IdError::Reserved);
        }
        let text = std::str::from_utf8(text).expect("every byte was found to be ASCII");
        Ok(Self(text.into()))
    }

    /// The id as text, which is also the name of the directory.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has the form of `BuildKit`'s ids: 25 digits of base 36.
    pub fn is_buildkit(&self) -> bool {
        is_base36(self.0.as_bytes())
    }

    /// Whether it has one of the forms that Docker itself gives to layers.
    pub(super) fn is_dockers(&self) -> bool {
        self.is_buildkit() || self.is_init() || is_hex64(self.0.as_bytes())
    }

    /// Whether it has the form of a container's init layer, `<hex64>-init`.
    pub fn is_init(&self) -> bool {
        self.0
            .strip_suffix("-init")
            .is_some_and(|id| is_hex64(id.as_bytes()))
    }
}

impl fmt::Display for CacheId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content of `layerdb/mounts/<container>/mount-id` and `init-id`: `<hex64>` or `<hex64>-init`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MountId(CacheId);

impl MountId {
    /// Checks a mount id by the rule that Docker applies when it loads a mount.
    ///
    /// # Errors
    /// [`IdError::NotAMountId`].
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        let hex = text.strip_suffix(b"-init").unwrap_or(text);
        if !is_hex64(hex) {
            return Err(IdError::NotAMountId);
        }
        CacheId::parse(text).map(Self)
    }

    /// The name of the layer's directory in the graph driver.
    pub fn cache_id(&self) -> &CacheId {
        &self.0
    }
}

impl fmt::Display for MountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a container, or of a `BuildKit` build step, which has a mount under a 25-character id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ContainerId(Box<str>);

impl ContainerId {
    /// Checks a container id.
    ///
    /// # Errors
    /// [`IdError::NotAContainerId`].
    pub fn parse(text: &[u8]) -> Result<Self, IdError> {
        if !is_hex64(text) && !is_base36(text) {
            return Err(IdError::NotAContainerId);
        }
        let text = std::str::from_utf8(text).expect("every byte was found to be ASCII");
        Ok(Self(text.into()))
    }

    /// The id as text, which is also the directory name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the id of a build step, not of a container.
    pub fn is_buildkit(&self) -> bool {
        is_base36(self.0.as_bytes())
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_hex64(text: &[u8]) -> bool {
    text.len() == 64
        && text
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_base36(text: &[u8]) -> bool {
    text.len() == 25
        && text
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_ids_are_single_safe_names() {
        let long = [b'a'; 256];
        for (text, expected) in [
            (&b""[..], Err(IdError::Empty)),
            (b"../x", Err(IdError::BadByte { byte: b'/' })),
            (b"a/b", Err(IdError::BadByte { byte: b'/' })),
            (b"a\0b", Err(IdError::BadByte { byte: 0 })),
            (b"a b", Err(IdError::BadByte { byte: b' ' })),
            (b"\xff", Err(IdError::BadByte { byte: 0xff })),
            (b"..", Err(IdError::Reserved)),
            (b".hidden", Err(IdError::Reserved)),
            (b"base", Err(IdError::Reserved)),
            (b"transaction-metadata", Err(IdError::Reserved)),
            (b"x.migrated", Err(IdError::Reserved)),
            (&long, Err(IdError::TooLong { len: 256 })),
            (&long[1..], Ok(())),
            (b"z889rt0gumm9yu7x8couv1wlu", Ok(())),
            (b"v1-migrated_id.2", Ok(())),
        ] {
            assert_eq!(CacheId::parse(text).map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn driver_ids_are_told_apart_by_form() {
        let hex = "ab".repeat(32);
        let id = |text: &str| CacheId::parse(text.as_bytes()).unwrap();
        assert!(id(&format!("{hex}-init")).is_init());
        assert!(!id(&hex).is_init() && !id("x-init").is_init());
        assert!(id("z889rt0gumm9yu7x8couv1wlu").is_buildkit());
        assert!(!id(&hex).is_buildkit() && !id("Z889rt0gumm9yu7x8couv1wlu").is_buildkit());
    }

    #[test]
    fn mount_and_container_ids_keep_dockers_form() {
        let hex = "0f".repeat(32);
        assert!(MountId::parse(hex.as_bytes()).is_ok());
        assert!(MountId::parse(format!("{hex}-init").as_bytes()).is_ok());
        for text in [
            "",
            "x",
            &hex[1..],
            &hex.to_uppercase(),
            &format!("{hex}-other"),
        ] {
            assert_eq!(
                MountId::parse(text.as_bytes()),
                Err(IdError::NotAMountId),
                "{text}"
            );
            assert_eq!(
                ContainerId::parse(text.as_bytes()),
                Err(IdError::NotAContainerId)
            );
        }
        assert!(
            ContainerId::parse(b"z889rt0gumm9yu7x8couv1wlu")
                .unwrap()
                .is_buildkit()
        );
    }

    #[test]
    fn a_chain_of_two_is_the_digest_of_both_texts() {
        let base = DiffId(Digest::of(b"base"));
        let top = DiffId(Digest::of(b"top"));
        let chain = ChainId::on(None, base);
        assert_eq!(chain.to_string(), base.to_string());
        let expected = Digest::of(format!("{base} {top}").as_bytes());
        assert_eq!(ChainId::on(Some(chain), top), ChainId(expected));
    }
}
