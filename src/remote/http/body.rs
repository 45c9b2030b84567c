//! The body of a response: JSON or an event stream, as its label says unless its first bytes say otherwise.
//!
//! # Invariants
//!
//! - No more of a body is kept than the limit, and no more of all bodies than [`memory`](super::memory) allows.
//! - A server that sends without end does not keep the thread to itself.

use std::{pin::pin, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use log::{debug, warn};
use reqwest::{StatusCode, header};

use super::{
    Http,
    event_reader::{EventReader, REST_PATIENCE, begins_as_events},
    memory::Share,
};
use crate::{
    mcp::EVENT_STREAM,
    message::{Assembly, Body, Malformed, Message},
    network::message_client::Response,
    remote::{error::Error, evidence::is_sign_in_page},
};

/// The type of JSON (RFC 8259 §11).
const JSON: &str = "application/json";

/// What a response that is a success holds.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing.
    Empty,
    /// One message (or batch), and its share of the memory, which is free when it is delivered.
    Message(Message, Share),
    /// An event stream.
    Events(Box<EventReader>),
}

impl Http {
    /// Returns the next piece of a body; `None` at its end. An event stream may be quiet for as long as it
    /// likes unless the user set a limit, or others need the memory of an event that has begun.
    ///
    /// # Errors
    /// [`Error::Broken`] if the connection broke, [`Error::Silent`] after the body timeout or a stall,
    /// [`Error::Expands`] if the body is compressed too well.
    pub(crate) async fn chunk(&self, response: &mut Response, share: &Share) -> Result<Option<Bytes>, Error> {
        // Because a decoder may always be ready.
        tokio::task::coop::consume_budget().await;
        share.fed(pin!(self.piece(response))).await?
    }

    async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, Error> {
        let chunk = response.chunk();
        match self.network.body_timeout {
            None => chunk.await,
            Some(after) => {
                tokio::time::timeout(after, chunk).await.map_err(|_| Error::Silent { what: "data", after })?
            }
        }
        .map_err(Error::of_body)
    }

    /// Reads what came for one POST: a JSON body to its end, checked while it comes; of an event stream nothing yet.
    ///
    /// # Errors
    /// [`Error::NotMcp`] for a body that is not JSON and does not claim to be,
    /// [`Error::BadMessage`] for one that does, [`Error::TooLarge`], and those of [`chunk`](Self::chunk).
    pub(crate) fn content(&self, mut response: Response) -> impl Future<Output = Result<Content, Error>> + Send {
        let mut share = self.memory.share(&response);
        // No `async fn`, as `MessageClient::send`.
        async move {
            let kind = essence(&response).unwrap_or_default();
            if kind.eq_ignore_ascii_case(EVENT_STREAM) {
                return Ok(Content::Events(Box::new(EventReader::new(response, self.limit, share))));
            }
            let claims_json = is_json(kind);
            let (mut assembly, mut length, mut beginning) = (Assembly::default(), 0, Bytes::new());
            let fault = |malformed, response: &Response, beginning: &[u8]| {
                if claims_json { Error::BadMessage(malformed) } else { self.not_mcp(response, beginning) }
            };
            loop {
                let piece = {
                    let mut chunk = pin!(self.chunk(&mut response, &share));
                    if assembly.is_whole() {
                        // The answer is here; whether the response ends as announced does not matter.
                        tokio::time::timeout(REST_PATIENCE, chunk.as_mut()).await.unwrap_or(Ok(None)).unwrap_or(None)
                    } else {
                        chunk.await?
                    }
                };
                let Some(piece) = piece else { break };
                length += piece.len();
                if length > self.limit {
                    return Err(Error::TooLarge { limit: self.limit });
                }
                if beginning.is_empty() {
                    if begins_as_events(&piece) {
                        return Ok(Content::Events(Box::new(EventReader::begun(response, self.limit, share, piece))));
                    }
                    beginning = piece.clone();
                }
                assembly.push(piece).map_err(|malformed| fault(malformed, &response, &beginning))?;
                share.keep(length).await?;
                if response.is_read() {
                    break;
                }
            }
            if length == 0 {
                return Ok(Content::Empty);
            }
            match assembly.finish() {
                Ok(message) => Ok(Content::Message(message, share)),
                Err(malformed) => Err(fault(malformed, &response, &beginning)),
            }
        }
    }
}

impl Http {
    /// Reads the message that an event brings. Other data are logged: the first of this server as a warning, because a
    /// heartbeat repeats.
    ///
    /// # Errors
    /// [`Malformed`] if it is no message.
    pub(crate) fn message_of_event(&self, data: Body) -> Result<Message, Malformed> {
        let beginning = data.pieces().first().cloned().unwrap_or_default();
        Message::from_remote(data).inspect_err(|malformed| {
            let text = || self.masked_line(&beginning);
            if self.has_ignored_event.swap(true, Relaxed) {
                debug!("ignoring an event of the server that is {malformed}: {}", text());
            } else {
                let text = text();
                warn!("ignoring an event of the server that is {malformed}: {text} (only --debug logs further ones)");
            }
        })
    }
}

impl Http {
    /// Returns the error for a success that is neither JSON nor an event stream.
    pub(super) fn not_mcp(&self, response: &Response, beginning: &[u8]) -> Error {
        let secrets = self.secrets(None);
        let text = secrets.masked_line(beginning);
        if is_sign_in_page(beginning) {
            let status = response.status();
            return Error::WebSignIn { status, seen: format!("answered with the sign-in page \"{text}\"") };
        }
        let kind = match essence(response) {
            Some(kind) => secrets.masked_line(kind.as_bytes()).to_ascii_lowercase(),
            None => "a response without Content-Type".to_owned(),
        };
        let words = if text.is_empty() { String::new() } else { format!(" (\"{text}\")") };
        Error::NotMcp(format!("returned {kind}{words} instead of an MCP response"))
    }
}

/// Returns whether the response is an event stream, by its type without parameters and in any case.
pub(crate) fn is_event_stream(response: &Response) -> bool {
    essence(response).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENT_STREAM))
}

/// Returns whether a type is that of JSON (RFC 6839 §3.1 for the suffix).
fn is_json(kind: &str) -> bool {
    const SUFFIX: &str = "+json";
    let suffix = kind.len().checked_sub(SUFFIX.len()).and_then(|start| kind.get(start..));
    kind == JSON || kind.eq_ignore_ascii_case(JSON) || suffix.is_some_and(|end| end.eq_ignore_ascii_case(SUFFIX))
}

/// Returns the type without parameters, as the server writes it (RFC 9110 §8.3.1: in any case).
fn essence(response: &Response) -> Option<&str> {
    let value = response.headers().get(header::CONTENT_TYPE)?;
    // Nearly always one of these, which needs no look at each character.
    if let Some(usual) = [JSON, EVENT_STREAM].into_iter().find(|usual| value == usual) {
        return Some(usual);
    }
    let value = value.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim())
}

/// Returns the encoding of a body that this program cannot read: what it asked for is decoded already, and the header taken
/// away (RFC 9110 §8.4).
pub(super) fn encoding(response: &Response) -> Option<String> {
    const CODINGS: [&str; 7] = ["br", "compress", "deflate", "gzip", "x-compress", "x-gzip", "zstd"];
    let value = response.headers().get(header::CONTENT_ENCODING)?.to_str().ok()?;
    let mut codings = value.split(',').map(|coding| coding.trim().to_ascii_lowercase());
    let has_body = response.content_length() != Some(0) && response.status() != StatusCode::ACCEPTED;
    (has_body && codings.any(|coding| CODINGS.contains(&coding.as_str()))).then(|| value.to_owned())
}
