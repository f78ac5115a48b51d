//! The result of unpacking a layer's tar with Docker's aufs driver.

mod finish;
mod tar;
mod unsure;

pub(super) use finish::UnpackedLayer;
pub(super) use tar::Unpack;
pub(super) use unsure::Unsure;
