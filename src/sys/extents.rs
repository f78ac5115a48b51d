//! The places of a file's bytes on its device.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::errno::Errno;

/// The number of extents that are requested at a time.
const AT_A_TIME: usize = 64;

/// Source: linux v6.6 `include/uapi/linux/fiemap.h`, `struct fiemap`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Head {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// Source: same as above, `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    head: Head,
    extents: [Extent; AT_A_TIME],
}

const _: () = assert!(size_of::<Head>() == 32 && size_of::<Extent>() == 56);

/// `FIEMAP_EXTENT_LAST`.
const LAST: u32 = 1;

mod ioctl {
    nix::ioctl_readwrite!(fiemap, b'f', 11, super::Head);
}

/// The byte ranges of the device that hold a file's content, in the order of the file.
///
/// # Errors
///
/// `EOPNOTSUPP`, `ENOTTY` if the file system does not report them.
pub fn extents_of(file: &File) -> Result<Vec<Range<u64>>, Errno> {
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        let mut request = Request {
            head: Head {
                start: at,
                length: u64::MAX - at,
                count: u32::try_from(AT_A_TIME).expect("a small number"),
                ..Head::default()
            },
            extents: [Extent::default(); AT_A_TIME],
        };
        // SAFETY: the descriptor is open, and the kernel writes no more than `count` extents behind the head, which are
        // there: `Request` has the layout of the head with its array, and the pointer is to all of it.
        unsafe { ioctl::fiemap(file.as_raw_fd(), (&raw mut request).cast()) }?;
        let mapped = usize::try_from(request.head.mapped).map_or(AT_A_TIME, |n| n.min(AT_A_TIME));
        for extent in &request.extents[..mapped] {
            ranges.push(extent.physical..extent.physical.saturating_add(extent.length));
        }
        let last = request.extents[..mapped].last();
        match last {
            Some(last)
                if last.flags & LAST == 0 && last.logical.saturating_add(last.length) > at =>
            {
                at = last.logical.saturating_add(last.length);
            }
            _ => return Ok(ranges),
        }
    }
}
