//! What an authorization reports to an observer, each fact where it is found out.
//!
//! # Invariants
//!
//! - No fact holds a secret.
//! - A fact is not made if there is no observer.

use std::{fmt, sync::Arc};

use reqwest::Url;

use super::{
    credential::Credential,
    protocol::{client_auth::Origin, metadata::Discovered},
};
use crate::report::Report;

/// Something that became known in an authorization.
#[derive(Clone, Debug)]
pub(crate) enum AuthorizationFact {
    /// Where tokens for the server come from.
    Discovered(Box<Discovered>),
    /// The client ID in use there.
    Client {
        /// The client id.
        id: String,
        /// Where it comes from.
        origin: Origin,
    },
    /// A person is asked to sign in.
    Asking {
        /// What to open.
        url: Url,
        /// What to enter there.
        code: Option<String>,
        /// What to show as a picture for a phone: the URL with the code in it.
        scan: Option<Url>,
    },
    /// A browser was opened for that.
    BrowserOpened,
    /// Another instance has asked a person, and is waited for.
    AnotherAsks {
        /// What to open, if that is known.
        url: Option<String>,
    },
    /// Something that is no failure yet.
    Warned {
        /// What.
        report: Report,
        /// How a browser on another computer can be used, where none was opened.
        way: Option<String>,
    },
    /// What is tried once more in another way, and why.
    Remedied(String),
    /// There is a token to send.
    Credential(Arc<Credential>),
}

/// Where facts go, if anybody looks on.
#[derive(Clone, Default)]
pub(crate) struct Facts(Option<Arc<dyn Fn(AuthorizationFact) + Send + Sync>>);

impl Facts {
    /// Sends each fact to `receiver`.
    pub(crate) fn new(receiver: impl Fn(AuthorizationFact) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(receiver)))
    }

    pub(crate) fn tell(&self, fact: impl FnOnce() -> AuthorizationFact) {
        if let Some(receiver) = &self.0 {
            receiver(fact());
        }
    }

    pub(crate) fn warn(&self, report: Report) {
        self.tell(|| AuthorizationFact::Warned { report, way: None });
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Facts").field(&self.0.is_some()).finish()
    }
}
