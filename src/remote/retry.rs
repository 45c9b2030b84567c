//! Retries of a message: whether it may be sent again, and after which pause.
//!
//! # Invariants
//!
//! - A `tools/call` that may have run is not sent again.

use std::time::Duration;

use log::{debug, info};
use reqwest::Url;

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
    report::Report,
    status::Disposition,
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
            Shape::Request { method, .. } => match &**method {
                INITIALIZE | PING | PROMPTS_GET | PROMPTS_LIST | RESOURCES_LIST | RESOURCES_READ | TEMPLATES_LIST
                | DISCOVER | LISTEN | TASKS_GET | TASKS_LIST | TOOLS_LIST => Self::Safe,
                _ => Self::Never,
            },
            _ => Self::Never,
        }
    }
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

/// The tries of one message.
#[derive(Debug)]
pub(super) struct Tries<'a> {
    server: &'a Url,
    replay: Replay,
    since: tokio::time::Instant,
    window: Duration,
    backoff: Backoff,
    /// Pauses where the server names the time itself.
    throttled: Backoff,
    failed: u32,
}

impl<'a> Tries<'a> {
    /// Tries for `message` to `server`, from now, for at most `window` where the server names no time.
    pub(super) fn new(server: &'a Url, message: &Message, window: Duration) -> Self {
        Self {
            server,
            replay: Replay::of(message),
            since: tokio::time::Instant::now(),
            window,
            backoff: Backoff::up_to(Duration::from_secs(4)),
            throttled: Backoff::throttled(),
            failed: 0,
        }
    }

    /// Waits until the message may go out again.
    ///
    /// # Errors
    /// The error itself, if it may not, or if the time is up.
    pub(super) async fn wait_after(&mut self, error: Error) -> Result<(), Error> {
        let Some(pause) = self.again(&error) else { return Err(error) };
        self.failed += 1;
        if self.failed == 1 {
            info!("{}; trying again", Report::of_remote(&error, self.server).sentence);
        }
        debug!("attempt {} failed, next in {:.1} s: {}", self.failed, pause.as_secs_f32(), chain(&error));
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// The message went through.
    pub(super) fn succeed(&self) {
        if self.failed > 0 {
            info!("{} answers again", text::host(self.server));
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
            Error::Broken(_) | Error::NotResumed(_) => (self.replay == Replay::Safe, None),
            _ => (false, None),
        };
        if !allowed {
            return None;
        }
        let (pause, limit) = match named {
            // A server may name a pause that is over, or refuse again after it.
            Some(named) => (named.max(self.throttled.pause()), HOST_PATIENCE),
            None => (self.backoff.pause(), self.window),
        };
        self.since.elapsed().checked_add(pause).filter(|end| *end <= limit).map(|_| pause)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::remote::error::Refusal;

    fn throttled(retry_after: Option<Duration>) -> Error {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let (text, had_headers) = (String::new(), false);
        Error::Refused(Box::new(Refusal {
            status,
            retry_after,
            text,
            had_headers,
            cause: None,
            credential_since: None,
            answer: None,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_server_is_asked_rarely() {
        let call = Message::from_text(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#.to_owned()).unwrap();
        for (retry_after, most) in [(0, 7), (1, 7), (10, 5)] {
            let began = tokio::time::Instant::now();
            let server = Url::parse("https://a.example/mcp").unwrap();
            let mut tries = Tries::new(&server, &call, Duration::from_secs(15));
            let mut sent = 1;
            while tries.wait_after(throttled(Some(Duration::from_secs(retry_after)))).await.is_ok() {
                sent += 1;
            }
            assert!((3..=most).contains(&sent), "{sent} with Retry-After: {retry_after}");
            assert!(began.elapsed() <= HOST_PATIENCE);
        }
    }
}
