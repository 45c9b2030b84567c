//! Answers of bot filters (Cloudflare, Vercel, AWS WAF, DataDome, Imperva), which stand in front of a server and do not
//! speak for it.
//!
//! # Invariants
//!
//! - An answer is a filter's only if it carries a filter's mark.

use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderName},
};

/// Headers of a bot filter's own answer: Cloudflare, Vercel, AWS WAF, DataDome.
const HEADERS: [HeaderName; 4] = [
    HeaderName::from_static("cf-mitigated"),
    HeaderName::from_static("x-vercel-mitigated"),
    HeaderName::from_static("x-amzn-waf-action"),
    HeaderName::from_static("x-datadome"),
];
/// The same in its page's title or text, in lower case: Cloudflare's four, Vercel, Imperva.
const WORDS: [&str; 6] = [
    "just a moment...",
    "attention required! | cloudflare",
    "used cloudflare to restrict access",
    "error code: 10",
    "vercel security checkpoint",
    "incapsula incident",
];

/// Returns whether a bot filter gave an answer; `words` are the title or the beginning of its body.
pub(crate) fn has_answered(status: StatusCode, headers: &HeaderMap, words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    matches!(status.as_u16(), 403 | 429 | 503)
        && (HEADERS.iter().any(|name| headers.contains_key(name)) || WORDS.iter().any(|mark| words.contains(mark)))
}
