//! HTTP/1.1 as far as the server and the direct client need it: heads, bodies with a length or in chunks, keep-alive.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::inbox::{Inbox, find_line_end};

#[derive(Clone, Copy)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
}

/// The start line, and the fields as they came.
pub(crate) struct Head<'a> {
    pub(crate) start_line: &'a str,
    pub(crate) framing: Framing,
    fields: &'a str,
}

impl<'a> Head<'a> {
    /// Returns the value of the first field with this name.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        let fields = self.fields.lines().filter_map(|line| line.split_once(':'));
        let mut values = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.next()
    }
}

/// One end of a connection.
pub(crate) struct Wire<S> {
    stream: S,
    inbox: Inbox,
    /// The last body that came in chunks, joined.
    joined: Vec<u8>,
    /// The last body that came with a length is still in the inbox: this many bytes.
    lent: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, room: usize) -> Self {
        Self { stream, inbox: Inbox::with_room(room), joined: Vec::new(), lent: 0 }
    }

    /// The next head, as `read` sees it; `None` when the other end closed the connection between messages.
    pub(crate) async fn head<T>(&mut self, read: impl Fn(&Head<'_>) -> T) -> io::Result<Option<T>> {
        self.inbox.consume(std::mem::take(&mut self.lent));
        loop {
            if let Some((head, length)) = parse_head(self.inbox.unread())? {
                let seen = read(&head);
                self.inbox.consume(length);
                return Ok(Some(seen));
            }
            if self.inbox.fill(&mut self.stream).await? == 0 {
                return if self.inbox.unread().is_empty() { Ok(None) } else { Err(cut_short()) };
            }
        }
    }

    /// The body that belongs to the head just read.
    pub(crate) async fn body(&mut self, framing: Framing) -> io::Result<&[u8]> {
        match framing {
            Framing::Length(length) => {
                while self.inbox.unread().len() < length {
                    self.fill().await?;
                }
                self.lent = length;
                Ok(&self.inbox.unread()[..length])
            }
            Framing::Chunked => {
                self.joined.clear();
                while let length @ 1.. = self.chunk_size().await? {
                    self.join(length).await?;
                    self.line().await?;
                }
                while !self.line().await?.is_empty() {}
                Ok(&self.joined)
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Encrypted streams hold bytes back until told to send them.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        self.stream.flush().await
    }

    async fn chunk_size(&mut self) -> io::Result<usize> {
        let line = self.line().await?;
        let digits = line.split(';').next().unwrap_or_default();
        usize::from_str_radix(digits.trim(), 16).map_err(io::Error::other)
    }

    async fn join(&mut self, mut missing: usize) -> io::Result<()> {
        self.joined.reserve(missing);
        while missing > 0 {
            if self.inbox.unread().is_empty() {
                self.fill().await?;
            }
            let unread = self.inbox.unread();
            let count = unread.len().min(missing);
            self.joined.extend_from_slice(&unread[..count]);
            self.inbox.consume(count);
            missing -= count;
        }
        Ok(())
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(line) = self.inbox.take_line() {
                return Ok(text(line)?.trim_end().to_owned());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match self.inbox.fill(&mut self.stream).await? {
            0 => Err(cut_short()),
            _ => Ok(()),
        }
    }
}

/// A whole head at the beginning of `bytes`, and its length.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head<'_>, usize)>> {
    let Some(first) = find_line_end(bytes) else {
        return Ok(None);
    };
    let mut head = Head { start_line: text(&bytes[..first])?.trim_end(), framing: Framing::Length(0), fields: "" };
    let mut position = first + 1;
    while let Some(length) = find_line_end(&bytes[position..]) {
        let line = text(&bytes[position..position + length])?.trim_end();
        position += length + 1;
        let Some((name, value)) = line.split_once(':') else {
            head.fields = text(&bytes[first + 1..position])?;
            return Ok(Some((head, position)));
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.framing = Framing::Length(value.parse().map_err(io::Error::other)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunked;
        }
    }
    Ok(None)
}

fn text(bytes: &[u8]) -> io::Result<&str> {
    str::from_utf8(bytes).map_err(io::Error::other)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed within a message")
}
