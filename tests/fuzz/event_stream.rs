//! An event stream: the same events however it is cut, and those of the standard.

#![no_main]

mod cuts;

use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::EventStream;

type Event = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Default, PartialEq)]
struct Read {
    events: Vec<Event>,
    last_id: Option<Vec<u8>>,
    retry: Option<Duration>,
}

fuzz_target!(|input: &[u8]| {
    let Some((pieces, text)) = cuts::cut(input) else { return };
    let expected = standard(text);
    assert_eq!(ours(&pieces, usize::MAX >> 1).unwrap(), expected, "cut");
    assert_eq!(ours(&[Bytes::copy_from_slice(text)], usize::MAX >> 1).unwrap(), expected, "whole");
    // With a limit: an error, or the very same.
    if let Some(limited) = ours(&pieces, 16) {
        assert_eq!(limited, expected);
        assert!(limited.events.iter().all(|(_, data, _)| data.len() <= 16 + 8));
    }
});

fn ours(pieces: &[Bytes], limit: usize) -> Option<Read> {
    let mut stream = EventStream::new(limit);
    let mut read = Read::default();
    for piece in pieces {
        stream.push(piece.clone());
        while let Some(event) = stream.next().ok()? {
            read.events.push((event.name.to_vec(), event.data.to_bytes().to_vec(), event.id.map(|id| id.to_vec())));
        }
    }
    read.last_id = stream.last_id().map(|id| id.to_vec());
    read.retry = stream.retry();
    Some(read)
}

/// WHATWG HTML §9.2.6 over the whole text.
fn standard(text: &[u8]) -> Read {
    let mut text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let (mut name, mut data, mut id) = (Vec::new(), Vec::new(), None);
    let mut read = Read::default();
    while let Some(end) = text.iter().position(|byte| b"\r\n".contains(byte)) {
        let line = &text[..end];
        text = &text[end + if text[end..].starts_with(b"\r\n") { 2 } else { 1 }..];
        if line.is_empty() {
            read.last_id = id.clone().or(read.last_id);
            let (name, id) = (std::mem::take(&mut name), id.take());
            data.pop(); // the last line feed
            if !data.is_empty() {
                read.events.push((name, std::mem::take(&mut data), id));
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"event" => name = value.to_vec(),
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            b"id" if !value.contains(&0) => id = Some(value.to_vec()),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let milliseconds = std::str::from_utf8(value).unwrap().parse().ok();
                read.retry = milliseconds.map(Duration::from_millis).or(read.retry);
            }
            _ => {}
        }
    }
    read
}
