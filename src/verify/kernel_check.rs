//! The kernel's verdict, as a part of the report.

use std::num::NonZeroUsize;

use super::error::Error;
use super::kernel::{self, ActiveReadOnlyPool, Device, ask, sample};
use super::report::{KernelCheck, Mode};
use super::request::{Ask, Request};
use crate::chain::Chain;
use crate::content::pool::Pool;
use crate::devicemapper::driver_files::FileSystem;
use crate::devicemapper::{DeviceFiles, driver_files};
use crate::pool::DeviceError;
use crate::progress::{Phase, Progress};
use crate::thin::ThinId;

/// The number of devices that are mounted in quick mode.
const SAMPLE: usize = 8;

/// Has the kernel activate the pool and mount its devices.
///
/// # Errors
///
/// [`Error::Interrupted`]. Any other obstacle becomes the reason why there is no verdict.
pub(super) fn kernel_word(
    request: &Request<'_>,
    pool: &Pool,
    files: &DeviceFiles,
    progress: &dyn Progress,
) -> Result<KernelCheck, Error> {
    let Some(how) = request.kernel else {
        return Ok(no("it was not requested".to_owned()));
    };
    let heard = hear(request, how, (pool, files), progress);
    match heard {
        Ok(word) => Ok(word),
        Err(kernel::Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => Ok(word_of(error)),
    }
}

/// The kernel's verdict, or why there is none.
pub(super) fn word_of(error: kernel::Error) -> KernelCheck {
    match error {
        kernel::Error::Fault(fault) => KernelCheck::Yes {
            mounted: 0,
            faults: vec![Chain(&fault).to_string()],
        },
        // That another engine needs none of it does not help here.
        kernel::Error::CannotAsk(DeviceError::Missing { what, remedy, .. }) => {
            no(format!("{what} in this kernel: {remedy}"))
        }
        error => no(Chain(&error).to_string()),
    }
}

fn no(reason: String) -> KernelCheck {
    KernelCheck::No { reason }
}

fn hear(
    request: &Request<'_>,
    how: Ask<'_>,
    (pool, files): (&Pool, &DeviceFiles),
    progress: &dyn Progress,
) -> Result<KernelCheck, kernel::Error> {
    let mut devices = devices(files);
    if request.mode == Mode::Quick {
        devices = sample(&devices, SAMPLE);
    }
    let attached = ActiveReadOnlyPool::open(how.root, pool, how.mounts)?;
    progress.start(Phase::Kernel, devices.len() as u64);
    let jobs: NonZeroUsize = request.jobs;
    let faults = ask(&attached, &devices, (jobs, &request.cancel), progress);
    progress.finish();
    let closed = attached.close();
    let faults = faults?;
    closed?;
    Ok(KernelCheck::Yes {
        mounted: devices.len(),
        faults: faults
            .iter()
            .map(|fault| Chain(fault).to_string())
            .collect(),
    })
}

/// All devices that Docker's files list; those whose number differs from the pool's are reported elsewhere.
fn devices(files: &DeviceFiles) -> Vec<Device> {
    let file_system = files.set.map_or(FileSystem::Ext4, |set| set.file_system);
    let device = |name: String, device: &driver_files::Device| {
        let id = ThinId::new(device.id().get()).ok()?;
        Some(Device {
            id,
            size: device.size(),
            name,
            file_system,
        })
    };
    let base = files
        .base
        .iter()
        .map(|base| device("base".to_owned(), base));
    let layers = files
        .layers
        .iter()
        .map(|(id, layer)| device(id.to_string(), layer));
    base.chain(layers).flatten().collect()
}
