//! How far an authorization is, and what has to happen before the server answers.

use std::sync::Arc;

use tokio::sync::watch;

use crate::oauth::{credential::Credential, error::Error};

/// What has to happen before the server answers.
#[derive(Clone, Debug)]
pub(crate) enum Need {
    /// Nothing, as far as is known.
    Nothing,
    /// A token, which may come without anybody's doing.
    Token,
    /// Another process on this computer, which spends the refresh token.
    OtherRefreshes,
    /// A person: nothing that is stored will do. What to open is being found out.
    SignIn,
    /// A person is asked to sign in.
    Person(Asking),
    /// What the last sign-in or refresh came to, if that was nothing.
    Failed(Error),
}

/// What a person is asked, and by which process.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    /// The URL to open; unknown if another instance asks and has not published it.
    pub(crate) prompt: Option<Arc<str>>,
    /// The URL that a program opens, if it is another one: with a device's code in it (RFC 8628 §3.3.1).
    pub(crate) complete: Option<Arc<str>>,
    /// Who asks.
    pub(crate) by: AskedBy,
}

/// The process that asks a person to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedBy {
    /// This one.
    ThisProcess,
    /// This one, in the browser tab that an ended process opened.
    EndedProcess,
    /// Another running instance of mcp-remote, which this one waits for.
    AnotherInstance,
}

impl Need {
    /// Whether an authorization is under way: time does not count meanwhile.
    pub(crate) fn is_under_way(&self) -> bool {
        matches!(self, Self::Token | Self::OtherRefreshes | Self::SignIn | Self::Person(_))
    }
}

/// How far a flight is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Working,
    /// A person is asked: to open this.
    Asking(Arc<str>),
    Done(Result<Arc<Credential>, Error>),
}

/// Tells those who wait how far a flight is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    phase: watch::Sender<Phase>,
    /// Where nothing goes on before the flight's end.
    need: Option<watch::Sender<Need>>,
}

impl Progress {
    pub(crate) fn new(phase: watch::Sender<Phase>, need: Option<watch::Sender<Need>>) -> Self {
        Self { phase, need }
    }

    pub(crate) fn need(&self, need: Need) {
        if let Some(told) = &self.need {
            told.send_replace(need);
        }
    }

    /// A person is asked to open this.
    pub(crate) fn ask(&self, prompt: &str, complete: Option<&str>, by: AskedBy) {
        let prompt: Arc<str> = prompt.into();
        self.phase.send_replace(Phase::Asking(prompt.clone()));
        self.need(Need::Person(Asking { prompt: Some(prompt), complete: complete.map(Into::into), by }));
    }

    /// The person has done their part, and the code is exchanged.
    pub(crate) fn exchange(&self) {
        self.phase.send_replace(Phase::Working);
        self.need(Need::Token);
    }

    /// Another instance asks a person to open this, if it has published what.
    pub(crate) fn another_asks(&self, prompt: Option<&str>) {
        self.need(Need::Person(Asking {
            prompt: prompt.map(Into::into),
            complete: None,
            by: AskedBy::AnotherInstance,
        }));
    }
}
