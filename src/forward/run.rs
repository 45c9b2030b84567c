//! The loop's hands: it waits for whatever happens first, lets [`Forward`] decide, and does what was
//! decided.
//!
//! # Invariants
//!
//! - The loop does not wait for one thing only.
//! - The loop does not outlive the end of input by more than 1.5 s.

use std::{sync::Arc, time::Duration};

use log::{debug, info};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use super::{Action, Event, Forward, Reminder, Verdict, host::TICK};
use crate::{
    local::{Lines, Writer},
    message::Message,
    oauth::{Authorizer, Need},
    reminders::Reminders,
    remote::{EventReceiver, Opener, Remote, error::Error},
    shutdown::Stop,
    text::chain,
};

/// From the end of input to the end of the program, everything included, while answers are still to come: a host that
/// closes stdin waits about two seconds before it signals (the SDKs for TypeScript and Python).
const GRACE: Duration = Duration::from_millis(1500);
/// Of this, what is left for ending the session; what the server does with the request is its own
/// affair.
const GRACE_FOR_DELETE: Duration = Duration::from_millis(300);
/// The most that ending the session may take.
const LONGEST_DELETE: Duration = Duration::from_millis(500);
/// The most that ending a sign-in may take; a disk may hold it up.
const LONGEST_CLOSE: Duration = Duration::from_millis(200);
/// Bytes waiting for the host at which nothing more is taken from the server: one gathered write.
const GATHERED: usize = 256 * 1024;

/// Messages that are handled before the loop looks at everything else again, which costs as much as a message.
const MOST_AT_ONCE: u32 = 32;

/// The two ends that the loop stands between.
#[derive(Debug)]
pub(crate) struct Ends<R, W> {
    /// Lines from the host.
    pub lines: Lines<R>,
    /// Lines to the host.
    pub writer: Writer<W>,
    /// How to open the remote end.
    pub opener: Opener,
    /// What comes from there.
    pub events: EventReceiver,
    /// Signals, and the host's end.
    pub stops: mpsc::Receiver<Stop>,
    /// How long the machine has slept.
    pub wakes: mpsc::Receiver<Duration>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Ends<R, W> {
    /// Returns a message that is here already, in the order in which the loop takes them. While a connection `is_opening`,
    /// the loop looks for its end before each line of the host.
    fn waiting_message(&mut self, is_opening: bool) -> Option<Event> {
        if self.writer.backlog() < GATHERED
            && let Some(event) = self.events.try_recv()
        {
            return Some(Event::Remote(event));
        }
        if is_opening { None } else { self.lines.buffered().map(Event::Host) }
    }
}

/// Runs the loop until the host goes, or the program is told to.
pub(crate) async fn run<R, W>(mut forward: Forward, mut ends: Ends<R, W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut remote_end = RemoteEnd::default();
    let authorizer = ends.opener.authorizer.clone();
    let mut need = authorizer.as_ref().map(|authorizer| authorizer.need());
    let mut reminders = Reminders::default();
    let mut ticks = false;
    // Far away until the end begins.
    let mut deadline = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    let mut verdict = Verdict::Continue;
    while verdict != Verdict::Stop {
        let event = tokio::select! {
            biased;
            Some(stop) = ends.stops.recv() => {
                if verdict == Verdict::Drain {
                    info!("shutting down immediately: {stop}");
                    break;
                }
                Event::Stop(stop)
            }
            () = tokio::time::sleep_until(deadline), if verdict == Verdict::Drain => break,
            // While there is more to say to the host than one write takes, no more is taken from the
            // server; the host itself is still heard, it may be writing before it reads.
            Some(event) = ends.events.recv(), if ends.writer.backlog() < GATHERED => Event::Remote(event),
            need = changed(&mut need) => Event::Need(need),
            opened = remote_end.opened(), if remote_end.is_opening() => Event::Opened(opened),
            reminder = reminders.next() => Event::Reminder(reminder),
            Some(slept) = ends.wakes.recv() => Event::Woke(slept),
            incoming = ends.lines.next(), if verdict == Verdict::Continue => Event::Host(incoming),
            // Last: everything that is ready by now goes out in one write.
            written = ends.writer.write(), if ends.writer.backlog() > 0 => match written {
                Ok(()) => continue,
                Err(error) => {
                    info!("the host no longer reads stdout: {error}");
                    break;
                }
            },
        };
        ticks &= !matches!(event, Event::Reminder(Reminder::Tick));
        let mut event = Some(event);
        let mut left = MOST_AT_ONCE;
        while let Some(happened) = event.take() {
            let next = forward.handle(happened);
            if verdict == Verdict::Continue && next != Verdict::Continue {
                deadline = Instant::now() + GRACE - GRACE_FOR_DELETE;
            }
            verdict = next;
            carry_out(&mut forward, &mut ends, &mut remote_end, &mut reminders);
            left -= 1;
            if verdict == Verdict::Continue && left > 0 {
                event = ends.waiting_message(remote_end.is_opening());
            }
        }
        if !ticks && forward.awaits_server() {
            ticks = true;
            reminders.add(TICK, Reminder::Tick);
        }
    }
    forward.close();
    carry_out(&mut forward, &mut ends, &mut remote_end, &mut reminders);
    let end = Instant::now().max(deadline.min(Instant::now() + GRACE - GRACE_FOR_DELETE)) + GRACE_FOR_DELETE;
    let kept = forward.end_descriptions();
    let all = end_all(&mut ends.writer, &mut remote_end, authorizer.as_deref(), kept, end);
    tokio::select! {
        () = all => {}
        Some(stop) = ends.stops.recv() => info!("shutting down immediately: {stop}"),
    }
}

/// Ends everything at the same time, until `end` at most.
async fn end_all<W: AsyncWrite + Unpin>(
    writer: &mut Writer<W>,
    remote_end: &mut RemoteEnd,
    authorizer: Option<&Authorizer>,
    kept: Option<oneshot::Receiver<()>>,
    end: Instant,
) {
    tokio::join!(
        async {
            if let Ok(Err(error)) = timeout_at(end, writer.finish()).await {
                debug!("cannot write the last messages to the host: {error}");
            }
        },
        remote_end.close(end),
        async {
            if let Some(authorizer) = authorizer {
                _ = timeout_at(end, authorizer.settle()).await;
                _ = timeout(LONGEST_CLOSE, authorizer.close()).await;
            }
        },
        async {
            if let Some(kept) = kept {
                _ = timeout_at(end, kept).await;
            }
        },
    );
}

fn carry_out<R, W: AsyncWrite + Unpin>(
    forward: &mut Forward,
    ends: &mut Ends<R, W>,
    remote_end: &mut RemoteEnd,
    reminders: &mut Reminders<Reminder>,
) {
    while let Some(action) = forward.action() {
        match action {
            Action::ToHost(body) => ends.writer.push(&body),
            Action::Open(first) => remote_end.open(ends.opener.clone(), first),
            Action::Send(message) => remote_end.send(message),
            Action::Hurry => remote_end.hurry.notify_one(),
            Action::SignInIsNeeded => {
                if let Some(authorizer) = &ends.opener.authorizer {
                    authorizer.hurry();
                }
            }
            Action::UserAsks => {
                if let Some(authorizer) = &ends.opener.authorizer {
                    authorizer.ask();
                }
            }
            Action::Check => {
                ends.opener.http.renew();
                remote_end.check();
            }
            Action::Remind(after, reminder) => reminders.add(after, reminder),
        }
    }
}

/// What is needed, when that changes.
async fn changed(need: &mut Option<watch::Receiver<Need>>) -> Need {
    if let Some(known) = need
        && known.changed().await.is_ok()
    {
        return known.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// The remote end as the loop holds it.
#[derive(Default)]
struct RemoteEnd {
    opening: Option<JoinHandle<Result<Remote, Error>>>,
    /// Somebody waits for the opening.
    hurry: Arc<Notify>,
    remote: Option<Remote>,
    /// Connections that a new `initialize` has replaced, ending their sessions.
    closing: JoinSet<()>,
}

impl RemoteEnd {
    fn open(&mut self, opener: Opener, first: Message) {
        if let Some(mut replaced) = self.remote.take() {
            replaced.abandon(); // at once: nothing of it may answer what comes now
            self.closing.spawn(async move { _ = timeout(LONGEST_DELETE, replaced.close()).await });
        }
        if let Some(opening) = self.opening.take() {
            opening.abort();
        }
        self.hurry = Arc::default();
        self.opening = Some(tokio::spawn(opener.open(first, self.hurry.clone())));
    }

    fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    async fn opened(&mut self) -> Result<(), Error> {
        let Some(opening) = &mut self.opening else { return std::future::pending().await };
        let opened = opening.await;
        self.opening = None;
        match opened {
            Ok(remote) => remote.map(|remote| self.remote = Some(remote)),
            Err(error) => {
                debug!("opening the connection failed: {}", chain(&error)); // reported by the loop
                Err(Error::NoAnswer("was not asked: the connection did not open"))
            }
        }
    }

    fn send(&mut self, message: Message) {
        if let Some(remote) = &mut self.remote {
            remote.send(message);
        }
    }

    fn check(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.check();
        }
    }

    async fn close(&mut self, end: Instant) {
        if let Some(opening) = self.opening.take() {
            opening.abort();
        }
        if let Some(mut remote) = self.remote.take() {
            let settled = end - GRACE_FOR_DELETE / 2;
            _ = timeout_at(settled, remote.settle()).await;
            let end = end.min(Instant::now() + LONGEST_DELETE);
            _ = timeout_at(end, remote.close()).await;
        }
        while let Ok(Some(_)) = timeout_at(end, self.closing.join_next()).await {}
    }
}
