//! What this program sent in secret is masked in a server's words before a log or an error shows them.
//!
//! # Invariants
//!
//! - A text is masked before it is cut, because the rest of a secret is not recognized. The beginning of a secret at the end
//!   of a text is masked, too, because the text may have been cut before.
//! - Secrets are collected only when words are shown: a message that succeeds costs nothing.
//! - What is kept only to be recognized has a limit.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::{
    Url,
    header::{self, HeaderName, HeaderValue},
};
use serde_json::Value;

use super::Http;
use crate::{
    mcp::header::PROTOCOL_VERSION,
    message::{Message, peek},
    oauth::{Credential, protocol::form::encode_one},
    remote::error::Error,
    secret::Secret,
    sync::LockExt,
    text::{is_key, one_line},
};

/// Headers of the user whose values are no secrets.
const NOT_SECRET: [HeaderName; 7] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::ORIGIN,
    header::USER_AGENT,
    PROTOCOL_VERSION,
];
/// Shorter values are words, not secrets, in bytes.
const SHORTEST_SECRET: usize = 6;
/// Shorter beginnings of a secret at the end of a text may be words of it, in bytes.
const SHORTEST_PART: usize = 8;
/// The shortest text that is taken for a JWS (RFC 7515 §3.1), in bytes: the header of the smallest one.
const SHORTEST_JWS: usize = 16;
/// How much of a text is masked, in bytes: four times what [`one_line`] reads, because masks shorten a text.
const LONGEST_TEXT: usize = 64 * 1024;
/// Sessions and endpoints that are remembered: the one in use, and those whose streams may still be open.
const MOST_NAMED: usize = 8;
/// What stands in the place of a secret.
const MASK: &str = "…";

/// What the server named and requests carry: IDs of sessions, and what is secret in the endpoints of HTTP+SSE.
#[derive(Debug, Default)]
pub(super) struct Named(Mutex<VecDeque<Secret<String>>>);

impl Named {
    fn note(&self, value: &str) {
        let mut named = self.0.guard();
        if !named.iter().any(|known| known.expose() == value) {
            named.truncate(MOST_NAMED - 1);
            named.push_front(Secret::new(value.to_owned()));
        }
    }
}

impl Http {
    /// Remembers the ID of a session, so that it is masked from now on.
    pub(crate) fn note_session(&self, id: &HeaderValue) {
        if let Ok(id) = id.to_str() {
            self.named.note(id);
        }
    }

    /// Remembers what is secret in the URL of an endpoint, because it names the session.
    pub(crate) fn note_endpoint(&self, endpoint: &Url) {
        secrets_of(endpoint).iter().for_each(|secret| self.named.note(secret));
    }

    /// Returns what the server says as [`one_line`] does, without what this program sent in secret.
    pub(crate) fn masked_line(&self, words: &[u8]) -> String {
        self.secrets(None).masked_line(words)
    }

    /// Returns the message of a JSON-RPC error in quotes, masked, or the whole error if it has no message.
    pub(crate) fn masked_error(&self, error: &str) -> String {
        quoted(error, |words| self.masked_line(words.as_bytes()))
    }

    /// Returns the error for a server that answers `initialize` as modern servers do.
    pub(crate) fn not_legacy(&self, answer: Message) -> Error {
        let words = match peek::error(&answer.body).and_then(|error| error.message) {
            Some(words) => format!("\"{}\"", self.masked_line(words.as_bytes())),
            None => "it answered with a protocol version that has no initialize".to_owned(),
        };
        Error::NotLegacy { answer: Box::new(answer), words }
    }

    /// Collects what this program sends in secret, and the credential that one request `used`.
    pub(super) fn secrets(&self, used: Option<&Credential>) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in self.given_headers.iter().filter(|(name, _)| !NOT_SECRET.contains(name)) {
            secrets.add_header(name, value);
        }
        if let Some(value) = self.clients.proxy_to(&self.server).as_ref().and_then(|proxy| proxy.basic_auth()) {
            secrets.add_header(&header::PROXY_AUTHORIZATION, value);
        }
        let in_use: Vec<_> = self.authorizer.iter().flat_map(|authorizer| authorizer.known()).collect();
        for credential in in_use.iter().map(|credential| &**credential).chain(used) {
            secrets.add(credential.token().expose());
            secrets.add(credential.tokens().access_token().expose());
        }
        let cookies = self.cookies.iter().flat_map(|cookies| cookies.values());
        cookies.chain(secrets_of(&self.server)).for_each(|value| secrets.add(&value));
        self.named.0.guard().iter().for_each(|value| secrets.add(value.expose()));
        secrets.in_order()
    }
}

/// Masks a server's words for those who have no [`Http`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Masker(Option<Arc<Http>>);

impl Masker {
    /// Returns what masks the secrets of a client.
    pub(crate) fn of(http: &Arc<Http>) -> Self {
        Self(Some(http.clone()))
    }

    /// Returns what the server says, as [`Http::masked_line`] does.
    pub(crate) fn line(&self, words: &str) -> String {
        self.0.as_ref().map_or_else(|| one_line(words.as_bytes()), |http| http.masked_line(words.as_bytes()))
    }

    /// Returns the message of a JSON-RPC error in quotes, masked, or the whole error if it has no message.
    pub(crate) fn error(&self, error: &str) -> String {
        quoted(error, |words| self.line(words))
    }
}

/// Returns the message of a JSON-RPC error in quotes, or the whole error if it has no message.
fn quoted(error: &str, mask: impl Fn(&str) -> String) -> String {
    let error_object = serde_json::from_str::<Value>(error).ok();
    let message = error_object.as_ref().and_then(|error| error["message"].as_str());
    format!("\"{}\"", mask(message.unwrap_or(error)))
}

/// What is masked, longest first.
#[derive(Default)]
pub(super) struct Secrets(Vec<Form>);

/// A secret as a server may write it.
struct Form {
    text: String,
    /// Its beginning is no word.
    may_be_cut: bool,
}

impl Secrets {
    fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST_SECRET {
            return;
        }
        let json = serde_json::to_string(secret).unwrap_or_default();
        let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned();
        let form = encode_one(secret);
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        let forms = [form.replace('+', "%20"), form, json.replace('/', "\\/"), json, html, secret.to_owned()];
        // Before a space stands a scheme.
        let may_be_cut = !secret.contains(' ');
        for text in forms {
            if !self.0.iter().any(|known| known.text == text) {
                self.0.push(Form { text, may_be_cut });
            }
        }
    }

    /// Adds the value of a header, also without `Bearer` and the like before it, and what is inside it.
    fn add_header(&mut self, name: &HeaderName, value: &HeaderValue) {
        let value = String::from_utf8_lossy(value.as_bytes());
        self.add(&value);
        let credential = value.rsplit(' ').next().unwrap_or_default();
        self.add(credential);
        if name == header::COOKIE {
            value.split(';').filter_map(|pair| Some(pair.split_once('=')?.1.trim())).for_each(|value| self.add(value));
        }
        // RFC 7617 §2: the user and the password.
        let is_basic = value.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "));
        if let (true, Ok(pair)) = (is_basic, BASE64_STANDARD.decode(credential)) {
            let pair = String::from_utf8_lossy(&pair);
            self.add(&pair);
            self.add(pair.split_once(':').unwrap_or_default().1);
        }
    }

    /// Puts what is a part of another secret after it.
    fn in_order(mut self) -> Self {
        self.0.sort_by_key(|form| std::cmp::Reverse(form.text.len()));
        self
    }

    /// Returns what a server says as [`one_line`] does, without the secrets.
    pub(super) fn masked_line(&self, words: &[u8]) -> String {
        let words = String::from_utf8_lossy(&words[..words.len().min(LONGEST_TEXT)]);
        one_line(self.masked(&words).as_bytes())
    }

    /// Returns the text without the secrets.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut text = self.0.iter().fold(text.to_owned(), |text, secret| match text.contains(&secret.text) {
            true => text.replace(&secret.text, MASK),
            false => text,
        });
        // A character may have been cut, too.
        let end = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let part = |secret: &Form| {
            let lengths = (SHORTEST_PART..secret.text.len()).rev();
            let mut parts = lengths.filter_map(|length| secret.text.get(..length));
            secret.may_be_cut.then(|| parts.find(|part| end.ends_with(part)).map(str::len)).flatten()
        };
        if let Some(length) = self.0.iter().filter_map(part).max() {
            text.truncate(end.len() - length);
            text.push_str(MASK);
        }
        without_jws(&text)
    }
}

/// Returns a text without a JWS (RFC 7515 §3.1): a proof (RFC 9449 §4.2) is made for one request and not kept, so its form
/// is what it is recognized by.
fn without_jws(text: &str) -> String {
    /// How a JSON object begins in base64url.
    const BEGINNING: &str = "eyJ";
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.');
    let (mut masked, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(BEGINNING) {
        let (before, token) = rest.split_at(start);
        let length = token.find(|character| !is_part(character)).unwrap_or(token.len());
        let (token, after) = token.split_at(length);
        masked.push_str(before);
        let is_jws = token.len() >= SHORTEST_JWS && !masked.ends_with(is_part);
        masked.push_str(if is_jws { MASK } else { token });
        rest = after;
    }
    masked + rest
}

/// Returns what is secret in a URL: the values of its query, and the parts of its path that are keys.
fn secrets_of(url: &Url) -> Vec<String> {
    let query = url.query().unwrap_or_default().split('&');
    let raw = query.filter_map(|pair| Some(pair.split_once('=')?.1.to_owned()));
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    let keys = url.path().split('/').filter(|part| is_key(part)).map(ToOwned::to_owned);
    raw.chain(values).chain(keys).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(headers: &[(&'static str, &'static str)]) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in headers {
            secrets.add_header(&HeaderName::from_static(name), &HeaderValue::from_static(value));
        }
        secrets.in_order()
    }

    #[test]
    fn secret_is_masked_in_each_form() {
        let secrets = secrets(&[
            ("authorization", "Bearer a+b/c&d=e"),
            ("cookie", "first=one-cookie; second=other-cookie"),
            ("proxy-authorization", "Basic YW5uYTpodXNoLXBhc3N3b3Jk"),
            ("x-mode", "fast"),
        ]);
        for (text, masked) in [
            ("the token a+b/c&d=e is bad", "the token … is bad"),
            ("the header Bearer a+b/c&d=e is bad", "the header … is bad"),
            (r#"{"token":"a+b\/c&d=e"}"#, r#"{"token":"…"}"#),
            ("?token=a%2Bb%2Fc%26d%3De&x", "?token=…&x"),
            ("<p>a+b/c&amp;d=e</p>", "<p>…</p>"),
            ("one-cookie, not other-cookie", "…, not …"),
            ("hush-password of anna", "… of anna"),
            ("a fast Bearer", "a fast Bearer"),
        ] {
            assert_eq!(secrets.masked(text), masked, "{text}");
        }
    }

    #[test]
    fn longer_secret_is_masked_before_its_part() {
        let secrets = secrets(&[("x-key", "abcdef"), ("x-other", "abcdefghij")]);
        assert_eq!(secrets.masked("abcdefghij abcdef"), "… …");
    }

    #[test]
    fn beginning_of_secret_at_the_end_is_masked() {
        let secrets = secrets(&[("authorization", "Bearer 0123456789abcdef")]);
        for (text, masked) in [
            ("got 0123456789abcde", "got …"),
            ("got 01234567", "got …"),
            ("got 0123456", "got 0123456"),
            ("got 01234567\u{fffd}", "got …"),
            ("got 01234567 there", "got 01234567 there"),
            ("the scheme is Bearer 0", "the scheme is Bearer 0"),
        ] {
            assert_eq!(secrets.masked(text), masked, "{text}");
        }
        let long = format!("{}0123456789abcdef", "x ".repeat(95));
        let shown = secrets.masked_line(long.as_bytes());
        assert!(!shown.contains("01234567") && shown.ends_with('…'), "{shown}");
        let echoes = "0123456789abcdef".repeat(LONGEST_TEXT);
        assert!(!secrets.masked_line(&echoes.as_bytes()[8..]).contains("012345"), "however the text is cut");
    }

    #[test]
    fn jws_is_masked_by_its_form() {
        const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCJ9.eyJodG0iOiJQT1NUIn0.c2lnbmF0dXJl";
        let none = Secrets::default();
        for (text, masked) in [
            (format!("proof {PROOF}, bad"), "proof …, bad"),
            (format!("\"{PROOF}\" {PROOF}"), "\"…\" …"),
            (format!("cut {}", &PROOF[..20]), "cut …"),
            ("eyJ is how it begins".to_owned(), "eyJ is how it begins"),
            ("keyJustOneLongIdentifier".to_owned(), "keyJustOneLongIdentifier"),
        ] {
            assert_eq!(none.masked(&text), masked, "{text}");
        }
    }

    #[test]
    fn query_and_keys_of_url_are_secret() {
        let url = Url::parse("https://a.example/s/0f8fad5bd9cb469fa165/mcp?key=a%2Bb&mode=x").unwrap();
        assert_eq!(secrets_of(&url), ["a%2Bb", "x", "a+b", "x", "0f8fad5bd9cb469fa165"]);
    }

    #[test]
    fn remembered_sessions_are_bounded() {
        let named = Named::default();
        (0..100).for_each(|at| named.note(&format!("session-{at}")));
        named.note("session-99");
        let kept = named.0.guard();
        assert_eq!((kept.len(), kept[0].expose().as_str()), (MOST_NAMED, "session-99"));
    }
}
