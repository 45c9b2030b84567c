//! A session (MCP 2025-11-25, Transports, Session Management): what all messages since one `initialize` have in common.

use std::{sync::Mutex, time::Duration};

use reqwest::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::{
    mcp::header::{PROTOCOL_VERSION, SESSION_ID},
    remote::{
        error::{Error, Refusal},
        http::Http,
        session_loss,
    },
    sync::LockExt,
};

/// A session this young that has never answered is not lost but refused; without the rule a server
/// that answers 404 to everything would be initialized again for each message.
const PROBATION: Duration = Duration::from_secs(5);

/// Sessions in a row that may be replaced before they have answered: one of several instances may know nothing of a session
/// that another has just made.
const MOST_HASTY_RENEWALS: u32 = 1;

/// A session, or what there is before one.
#[derive(Debug)]
pub(super) struct Session {
    /// All headers: those of the user, session and protocol version.
    pub(super) headers: HeaderMap,
    has_id: bool,
    began: Instant,
    standing: Mutex<Standing>,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// The server has not answered `initialize`.
    Blank,
    /// Has answered nothing since then, and is the last of so many in a row.
    OnProbation { since: Instant, renewals: u32 },
    /// Has answered.
    Proven,
    /// The server has refused to replace it.
    Irreplaceable { since: Instant },
}

impl Session {
    /// Returns what there is before a session.
    pub(super) fn blank(http: &Http) -> Self {
        let headers = http.headers().clone();
        Self { headers, has_id: false, began: Instant::now(), standing: Mutex::new(Standing::Blank) }
    }

    /// Returns a session that begins now.
    pub(super) fn new(http: &Http, id: Option<HeaderValue>, version: &str, renewals: u32) -> Self {
        let mut headers = http.headers().clone();
        if let Some(mut id) = id {
            http.note_session(&id);
            id.set_sensitive(true); // MCP 2025-11-25, Transports, Session Management: it is a secret
            headers.insert(SESSION_ID, id);
        }
        if let Ok(version) = HeaderValue::from_str(version)
            && !version.is_empty()
        {
            headers.insert(PROTOCOL_VERSION, version);
        }
        Self::with_headers(headers, renewals)
    }

    /// Returns a session that begins now, whose requests have these headers.
    pub(super) fn with_headers(headers: HeaderMap, renewals: u32) -> Self {
        let began = Instant::now();
        let has_id = headers.contains_key(SESSION_ID);
        Self { headers, has_id, began, standing: Mutex::new(Standing::OnProbation { since: began, renewals }) }
    }

    pub(super) fn has_id(&self) -> bool {
        self.has_id
    }

    /// Returns the number of sessions in a row, with this one, that have not answered.
    pub(super) fn unproven(&self) -> u32 {
        match *self.standing.guard() {
            Standing::OnProbation { renewals, .. } => renewals + 1,
            Standing::Blank | Standing::Proven | Standing::Irreplaceable { .. } => 0,
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        matches!(*self.standing.guard(), Standing::Blank)
    }

    /// Notes that the server has answered in this session.
    pub(super) fn prove(&self) {
        let mut standing = self.standing.guard();
        if matches!(*standing, Standing::OnProbation { .. }) {
            *standing = Standing::Proven;
        }
    }

    /// Notes that the server has refused to replace it.
    pub(super) fn set_irreplaceable(&self) {
        *self.standing.guard() = Standing::Irreplaceable { since: Instant::now() };
    }

    /// Returns what a refusal of a request in this session means, if it means that the session is lost.
    pub(super) fn loss(&self, refusal: Box<Refusal>) -> Error {
        if self.has_id() && (session_loss::is_lost(&refusal) || session_loss::is_of_other_token(&refusal, self.began)) {
            let is_named = session_loss::is_named(&refusal);
            Error::SessionLost { refusal, is_named, lasted: self.began.elapsed() }
        } else {
            Error::Refused(refusal)
        }
    }

    /// Returns whether a session that is lost according to this `refusal` may be replaced.
    pub(super) fn may_be_replaced(&self, refusal: &Refusal) -> bool {
        match *self.standing.guard() {
            Standing::Blank => false,
            Standing::OnProbation { since, renewals } => {
                session_loss::is_named(refusal) && renewals < MOST_HASTY_RENEWALS || since.elapsed() >= PROBATION
            }
            Standing::Irreplaceable { since } => since.elapsed() >= PROBATION,
            Standing::Proven => true,
        }
    }
}
