//! The exchange of an authorization code for tokens (RFC 6749 §4.1.3), sent again while the authorization server has not
//! processed it, because each lost code costs a person another consent.
//!
//! # Invariants
//!
//! - A code that the authorization server may have used is not sent again (RFC 6749 §4.1.2: a code is for one use).

use std::time::Duration;

use log::info;
use serde_json::{Map, Value};
use tokio::{
    sync::RwLockReadGuard,
    time::{Instant, sleep},
};

use crate::{
    oauth::{
        context::Context,
        error::{Error, Sent},
        progress::Progress,
        protocol::{rmcp, token_endpoint::TokenEndpoint},
        stored::sign_in::SignIn,
    },
    report,
};

/// How long a code is sent again. RFC 6749 §4.1.2 recommends a life of at most ten minutes, but many authorization servers
/// give their codes one minute, and the browser waits for its page meanwhile.
const CODE_LIFE: Duration = Duration::from_secs(60);
/// First pause where the authorization server names none. Each is twice as long as the one before.
const FIRST_BUSY_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause of those.
const LONGEST_BUSY_PAUSE: Duration = Duration::from_secs(8);

/// Keeps the program from ending until tokens that were issued are stored.
pub(super) type UnderWay<'c> = RwLockReadGuard<'c, ()>;

/// Exchanges the code of a sign-in. `has_issuer` says whether the response named its issuer, which is checked before.
///
/// # Errors
/// [`Error::CodeLost`], where the authorization server may have used the code; else what it answered last.
pub(super) async fn exchange<'c>(
    context: &'c Context,
    progress: &Progress,
    endpoint: &TokenEndpoint,
    sign_in: &SignIn,
    code: &str,
    has_issuer: bool,
) -> Result<(Map<String, Value>, UnderWay<'c>), Error> {
    progress.exchange();
    let (began, mut own_pause, mut count) = (Instant::now(), FIRST_BUSY_PAUSE, 0);
    loop {
        let under_way = context.under_way.read().await;
        let sent = rmcp::redeem(endpoint, &sign_in.redirect_uri, &sign_in.authorization, code, has_issuer).await;
        let error = match sent {
            Ok(response) => return Ok((response, under_way)),
            Err(error) => error,
        };
        drop(under_way); // nothing is spent during the pause
        let Some(asked) = pause_before_repeat(&error) else { return Err(of_lost_code(error)) };
        let pause = asked.max(own_pause);
        if began.elapsed() + pause > CODE_LIFE {
            return Err(error);
        }
        count += 1;
        context.held().note_busy(&error);
        info!("{error}{}", report::retrying(count, Some(pause)));
        sleep(pause).await;
        own_pause = (own_pause * 2).min(LONGEST_BUSY_PAUSE);
    }
}

/// Returns the pause that the authorization server asks for, if it has certainly not processed the request.
fn pause_before_repeat(error: &Error) -> Option<Duration> {
    match error {
        Error::Busy { after, .. } => Some(after.unwrap_or_default()),
        Error::Network { sent: Sent::NotConnected, .. } => Some(Duration::ZERO),
        _ => None,
    }
}

/// Says of a broken connection what became of the code.
fn of_lost_code(error: Error) -> Error {
    match error {
        Error::Network { host, why, sent: Sent::Perhaps } => Error::CodeLost { host, why },
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::oauth::error::Step;

    #[test]
    fn only_unprocessed_exchange_is_repeated() {
        let step = Step::CodeExchange;
        let after = Some(Duration::from_secs(7));
        let network = |sent| Error::Network { host: "h".to_owned(), why: "w".to_owned(), sent };
        let status = |status| Error::Answer { step, what: String::new(), status: Some(status) };
        for (error, expected) in [
            (Error::Busy { step, what: String::new(), after }, after),
            (Error::Busy { step, what: String::new(), after: None }, Some(Duration::ZERO)),
            (network(Sent::NotConnected), Some(Duration::ZERO)),
            (network(Sent::NotTrusted), None),
            (network(Sent::Perhaps), None),
            (status(StatusCode::BAD_GATEWAY), None),
            (status(StatusCode::GATEWAY_TIMEOUT), None),
            (status(StatusCode::INTERNAL_SERVER_ERROR), None),
        ] {
            assert_eq!(pause_before_repeat(&error), expected, "{error:?}");
        }
        assert!(matches!(of_lost_code(network(Sent::Perhaps)), Error::CodeLost { .. }));
        assert!(matches!(of_lost_code(network(Sent::NotTrusted)), Error::Network { .. }), "nothing was sent");
    }
}
