//! The browser tab of a sign-in: announced, opened when it may be, and waited for.
//!
//! # Invariants
//!
//! - The URL is printed before a browser opens.
//! - No second tab is opened while one can be finished.

use std::time::Duration;

use log::{info, warn};
use reqwest::Url;

use super::{Beside, port::left};
use crate::{
    config::Occasion,
    oauth::{
        attempt::AuthorizationAttempt,
        context::Context,
        error::{Error, ErrorCode, Step},
        fact::AuthorizationFact,
        person::{
            browser,
            redirect::{Arrival, Listener, Redirect},
            tabs::Tabs,
        },
        progress::AskedBy,
        stored::sign_in::LIFE,
    },
    report::{self, Code, Report},
    text::host,
};

/// How long the tab of another instance is left to the person alone.
const OTHERS_TAB: Duration = Duration::from_secs(60);

/// Whether a tab is to be opened.
pub(super) enum Tab {
    /// No: there is one, or the user wants none.
    None,
    /// As soon as the host counts as there to stay.
    WhenHostStays,
    /// After a pause: the last sign-in is unfinished.
    After(Duration),
    /// When the instance at this port is gone, whose tab is open, or when it takes too long.
    WhenGone(u16),
}

/// Returns the redirect; `None` if none arrives. Meanwhile the tab is opened.
pub(super) async fn wait(context: &Context, listener: &mut Listener, url: &Url, tab: Tab) -> Option<Redirect> {
    let mut end = std::pin::pin!(tokio::time::sleep(LIFE));
    let mut due = std::pin::pin!(async {
        match tab {
            Tab::None => std::future::pending().await,
            Tab::WhenHostStays => context.stay.wait().await,
            Tab::After(pause) => tokio::time::sleep(pause).await,
            Tab::WhenGone(port) => _ = tokio::time::timeout(OTHERS_TAB, left(context, port)).await,
        }
    });
    let mut is_open = false;
    loop {
        tokio::select! {
            arrival = listener.next() => match arrival {
                Arrival::Redirect(redirect) => return Some(redirect),
                Arrival::Unproven { error, description } => tell_unproven(context, error, description),
            },
            () = &mut end => return None,
            () = &mut due, if !is_open => {
                is_open = true;
                open(context, url, listener.port()).await;
            }
        }
    }
}

/// Reports an error that came without `state` (RFC 6749 §4.1.2.1 demands it). The sign-in stays open.
fn tell_unproven(context: &Context, error: ErrorCode, description: Option<String>) {
    let error = Error::Refused { step: Step::SignIn, error, description };
    let mut report = Report::of_authorization(&error, context.http.server());
    report.sentence.push_str("; the answer does not say which sign-in it means, so this one stays open");
    warn!("{}", report.line());
    context.facts.warn(report);
}

/// Reports that there is a tab.
pub(super) fn go_on(context: &Context, attempt: &AuthorizationAttempt, url: &Url, by: AskedBy) {
    let server = host(context.http.server());
    info!("continue signing in to {server} in the open browser tab, or open this URL:\n\n    {url}\n");
    ask(context, attempt, url, by);
}

fn ask(context: &Context, attempt: &AuthorizationAttempt, url: &Url, by: AskedBy) {
    attempt.progress.ask(url.as_str(), None, by);
    context.facts.tell(|| AuthorizationFact::Asking { url: url.clone(), code: None, scan: None });
}

/// Prints the URL before the browser opens: it may not, or elsewhere.
pub(super) fn announce(context: &Context, attempt: &AuthorizationAttempt, url: &Url, beside: Beside) -> Tab {
    let is_open = beside == Beside::Tab && Tabs::is_open(&context.store, context.now());
    if beside == Beside::Tab {
        go_on(context, attempt, url, if is_open { AskedBy::EndedProcess } else { AskedBy::ThisProcess });
    } else {
        let server = host(context.http.server());
        let unless = if context.settings.no_browser { "" } else { " if no browser opens" };
        info!("to sign in to {server} with {}, open this URL{unless}:\n\n    {url}\n", host(url));
        let by = if matches!(beside, Beside::Instance(_)) { AskedBy::AnotherInstance } else { AskedBy::ThisProcess };
        ask(context, attempt, url, by);
    }
    let is_login = context.settings.occasion == Occasion::Login;
    if context.settings.no_browser || is_open && !is_login {
        return Tab::None;
    }
    if is_login {
        return Tab::After(Duration::ZERO);
    }
    let pause = Tabs::pause(&context.store, context.now());
    if let Beside::Instance(port) = beside {
        return Tab::WhenGone(port); // it has opened one, most likely
    }
    if pause.is_zero() {
        return Tab::WhenHostStays;
    }
    warn!("not opening another browser tab for {} s: the previous sign-in is unfinished", pause.as_secs());
    Tab::After(pause)
}

async fn open(context: &Context, url: &Url, port: u16) {
    Tabs::count(&context.store, context.now());
    match browser::open(url, &context.settings.surroundings).await {
        Ok(()) => {
            info!("opened a browser; waiting for you to sign in");
            context.facts.tell(|| AuthorizationFact::BrowserOpened);
        }
        Err(none) => {
            Tabs::take_back(&context.store, context.now());
            let server = host(context.http.server());
            let sentence = format!("cannot open a browser for the sign-in to {server}: {}", none.why);
            let report = report::warn(Code::NoBrowser, sentence);
            let way = browser::from_elsewhere(port, &context.settings.surroundings);
            context.facts.tell(|| AuthorizationFact::Warned { report, way: way.clone() });
            if let Some(way) = way {
                info!("{way}");
            }
        }
    }
}
