//! Checks, right before the result is moved into place, that it was made from what is there now.
//!
//! The engines look at a file again after they have read its bytes; everything else was read once, at the beginning. A
//! second walk over all names, without contents, finds the rest: each change updates the change time of an entry or of
//! its directory, and no program can set that time.

use rayon::prelude::*;

use super::error::Error;
use super::planned_conversion::PlannedConversion;
use super::read::{read_layer, threads};
use super::store_times::Stores;
use crate::progress::{Phase, Progress};
use crate::tree::first_difference;

impl PlannedConversion {
    /// Reads all names and attributes once more.
    ///
    /// # Errors
    ///
    /// [`Error::LayerChanged`] and [`Error::StoreChanged`] name the first entry that has changed; [`Error::Branch`],
    /// [`Error::Interrupted`].
    pub(super) fn expect_unchanged(&self, progress: &dyn Progress) -> Result<(), Error> {
        let layers: Vec<_> = self
            .job
            .plan()
            .devices
            .iter()
            .filter_map(|device| device.layer.as_ref())
            .collect();
        let pool = threads(self.source.request.jobs)?;
        progress.start(Phase::Recheck, layers.len() as u64);
        let same: Result<(), Error> = pool.install(|| {
            layers
                .into_par_iter()
                .try_for_each(|layer| self.expect_layer(layer).inspect(|()| progress.inc(1)))
        });
        progress.finish();
        // Last, because Docker's own files are few: a container made in the meantime shows in both.
        same.and_then(|()| self.expect_stores())
    }

    fn expect_layer(&self, layer: &crate::source::Layer) -> Result<(), Error> {
        let model = &self.source.model;
        let Some(place) = model.place_of(&layer.id) else {
            return Ok(());
        };
        let now = read_layer(&self.source, &model.aufs[place])?;
        match first_difference(&layer.tree, &now.tree) {
            None => Ok(()),
            Some(difference) => Err(Error::LayerChanged {
                layer: layer.id.clone(),
                hits: model.users_of(&layer.id),
                difference,
            }),
        }
    }

    fn expect_stores(&self) -> Result<(), Error> {
        let now = Stores::look(self.source.root.path());
        match self.source.stores.difference(&now) {
            None => Ok(()),
            Some((path, what)) => Err(Error::StoreChanged {
                path: path.to_owned(),
                what,
            }),
        }
    }
}
