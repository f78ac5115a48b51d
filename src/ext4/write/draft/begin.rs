//! Where drafts begin: with an empty file system, or with an image that is to be changed.

use super::empty::format_draft;
use super::state::{Delta, Draft};
use crate::ext4::params::Params;
use crate::ext4::write::error::Error;
use crate::ext4::write::image::Image;

impl Image {
    /// An empty file system as `mkfs` leaves it: root, `lost+found`, journal.
    ///
    /// # Errors
    ///
    /// [`Error::InodesPerGroup`], [`Error::TooSmall`] and [`Error::TooLarge`] for parameters that make no file system,
    /// [`Error::NoSpace`] when the size leaves no room for the first directories, [`Error::Entry`] for a time of creation
    /// that inodes do not store.
    pub fn format(params: Params) -> Result<(Self, Delta), Error> {
        Ok(format_draft(params)?.finish())
    }

    /// A child that is to be changed.
    pub fn draft(&self) -> Draft {
        Draft::new(self.clone())
    }
}
