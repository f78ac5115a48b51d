//! What an earlier run left outside the staging directory, as far as its journal confirms it.

use std::path::Path;

use super::error::Error;
use super::recorded_options::RecordedOptions;
use crate::commit::{Conversion, JournalState, Leftover};
use crate::engine::kernel::{Previous, Record, RequestedTarget};

/// Looks for what a run left; changes nothing.
///
/// # Errors
///
/// As for [`Previous::find`].
pub(super) fn left_by(root: &Path, leftover: &Leftover) -> Result<Previous, Error> {
    let story = match leftover {
        Leftover::Conversion(_, story) => Some(&**story),
        Leftover::None | Leftover::Stage(_) => None,
    };
    find(root, leftover.stage(), story)
}

/// Looks for what the run of a conversion left, if there is a conversion.
pub(super) fn left_by_conversion(
    root: &Path,
    conversion: Option<&Conversion>,
) -> Result<Previous, Error> {
    find(
        root,
        conversion.map(Conversion::stage),
        conversion.map(Conversion::story),
    )
}

fn find(
    root: &Path,
    stage: Option<&Path>,
    story: Option<&JournalState>,
) -> Result<Previous, Error> {
    let ordered = story.and_then(outside);
    let record = stage.map(|stage| Record {
        stage,
        ordered: ordered.as_ref(),
    });
    Ok(Previous::find(root, record)?)
}

/// What the recorded options allow outside the root; options that cannot be parsed allow nothing.
fn outside(story: &JournalState) -> Option<RequestedTarget> {
    let order: RecordedOptions = serde_json::from_value(story.begun.order.clone()).ok()?;
    order.outside()
}
