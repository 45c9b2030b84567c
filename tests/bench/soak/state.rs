//! What the server knows: tokens, the session, the calls it has run, the notifications it has published.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fault::Fault;

/// Short, so that an hour has many refreshes.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(crate) struct State {
    /// Access tokens, and when each expires.
    access: HashMap<String, Instant>,
    refresh: String,
    session: Option<String>,
    /// A fault to come once so many more calls have been run.
    planned: Option<(u32, Fault)>,
    executed: HashSet<u32>,
    /// The calls that a connection is busy with, by connection.
    in_service: HashMap<u64, u32>,
    /// The first notification that no GET stream has sent.
    unsent: u32,
    /// The newest GET stream; an older one ends.
    pub(crate) listener: u64,
    pub(crate) counts: Counts,
    pub(crate) violations: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) sessions: u64,
    pub(crate) refreshes: u64,
    pub(crate) streams: u64,
    pub(crate) resumed_answers: u64,
    pub(crate) most_in_service: usize,
    pub(crate) unauthorized: u64,
    pub(crate) without_session: u64,
    pub(crate) deletes: u64,
    /// How often all connections were dropped.
    pub(crate) drops: u32,
    pub(crate) faults: Vec<Fault>,
}

impl State {
    /// Makes new tokens. Returns the token response.
    pub(crate) fn grant(&mut self) -> Value {
        let number = self.counts.refreshes;
        let access = format!("at-{number}");
        let now = Instant::now();
        self.access.retain(|_, end| *end > now);
        self.access.insert(access.clone(), now + TOKEN_LIFETIME);
        self.refresh = format!("rt-{number}");
        json!({
            "access_token": access,
            "refresh_token": self.refresh,
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME.as_secs(),
            "scope": "mcp:tools",
        })
    }

    /// Spends a refresh token, which is good for once (RFC 9700 §4.14.2).
    pub(crate) fn refresh(&mut self, form: &str) -> Option<Value> {
        let field = |name: &str| form.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        if field("grant_type") != Some("refresh_token") || field("refresh_token") != Some(&self.refresh) {
            self.violations.push(format!("a token request that is no refresh with the newest token: {form}"));
            return None;
        }
        self.counts.refreshes += 1;
        Some(self.grant())
    }

    pub(crate) fn authorizes(&mut self, token: Option<&str>) -> bool {
        let now = Instant::now();
        let good = token.and_then(|token| self.access.get(token)).is_some_and(|end| *end > now);
        self.counts.unauthorized += u64::from(!good);
        good
    }

    pub(crate) fn begin_session(&mut self) -> String {
        self.counts.sessions += 1;
        let session = format!("soak-{}", self.counts.sessions);
        self.session = Some(session.clone());
        session
    }

    pub(crate) fn knows_session(&mut self, session: Option<&str>) -> bool {
        let known = session.is_some() && session == self.session.as_deref();
        self.counts.without_session += u64::from(!known);
        known
    }

    pub(crate) fn plan(&mut self, after_calls: u32, fault: Fault) {
        self.planned = Some((after_calls, fault));
    }

    /// Notes that a call is run. Returns the fault that was planned for now.
    pub(crate) fn execute(&mut self, connection: u64, id: u32) -> Option<Fault> {
        if !self.executed.insert(id) {
            self.violations.push(format!("call {id} reached the server twice"));
        }
        self.in_service.insert(connection, id);
        self.counts.most_in_service = self.counts.most_in_service.max(self.in_service.len());
        match &mut self.planned {
            Some((1, _)) => self.planned.take().map(|(_, fault)| fault),
            Some((calls, _)) => {
                *calls -= 1;
                None
            }
            None => None,
        }
    }

    pub(crate) fn has_executed(&self, id: u32) -> bool {
        self.executed.contains(&id)
    }

    pub(crate) fn end_service(&mut self, connection: u64) {
        self.in_service.remove(&connection);
    }

    pub(crate) fn inflict(&mut self, fault: Fault) {
        self.counts.faults.push(fault);
        self.counts.drops += u32::from(fault.drops_connections());
        match fault {
            Fault::SessionLost => self.session = None,
            Fault::TokensRevoked => self.access.clear(),
            Fault::StreamEnds | Fault::StreamBreaks | Fault::ConnectionsClosed | Fault::ConnectionsReset => {}
        }
    }

    /// Begins a GET stream after the event with this ID. Returns the stream's number and its first notification.
    pub(crate) fn begin_stream(&mut self, last_event: Option<&str>) -> (u64, u32) {
        self.counts.streams += 1;
        self.listener += 1;
        let next = last_event.and_then(|id| id.strip_prefix("n-")?.parse().ok());
        (self.listener, next.unwrap_or(self.unsent))
    }

    /// Notes that a GET stream has sent all notifications before this one.
    pub(crate) fn note_sent(&mut self, before: u32) {
        self.unsent = self.unsent.max(before);
    }
}
