//! Bytes that arrived and were not read yet: one growing buffer, filled from a stream, taken line by line or piece by piece.

use std::io::{self, BufRead};

use tokio::io::{AsyncRead, AsyncReadExt};

pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// How many unread bytes are known to hold no line end.
    scanned: usize,
}

impl Inbox {
    /// Filled with ones and not with zeros, so that the pages exist before the clock runs.
    pub(crate) fn with_room(bytes: usize) -> Self {
        Self { bytes: vec![1; bytes], start: 0, end: 0, scanned: 0 }
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        self.scanned = self.scanned.saturating_sub(count);
    }

    pub(crate) fn clear(&mut self) {
        self.consume(self.end - self.start);
    }

    /// Waits for more bytes; 0 means that the stream has ended.
    pub(crate) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<usize> {
        self.make_room();
        let count = stream.read(&mut self.bytes[self.end..]).await?;
        self.end += count;
        Ok(count)
    }

    /// The next whole line, without its end.
    pub(crate) fn take_line(&mut self) -> Option<&[u8]> {
        let from = self.start + self.scanned;
        let Some(length) = find_line_end(&self.bytes[from..self.end]) else {
            self.scanned = self.end - self.start;
            return None;
        };
        let line = self.start..from + length;
        self.start = line.end + 1;
        self.scanned = 0;
        Some(&self.bytes[line])
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        if self.end < self.bytes.len() {
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            self.bytes.resize(self.bytes.len() * 2, 1);
        }
    }
}

/// `skip_until` is the standard library's public way to its vectorised byte search.
pub(crate) fn find_line_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let skipped = rest.skip_until(b'\n').ok()?;
    let last = skipped.checked_sub(1)?;
    (bytes[last] == b'\n').then_some(last)
}
