//! A request to the callback port: the same verdict however its bytes arrive, a code only for the `state` that is waited
//! for, and an answer in which no word of the request is a header or markup.

#![no_main]

mod cuts;
mod shown;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::receive_redirect;
use tokio::io::{AsyncRead, ReadBuf};

/// Gives one piece a read.
struct Browser(VecDeque<Bytes>);

impl AsyncRead for Browser {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.0.retain(|piece| !piece.is_empty()); // would be the end
        if let Some(mut piece) = self.0.pop_front() {
            buffer.put_slice(&piece.split_to(piece.len().min(buffer.remaining())));
            self.0.push_front(piece);
        }
        Poll::Ready(Ok(()))
    }
}

/// Saves the fuzzer what it would have to guess.
const HEAD: &[u8] = b"GET /oauth/callback?";
const TAIL: &[u8] = b" HTTP/1.1\r\nHost: localhost:3335\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let Some((mut pieces, text)) = cuts::cut(rest) else { return };
    let whole = if kind % 2 == 0 {
        text.to_vec()
    } else {
        pieces.insert(0, Bytes::from_static(HEAD));
        pieces.push(Bytes::from_static(TAIL));
        [HEAD, text, TAIL].concat()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let receive = |pieces: VecDeque<Bytes>| {
        let (taken, answer) = runtime.block_on(receive_redirect(Browser(pieces)))?;
        Some((taken, String::from_utf8(answer).unwrap().split_inclusive("\r\n").filter(is_no_date).collect::<String>()))
    };
    let received = receive(VecDeque::from([Bytes::from(whole.clone())]));
    assert_eq!(receive(pieces.into()), received, "the cuts decide");
    let end = whole.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let Some(end) = end else { return assert_eq!(received, None) };
    let Some((taken, answer)) = received else {
        return assert!(std::str::from_utf8(&whole[..end]).is_err());
    };
    let find = |wanted: &str| taken.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
    assert!(find("code").is_none() || find("error").is_none());
    for name in ["error", "error_description", "unproven"] {
        find(name).into_iter().for_each(shown::assert_is_line);
    }
    if let Some(state) = find("state") {
        assert_eq!(state, "s");
        assert!(find("code").is_some() || find("error").is_some());
        assert_eq!(find("unproven"), None);
    } else {
        assert_eq!(find("code"), None);
        page(&answer, whole.starts_with(b"HEAD "));
    }
});

/// The second may be another.
fn is_no_date(line: &&str) -> bool {
    !line.starts_with("Date: ")
}

fn page(answer: &str, is_head: bool) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    assert!(lines.next().unwrap().starts_with("HTTP/1.0 "), "{head}");
    const KNOWN: [&str; 10] = [
        "Allow",
        "Cache-Control",
        "Connection",
        "Content-Length",
        "Content-Security-Policy",
        "Content-Type",
        "Referrer-Policy",
        "Server",
        "Transfer-Encoding",
        "X-Content-Type-Options",
    ];
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        assert!(KNOWN.contains(&name), "{line}");
        shown::assert_is_line(line);
        if name == "Content-Length" {
            length = value.parse::<usize>().ok();
        }
    }
    // A request that cannot be read is none for a head only.
    if !(is_head && body.is_empty()) {
        assert_eq!(Some(body.len()), length);
    }
    assert!(!body.contains(|character: char| character.is_control() && character != '\n'), "{body:?}");
    assert_eq!(body.matches("<h1>").count(), body.matches("<main").count(), "{body}");
    assert!(!body.contains("<script") && body.matches("<svg").count() <= 1, "{body}");
}
