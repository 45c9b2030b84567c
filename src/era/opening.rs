//! Which questions decide the era of a server, in which order (MCP 2026-07-28, Versioning, Backward Compatibility;
//! Streamable HTTP, Backward Compatibility).
//!
//! A legacy host's `initialize` is asked first, because nearly every server accepts it and no extra request is sent. A
//! modern host's `server/discover` is asked first, because a server of both eras answers both and the host prefers it.
//!
//! # Invariants
//!
//! - [`questions`] names each question once, and at least one.
//! - A question that the user has excluded with `--protocol` is not named.

use super::{Era, known::KnownEra};
use crate::config::Protocol;

/// A question to a server, or what takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// `initialize`: the host's own, or one on behalf of a modern host.
    Initialize,
    /// `server/discover`: the host's own, or one on behalf of a legacy host.
    Discover,
    /// None: the host's `server/discover` is refused, because this host then sends its own `initialize`.
    LeftToHost,
}

/// How a host begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    /// With `initialize`.
    Initialize,
    /// With `server/discover`.
    Discover {
        /// It is known to continue with `initialize` where that is refused.
        falls_back: bool,
    },
    /// With another request of the modern era.
    Request,
}

/// The questions to ask one after the other, each where the server has refused the one before as a server of the other
/// era. `prefers` is the era that is expected of a server of which nothing is known.
pub(crate) fn questions(
    begins: Begins,
    protocol: Protocol,
    known: Option<&KnownEra>,
    prefers: Era,
) -> &'static [Question] {
    use Question::{Discover, Initialize, LeftToHost};
    let known_era = known.map_or(prefers, |known| known.era);
    match (begins, protocol) {
        (_, Protocol::Modern) => &[Discover],
        (Begins::Initialize | Begins::Request | Begins::Discover { falls_back: false }, Protocol::Legacy) => {
            &[Initialize]
        }
        (Begins::Discover { falls_back: true }, Protocol::Legacy) => &[LeftToHost],
        (Begins::Initialize, Protocol::Auto) if known.is_some_and(|known| known.refuses_initialize) => {
            &[Discover, Initialize]
        }
        (Begins::Initialize, Protocol::Auto) => &[Initialize, Discover],
        (Begins::Discover { falls_back: true }, Protocol::Auto) => match known_era {
            Era::Modern => &[Discover, LeftToHost],
            // The host's own `initialize` crosses untouched, which no bridge does better.
            Era::Legacy => &[LeftToHost],
        },
        (Begins::Discover { falls_back: false } | Begins::Request, Protocol::Auto) => match known_era {
            Era::Modern => &[Discover, Initialize],
            Era::Legacy => &[Initialize, Discover],
        },
    }
}

#[cfg(test)]
mod tests {
    use Begins::{Discover as BeginsDiscover, Initialize as BeginsInitialize, Request};
    use Question::{Discover, Initialize, LeftToHost};

    use super::*;

    fn known(era: Era, refuses_initialize: bool) -> KnownEra {
        KnownEra { refuses_initialize, ..KnownEra::new(era, Vec::new(), String::new()) }
    }

    #[test]
    fn questions_follow_host_server_and_settings() {
        let (falls_back, stays) = (BeginsDiscover { falls_back: true }, BeginsDiscover { falls_back: false });
        let (legacy, modern, modern_only) =
            (Some(known(Era::Legacy, false)), Some(known(Era::Modern, false)), Some(known(Era::Modern, true)));
        for (begins, protocol, known, prefers, expected) in [
            (BeginsInitialize, Protocol::Auto, &None, Era::Modern, &[Initialize, Discover][..]),
            (BeginsInitialize, Protocol::Auto, &legacy, Era::Modern, &[Initialize, Discover]),
            (BeginsInitialize, Protocol::Auto, &modern, Era::Modern, &[Initialize, Discover]),
            (BeginsInitialize, Protocol::Auto, &modern_only, Era::Modern, &[Discover, Initialize]),
            (BeginsInitialize, Protocol::Legacy, &modern_only, Era::Modern, &[Initialize]),
            (BeginsInitialize, Protocol::Modern, &legacy, Era::Modern, &[Discover]),
            (falls_back, Protocol::Auto, &None, Era::Modern, &[Discover, LeftToHost]),
            (falls_back, Protocol::Auto, &None, Era::Legacy, &[LeftToHost]),
            (falls_back, Protocol::Auto, &legacy, Era::Modern, &[LeftToHost]),
            (falls_back, Protocol::Auto, &modern, Era::Legacy, &[Discover, LeftToHost]),
            (falls_back, Protocol::Legacy, &modern, Era::Modern, &[LeftToHost]),
            (falls_back, Protocol::Modern, &legacy, Era::Legacy, &[Discover]),
            (stays, Protocol::Auto, &None, Era::Modern, &[Discover, Initialize]),
            (stays, Protocol::Auto, &None, Era::Legacy, &[Initialize, Discover]),
            (stays, Protocol::Auto, &legacy, Era::Modern, &[Initialize, Discover]),
            (stays, Protocol::Auto, &modern_only, Era::Legacy, &[Discover, Initialize]),
            (stays, Protocol::Legacy, &modern, Era::Modern, &[Initialize]),
            (Request, Protocol::Auto, &None, Era::Modern, &[Discover, Initialize]),
            (Request, Protocol::Auto, &legacy, Era::Modern, &[Initialize, Discover]),
            (Request, Protocol::Legacy, &modern, Era::Modern, &[Initialize]),
            (Request, Protocol::Modern, &legacy, Era::Modern, &[Discover]),
        ] {
            let asked = questions(begins, protocol, known.as_ref(), prefers);
            assert_eq!(asked, expected, "{begins:?} {protocol:?} {known:?} {prefers:?}");
        }
    }
}
