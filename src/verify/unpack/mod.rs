//! What Docker's aufs driver makes of a layer's tar.

mod finish;
mod tar;
mod unsure;

pub(super) use finish::UnpackedLayer;
pub(super) use tar::Unpack;
pub(super) use unsure::Unsure;
