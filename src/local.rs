//! The host's end: one line is one message, in and out (MCP, Transports, stdio).
//!
//! # Invariants
//!
//! - Nothing but messages goes to stdout.
//! - A host that does not read blocks neither the loop nor the exit.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::message::{Body, Id, OversizedLine};

/// What the host sent.
#[derive(Debug)]
pub enum Incoming {
    /// A line, without its end.
    Line(Bytes),
    /// A line beyond the limit; the id, if it was a request.
    TooLong(Option<Id>),
    /// The host has closed its end, or it broke.
    End,
}

/// Room made for each read, in bytes: what a pipe holds.
const READ_ROOM: usize = 64 * 1024;
/// Pieces of at least this many bytes are written from where they are, smaller ones are gathered.
const WORTH_A_SLICE: usize = 4096;
/// Slices handed to one write; the system's own limit is 1024, more than a pipe takes anyway.
const MOST_SLICES: usize = 64;

/// Lines from the host.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// No line end before this place.
    searched: usize,
    limit: usize,
    state: LineState,
}

#[derive(Debug)]
enum LineState {
    Line,
    Skipping(Box<Skipped>),
    Ended,
}

/// A wrapper, because a half-read line has nothing to show.
struct Skipped(OversizedLine);

impl std::fmt::Debug for Skipped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Skipped")
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Lines of at most `limit` bytes.
    pub fn new(reader: R, limit: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0, limit, state: LineState::Line }
    }

    /// The next line that is not blank. Safe to drop at any await.
    pub async fn next(&mut self) -> Incoming {
        loop {
            if let Some(incoming) = self.buffered() {
                return incoming;
            }
            if matches!(self.state, LineState::Ended) {
                return Incoming::End;
            }
            // Doubling, so that a line of megabytes is not copied again for each read of its bytes.
            self.buffer.reserve(READ_ROOM.max(self.buffer.len()));
            match self.reader.read_buf(&mut self.buffer).await {
                Ok(0) => {
                    if let Some(last) = self.end() {
                        return last;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    log::warn!("cannot read from stdin: {error}");
                    self.state = LineState::Ended;
                    self.buffer.clear();
                    self.searched = 0;
                }
            }
        }
    }

    /// The next line, if all of it is here already.
    pub(crate) fn buffered(&mut self) -> Option<Incoming> {
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            match (&mut self.state, found) {
                (LineState::Skipping(line), None) => {
                    line.0.push(&self.buffer);
                    self.buffer.clear();
                    return None;
                }
                (LineState::Skipping(line), Some(end)) => {
                    line.0.push(&self.buffer[..end]);
                    self.buffer.advance(end + 1);
                    self.searched = 0;
                    return Some(self.skipped());
                }
                (_, None) => {
                    self.searched = self.buffer.len();
                    if self.buffer.len() <= self.limit {
                        return None;
                    }
                    self.state = LineState::Skipping(Box::new(Skipped(OversizedLine::default())));
                    self.searched = 0;
                }
                (_, Some(end)) => {
                    self.searched = 0;
                    if end > self.limit {
                        self.state = LineState::Skipping(Box::new(Skipped(OversizedLine::default())));
                        continue;
                    }
                    let line = self.buffer.split_to(end).freeze();
                    self.buffer.advance(1);
                    // The next line would fill the room behind a large one, and outgrow it: kept, and of no use.
                    if end > READ_ROOM && self.buffer.len() < end {
                        self.buffer = BytesMut::from(&self.buffer[..]);
                    }
                    if let Some(line) = not_blank(line) {
                        return Some(Incoming::Line(line));
                    }
                }
            }
        }
    }

    /// A last line may lack its end.
    fn end(&mut self) -> Option<Incoming> {
        let last = match std::mem::replace(&mut self.state, LineState::Ended) {
            LineState::Skipping(line) => Some(Incoming::TooLong(line.0.request())),
            LineState::Line => not_blank(self.buffer.split().freeze()).map(Incoming::Line),
            LineState::Ended => None,
        };
        self.searched = 0;
        last
    }

    fn skipped(&mut self) -> Incoming {
        match std::mem::replace(&mut self.state, LineState::Line) {
            LineState::Skipping(line) => Incoming::TooLong(line.0.request()),
            LineState::Line | LineState::Ended => Incoming::TooLong(None),
        }
    }
}

/// The line without a carriage return at its end; none if nothing but white space is left.
fn not_blank(mut line: Bytes) -> Option<Bytes> {
    if line.last() == Some(&b'\r') {
        line.truncate(line.len() - 1);
    }
    (!line.iter().all(u8::is_ascii_whitespace)).then_some(line)
}

/// Lines to the host: gathered, so that a burst of messages is one write.
#[derive(Debug)]
pub struct Writer<W> {
    writer: W,
    queue: VecDeque<Bytes>,
    /// Small pieces, after everything in the queue.
    tail: BytesMut,
    backlog: usize,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Nothing to write yet.
    pub fn new(writer: W) -> Self {
        Self { writer, queue: VecDeque::new(), tail: BytesMut::new(), backlog: 0 }
    }

    /// Adds a message; its bytes hold no line break.
    pub fn push(&mut self, body: &Body) {
        for piece in body.pieces() {
            self.backlog += piece.len();
            if piece.len() < WORTH_A_SLICE {
                self.tail.extend_from_slice(piece);
            } else {
                self.queue_tail();
                self.queue.push_back(piece.clone());
            }
        }
        self.tail.extend_from_slice(b"\n");
        self.backlog += 1;
    }

    /// Bytes not yet written.
    pub fn backlog(&self) -> usize {
        self.backlog
    }

    /// Writes some of what is waiting, as much as the host takes at once. Safe to drop.
    ///
    /// # Errors
    /// When the host has closed its end.
    pub async fn write(&mut self) -> io::Result<()> {
        self.queue_tail();
        let Self { writer, queue, .. } = self;
        let written = std::future::poll_fn(|context| {
            let mut slices = [IoSlice::new(&[]); MOST_SLICES];
            let count = queue.len().min(MOST_SLICES);
            for (slice, piece) in slices.iter_mut().zip(queue.iter()) {
                *slice = IoSlice::new(piece);
            }
            Pin::new(&mut *writer).poll_write_vectored(context, &slices[..count])
        })
        .await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.backlog -= written;
        let mut left = written;
        while left > 0 {
            let Some(first) = self.queue.front_mut() else { break };
            let taken = left.min(first.len());
            first.advance(taken);
            left -= taken;
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When the host has closed its end.
    pub async fn finish(&mut self) -> io::Result<()> {
        while self.backlog > 0 {
            self.write().await?;
        }
        tokio::io::AsyncWriteExt::flush(&mut self.writer).await
    }

    fn queue_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queue.push_back(self.tail.split().freeze());
        }
    }
}

/// The reading half of the host's end.
pub(crate) type HostReader = Box<dyn AsyncRead + Send + Unpin>;
/// The writing half of the host's end.
pub(crate) type HostWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// This process's stdin and stdout, without a thread between wherever that can be: pipes by rmcp
/// (Linux), sockets, which is what Node and Electron hosts hand over, here. What is left (terminals,
/// files, Windows, macOS pipes) is read by a thread of its own, which the exit does not wait for.
///
/// # Panics
/// Outside a tokio runtime.
pub(crate) fn stdio() -> (HostReader, HostWriter) {
    #[cfg(target_os = "linux")]
    if unix::are_pipes() {
        let (reader, writer) = rmcp::transport::stdio_pipes();
        return (Box::new(reader), Box::new(writer));
    }
    #[cfg(unix)]
    {
        let reader: HostReader = match unix::socket(io::stdin()).and_then(|socket| UnixStream::from_std(socket).ok()) {
            Some(socket) => Box::new(socket),
            None => Box::new(threaded::Stdin::start()),
        };
        let writer: HostWriter = match unix::socket(io::stdout()) {
            Some(socket) => Box::new(unix::SocketWriter::new(socket)),
            None => Box::new(rmcp::transport::stdio_pipes().1),
        };
        (reader, writer)
    }
    #[cfg(not(unix))]
    {
        (Box::new(threaded::Stdin::start()), Box::new(rmcp::transport::stdio_pipes().1))
    }
}

/// A blocking reader even if somebody has made its file non-blocking, as those who share it can.
#[derive(Debug)]
pub(crate) struct Patient<R>(pub R);

impl<R: io::Read> io::Read for Patient<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        /// Between two looks.
        const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                read => return read,
            }
        }
    }
}

#[cfg(unix)]
mod unix {
    use std::{
        fs::File,
        io::{self, IoSlice, Write},
        os::{
            fd::{AsFd, OwnedFd},
            unix::{fs::FileTypeExt, net::UnixStream as StdStream},
        },
        pin::Pin,
        task::{Context, Poll, ready},
    };

    use tokio::{io::AsyncWrite, net::UnixStream};

    #[cfg(target_os = "linux")]
    pub(super) fn are_pipes() -> bool {
        let is_pipe = |end: OwnedFd| File::from(end).metadata().is_ok_and(|end| end.file_type().is_fifo());
        own(io::stdin()).is_some_and(is_pipe) && own(io::stdout()).is_some_and(is_pipe)
    }

    /// The stream, if it is a socket. Setting it to non-blocking also sets it for whoever shares it;
    /// a host hands each program a pair of its own.
    pub(super) fn socket(end: impl AsFd) -> Option<StdStream> {
        let file = File::from(own(end)?);
        if !file.metadata().ok()?.file_type().is_socket() {
            return None;
        }
        let stream = StdStream::from(OwnedFd::from(file));
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    }

    fn own(end: impl AsFd) -> Option<OwnedFd> {
        end.as_fd().try_clone_to_owned().ok()
    }

    /// A socket that is written, and watched only while it is full: otherwise the program would wake
    /// up for each message that the host takes.
    pub(super) struct SocketWriter {
        stream: StdStream,
        full: Option<UnixStream>,
    }

    impl SocketWriter {
        pub(super) const fn new(stream: StdStream) -> Self {
            Self { stream, full: None }
        }

        fn poll_with(
            &mut self,
            context: &mut Context<'_>,
            write: impl Fn(&StdStream) -> io::Result<usize>,
        ) -> Poll<io::Result<usize>> {
            loop {
                if let Some(full) = &self.full {
                    ready!(full.poll_write_ready(context))?;
                    self.full = None;
                }
                match write(&self.stream) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.full = Some(UnixStream::from_std(self.stream.try_clone()?)?);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    written => return Poll::Ready(written),
                }
            }
        }
    }

    impl AsyncWrite for SocketWriter {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            self.get_mut().poll_with(context, |mut stream| stream.write(data))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.get_mut().poll_with(context, |mut stream| stream.write_vectored(slices))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}

mod threaded {
    use std::{
        io::{self, Read},
        pin::Pin,
        task::{Context, Poll, ready},
    };

    use bytes::{Buf, Bytes};
    use tokio::{
        io::{AsyncRead, ReadBuf},
        sync::mpsc,
    };

    /// Pieces read ahead of the loop.
    const AHEAD: usize = 4;

    /// stdin, read by a thread that nobody waits for: a read of a terminal cannot be cancelled.
    pub(super) struct Stdin {
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        piece: Bytes,
    }

    impl Stdin {
        pub(super) fn start() -> Self {
            let (sender, pieces) = mpsc::channel(AHEAD);
            let read = move || {
                let mut stdin = super::Patient(io::stdin().lock());
                let mut buffer = vec![0; super::READ_ROOM];
                loop {
                    let piece = match stdin.read(&mut buffer) {
                        Ok(0) => return,
                        Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => Err(error),
                    };
                    let failed = piece.is_err();
                    if sender.blocking_send(piece).is_err() || failed {
                        return;
                    }
                }
            };
            if let Err(error) = std::thread::Builder::new().name("stdin".into()).spawn(read) {
                log::error!("cannot start a thread that reads stdin: {error}");
            }
            Self { pieces, piece: Bytes::new() }
        }
    }

    impl AsyncRead for Stdin {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.piece.is_empty() {
                match ready!(self.pieces.poll_recv(context)) {
                    Some(piece) => self.piece = piece?,
                    None => return Poll::Ready(Ok(())),
                }
            }
            let length = self.piece.len().min(buffer.remaining());
            buffer.put_slice(&self.piece[..length]);
            self.piece.advance(length);
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    async fn lines(input: &[u8], limit: usize, pipe: usize) -> Vec<String> {
        let (mut host, end) = duplex(pipe);
        let input = input.to_vec();
        let host = tokio::spawn(async move { host.write_all(&input).await });
        let mut lines = Lines::new(end, limit);
        let mut seen = Vec::new();
        loop {
            match lines.next().await {
                Incoming::Line(line) => seen.push(String::from_utf8(line.to_vec()).unwrap()),
                Incoming::TooLong(id) => seen.push(format!("too long: {id:?}")),
                Incoming::End => break,
            }
        }
        host.await.unwrap().unwrap();
        seen
    }

    #[tokio::test]
    async fn large_line_shares_its_memory_with_nothing() {
        let (mut host, end) = duplex(READ_ROOM);
        let line = [vec![b'x'; 10 * READ_ROOM], vec![b'\n']].concat();
        let host = tokio::spawn(async move { host.write_all(&line.repeat(3)).await });
        let mut lines = Lines::new(end, usize::MAX);
        let mut kept = Vec::new();
        while let Incoming::Line(line) = lines.next().await {
            assert_eq!((line.len(), line.is_unique()), (10 * READ_ROOM, true));
            kept.push(line);
        }
        assert_eq!(kept.len(), 3);
        host.await.unwrap().unwrap();
    }

    /// A host that breaks in the middle of a line.
    struct Broken(&'static [u8]);

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let piece = std::mem::take(&mut self.0);
            buffer.put_slice(piece);
            let broke = Err(io::ErrorKind::ConnectionReset.into());
            std::task::Poll::Ready(if piece.is_empty() { broke } else { Ok(()) })
        }
    }

    #[tokio::test]
    async fn line_that_breaks_off_ends_input() {
        let mut lines = Lines::new(Broken(b"{\"a\":1}\n{\"jsonrpc\":\"2.0\",\"id\":1"), 100);
        assert!(matches!(lines.next().await, Incoming::Line(line) if line == "{\"a\":1}"));
        assert!(matches!(lines.next().await, Incoming::End));
        assert!(lines.buffered().is_none());
        assert!(matches!(lines.next().await, Incoming::End));
    }

    #[tokio::test]
    async fn every_line_ending_works_and_blanks_are_skipped() {
        for pipe in [1, 3, 1000] {
            assert_eq!(lines(b"a\r\n\n \t\r\nb\nlast", 100, pipe).await, ["a", "b", "last"]);
        }
    }

    #[tokio::test]
    async fn oversized_line_is_skipped_and_reported() {
        let long = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"m","params":["{}"]}}"#, "x".repeat(100));
        for pipe in [1, 7, 64, 10_000] {
            let input = format!("short\n{long}\nnext\n{long}");
            assert_eq!(
                lines(input.as_bytes(), 20, pipe).await,
                ["short", "too long: Some(7)", "next", "too long: Some(7)"]
            );
        }
        assert_eq!(lines(b"12345\n123456\n", 5, 100).await, ["12345", "too long: None"]);
    }

    #[tokio::test]
    async fn writes_arrive_in_order_in_any_pieces() {
        let (end, mut host) = duplex(5);
        let mut expected = Vec::new();
        let mut writer = Writer::new(end);
        for size in [1, 10_000, 3, 4096, 0, 7] {
            let mut body = Body::new();
            body.push(Bytes::from(vec![b'a'; size]));
            body.push(Bytes::from(vec![b'b'; size]));
            writer.push(&body);
            expected.extend_from_slice(&body.to_bytes());
            expected.push(b'\n');
        }
        assert_eq!(writer.backlog(), expected.len());
        let write = tokio::spawn(async move {
            writer.finish().await.unwrap();
            assert_eq!(writer.backlog(), 0);
        });
        let mut seen = Vec::new();
        host.read_to_end(&mut seen).await.unwrap();
        write.await.unwrap();
        assert!(seen == expected);
    }

    #[tokio::test]
    async fn burst_of_small_messages_is_one_write() {
        let (end, mut host) = duplex(100_000);
        let mut writer = Writer::new(end);
        for _ in 0..1000 {
            writer.push(&Body::One(Bytes::from_static(b"0123456789")));
        }
        writer.write().await.unwrap();
        assert_eq!(writer.backlog(), 0);
        let mut seen = vec![0; 11_000];
        host.read_exact(&mut seen).await.unwrap();
    }
}
