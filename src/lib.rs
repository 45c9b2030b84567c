//! `mcp-remote` lets an MCP host that can only launch local programs reach a remote MCP server.
//!
//! A host starts the program with the server's address. Every JSON-RPC message crosses between the
//! host's stdin/stdout and the server as the bytes it came in; the host's first message opens the
//! connection; what cannot be answered by the server is answered with an error that says why.
//!
//! # The walk of a message, each file entered once
//!
//! stdin → [`local`] (a line) → [`message`] (kind, id, method) → [`forward`] → [`tools`] (refused? answered,
//! done) → the id is owed (`forward/owed.rs`) → [`remote`] (Streamable HTTP or HTTP+SSE) →
//! [`remote::http`] (headers, cookies, token) → server → body or event → [`message`] (one JSON value?)
//! → [`forward`] (the id is paid) → [`tools`] (hidden?) → [`local`] → stdout.
//!
//! # The walk of a challenge
//!
//! [`remote::http`] meets 401, or 403 that names a scope → [`oauth::protocol::challenge`] → [`oauth::Authorizer`]
//! (one flight per process) → [`store`] (has another copy done it?) → [`oauth::protocol::discovery`] →
//! [`oauth::grants::refresh`] (one per machine: [`store::lock`]) → [`oauth::grants::authorization_code`]: first
//! [`oauth::person::redirect`] is bound, its port is part of who we are; then [`oauth::client`], the
//! [`oauth::person::browser`], the redirect, the exchange → [`store`] → the same request goes out again. Or one
//! of the other grants, each in its file. The layers above have seen a slow request.
//!
//! # The walk of a modern message
//!
//! The first message decides the [`era`] of a connection. A request of MCP 2026-07-28 → [`forward`] (`modern.rs`:
//! `server/discover` is never held; `listens.rs`: the streams that owe nobody) → `remote/modern.rs` (one POST and one
//! stream each, headers by [`era::mirror`], what the answer says of the server by [`era::verdict`], kept by
//! [`era::known`]) → back as above.
//!
//! # The walk of a start that the server does not answer
//!
//! [`remote`] is blocked, or [`oauth::Authorizer`] needs a person (`forward/sign_in.rs`) → [`forward`] holds
//! the host's `initialize` for as long as this host waits (`hold.rs`, [`known_hosts`]), then answers it itself
//! (`provisional.rs`); a server whose last [`description`] is known ([`description::store`]) is shown at once
//! → lists are answered, or one tool stands in for them (`stand_in.rs`), calls are held → the connection stands: the host's own handshake goes to the server, then what was held; the host is
//! told which lists are others, and answered where it asks for what the server has not (`told.rs`); lists
//! that it has seen are looked at again (`survey.rs`). With a server that answers, nothing of this happens.
//!
//! # Invariants
//!
//! 1. Only [`local`] writes to stdout, and only messages. Logs go to stderr and the debug file.
//! 2. Ids and bodies pass unchanged, but for line breaks between tokens, the tools that [`tools`]
//!    hides, and an id that the server itself wrote in another way.
//! 3. Every request of the host is answered exactly once: by the server, by us as the server was last
//!    known, or with an error that says what, why and what to do. No message is dropped without a line
//!    in the log.
//! 4. No probe traffic but four: the sign-in page is looked at before a client that the user has given, a
//!    registration from disk, or one that names less scope, is used for it, and where its provider is
//!    known for a refusal; lists that the host has seen are asked for again after a session was replaced;
//!    a `ping` goes out after the machine has slept, or where the user wants one; and the tools are listed
//!    where a modern server wants headers for a call whose schema was never seen. The first request a
//!    server sees is the host's own. After a proxy has refused a
//!    tunnel, one CONNECT of its own asks for the proxy's words (`network/proxy.rs`).
//! 5. A `tools/call` that may have run is never sent twice. A request goes out again at most once for
//!    each challenge.
//! 6. Headers given by the user, cookies, tokens and message bodies go to the server's origin only: not
//!    to an authorization server, not across a redirect.
//! 7. One network configuration for everything ([`network`]).
//! 8. Nothing secret implements `Display` or reaches a log; [`secret::Secret::expose`] marks the
//!    boundary.
//! 9. No task, port or file lock outlives [`forward::run`]; end of input ends the program within a
//!    second in every state, and waits in it for a token that is being spent.
//! 10. The loop is one closed event enum and a synchronous handler; a state is an enum variant with
//!     its data inside.
//! 11. Files of the store are replaced, never written in place (but for the key of proofs, which is made once
//!     under its own lock: [`oauth::protocol::dpop`]), and belong to their owner; a lost race never removes a newer
//!     token.
//! 12. The redirect's listener is on loopback, exists only while a sign-in is under way, and ignores
//!     what is not its own.
//!
//! # Who looks on
//!
//! [`diagnosis`] (`mcp-remote-client`) is a host of our own ([`client`]) on the same walk. What a host does
//! not learn, the transport and each step of an authorization, it hears from [`observer`].
//!
//! # What surrounds a message at the remote end
//!
//! All transports share one connection (`remote/connection.rs`): the order of messages, cancellation, retries, the handshake
//! of a new session, the keep-alive. A transport is one implementation of its trait: `remote/streamable_http/`,
//! `remote/http_sse.rs`, `remote/modern.rs`. What an HTTP status means for a retry is decided once (`status.rs`).

#![forbid(unsafe_code)]

// In reading order.
mod program;

pub mod cli;
mod commands;
pub mod compose;
pub mod config;
mod refusal;

pub mod forward;
pub mod known_hosts;
pub mod local;
pub mod tools;

pub mod era;
pub mod remote;

pub mod oauth;

pub mod network;
pub mod store;

pub mod description;
pub mod mcp;
pub mod message;

pub mod logging;
pub mod observer;
pub mod report;
pub mod secret;
pub mod shutdown;
mod sleep_watch;
mod status;
pub mod surroundings;
mod sync;
mod text;

pub use program::{main, main_with};
