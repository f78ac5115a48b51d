//! Takes a written pool back if the rest of the conversion fails.

use super::error::Error;
use crate::commit::{self, Journal};
use crate::engine::Outside;

/// The result of the rest of a conversion, `in_place`, after the part of the pool that is outside the staging directory
/// has been taken back where nothing refers to it.
pub(super) fn settle<T>(
    outside: Option<Box<dyn Outside>>,
    in_place: Result<T, Error>,
    journal: &Journal,
) -> Result<T, Error> {
    let Some(outside) = outside else {
        return in_place;
    };
    match in_place {
        // Halfway, the root refers to part of the pool: the operator decides what to do with it.
        Ok(_) | Err(Error::Commit(commit::Error::HalfWay { .. })) => in_place,
        Err(cause) => {
            journal.note_undone();
            Err(match outside.take_back() {
                Ok(()) => cause,
                Err(left) => Error::PoolNotTakenBack {
                    cause: Box::new(cause),
                    left,
                },
            })
        }
    }
}
