//! The host's lines: what a naive split gives, however they arrive, and out again unchanged.

#![no_main]

mod cuts;

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::{Body, Incoming, Lines, Writer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Gives one piece a read, and takes as much a write as the piece whose turn it is.
struct Host {
    pieces: VecDeque<Bytes>,
    written: Vec<u8>,
}

impl AsyncRead for Host {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        while let Some(mut piece) = self.pieces.pop_front() {
            if piece.is_empty() {
                continue; // would be the end
            }
            buffer.put_slice(&piece.split_to(piece.len().min(buffer.remaining())));
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
            break;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Host {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let room = self.pieces.pop_front().map_or(usize::MAX, |piece| piece.len().max(1));
        let taken = room.min(bytes.len());
        self.written.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((limit, rest)) = input.split_first() else { return };
    let Some((pieces, text)) = cuts::cut(rest) else { return };
    let limit = usize::from(*limit);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = runtime.block_on(async {
        let mut lines = Lines::new(Host { pieces: pieces.clone().into(), written: Vec::new() }, limit);
        let mut read = Vec::new();
        loop {
            match lines.next().await {
                Incoming::Line(line) => read.push(Some(line.to_vec())),
                Incoming::TooLong(_) => read.push(None),
                Incoming::End => break read,
            }
        }
    });
    let expected: Vec<Option<Vec<u8>>> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            if line.len() > limit {
                return Some(None);
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (!line.iter().all(u8::is_ascii_whitespace)).then(|| Some(line.to_vec()))
        })
        .collect();
    assert_eq!(read, expected);
    runtime.block_on(async {
        let mut host = Host { pieces: pieces.clone().into(), written: Vec::new() };
        let mut writer = Writer::new(&mut host);
        writer.push(&Body::Many(pieces.clone()));
        writer.push(&Body::One(Bytes::copy_from_slice(text)));
        writer.finish().await.unwrap();
        assert_eq!(writer.backlog(), 0);
        assert_eq!(host.written, [text, b"\n", text, b"\n"].concat());
    });
});
