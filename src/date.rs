//! Converts seconds since 1970 to a date.

use jiff::SignedDuration;
use jiff::civil::date;

/// A date in UTC, for people: `2026-01-31 23:59:59 UTC`. The calendar ends with the year 9999: a damaged journal may
/// contain more.
pub(crate) fn utc(seconds: u64) -> String {
    let since = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    let epoch = date(1970, 1, 1).at(0, 0, 0, 0);
    let time = epoch.saturating_add(since);
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_make_a_date() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_767_225_599), "2025-12-31 23:59:59 UTC");
        assert_eq!(utc(u64::MAX), "9999-12-31 23:59:59 UTC");
    }
}
