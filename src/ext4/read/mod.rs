//! Reading ext4 file systems, whoever wrote them.

mod device;

pub use device::ReadAt;
