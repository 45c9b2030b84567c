//! The minimal forwarder: what an adapter on hyper reaches if it does nothing but forward.
//!
//! `forwarding forward URL` runs it. The report has it beside the direct connection, as the limit of an adapter that uses
//! hyper. It shows what is reachable without error handling and is not finished: plain HTTP/1.1 only, no sign-in, no
//! proxies, no GET stream, no compression, no reconnecting, no DELETE at the end, and no bound on what it holds.
//!
//! # Invariants
//!
//! - One thread runs one task per message, and each task has a connection of its own for as long as its call takes.
//! - One task writes to the host, and gathers all answers that are ready into one write.
//! - The first failure ends the process.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{spawn_local, yield_now};

use crate::Outcome;

const SESSION: &str = "mcp-session-id";
/// Calls that wait for the head of their answer: as many as the benchmark has in flight in most rows.
const CALLS: usize = 64;
/// Answers that wait for the host. Where there are more, their tasks wait.
const ANSWERS: usize = 1024;
/// Bytes that are read from the host at once.
const ROOM: usize = 64 * 1024;
/// Bytes from which on an answer is written without waiting for more answers.
const GATHERED: usize = 256 * 1024;

struct Forwarder {
    /// Host and port of the server.
    authority: String,
    host: HeaderValue,
    path: Uri,
    session: RefCell<Option<HeaderValue>>,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    calls: Semaphore,
    answers: mpsc::Sender<Outcome<Bytes>>,
}

/// Forwards between the standard streams and the server until the host closes standard input.
pub(crate) async fn forward(url: &str) -> Outcome<()> {
    let url: Uri = url.parse()?;
    let authority = url.authority().ok_or("the URL has no host")?.to_string();
    let (answers, waiting) = mpsc::channel(ANSWERS);
    let forwarder = Rc::new(Forwarder {
        host: authority.parse()?,
        authority,
        path: url.path().parse()?,
        session: RefCell::default(),
        idle: RefCell::default(),
        calls: Semaphore::new(CALLS),
        answers,
    });
    let (input, output) = standard_streams()?;
    tokio::select! {
        read = forwarder.read(input) => read,
        written = write(waiting, output) => written,
    }
}

impl Forwarder {
    /// Starts a task for each line of `input`.
    async fn read(self: Rc<Self>, mut input: impl AsyncRead + Unpin) -> Outcome<()> {
        let mut bytes = BytesMut::with_capacity(ROOM);
        let mut searched = 0;
        while input.read_buf(&mut bytes).await? > 0 {
            while let Some(end) = memchr::memchr(b'\n', &bytes[searched..]) {
                let mut line = bytes.split_to(searched + end + 1);
                line.truncate(line.len() - 1);
                searched = 0;
                let (forwarder, message) = (Rc::clone(&self), line.freeze());
                spawn_local(async move {
                    if let Err(error) = forwarder.exchange(message).await {
                        // The process ends with the first failure.
                        _ = forwarder.answers.send(Err(error)).await;
                    }
                });
            }
            searched = bytes.len();
            bytes.reserve(ROOM);
        }
        Ok(())
    }

    /// Posts one message, and passes on what the server answers.
    async fn exchange(&self, message: Bytes) -> Outcome<()> {
        let mut request = Request::post(self.path.clone())
            .header(HOST, self.host.clone())
            .header(ACCEPT, "application/json, text/event-stream")
            .header(CONTENT_TYPE, "application/json");
        let permit = self.calls.acquire().await?;
        if let Some(session) = &*self.session.borrow() {
            request = request.header(SESSION, session);
        }
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let response = connection.send_request(request.body(Full::new(message))?).await?;
        drop(permit);

        if let Some(session) = response.headers().get(SESSION) {
            *self.session.borrow_mut() = Some(session.clone());
        }
        let kind = response.headers().get(CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            self.pass_events(response.into_body()).await?;
        } else {
            self.pass_json(response.into_body()).await?;
        }
        self.idle.borrow_mut().push(connection);
        Ok(())
    }

    async fn connect(&self) -> Outcome<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // A failure of the connection is also the failure of the call on it.
        spawn_local(async { _ = connection.await });
        Ok(sender)
    }

    async fn pass_events(&self, mut body: Incoming) -> Outcome<()> {
        let mut unread = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let mut searched = unread.len();
            unread.extend_from_slice(&data);
            while let Some(end) = memchr::memchr(b'\n', &unread[searched..]) {
                let line = unread.split_to(searched + end + 1).freeze();
                searched = 0;
                if let Some(message) = line.strip_prefix(b"data: ") {
                    self.answers.send(Ok(line.slice_ref(message))).await?;
                }
            }
        }
        Ok(())
    }

    async fn pass_json(&self, mut body: Incoming) -> Outcome<()> {
        let size = body.size_hint().exact().and_then(|size| usize::try_from(size).ok()).unwrap_or_default();
        let mut line = BytesMut::with_capacity(size + 1);
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                line.extend_from_slice(&data);
            }
        }
        if !line.is_empty() {
            line.extend_from_slice(b"\n");
            self.answers.send(Ok(line.freeze())).await?;
        }
        Ok(())
    }
}

/// Writes the answers to the host.
async fn write(mut answers: mpsc::Receiver<Outcome<Bytes>>, mut output: impl AsyncWrite + Unpin) -> Outcome<()> {
    let mut gathered = BytesMut::new();
    while let Some(answer) = answers.recv().await {
        gathered.extend_from_slice(&answer?);
        // Other tasks may have an answer ready too.
        yield_now().await;
        while gathered.len() < GATHERED
            && let Ok(answer) = answers.try_recv()
        {
            gathered.extend_from_slice(&answer?);
        }
        output.write_all(&gathered).await?;
        output.flush().await?;
        gathered.clear();
    }
    Ok(())
}

type Streams = (Box<dyn AsyncRead + Unpin>, Box<dyn AsyncWrite + Unpin>);

/// Standard input and output on the runtime's own thread: pipes or sockets, whichever the host has passed.
#[cfg(unix)]
fn standard_streams() -> Outcome<Streams> {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use tokio::net::unix::pipe;

    let socket = |descriptor: OwnedFd| {
        let stream = UnixStream::from(descriptor);
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    };
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let descriptor = || stdin.as_fd().try_clone_to_owned();
    let input: Box<dyn AsyncRead + Unpin> = match pipe::Receiver::from_owned_fd(descriptor()?) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(socket(descriptor()?)?),
    };
    let descriptor = || stdout.as_fd().try_clone_to_owned();
    let output: Box<dyn AsyncWrite + Unpin> = match pipe::Sender::from_owned_fd(descriptor()?) {
        Ok(pipe) => Box::new(pipe),
        Err(_) => Box::new(socket(descriptor()?)?),
    };
    Ok((input, output))
}

/// Elsewhere the standard streams cannot be read without a thread each.
#[cfg(not(unix))]
fn standard_streams() -> Outcome<Streams> {
    Ok((Box::new(tokio::io::stdin()), Box::new(tokio::io::stdout())))
}
