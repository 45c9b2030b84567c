//! Values of flags: seconds and sizes.

use std::time::Duration;

/// Longest time: longer than any process lives, and short enough to be added to any clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Returns a time as a limit: 0 is none.
pub(crate) fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

/// Parses seconds, 0 included.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim().parse().map_err(|_| "must be a number of seconds".to_owned())?;
    let time = Duration::try_from_secs_f64(number);
    Ok(time.map_err(|_| "must be a number of seconds, not below 0".to_owned())?.min(LONGEST))
}

/// Parses seconds above 0.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|time| limit(time).ok_or_else(|| "must be more than 0 seconds".to_owned()))
}

/// Parses a number of bytes; K, M and G may follow.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let fault = || "must be a number of bytes, such as 1000000 or 64M".to_owned();
    let (digits, unit) = match text.trim().to_ascii_uppercase().split_at_checked(text.trim().len().saturating_sub(1)) {
        Some((digits, "K")) => (digits.to_owned(), 1 << 10),
        Some((digits, "M")) => (digits.to_owned(), 1 << 20),
        Some((digits, "G")) => (digits.to_owned(), 1 << 30),
        _ => (text.trim().to_owned(), 1),
    };
    let number: usize = digits.parse().map_err(|_| fault())?;
    number.checked_mul(unit).filter(|size| *size > 0).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    #[test]
    fn longest_time_fits_every_clock() {
        for text in ["1e19", "18446744073709549568", "9.3e18"] {
            let time = seconds(text).unwrap();
            assert!(
                Instant::now().checked_add(time).is_some() && SystemTime::now().checked_add(time).is_some(),
                "{text}"
            );
        }
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
    }
}
