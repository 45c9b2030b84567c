//! What is asked of the server's tools, and what the right answer is: the two ends of the bench meet here.

use std::io::Write;
use std::time::Duration;

use serde_json::Value;

/// The messages as the driver writes them; the server recognises this shape without parsing.
pub(crate) const ID_PREFIX: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":";
pub(crate) const CALL_INFIX: &[u8] = b",\"method\":\"tools/call\",\"params\":{\"name\":\"";
pub(crate) const ARGUMENTS_INFIX: &[u8] = b"\",\"arguments\":";

const TEXT_RESULT: &[u8] = b",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"";
const TEXT_RESULT_END: &[u8] = b"\"}]}}";

const FILLER: &[u8; 64] = b"It is a truth universally acknowledged, that a single byte must ";

/// One call of one tool.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Echo,
    EchoSse,
    Sleep {
        milliseconds: u32,
    },
    Burst {
        notifications: u32,
    },
    Big {
        bytes: usize,
        sse: bool,
    },
    Swallow {
        bytes: usize,
        /// An adapter may refuse it with an error, because its memory for calls has a limit.
        may_be_refused: bool,
    },
    /// A compressed answer of [`BOMB`] bytes that never ends.
    Bomb,
}

/// Bytes of a bomb: a little less than the largest message that is taken by default.
pub(crate) const BOMB: usize = 60 * 1024 * 1024;

/// Many calls: how many, and how many of them at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) call: Call,
    pub(crate) calls: u32,
    pub(crate) in_flight: u32,
    /// No call is begun after this long, however many are left.
    pub(crate) budget: Duration,
}

impl Call {
    pub(crate) fn tool(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::EchoSse => "echo_sse",
            Self::Sleep { .. } => "sleep",
            Self::Burst { .. } => "burst",
            Self::Big { .. } => "big",
            Self::Swallow { .. } => "swallow",
            Self::Bomb => "bomb",
        }
    }

    pub(crate) fn write_request(self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(ID_PREFIX);
        push_number(id, out);
        out.extend_from_slice(CALL_INFIX);
        out.extend_from_slice(self.tool().as_bytes());
        out.extend_from_slice(ARGUMENTS_INFIX);
        match self {
            Self::Echo | Self::EchoSse => {
                out.extend_from_slice(b"{\"text\":\"call ");
                push_number(id, out);
                out.extend_from_slice(b"\"}");
            }
            Self::Sleep { milliseconds } => push(out, format_args!("{{\"ms\":{milliseconds}}}")),
            Self::Burst { notifications } => push(out, format_args!("{{\"n\":{notifications}}}")),
            Self::Big { bytes, sse } => push(out, format_args!("{{\"bytes\":{bytes},\"sse\":{sse}}}")),
            Self::Bomb => out.extend_from_slice(b"{}"),
            Self::Swallow { bytes, .. } => {
                out.extend_from_slice(b"{\"text\":\"");
                push_filler(bytes, out);
                out.extend_from_slice(b"\"}");
            }
        }
        out.extend_from_slice(b"}}");
    }

    /// Whether `line` answers the call with this id as the server answers it: the very bytes, or the same meaning.
    pub(crate) fn is_answered_by(self, id: u32, line: &[u8]) -> bool {
        line.strip_prefix(ID_PREFIX)
            .and_then(|rest| strip_number(rest, id))
            .and_then(|rest| rest.strip_prefix(TEXT_RESULT))
            .and_then(|rest| rest.strip_suffix(TEXT_RESULT_END))
            .is_some_and(|text| self.is_text(id, text))
            || serde_json::from_slice::<Value>(line).is_ok_and(|answer| {
                answer["result"]["content"][0]["text"].as_str().is_some_and(|text| self.is_text(id, text.as_bytes()))
                    || matches!(self, Self::Swallow { may_be_refused: true, .. }) && answer["error"]["code"].is_i64()
            })
    }

    fn is_text(self, id: u32, text: &[u8]) -> bool {
        match self {
            Self::Echo | Self::EchoSse => {
                text.strip_prefix(b"call ").and_then(|rest| strip_number(rest, id)).is_some_and(<[u8]>::is_empty)
            }
            Self::Sleep { .. } | Self::Burst { .. } => text == b"done",
            Self::Big { bytes, .. } => text.len() == bytes && is_filler(text),
            Self::Bomb => false,
            Self::Swallow { bytes, .. } => text == bytes.to_string().as_bytes(),
        }
    }
}

/// A result that holds one text: what stands before the text, and after it.
pub(crate) fn write_text_result_start(id: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(ID_PREFIX);
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(TEXT_RESULT);
}

pub(crate) fn write_text_result_end(out: &mut Vec<u8>) {
    out.extend_from_slice(TEXT_RESULT_END);
}

/// One numbered log notification.
pub(crate) fn write_notification(number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(NOTIFICATION);
    push_number(number, out);
    out.extend_from_slice(NOTIFICATION_END);
}

const NOTIFICATION: &[u8] =
    b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":{\"number\":";
const NOTIFICATION_END: &[u8] = b"}}}";

/// What a line from the server is, as far as the driver has to tell.
pub(crate) enum Line {
    Answer { id: u32 },
    Notification { number: u32 },
    Other,
    NotJson,
}

impl Line {
    pub(crate) fn read(line: &[u8]) -> Self {
        if let Some((id, _)) = line.strip_prefix(ID_PREFIX).and_then(take_number) {
            return Self::Answer { id };
        }
        if let Some((number, rest)) = line.strip_prefix(NOTIFICATION).and_then(take_number)
            && rest == NOTIFICATION_END
        {
            return Self::Notification { number };
        }
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return Self::NotJson;
        };
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        match (message.get("method"), number(&message["id"])) {
            (None, Some(id)) => Self::Answer { id },
            _ => {
                number(&message["params"]["data"]["number"]).map_or(Self::Other, |number| Self::Notification { number })
            }
        }
    }
}

/// The digits at the beginning of `bytes`, and what follows them.
pub(crate) fn take_number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    Some((number, &bytes[digits..]))
}

fn strip_number(bytes: &[u8], expected: u32) -> Option<&[u8]> {
    take_number(bytes).filter(|(number, _)| *number == expected).map(|(_, rest)| rest)
}

pub(crate) fn push_filler(bytes: usize, out: &mut Vec<u8>) {
    out.reserve(bytes + FILLER.len());
    for _ in 0..bytes / FILLER.len() {
        out.extend_from_slice(FILLER);
    }
    out.extend_from_slice(&FILLER[..bytes % FILLER.len()]);
}

fn is_filler(text: &[u8]) -> bool {
    text.chunks(FILLER.len()).all(|chunk| chunk == &FILLER[..chunk.len()])
}

fn push_number(number: u32, out: &mut Vec<u8>) {
    push(out, format_args!("{number}"));
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to a vector cannot fail.
    let _ = out.write_fmt(text);
}
