//! The fields of one header block.

use super::error::{BLOCK, HeaderError};
use crate::tree::DeviceNumber;

/// A header block. Source: POSIX.1-2017 `pax`, "ustar Interchange Format"; all older tars and GNU tars use the same
/// offsets.
#[derive(Clone, Copy)]
pub(super) struct Block<'a>(pub(super) &'a [u8; BLOCK]);

impl<'a> Block<'a> {
    /// Checks that the checksum matches the bytes. Some tars add signed bytes.
    pub(super) fn check(self) -> Result<(), HeaderError> {
        let stated = number(&self.0[148..156])?;
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, &byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stated == unsigned || stated == signed {
            Ok(())
        } else {
            Err(HeaderError::Checksum)
        }
    }

    /// The type's letter.
    pub(super) fn kind(self) -> u8 {
        self.0[156]
    }

    /// The name, including its prefix.
    pub(super) fn name(self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        match self.prefix() {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    fn prefix(self) -> &'a [u8] {
        const { assert!(BLOCK == 512) }
        if &self.0[257..263] == b"ustar\0" {
            // The prefix of star is shorter; times follow it.
            let is_star = &self.0[508..512] == b"tar\0";
            return text(&self.0[345..if is_star { 476 } else { 500 }]);
        }
        // GNU has a time there, but Go before 1.8 wrote a name there, which does not parse as a time.
        let prefix = text(&self.0[345..500]);
        let is_gnu = &self.0[257..265] == b"ustar  \0";
        if is_gnu && prefix.is_ascii() && number(&self.0[345..357]).is_err() {
            return prefix;
        }
        b""
    }

    /// The name of a link's target.
    pub(super) fn link(self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(self) -> Result<u16, HeaderError> {
        let mode = number(&self.0[100..108])? & 0o7777;
        Ok(u16::try_from(mode).expect("twelve bits fit"))
    }

    pub(super) fn uid(self) -> Result<u64, HeaderError> {
        unsigned(&self.0[108..116])
    }

    pub(super) fn gid(self) -> Result<u64, HeaderError> {
        unsigned(&self.0[116..124])
    }

    pub(super) fn size(self) -> Result<u64, HeaderError> {
        unsigned(&self.0[124..136])
    }

    /// Seconds since 1970.
    pub(super) fn mtime(self) -> Result<i64, HeaderError> {
        number(&self.0[136..148])
    }

    /// The number of a device, truncated as in Docker's `mknod`. Source: moby v20.10.24 `pkg/system/mknod.go`, `Mkdev`.
    pub(super) fn device(self) -> Result<DeviceNumber, HeaderError> {
        let part = |field, bits: u64| {
            unsigned(field).map(|part| u32::try_from(part & bits).expect("at most 20 bits"))
        };
        Ok(DeviceNumber {
            major: part(&self.0[329..337], 0xfff)?,
            minor: part(&self.0[337..345], 0xf_ffff)?,
        })
    }
}

/// Bytes up to the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits surrounded by blanks, or two's complement after a set first bit. An empty field is 0.
fn number(field: &[u8]) -> Result<i64, HeaderError> {
    if let Some(&first) = field.first().filter(|&&first| first & 0x80 != 0) {
        return binary(first, field);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte));
    let digits = text(&field[start.unwrap_or(field.len())..]).trim_ascii_end();
    digits.iter().try_fold(0_i64, |sum, &digit| {
        let digit = digit.wrapping_sub(b'0');
        let sum = sum.checked_mul(8).filter(|_| digit < 8);
        sum.map(|sum| sum | i64::from(digit))
            .ok_or(HeaderError::Field)
    })
}

fn binary(first: u8, field: &[u8]) -> Result<i64, HeaderError> {
    // The second bit is the sign.
    let start = if first & 0x40 != 0 { -1_i128 } else { 0 };
    let all = field[1..]
        .iter()
        .fold(start << 6 | i128::from(first & 0x3f), |sum, &byte| {
            (sum << 8) | i128::from(byte)
        });
    i64::try_from(all).map_err(|_| HeaderError::Field)
}

fn unsigned(field: &[u8]) -> Result<u64, HeaderError> {
    u64::try_from(number(field)?).map_err(|_| HeaderError::Field)
}
