//! What is done with a message whatever the state of the connection: it is read, batches are taken apart, and requests
//! are owed an answer.
//!
//! # Invariants
//!
//! - No message goes further that is malformed, or calls an ignored tool.

use std::collections::HashSet;

use bytes::Bytes;
use log::{debug, warn};

use super::{
    Forward, LinkEvent,
    host::{Asked, ListPage},
};
use crate::{
    mcp::method,
    message::{Id, Malformed, Message, Part, Shape, peek},
    report::{self, Code, Report},
    text,
};

/// Requests the host may have open; one more is refused. The input is read on in any case: it may
/// bring what settles them, and its end must be noticed.
pub(super) const MOST_OWED: usize = 16 * 1024;
/// How many messages of the largest size these requests may be in total: a server that does not read them, or not answer,
/// leaves them in memory here. As many as for responses (`remote/http/memory.rs`).
const MOST_OWED_MESSAGES: usize = 2;
/// How a message of the Language Server Protocol begins. Cline's CLI tries this framing when it has given up on the
/// one of MCP.
const CONTENT_LENGTH: &[u8] = b"Content-Length:";

impl Forward {
    /// A line of the host.
    pub(super) fn line(&mut self, line: Bytes) {
        let framing = foreign_framing(&line);
        match Message::from_host(line) {
            Ok(message) => self.accept(message),
            Err(Malformed::NotJsonRpc { id }) => {
                warn!("the host sent a line of JSON that is not a JSON-RPC message");
                self.cx.host.reject_malformed(id.as_ref());
            }
            Err(error @ Malformed::NotJson { .. }) => {
                let what = match framing {
                    Some(framing) => format!("{framing}, but MCP over stdio uses one message per line, in UTF-8"),
                    None => format!("the host sent a line that is {error}"),
                };
                warn!("{what}");
                let message = format!("mcp-remote: Parse error: {what}");
                self.cx.host.reject(&Id::from_json(b"null"), report::PARSE_ERROR, &message);
            }
        }
    }

    /// A line of the host that is too long; its id, if it is a request.
    pub(super) fn too_long(&mut self, id: Option<&Id>) {
        let what = format!("the host's message is longer than {} bytes", self.cx.settings.limits.max_message_size);
        let report = Report::new(Code::TooLarge, what, None);
        warn!("{}", report.line());
        if let Some(id) = id {
            self.cx.host.reject_with(id, &report);
        }
    }

    fn accept(&mut self, message: Message) {
        debug!("from the host: {} bytes, {:?}", message.body.len(), message.shape);
        let most_bytes = MOST_OWED_MESSAGES.saturating_mul(self.cx.settings.limits.max_message_size);
        let host = &mut self.cx.host;
        match &message.shape {
            Shape::Batch(parts) => {
                // Taken apart where some of it does not go on as it is; `initialize` is never part
                // of a batch (MCP 2025-03-26, Lifecycle).
                let is_plain = |part: &Part| match part {
                    Part::Message(Shape::Request { method, .. }, _) => {
                        &**method != method::INITIALIZE && (&**method != method::TOOLS_CALL || !host.hides_tools())
                    }
                    Part::Message(Shape::Notification { method }, _) => {
                        !matches!(&**method, method::INITIALIZED | method::CANCELLED)
                            && (&**method != method::TOOLS_CALL || !host.hides_tools())
                    }
                    Part::Message(Shape::Response { .. }, _) => true,
                    Part::Message(Shape::Batch(_), _) | Part::Invalid(_) => false,
                };
                let fits =
                    host.owes() + parts.len() <= MOST_OWED && host.owed_bytes() + message.body.len() <= most_bytes;
                if fits && self.link.takes_batches() && parts.iter().all(is_plain) {
                    for part in parts {
                        if let Part::Message(Shape::Request { id, method }, span) = part {
                            host.owe_part(id, method, span.len());
                        }
                    }
                    return self.step(LinkEvent::Message(message));
                }
                for part in message.split() {
                    match part {
                        Ok(message) => self.accept(message),
                        Err(id) => self.cx.host.reject_malformed(id.as_ref()),
                    }
                }
            }
            Shape::Request { id, .. } => {
                if let Some(name) = host.ignored_tool(&message) {
                    return host.reject(id, report::INTERNAL_ERROR, &format!("Tool \"{name}\" is not available"));
                }
                let too_many = if host.owes() >= MOST_OWED {
                    Some(format!("more than {MOST_OWED} requests are pending"))
                } else if host.owed_bytes() + message.body.len() > most_bytes {
                    Some(format!("requests of more than {most_bytes} bytes in total are pending"))
                } else {
                    None
                };
                if let Some(what) = too_many {
                    return host.reject_with(id, &Report::new(Code::TooMany, what, None));
                }
                host.owe(id, &message);
                self.step(LinkEvent::Message(message));
            }
            Shape::Notification { method } if &**method == method::CANCELLED => self.cancel(message),
            Shape::Response { id: Some(id) } if host.answers_us(id) => debug!("the host answered {id}"),
            Shape::Notification { .. } | Shape::Response { .. } => match host.ignored_tool(&message) {
                // A call without an id is none (MCP 2025-11-25, Tools), but a server may carry it out all the same.
                Some(name) => {
                    let name = text::one_line(name.as_bytes());
                    warn!("dropping a call of the tool {name:?} without an ID: --ignore-tool hides that tool");
                }
                None => self.step(LinkEvent::Message(message)),
            },
        }
    }

    /// The host no longer wants an answer.
    fn cancel(&mut self, message: Message) {
        if let Some(id) = peek::cancelled_id(&message)
            && let Some(asked) = self.cx.host.asked(&id)
        {
            self.step(LinkEvent::GivenUp(Some(id.clone())));
            if asked == Asked::Initialize {
                debug!("not cancelling initialize: MCP does not allow it"); // MCP 2025-11-25, Cancellation
                return self.step(LinkEvent::EndHold);
            }
            self.cx.host.cancel(id.clone());
            if self.link.take_back(&id) {
                return; // not sent yet: then the server need not hear of either
            }
        }
        self.step(LinkEvent::Message(message));
    }

    /// A message of the server.
    pub(super) fn server_message(&mut self, message: Message) {
        let shape = || self.cx.settings.masker.line(&format!("{:?}", message.shape));
        debug!("from the server: {} bytes, {}", message.body.len(), shape());
        match &message.shape {
            Shape::Request { .. } | Shape::Notification { .. } => self.cx.host.forward(message),
            Shape::Response { id: Some(id) } => match self.cx.host.other_spelling(id) {
                Some(asked) => {
                    let message = message.with_id(&asked);
                    self.step(LinkEvent::Answer(asked, message));
                }
                None => {
                    let id = id.clone();
                    self.step(LinkEvent::Answer(id, message));
                }
            },
            Shape::Response { id: None } => warn!("dropping a response of the server without an ID"),
            Shape::Batch(parts) => {
                let host = &mut self.cx.host;
                let settles = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => match host.asked(id) {
                        _ if !self.link.takes_in_batch(id) => false,
                        Some(Asked::Call | Asked::Other) => true,
                        Some(Asked::List(_, ListPage::Unknown)) => !host.hides_tools(),
                        _ => false,
                    },
                    Part::Message(Shape::Request { .. } | Shape::Notification { .. }, _) => true,
                    _ => false,
                };
                let mut ids = HashSet::new();
                let is_distinct = |part: &Part| match part {
                    Part::Message(Shape::Response { id: Some(id) }, _) => ids.insert(id.clone()),
                    _ => true,
                };
                let is_direct = self.link.passes_batches();
                if is_direct && parts.iter().all(settles) && parts.iter().all(is_distinct) {
                    host.forward_batch(message, &ids);
                } else {
                    message.into_parts().for_each(|part| self.server_message(part));
                }
            }
        }
    }
}

/// Returns what a line that is no message shows of how the host writes its messages.
fn foreign_framing(line: &[u8]) -> Option<&'static str> {
    let begins_with = |start: &[u8]| line.get(..start.len()).is_some_and(|found| found.eq_ignore_ascii_case(start));
    // A byte order mark (RFC 2781 §3.2), or an ASCII character in two bytes.
    if begins_with(b"\xff\xfe") || begins_with(b"\xfe\xff") || matches!(line, [0, ..] | [_, 0, ..]) {
        Some("the host writes its messages in UTF-16")
    } else if begins_with(CONTENT_LENGTH) {
        Some("the host frames its messages with Content-Length, as the Language Server Protocol does")
    } else {
        None
    }
}
