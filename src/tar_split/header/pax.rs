//! The records of a PAX extension header.

use std::collections::BTreeMap;

use super::error::HeaderError;
use crate::tree::Timestamp;

/// The key prefix of extended attributes. Go does not read the forms that other tars use. Source: go1.22
/// `archive/tar/common.go`, `paxSchilyXattr`.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of one entry, as far as Docker uses them.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: BTreeMap<Box<[u8]>, Box<[u8]>>,
    /// Whether it is a file that is stored without its holes.
    pub(super) is_sparse: bool,
}

impl Pax {
    /// Parses records of the form `LENGTH KEY=VALUE`, each ending with a newline.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, HeaderError> {
        let mut pax = Self::default();
        while !data.is_empty() {
            let (record, rest) = record(data).ok_or(HeaderError::Field)?;
            data = rest;
            let at = record.iter().position(|&byte| byte == b'=');
            let (key, value) = record.split_at(at.ok_or(HeaderError::Field)?);
            pax.take(key, &value[1..])?;
        }
        Ok(pax)
    }

    /// Adds a record. A later one replaces an earlier one; an empty value removes it.
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), HeaderError> {
        let bytes = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = bytes(),
            b"linkpath" => self.link = bytes(),
            b"size" => self.size = decimal(value)?,
            b"uid" => self.uid = decimal(value)?,
            b"gid" => self.gid = decimal(value)?,
            b"mtime" => self.mtime = time(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattr(name, value);
                }
            }
        }
        Ok(())
    }

    /// Adds an extended attribute. Go omits those without a value.
    fn xattr(&mut self, name: &[u8], value: &[u8]) {
        if value.is_empty() {
            self.xattrs.remove(name);
        } else {
            self.xattrs.insert(name.into(), value.into());
        }
    }
}

/// The first record, and the rest.
fn record(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = data.iter().take(20).position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&data[..blank]).ok()??).ok()?;
    let record = data.get(blank + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &data[length..]))
}

fn decimal(value: &[u8]) -> Result<Option<u64>, HeaderError> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = str::from_utf8(value).map_err(|_| HeaderError::Field)?;
    text.parse().map(Some).map_err(|_| HeaderError::Field)
}

/// Parses seconds since 1970 with a fraction, of which nine digits count.
fn time(value: &[u8]) -> Result<Option<Timestamp>, HeaderError> {
    if value.is_empty() {
        return Ok(None);
    }
    let text = str::from_utf8(value).map_err(|_| HeaderError::Field)?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HeaderError::Field);
    }
    let sec: i64 = whole.parse().map_err(|_| HeaderError::Field)?;
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nsec = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    // For a time before 1970, the fraction counts backwards.
    let time = match nsec {
        1.. if whole.starts_with('-') => Timestamp::new(
            sec.checked_sub(1).ok_or(HeaderError::Field)?,
            1_000_000_000 - nsec,
        ),
        _ => Timestamp::new(sec, nsec),
    };
    Ok(Some(time))
}
