//! The cookies of the server (RFC 6265): a sticky balancer needs them.
//!
//! # Invariants
//!
//! - A cookie returns to the exact origin that set it, and to no other.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use log::debug;
use reqwest::{
    Url,
    cookie::{CookieStore, Jar},
    header::{self, HeaderMap},
};

use crate::{remote::error::same_origin, secret::Secret, sync::LockExt};

/// Longest cookie kept, with its attributes, in bytes (RFC 6265 §6.1: at least 4096).
const LONGEST_COOKIE: usize = 4096;
/// Most cookies kept (RFC 6265 §6.1: at least 50): a server could set others with every answer.
const MOST_COOKIES: usize = 200;
/// Longest cookies of a request, in bytes: servers refuse a header section that is longer.
const LONGEST_HEADER: usize = 32 * 1024;

/// The cookies of one origin. As in the npm package, `Domain` and `Secure` are ignored, `Path` and the two expiries count.
///
/// Not reqwest's own layer, because that parses the URL again for every request although most servers
/// never set a cookie.
#[derive(Debug)]
pub(super) struct Cookies {
    origin: Url,
    jar: Mutex<Contents>,
    /// Whether the server ever set one.
    any: AtomicBool,
}

/// A jar, and the identities of what was put into it.
#[derive(Debug, Default)]
struct Contents {
    jar: Jar,
    /// What was put into it by name and path: the same again takes no more room.
    known: HashMap<String, Secret<String>>,
}

impl Contents {
    /// Returns the length of all cookies, in bytes.
    fn length(&self) -> usize {
        self.known.values().map(|cookie| cookie.expose().len()).sum()
    }
}

impl Cookies {
    /// Returns the empty jar of the server.
    pub(super) fn new(server: &Url) -> Self {
        Self { origin: server.clone(), jar: Mutex::default(), any: AtomicBool::new(false) }
    }

    /// Keeps what a response from `url` sets.
    pub(super) fn keep(&self, headers: &HeaderMap, url: &Url) {
        if !headers.contains_key(header::SET_COOKIE) || !same_origin(url, &self.origin) {
            return;
        }
        let counts = |attribute: &&str| {
            let name = attribute.split('=').next().unwrap_or_default().trim();
            !["domain", "secure", "samesite", "partitioned"].iter().any(|ignored| name.eq_ignore_ascii_case(ignored))
        };
        for value in headers.get_all(header::SET_COOKIE).iter().filter_map(|header| header.to_str().ok()) {
            let mut parts = value.split(';');
            let pair = parts.next().into_iter();
            let kept: Vec<_> = pair.chain(parts.filter(counts)).collect();
            let kept = kept.join(";");
            if kept.len() > LONGEST_COOKIE {
                debug!("ignoring a cookie of {} bytes: the limit is {LONGEST_COOKIE}", kept.len());
                continue;
            }
            let mut contents = self.jar.guard();
            contents.known.insert(identity(&kept), Secret::new(kept.clone()));
            if contents.known.len() > MOST_COOKIES || contents.length() > LONGEST_HEADER {
                debug!("the server set more or longer cookies than the limit; dropping the earlier ones");
                *contents = Contents {
                    known: HashMap::from([(identity(&kept), Secret::new(kept.clone()))]),
                    ..Contents::default()
                };
            }
            contents.jar.add_cookie_str(&kept, url);
            self.any.store(true, Relaxed);
        }
    }

    /// Returns the values of all cookies, which are secrets.
    pub(super) fn values(&self) -> Vec<String> {
        let value =
            |cookie: &Secret<String>| Some(cookie.expose().split(';').next()?.split_once('=')?.1.trim().to_owned());
        self.jar.guard().known.values().filter_map(value).collect()
    }

    /// Adds the cookies for `url`, unless the user has given a `Cookie` header.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, url: &Url) {
        if self.any.load(Relaxed)
            && !headers.contains_key(header::COOKIE)
            && same_origin(url, &self.origin)
            && let Some(mut cookies) = self.jar.guard().jar.cookies(url)
        {
            cookies.set_sensitive(true);
            headers.insert(header::COOKIE, cookies);
        }
    }
}

/// What tells one cookie of an origin from another (RFC 6265 §5.3).
fn identity(cookie: &str) -> String {
    let mut parts = cookie.split(';');
    let name = parts.next().unwrap_or_default().split('=').next().unwrap_or_default().trim();
    let is_path = |part: &&str| part.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("path="));
    format!("{name};{}", parts.map(str::trim).rfind(is_path).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn cookie_returns_only_to_its_origin() {
        let url = |text: &str| Url::parse(text).unwrap();
        let store = Cookies::new(&url("http://127.0.0.1:1/mcp"));
        let set = |text: &'static str, from: &str| {
            let headers = HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_static(text))]);
            store.keep(&headers, &url(from));
        };
        let sent = |to: &str| {
            let mut headers = HeaderMap::new();
            store.add_to(&mut headers, &url(to));
            headers.remove(header::COOKIE).map(|value| value.to_str().unwrap().to_owned())
        };
        set("node=a; Domain=elsewhere.example; Secure; Path=/mcp", "http://127.0.0.1:1/mcp");
        set("stray=b", "http://127.0.0.1:2/mcp");
        assert_eq!(sent("http://127.0.0.1:1/mcp/x").as_deref(), Some("node=a"));
        assert_eq!(sent("http://127.0.0.1:1/other"), None);
        assert_eq!(sent("http://127.0.0.1:2/mcp"), None);
    }

    #[test]
    fn cookies_are_bounded_and_replaced() {
        let url = Url::parse("http://127.0.0.1:1/mcp").unwrap();
        let store = Cookies::new(&url);
        let set = |text: &str| {
            store.keep(&HeaderMap::from_iter([(header::SET_COOKIE, HeaderValue::from_str(text).unwrap())]), &url);
        };
        let sent = || {
            let mut headers = HeaderMap::new();
            store.add_to(&mut headers, &url);
            headers.remove(header::COOKIE).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        set("session=a; Path=/mcp");
        (0..1000).for_each(|at| set(&format!("node={at}; Path=/mcp")));
        assert!(sent().contains("session=a") && sent().contains("node=999"), "{}", sent());
        for at in 0..1000 {
            set(&format!("c{at}={}; Path=/mcp", "x".repeat(1000)));
            assert!(sent().len() <= LONGEST_HEADER + MOST_COOKIES * 2, "{} bytes after {at}", sent().len());
            assert!(sent().contains(&format!("c{at}=")), "the latest is there");
        }
        set(&format!("long={}", "x".repeat(5000)));
        assert!(!sent().contains("long="));
    }
}
