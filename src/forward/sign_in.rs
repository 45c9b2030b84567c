//! A person has to sign in: what the host hears of it. On a connection that stands, a list that waits for
//! them is answered in the server's place, as at the start.
//!
//! Must never: ask a person again who has said no; leave a host with the words of a sign-in that is over.

use std::sync::Arc;

use serde_json::{Map, json};

use super::{
    Forward, Link, Shown,
    owed::Debt,
    stand_in::{StandIn, names_stand_in},
    survey::own_id,
    told::{Capabilities, Told},
};
use crate::{
    config::Start,
    description::{List, Wish},
    era::Era,
    message::{Body, Id, Message, Shape},
    oauth::{self, AskedBy, Asking, Need},
    report::{Code, Report, catalogue::STILL_TRIED},
    text,
};

/// An address that the host was asked to open (MCP 2025-11-25, Elicitation, URL mode).
#[derive(Debug)]
pub(super) struct Offer {
    prompt: Arc<str>,
    elicitation: String,
}

impl Forward {
    /// What has to happen before the server answers, has changed.
    pub(super) fn needs(&mut self, need: Need) {
        self.need = need;
        if self.start == Start::Wait {
            return;
        }
        if matches!(self.link, Link::Open(Era::Modern)) && self.is_signing_in() && self.refuses_discover_for_sign_in() {
            return;
        }
        match (&self.link, &self.need) {
            (Link::Opening(_), _) => self.consider(),
            (Link::Provisional(_), Need::Person(_)) => {
                self.restate(self.sign_in_needed());
                self.offer();
            }
            (Link::Provisional(_), Need::Nothing) => self.signed_in(),
            (Link::Open(_), Need::Person(_)) => {
                let trouble = self.sign_in_needed();
                match &self.stand_in {
                    Some(_) => self.restate(trouble),
                    None => self.stand_in = Some(Box::new(StandIn::new(self.memory.recall(), trouble))),
                }
                self.answer_open_lists();
                self.offer();
            }
            (Link::Open(_), Need::Failed(error)) => {
                let report = Report::of_authorization(error, &self.server);
                self.restate(report);
            }
            (Link::Open(_), Need::Nothing) => self.goes_on(),
            _ => {}
        }
    }

    /// The person has done it, and the server is to answer; a moment later it will have. Until then its silence
    /// is what stands in the way, which is not worth a new list.
    fn signed_in(&mut self) {
        let Some(stand_in) = &mut self.stand_in else { return };
        if stand_in.trouble.code == Code::SignInNeeded {
            let sentence = format!("{} has not answered yet", text::host(&self.server));
            let trouble = Report::new(Code::TimedOut, sentence, Some(STILL_TRIED));
            **stand_in = StandIn::new(stand_in.known.take(), trouble);
        }
    }

    /// Lists that wait for somebody to sign in, on a connection that stands.
    pub(super) fn answer_open_lists(&mut self) {
        let open: Vec<(Id, List)> =
            self.owed.iter().filter_map(|(id, debt)| Some((id.clone(), debt.list()?))).collect();
        for (id, list) in open {
            let later_page = self.owed.get(&id).is_some_and(Debt::is_later_page);
            if self.draining || !self.holds_list_in_flight(&id, list, later_page) {
                self.answer_list(&id, list); // the server's own answer will find nothing owed
            }
        }
    }

    /// A request on a connection that stands while somebody has to sign in. Whether it is answered.
    pub(super) fn stands_in(&mut self, message: &Message) -> bool {
        if self.stand_in.is_none() || !matches!(self.link, Link::Open(_)) {
            return false;
        }
        let Shape::Request { id, method } = &message.shape else { return false };
        let id = id.clone();
        match List::of_method(method) {
            Some(list) => {
                let later_page = self.owed.get(&id).is_some_and(Debt::is_later_page);
                if self.holds_list_in_flight(&id, list, later_page) {
                    return false; // it waits at the server, as every other request
                }
                self.answer_list(&id, list);
            }
            None if &**method == "tools/call" && names_stand_in(message) => {
                self.tell(&id, "");
                if matches!(self.need, Need::Failed(_)) {
                    self.goes_on(); // the host asks again, and with that the server
                }
            }
            None => return false,
        }
        true
    }

    /// The server answers for itself again.
    fn goes_on(&mut self) {
        if self.stand_in.take().is_none() {
            return;
        }
        self.told.get_or_insert_with(|| Box::new(Told::new(Map::new(), &Capabilities::new())));
        self.offer_is_over();
        let changed: Vec<List> =
            List::ALL.into_iter().filter(|list| matches!(self.shown[list.index()], Shown::InItsPlace)).collect();
        for list in &changed {
            self.shown[list.index()] = Shown::Nothing;
        }
        if matches!(self.link, Link::Open(Era::Modern)) {
            // What was shown was not the server's own; the host asks for it again.
            let shown = |list: &List| matches!(self.shown[list.index()], Shown::Pages(_) | Shown::TooMuch);
            let others: Vec<List> = List::ALL.into_iter().filter(shown).collect();
            return self.announce(&[changed, others].concat());
        }
        self.announce(&changed);
        self.look_again();
    }

    pub(super) fn sign_in_needed(&self) -> Report {
        let error = match &self.need {
            Need::Person(Asking { prompt, by }) => {
                let prompt = prompt.as_ref().map(ToString::to_string);
                match by {
                    AskedBy::AnotherInstance => oauth::error::Error::AnotherAsks { prompt },
                    AskedBy::ThisProcess | AskedBy::EndedProcess => oauth::error::Error::Waiting { prompt },
                }
            }
            _ => oauth::error::Error::Waiting { prompt: None },
        };
        Report::of_authorization(&error, &self.server)
    }

    /// Offers the address to a host that opens addresses (MCP 2025-11-25, Elicitation, URL mode).
    pub(super) fn offer(&mut self) {
        let Need::Person(Asking { prompt: Some(prompt), .. }) = &self.need else { return };
        let ready = match &self.link {
            Link::Provisional(provisional) => provisional.is_host_ready(),
            // A modern host takes no requests (MCP 2026-07-28, Multi Round-Trip Requests).
            Link::Open(era) => *era == Era::Legacy,
            _ => false,
        };
        let again = self.offer.as_ref().is_some_and(|offer| offer.prompt == *prompt);
        let opens_urls = self.initialize.as_ref().is_some_and(|initialize| Wish::of(initialize).opens_urls);
        if !ready || again || !opens_urls {
            return;
        }
        let prompt = prompt.clone();
        // A device's address is followed by its code in words.
        let url = prompt.split_whitespace().next().unwrap_or_default();
        let (id, elicitation) = (own_id(), format!("mcp-remote-{:016x}", fastrand::u64(..)));
        let params = json!({
            "mode": "url",
            "elicitationId": elicitation,
            "url": url,
            "message": format!("Sign in to {}: {prompt}", text::host(&self.server)),
        });
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"elicitation/create","params":{params}}}"#);
        self.asked_host.push(id);
        self.offer = Some(Offer { prompt, elicitation });
        self.write(Body::One(text.into()));
    }

    pub(super) fn offer_is_over(&mut self) {
        if let Some(offer) = self.offer.take() {
            let params = json!({ "elicitationId": offer.elicitation });
            self.notify("notifications/elicitation/complete", Some(&params));
        }
    }
}
