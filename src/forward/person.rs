//! The user's part in a sign-in: what the user has to do, and the URL that the host is asked to open.
//!
//! # Invariants
//!
//! - `Person` offers a URL once, and withdraws the offer when the sign-in ends.

use std::sync::Arc;

use reqwest::Url;
use serde_json::json;

use super::host::Host;
use crate::{
    description::ClientCapabilities,
    mcp::method,
    message::Message,
    oauth::{self, AskedBy, Asking, Need},
    report::Report,
    text,
};

/// A URL that the host was asked to open (MCP 2025-11-25, Elicitation, URL mode).
#[derive(Debug)]
struct Offer {
    prompt: Arc<str>,
    elicitation: String,
}

#[derive(Debug)]
pub(super) struct Person {
    pub(super) need: Need,
    offer: Option<Offer>,
}

impl Person {
    pub(super) fn new() -> Self {
        Self { need: Need::Nothing, offer: None }
    }

    /// Returns whether the user has to sign in.
    pub(super) fn is_signing_in(&self) -> bool {
        matches!(self.need, Need::SignIn | Need::Person(_))
    }

    /// Reports that the user has to sign in.
    pub(super) fn sign_in_needed(&self, server: &Url) -> Report {
        let error = match &self.need {
            Need::Person(Asking { prompt, by, .. }) => {
                let prompt = prompt.as_ref().map(ToString::to_string);
                match by {
                    AskedBy::AnotherInstance => oauth::error::Error::AnotherAsks { prompt },
                    AskedBy::ThisProcess | AskedBy::EndedProcess => oauth::error::Error::Waiting { prompt },
                }
            }
            _ => oauth::error::Error::Waiting { prompt: None },
        };
        Report::of_authorization(&error, server)
    }

    /// Offers the URL to a host that opens URLs (MCP 2025-11-25, Elicitation, URL mode).
    pub(super) fn offer(&mut self, initialize: Option<&Message>, host: &mut Host, server: &Url) {
        let Need::Person(Asking { prompt: Some(prompt), complete, .. }) = &self.need else { return };
        let is_offered = self.offer.as_ref().is_some_and(|offer| offer.prompt == *prompt);
        if is_offered || !initialize.is_some_and(|initialize| ClientCapabilities::of(initialize).opens_urls) {
            return;
        }
        // A prompt is a URL, followed by words for the code of the device grant. The complete URL contains the code.
        let url = complete.as_deref().or_else(|| prompt.split_whitespace().next()).unwrap_or_default();
        let elicitation = format!("mcp-remote-{:016x}", fastrand::u64(..));
        let at = oauth::page_host(url).map_or_else(String::new, |page| format!(" with {page}"));
        let params = json!({
            "mode": "url",
            "elicitationId": elicitation,
            "url": url,
            "message": format!("Sign in to {}{at}. Open {prompt}", text::host(server)),
        });
        host.ask(method::ELICITATION_CREATE, &params);
        self.offer = Some(Offer { prompt: prompt.clone(), elicitation });
    }

    /// Tells the host that the sign-in ended.
    pub(super) fn complete_offer(&mut self, host: &mut Host) {
        if let Some(offer) = self.offer.take() {
            let params = json!({ "elicitationId": offer.elicitation });
            host.notify(method::ELICITATION_COMPLETE, Some(&params));
        }
    }

    /// Forgets the offer, because its session is lost.
    pub(super) fn forget_offer(&mut self) {
        self.offer = None;
    }
}
