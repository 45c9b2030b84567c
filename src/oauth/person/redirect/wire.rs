//! The bytes of one browser request and its response (RFC 9112).
//!
//! This module uses the HTTP types of tiny_http, but not its `Server`. That `Server` panics when a client resets its
//! connection early (`peer_addr().unwrap()`), which would end the program. It also leaves connections unserved behind silent
//! ones, and has no limit for time, size or number.
//!
//! # Invariants
//!
//! - The head of a request has a maximum size.
//! - This module does not wait for a slow reader.

use std::io::Write;

use memchr::memmem;
use tiny_http::{HTTPVersion, Header, Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::oauth::person::page::Page;

/// Largest head of a request, in bytes. It is large because many local programs set cookies for `localhost`.
pub(super) const LARGEST_HEAD: usize = 256 * 1024;

/// Reads the head of a request, up to its empty line (RFC 9112 §2.1).
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    const END: &[u8] = b"\r\n\r\n";
    let mut bytes = Vec::new();
    let mut searched = 0;
    loop {
        if let Some(end) = memmem::find(&bytes[searched..], END) {
            bytes.truncate(searched + end);
            // The limit applies to the head only, because the last piece may contain more than the head.
            return String::from_utf8(bytes).ok().filter(|head| head.len() <= LARGEST_HEAD);
        }
        searched = bytes.len().saturating_sub(END.len() - 1);
        if bytes.len() >= LARGEST_HEAD + END.len() || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The head of a request.
pub(super) struct RedirectRequest {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: Vec<Header>,
}

impl RedirectRequest {
    pub(super) fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?.parse().ok()?, words.next()?.to_owned(), words.next()?);
        if words.next().is_some() || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
            return None;
        }
        let headers = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
        Some(Self { method, target, headers })
    }
}

/// A response to a browser.
pub(super) struct RedirectAnswer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl RedirectAnswer {
    pub(super) fn of(status: u16, kind: &str, body: String) -> Self {
        Self { status, headers: vec![("Content-Type", kind.to_owned())], body }
    }

    /// Returns the answer as it is sent.
    pub(super) fn to_bytes(&self, without_body: bool) -> Vec<u8> {
        // The URL contains a code, so no cache may store it and no later page may see it (RFC 9700 §4.2.4).
        const ALWAYS: [(&str, &str); 3] =
            [("Cache-Control", "no-store"), ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")];
        // RFC 9110 §15.5.6.
        let allow: &[_] = if self.status == 405 { &[("Allow", "GET, HEAD")] } else { &[] };
        let headers = self.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let headers = headers.chain(ALWAYS).chain(allow.iter().copied());
        let headers = headers.filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
        let (body, length) = (self.body.as_bytes(), self.body.len());
        let response = Response::new(StatusCode(self.status), headers, body, Some(length), None);
        let mut bytes = Vec::new();
        // HTTP/1.0 closes the connection, which tiny_http cannot express in another way.
        _ = response.raw_print(&mut bytes, HTTPVersion(1, 0), &[], without_body, None);
        bytes
    }
}

impl From<&Page> for RedirectAnswer {
    fn from(page: &Page) -> Self {
        let headers = Page::headers().into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        Self { status: page.status(), headers, body: page.html() }
    }
}

/// A browser that waits for a response. Dropping it sends [`Page::Interrupted`].
pub(super) struct Browser(Option<std::net::TcpStream>);

impl Browser {
    /// Returns the browser on a connection that has sent one request.
    pub(super) fn of(connection: std::net::TcpStream) -> Self {
        Self(Some(connection))
    }

    /// Sends the response, once.
    pub(super) fn answer(&mut self, answer: &RedirectAnswer, without_body: bool) {
        let Some(mut stream) = self.0.take() else { return };
        // Does not block, and need not: it fits into the buffer of a socket that was not written to.
        if let Err(error) = stream.write_all(&answer.to_bytes(without_body)) {
            log::debug!("cannot send the callback page to the browser: {error}");
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.answer(&RedirectAnswer::from(&Page::Interrupted), false);
    }
}
