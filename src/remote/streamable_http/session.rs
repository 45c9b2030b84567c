//! A session (MCP 2025-11-25, Transports, Session Management): what all messages since one `initialize` have in common.

use std::{sync::Mutex, time::Duration};

use reqwest::{
    StatusCode,
    header::{HeaderMap, HeaderValue},
};
use tokio::time::Instant;

use crate::{
    mcp::header::{PROTOCOL_VERSION, SESSION_ID},
    remote::{error::Refusal, http::Http},
    sync::LockExt,
};

/// A session this young that has never answered is not lost but refused; without the rule a server
/// that answers 404 to everything would be initialized again for each message.
const PROBATION: Duration = Duration::from_secs(5);

/// A session, or what there is before one.
#[derive(Debug)]
pub(super) struct Session {
    /// All headers: those of the user, session and protocol version.
    pub(super) headers: HeaderMap,
    standing: Mutex<Standing>,
}

/// What is known of a session.
#[derive(Clone, Copy, Debug)]
enum Standing {
    /// The server has not answered `initialize`.
    Blank,
    /// Has answered nothing since then.
    OnProbation { since: Instant },
    /// Has answered.
    Proven,
    /// The server has refused to replace it.
    Irreplaceable { since: Instant },
}

impl Session {
    /// Returns what there is before a session.
    pub(super) fn blank(http: &Http) -> Self {
        Self { headers: http.headers().clone(), standing: Mutex::new(Standing::Blank) }
    }

    /// Returns a session that begins now.
    pub(super) fn new(http: &Http, id: Option<HeaderValue>, version: &str) -> Self {
        let mut headers = http.headers().clone();
        if let Some(mut id) = id {
            id.set_sensitive(true); // MCP 2025-11-25, Transports, Session Management: it is a secret
            headers.insert(SESSION_ID, id);
        }
        if let Ok(version) = HeaderValue::from_str(version)
            && !version.is_empty()
        {
            headers.insert(PROTOCOL_VERSION, version);
        }
        Self { headers, standing: Mutex::new(Standing::OnProbation { since: Instant::now() }) }
    }

    pub(super) fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION_ID)
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

    pub(super) fn may_be_replaced(&self) -> bool {
        match *self.standing.guard() {
            Standing::Blank => false,
            Standing::OnProbation { since } | Standing::Irreplaceable { since } => since.elapsed() >= PROBATION,
            Standing::Proven => true,
        }
    }
}

/// Returns whether the session is lost: 404 to a request with a session id (MCP 2025-11-25, Transports,
/// Session Management); some servers say 400 or 410 and name it in words.
pub(super) fn names_the_session(refusal: &Refusal, session: &Session) -> bool {
    let in_words = || {
        let text = refusal.text.to_ascii_lowercase();
        text.contains("session") || text.contains("not initialized")
    };
    session.has_id()
        && match refusal.status {
            StatusCode::NOT_FOUND => true,
            StatusCode::BAD_REQUEST | StatusCode::GONE => in_words(),
            _ => false,
        }
}
