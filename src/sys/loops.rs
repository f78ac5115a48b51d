//! Loop devices: files as block devices.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use loopdev::{LoopControl, LoopDevice};
use nix::errno::Errno;

/// The number of attempts to get a free device while others also take devices.
const ATTEMPTS: u32 = 50;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// How long the kernel may take to detach a device that nothing holds any more.
const DETACH_TIMEOUT: Duration = Duration::from_secs(10);

/// Source: linux v6.6 `include/uapi/linux/loop.h`, `struct loop_info64`; unused parts have no names.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo64 {
    lo_device: u64,
    lo_inode: u64,
    lo_rdevice: u64,
    between: [u8; 28],
    lo_flags: u32,
    rest: [u8; 176],
}

const _: () = assert!(size_of::<LoopInfo64>() == 232);

impl LoopInfo64 {
    const ZERO: Self = Self {
        lo_device: 0,
        lo_inode: 0,
        lo_rdevice: 0,
        between: [0; 28],
        lo_flags: 0,
        rest: [0; 176],
    };
}

/// Source: same as above, `LO_FLAGS_AUTOCLEAR`.
const AUTOCLEAR: u32 = 4;

/// Source: same as above, `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: i32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

mod ioctl {
    nix::ioctl_read_bad!(loop_get_status64, 0x4C05, super::LoopInfo64);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, super::LoopConfig);
}

/// An attached loop device. The kernel detaches it when this value and every other user of it is gone, even if the
/// process is killed.
#[derive(Debug)]
pub struct Loop {
    path: PathBuf,
    rdev: u64,
    _device: LoopDevice,
}

impl Loop {
    /// Attaches a file, read-only if it is open only for reading. Uses direct I/O if its file system supports it, so
    /// that nothing is cached twice.
    ///
    /// # Errors
    ///
    /// The errors of `/dev/loop-control` and of attaching. It is not an error if other processes take devices at the
    /// same time.
    pub fn attach(file: &File) -> io::Result<Self> {
        let control = LoopControl::open()?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match attach_once(&control, file) {
                Ok(attached) => return Ok(attached),
                Err(error) => error,
            };
            // EBUSY: another process took the device first. EAGAIN: the kernel is dropping cached pages of its former
            // use. ENOENT, ENXIO: it is new and has no node yet, or is being removed.
            let again = match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EBUSY | Errno::EAGAIN | Errno::ENOENT | Errno::ENXIO) => true,
                _ => error.kind() == io::ErrorKind::Interrupted,
            };
            if !again || attempt == ATTEMPTS {
                return Err(error);
            }
            sleep(PAUSE);
        }
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its number, as in `st_rdev`.
    pub fn rdev(&self) -> u64 {
        self.rdev
    }
}

fn attach_once(control: &LoopControl, file: &File) -> io::Result<Loop> {
    let device = control.next_free()?;
    attach_to(&device, file)?;
    if let Err(error) = device.set_direct_io(true) {
        log::debug!("loop device: no direct I/O: {error}");
    }
    let path = device.path().ok_or(io::ErrorKind::NotFound)?;
    let rdev = fs::metadata(&path)?.rdev();
    Ok(Loop {
        path,
        rdev,
        _device: device,
    })
}

/// Attaches in one step, so that a kill does not leave an attached device; before Linux 5.8, in two steps.
fn attach_to(device: &LoopDevice, file: &File) -> io::Result<()> {
    let config = LoopConfig {
        fd: file.as_raw_fd(),
        block_size: 0,
        info: LoopInfo64 {
            lo_flags: AUTOCLEAR,
            ..LoopInfo64::ZERO
        },
        reserved: [0; 8],
    };
    // SAFETY: both descriptors are open for the duration of the call, and `config` has the size of what the kernel reads for
    // this request.
    match unsafe { ioctl::loop_configure(device.as_raw_fd(), &raw const config) } {
        Err(Errno::EINVAL | Errno::ENOTTY) => {
            device.with().autoclear(true).attach_fd(file.as_raw_fd())
        }
        attached => Ok(attached.map(drop)?),
    }
}

/// The loop devices that are attached to this open file or block device, whatever mount namespace and name were used to
/// attach them.
///
/// # Errors
///
/// `/sys/block` or the file cannot be examined.
pub fn attached_to(file: &File) -> io::Result<Vec<PathBuf>> {
    let meta = file.metadata()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        let sys = Path::new("/sys/block").join(&name);
        if !sys.join("loop/backing_file").exists() {
            continue;
        }
        let path = Path::new("/dev").join(&name);
        if backing(&path).is_ok_and(|info| is_backed_by(&info, &meta)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn is_backed_by(info: &LoopInfo64, meta: &fs::Metadata) -> bool {
    // A block device may have several nodes; only its number counts.
    if meta.rdev() != 0 {
        return info.lo_rdevice == packed(meta.rdev());
    }
    (info.lo_device, info.lo_inode) == (packed(meta.dev()), meta.ino())
}

/// A device number in the form that the kernel returns here. Source: linux `include/linux/kdev_t.h`, `huge_encode_dev`.
fn packed(dev: u64) -> u64 {
    let (major, minor) = (nix::sys::stat::major(dev), nix::sys::stat::minor(dev));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Waits until no loop device is attached to the file any more.
///
/// # Errors
///
/// Same as [`attached_to`].
///
/// # Returns
///
/// The loop devices that are still attached after some seconds.
pub fn wait_until_detached(file: &File) -> io::Result<Vec<PathBuf>> {
    let end = Instant::now() + DETACH_TIMEOUT;
    loop {
        let left = attached_to(file)?;
        if left.is_empty() || Instant::now() > end {
            return Ok(left);
        }
        sleep(PAUSE);
    }
}

fn backing(device: &Path) -> io::Result<LoopInfo64> {
    let device = File::open(device)?;
    let mut info = LoopInfo64::ZERO;
    // SAFETY: the descriptor is open for the duration of the call, and `info` has the size of what the kernel writes for
    // this request; any bytes are a valid value of it.
    unsafe { ioctl::loop_get_status64(device.as_raw_fd(), &raw mut info) }?;
    Ok(info)
}
