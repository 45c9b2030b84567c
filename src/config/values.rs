//! Values of flags: seconds and sizes.

use std::time::Duration;

/// Longest time: longer than any process lives, and short enough to be added to any clock.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Shortest time other than 0. In a shorter one, nothing can be done.
const SHORTEST: Duration = Duration::from_millis(1);

/// Returns a time as a limit: 0 is none.
pub(crate) fn limit(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

/// Parses seconds, 0 included.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let time = number_of_seconds(text)?;
    let is_usable = time.is_zero() || time >= SHORTEST;
    if is_usable { Ok(time) } else { Err("must be 0, or at least 0.001 seconds".to_owned()) }
}

/// Parses seconds above 0.
pub(crate) fn positive_seconds(text: &str) -> Result<Duration, String> {
    match number_of_seconds(text)? {
        time if time.is_zero() => Err("must be more than 0 seconds".to_owned()),
        time if time < SHORTEST => Err("must be at least 0.001 seconds".to_owned()),
        time => Ok(time),
    }
}

/// Parses the pause between two pings. More pings than every 10 ms only load the server.
pub(crate) fn ping_interval(text: &str) -> Result<Duration, String> {
    let time = number_of_seconds(text)?;
    if time >= Duration::from_millis(10) { Ok(time) } else { Err("must be at least 0.01 seconds".to_owned()) }
}

fn number_of_seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim().parse().map_err(|_| "must be a number of seconds".to_owned())?;
    if !number.is_finite() {
        return Err("must be a number of seconds".to_owned());
    }
    let time = Duration::try_from_secs_f64(number.min(LONGEST.as_secs_f64()));
    time.map_err(|_| "must be a number of seconds, not below 0".to_owned())
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
        for text in ["1e19", "18446744073709549568", "9.3e18", "1e300"] {
            let time = seconds(text).unwrap();
            assert!(
                Instant::now().checked_add(time).is_some() && SystemTime::now().checked_add(time).is_some(),
                "{text}"
            );
        }
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
    }

    #[test]
    fn unusable_time_is_refused() {
        for text in ["NaN", "inf", "-1", "1e-9", "1,5", ""] {
            assert!(
                seconds(text).is_err() && positive_seconds(text).is_err() && ping_interval(text).is_err(),
                "{text}"
            );
        }
        for text in ["0", "0.009"] {
            assert!(ping_interval(text).is_err(), "{text}");
        }
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(ping_interval("0.05"), Ok(Duration::from_millis(50)));
        assert_eq!(ping_interval("1e300"), Ok(LONGEST));
    }
}
