//! What an HTTP status says about sending the same request again (RFC 9110 §15): one table for the server and for the
//! authorization server.
//!
//! # Invariants
//!
//! - A status says that a request did not run only if a standard says so.

use std::time::{Duration, SystemTime};

use reqwest::{
    StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};

/// What a status that is no success says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// The request was refused before it ran, because there were too many (RFC 6585 §4).
    Throttled,
    /// The server, or a gateway in front of it, cannot answer at present.
    Busy,
    /// The server failed: a later request may succeed.
    Failed,
    /// The same request would be refused again.
    Refused,
}

impl Disposition {
    /// Returns what `status` says.
    pub(crate) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            429 => Self::Throttled,
            408 | 425 | 502..=504 => Self::Busy,
            501 | 505 => Self::Refused,
            500..=599 => Self::Failed,
            _ => Self::Refused,
        }
    }

    /// Returns whether the status speaks of load, rather than of the request or a fault.
    pub(crate) fn is_busy(self) -> bool {
        matches!(self, Self::Throttled | Self::Busy)
    }

    /// Returns whether the status speaks of the present state of the server, rather than of the request.
    pub(crate) fn may_pass(self) -> bool {
        self != Self::Refused
    }
}

/// The longest wait that a server may name: quotas are by the hour or by the day. Beyond it, sums of times would overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns how long the server asks to wait, seconds or a date (RFC 9110 §10.2.3), but at most a day.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn status_has_one_disposition() {
        use Disposition::{Busy, Failed, Refused, Throttled};
        for (statuses, expected) in [
            (&[429][..], Throttled),
            (&[408, 425, 502, 503, 504], Busy),
            (&[500, 506, 507, 520, 522, 529, 599], Failed),
            (&[302, 400, 401, 403, 404, 405, 406, 407, 409, 410, 413, 415, 422, 431, 451, 501, 505], Refused),
        ] {
            for status in statuses {
                assert_eq!(Disposition::of(StatusCode::from_u16(*status).unwrap()), expected, "{status}");
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_date() {
        let read =
            |value: &'static str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]));
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("18446744073709551615"), Some(LONGEST_WAIT), "no sum of times overflows");
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
