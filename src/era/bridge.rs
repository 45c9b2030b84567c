//! What stands between a host and a server of different eras: messages go in, messages come out. There are two bridges:
//! for a [legacy host](super::legacy_host) before a modern server, and for a [modern host](super::modern_host) before a
//! legacy server.
//!
//! # Invariants
//!
//! - A bridge does no I/O and knows no time.
//! - A request of the host is answered once, or is reported lost by [`Bridge::on_lost`].

use std::{fmt, time::Duration};

use crate::message::{Id, Message};

/// One direction of the translation between the eras.
pub(crate) trait Bridge: fmt::Debug + Send {
    /// A message of the host.
    fn on_host(&mut self, message: Message);

    /// A message of the server; `related` is the request in the middle of whose answer it came, if that is known.
    fn on_server(&mut self, message: Message, related: Option<&Id>);

    /// These requests got no answer from the server and will get none. Returns the requests of the host that are lost with
    /// them.
    fn on_lost(&mut self, ids: &[Id]) -> Vec<Id>;

    /// The time has come that was asked for.
    fn on_due(&mut self, due: Due);

    /// A lost session was replaced by one that began with this answer.
    fn on_renewed(&mut self, _answer: &Message) {}

    /// The next thing to do.
    fn step(&mut self) -> Option<Step>;
}

/// Something to do.
#[derive(Debug)]
pub(crate) enum Step {
    ToServer(Message),
    ToHost(Message),
    /// Come back to this after a while.
    Remind(Duration, Due),
}

/// What is to be thought of later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A person has had the time for this round of a call.
    Person { call: Id, round: u32 },
    /// A call is sent again that asks for nothing.
    Retry { call: Id, round: u32 },
    /// The task that a call has become is asked for.
    Poll { call: Id },
    /// A stream of notifications that the server has ended is opened again.
    Listen,
    /// What a server asked for in one moment is put to the host together.
    Gathered { call: Id },
    /// A request for input that no call could carry is refused.
    Parked { request: Id },
    /// The host has had the time to continue a call with this handle.
    Handle(String),
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const NOTHING: [String; 0] = [];

    pub(crate) fn message(text: &str) -> Message {
        Message::from_text(text.to_owned()).unwrap()
    }

    pub(crate) fn text(message: &Message) -> String {
        String::from_utf8(message.body.to_bytes().to_vec()).unwrap()
    }

    /// What a bridge does, as lines: `>` to the server, `<` to the host, `!` a reminder. Ids and handles of the bridge are
    /// numbered in the order in which they appear.
    pub(crate) struct Played<B> {
        pub(crate) bridge: B,
        pub(crate) ids: Vec<String>,
        pub(crate) dues: Vec<Due>,
    }

    impl<B: Bridge> Played<B> {
        pub(crate) fn new(bridge: B) -> Self {
            Self { bridge, ids: Vec::new(), dues: Vec::new() }
        }

        pub(crate) fn host(&mut self, text: &str) -> Vec<String> {
            self.bridge.on_host(message(&self.with_ids(text)));
            self.steps()
        }

        pub(crate) fn server(&mut self, text: &str) -> Vec<String> {
            self.bridge.on_server(message(&self.with_ids(text)), None);
            self.steps()
        }

        /// In the middle of the answer to this request.
        pub(crate) fn related(&mut self, to: &str, text: &str) -> Vec<String> {
            let to = Id::from_json(self.with_ids(to).as_bytes());
            self.bridge.on_server(message(&self.with_ids(text)), Some(&to));
            self.steps()
        }

        pub(crate) fn due(&mut self, number: usize) -> Vec<String> {
            self.bridge.on_due(self.dues[number].clone());
            self.steps()
        }

        /// Puts the ids of the bridge in the place of `#1`, `#2`.
        fn with_ids(&self, text: &str) -> String {
            self.ids
                .iter()
                .enumerate()
                .rev()
                .fold(text.to_owned(), |text, (number, id)| text.replace(&format!("#{}", number + 1), id))
        }

        pub(crate) fn steps(&mut self) -> Vec<String> {
            let mut lines = Vec::new();
            while let Some(step) = self.bridge.step() {
                let line = match step {
                    Step::ToServer(message) => format!("> {}", text(&message)),
                    Step::ToHost(message) => format!("< {}", text(&message)),
                    Step::Remind(after, due) => {
                        self.dues.push(due);
                        format!("! {after:?}")
                    }
                };
                self.note_ids(&line, "\"mcp-remote-", 29);
                self.note_ids(&line, "\"requestState\":\"", 0);
                let numbered = |line: String, (number, id): (usize, &String)| {
                    line.replace(id.as_str(), &format!("#{}", number + 1))
                };
                lines.push(self.ids.iter().enumerate().fold(line, numbered));
            }
            lines
        }

        fn note_ids(&mut self, line: &str, start: &str, length: usize) {
            let mut rest = line;
            while let Some(at) = rest.find(start) {
                // Of a handle, what is between the quotation marks.
                let (from, length) = if length == 0 { (at + start.len(), 32) } else { (at, length) };
                let Some(id) = rest.get(from..from + length) else { return };
                let is_ours = start.starts_with("\"mcp") || id.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_ours && !self.ids.contains(&id.to_owned()) {
                    self.ids.push(id.to_owned());
                }
                rest = &rest[from..];
                rest = rest.get(1..).unwrap_or_default();
            }
        }
    }
}
