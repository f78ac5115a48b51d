//! The time of a journal record.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> u64 {
    precisely_now().0.cast_unsigned()
}

/// The time in seconds since 1970, and nanoseconds.
pub(super) fn precisely_now() -> (i64, u32) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    (since.as_secs().cast_signed(), since.subsec_nanos())
}
