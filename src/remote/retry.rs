//! Retries of a message: whether it may be sent again, and after which pause.
//!
//! # Invariants
//!
//! - A `tools/call` that may have run is not sent again.

use std::{sync::Mutex, time::Duration};

use log::{debug, info};
use reqwest::Url;
use tokio::time::Instant;

use super::error::Error;
use crate::{
    mcp::{
        HOST_PATIENCE,
        method::{
            DISCOVER, INITIALIZE, LISTEN, PING, PROMPTS_GET, PROMPTS_LIST, RESOURCES_LIST, RESOURCES_READ, TASKS_GET,
            TASKS_LIST, TEMPLATES_LIST, TOOLS_LIST,
        },
    },
    message::{Message, Shape},
    report::{self, FailureLog, Report},
    status::Disposition,
    sync::LockExt,
    text::{self, chain},
};

/// The first pause of a request that was refused because there are too many; further ones double, so that a server that
/// refuses everything is asked six times in 40 s.
const FIRST_THROTTLED: Duration = Duration::from_secs(1);
/// The longest of them.
const LONGEST_THROTTLED: Duration = Duration::from_secs(32);

/// Whether a message may reach the server twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replay {
    /// It only asks: sending it twice changes nothing.
    Safe,
    /// It may do something each time.
    Never,
}

impl Replay {
    /// By method: `initialize`, `ping`, lists and reads are safe; everything unknown is not.
    pub(super) fn of(message: &Message) -> Self {
        match &message.shape {
            Shape::Request { method, .. } if only_reads(method) => Self::Safe,
            _ => Self::Never,
        }
    }
}

/// Returns whether a request with this method changes nothing at the server.
pub(super) fn only_reads(method: &str) -> bool {
    matches!(
        method,
        INITIALIZE
            | PING
            | PROMPTS_GET
            | PROMPTS_LIST
            | RESOURCES_LIST
            | RESOURCES_READ
            | TEMPLATES_LIST
            | DISCOVER
            | LISTEN
            | TASKS_GET
            | TASKS_LIST
            | TOOLS_LIST
    )
}

/// Growing pauses with jitter, so that many instances do not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// The first pause: short, since most outages are a restart.
    pub(super) const FIRST: Duration = Duration::from_millis(250);

    /// Pauses from [`FIRST`](Self::FIRST) up to `longest`.
    pub(super) fn up_to(longest: Duration) -> Self {
        Self { next: Self::FIRST, longest }
    }

    /// Pauses after which a server is asked again that was asked too often.
    pub(super) fn throttled() -> Self {
        Self { next: FIRST_THROTTLED, longest: LONGEST_THROTTLED }
    }

    /// The next pause: between three quarters and five quarters of its nominal length.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f32(0.75 + fastrand::f32() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        pause
    }
}

/// The log of retries, shared by all messages to one server: many messages that fail at once are few lines.
#[derive(Debug, Default)]
pub(super) struct RetryLog(Mutex<Option<Outage>>);

/// Failures that follow each other.
#[derive(Debug)]
struct Outage {
    failures: FailureLog,
    /// A failure from then on belongs to another outage.
    end: Instant,
}

impl RetryLog {
    /// How long an outage lasts without a failure: nothing was sent in between, or it was answered at once.
    const LASTS: Duration = Duration::from_secs(120);

    /// Logs that something is sent again after `pause`.
    pub(super) fn retry(&self, error: &Error, server: &Url, pause: Duration) {
        self.note(&Report::of_remote(error, server).sentence, Some(pause));
        debug!("next attempt in {:.1} s: {}", pause.as_secs_f32(), chain(error));
    }

    /// Logs that something is done again because of this, or counts it. Returns whether it was logged.
    pub(super) fn note(&self, sentence: &str, pause: Option<Duration>) -> bool {
        let line = self.line(sentence, Instant::now(), pause);
        if let Some(line) = &line {
            info!("{line}");
        }
        line.is_some()
    }

    /// What had failed has succeeded.
    pub(super) fn clear(&self, server: &Url) {
        if self.0.guard().take().is_some() {
            info!("{} answers again", text::host(server));
        }
    }

    fn line(&self, sentence: &str, now: Instant, pause: Option<Duration>) -> Option<String> {
        let mut outage = self.0.guard();
        let current = outage.take().filter(|outage| now < outage.end);
        let mut failures = current.map(|outage| outage.failures).unwrap_or_default();
        let failure = failures.note(sentence);
        *outage = Some(Outage { failures, end: now + pause.unwrap_or_default() + Self::LASTS });
        failure.map(|failure| sentence.to_owned() + &report::retrying(failure.count, pause))
    }
}

/// The tries of one message.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    server: &'a Url,
    replay: Replay,
    since: Instant,
    window: Duration,
    backoff: Backoff,
    /// Pauses where there are too many requests, or where the server names the time.
    throttled: Backoff,
    log: &'a RetryLog,
    has_failed: bool,
}

impl<'a> Tries<'a> {
    /// Tries for `message` to `server`, from now, for at most `window` where the server names no time.
    pub(super) fn new(server: &'a Url, log: &'a RetryLog, message: &Message, window: Duration) -> Self {
        Self {
            server,
            log,
            replay: Replay::of(message),
            since: Instant::now(),
            window,
            backoff: Backoff::up_to(Duration::from_secs(4)),
            throttled: Backoff::throttled(),
            has_failed: false,
        }
    }

    /// Waits until the message may go out again.
    ///
    /// # Errors
    /// The error itself, if it may not, or if the time is up.
    pub(super) async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        let Some(pause) = self.again(&error) else { return Err(error) };
        self.has_failed = true;
        self.log.retry(&error, self.server, pause);
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The message went through.
    pub(super) fn succeed(&self) {
        if self.has_failed {
            self.log.clear(self.server);
        }
    }

    fn again(&mut self, error: &Error) -> Option<Duration> {
        let (allowed, named) = match error {
            Error::Connect(_) | Error::ProxyDown { .. } | Error::NotBegun => (true, None), // nothing was sent
            Error::Refused(refusal) => match Disposition::of(refusal.status) {
                Disposition::Throttled => (true, refusal.retry_after),
                Disposition::Busy => (self.replay == Replay::Safe, refusal.retry_after),
                Disposition::Failed | Disposition::Refused => (false, None),
            },
            Error::Broken(_) if error.is_of_unsent() => (true, None),
            Error::Broken(_) | Error::NotResumed(_) | Error::StreamLost(_) => (self.replay == Replay::Safe, None),
            _ => (false, None),
        };
        if !allowed {
            return None;
        }
        let (pause, limit) = match named {
            // A server may name a pause that is over, or refuse again after it.
            Some(named) => (named.max(self.throttled.pause()), HOST_PATIENCE),
            None if error.is_throttled() => (self.throttled.pause(), self.window),
            None => (self.backoff.pause(), self.window),
        };
        self.since.elapsed().checked_add(pause).filter(|end| *end <= limit).map(|_| pause)
    }
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use reqwest::StatusCode;

    use super::*;
    use crate::{
        network::{failure::RequestError, request_body::RequestBody},
        remote::error::Refusal,
    };

    fn throttled(retry_after: Option<Duration>) -> Error {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let (text, had_headers) = (String::new(), false);
        Error::Refused(Box::new(Refusal {
            status,
            retry_after,
            text,
            said: crate::secret::Secret::new(String::new()),
            had_headers,
            cause: None,
            credential_since: None,
            answer: None,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_server_is_asked_rarely() {
        let call = Message::from_text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned()).unwrap();
        for (retry_after, most) in [(None, 5), (Some(0), 7), (Some(1), 7), (Some(10), 5)] {
            let began = Instant::now();
            let server = Url::parse("https://a.example/mcp").unwrap();
            let log = RetryLog::default();
            let mut tries = Tries::new(&server, &log, &call, Duration::from_secs(15));
            let mut sent = 1;
            while tries.wait_after(throttled(retry_after.map(Duration::from_secs))).await.is_ok() {
                sent += 1;
            }
            assert!((3..=most).contains(&sent), "{sent} with Retry-After: {retry_after:?}");
            assert!(began.elapsed() <= HOST_PATIENCE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn call_is_resent_only_if_unsent() {
        let error = || async {
            let near = TokioIo::new(tokio::io::duplex(64).0);
            let (mut sender, connection) = http1::handshake::<_, RequestBody>(near).await.unwrap();
            drop(connection);
            sender.ready().await.unwrap_err()
        };
        let call = Message::from_text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned()).unwrap();
        let (server, log) = (Url::parse("https://a.example/mcp").unwrap(), RetryLog::default());
        let mut tries = Tries::new(&server, &log, &call, Duration::from_secs(15));
        assert!(tries.wait_after(Error::of_request(RequestError::Unsent(error().await))).await.is_ok());
        assert!(tries.wait_after(Error::of_request(RequestError::Exchange(error().await))).await.is_err());
    }

    #[test]
    fn retries_of_one_outage_are_counted_together() {
        let log = RetryLog::default();
        let began = Instant::now();
        let lines = |sentence: &str, after, times| {
            let pause = Duration::from_secs(1);
            (0..times).filter_map(|_| log.line(sentence, began + after, Some(pause))).collect::<Vec<_>>()
        };
        let expected: Vec<_> =
            [1, 2, 4, 8].iter().map(|count| format!("a.example: 503; retrying ({count}) in 1.0 s")).collect();
        assert_eq!(lines("a.example: 503", Duration::ZERO, 10), expected);
        assert_eq!(lines("a.example: 429", Duration::ZERO, 2), ["a.example: 429; retrying (11) in 1.0 s"]);
        let later = Duration::from_secs(1) + RetryLog::LASTS;
        assert_eq!(lines("a.example: 503", later, 1), expected[..1], "another outage");
    }
}
