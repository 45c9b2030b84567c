//! `mcp-remote` lets an MCP host that can only launch local programs reach a remote MCP server.
//!
//! A host starts the program with the server's URL. Every JSON-RPC message crosses between the host's stdin/stdout and the
//! server as the bytes it came in. The host's first message opens the connection. What the server cannot answer is answered
//! with an error that says why.
//!
//! # The map
//!
//! A module uses only modules that stand below it (`tests/it/layout.rs`).
//!
//! | module | what it is |
//! |---|---|
//! | `internals` | what tests, fuzz targets and benchmarks use |
//! | `program` | a command line becomes an exit code |
//! | [`commands`], [`refusal`] | `install` and its relatives, `bundle`, `login`, `logout`, `status`, `finish`, `mcp-remote-client`; a refused command line |
//! | [`compose`] | builds network, authorizer, remote end and loop from the settings, for every command |
//! | [`cli`] | flags and environment become settings |
//! | [`help`] | the manual: a page for each topic and each error code, laid out for a terminal |
//! | [`forward`] | the loop: a closed event enum, one file for each state of the connection, actions out |
//! | [`remote`] | the connection to the server: what all transports share, each transport, the HTTP client |
//! | [`observer`] | what `mcp-remote-client` hears of a connection and a host does not |
//! | [`oauth`] | authorizer → flow → grants → client, person, providers → stored → protocol → http |
//! | [`description`], [`era`], [`network`] | what is known of a server; the two eras of MCP; connections |
//! | [`config`] | the settings |
//! | [`hosts`], [`known_hosts`], [`local`], [`tools`] | configuration files of hosts; how long hosts wait; stdin and stdout; ignored tools |
//! | [`store`] | files, atomic writes, locks |
//! | [`report`] | failures: code, sentence, hint |
//! | [`logging`], [`status`] | the log; what an HTTP status means for a retry |
//! | [`mcp`], [`message`] | names of the protocol; one JSON-RPC message |
//! | [`child`], [`worker`] | a program that this one starts; threads that exist only while they have work |
//! | [`own_process`], [`reminders`], [`secret`], [`shutdown`], [`sleep_watch`], [`surroundings`], [`sync`], [`text`] | what everything else stands on |
//!
//! # How a message travels
//!
//! stdin → [`local`] (a line) → [`message`] (kind, ID, method) → [`forward`] (`messages.rs`) → [`tools`] (refused?) → the
//! request is owed (`forward/host.rs`) → [`remote`] (`connection.rs`, then a transport) → [`remote::http`] (headers,
//! cookies, token) → server → body or event → [`message`] (one JSON value?) → [`forward`] (the request is paid) →
//! [`tools`] (hidden?) → [`local`] → stdout.
//!
//! # How a challenge is met
//!
//! [`remote::http`] gets 401, or 403 that names a scope → [`oauth::protocol::challenge`] → [`oauth::Authorizer`] (one attempt
//! per process) → [`store`] (has another instance done it?) → [`oauth::protocol::discovery`] → [`oauth::grants::refresh`]
//! (one per machine: [`store::lock`]) → [`oauth::grants::authorization_code`]: [`oauth::person::redirect`] is bound first,
//! because its port is part of the registration; then `oauth/client/`, [`oauth::person::browser`], the redirect, the
//! token request → [`store`] → the same request is sent again. Or one of the other grants, each in its file. The layers
//! above see a slow request.
//!
//! # How a modern message travels
//!
//! The host's first message says which [`era`] the host speaks; `remote/open.rs` finds out which the server does. A request
//! of MCP 2026-07-28 → [`forward`] (`modern.rs`: `server/discover` is never held) → `remote/deciding.rs` (until the
//! server's era is known: [`era::verdict`], [`era::known`]) → `remote/modern.rs` (one POST and one stream each, headers by
//! [`era::mirror`]) → back as above.
//!
//! # How a message travels between the eras
//!
//! [`forward`] → `remote/bridged.rs` → [`era::legacy_host`] or [`era::modern_host`] (pure: a message in, messages and
//! reminders out) → a connection of the server's era, whose events come back through the same bridge. The loop does not
//! know of it.
//!
//! # What happens when the server does not answer at first
//!
//! [`remote`] is blocked, or [`oauth::Authorizer`] needs a person → [`forward`] holds the host's `initialize` for as long
//! as this host waits (`hold.rs`, [`known_hosts`]), then answers it itself (`provisional.rs`). A server whose last
//! [`description`] is known is shown at once; otherwise one tool stands in for its lists (`stand_in.rs`). Calls are held.
//! The connection is established → the host's own handshake goes to the server, then what was held. The host is told which
//! lists have changed, and answered where it asks for what the server does not have (`promised.rs`). Lists that it has
//! seen are asked for again (`lists.rs`). With a server that answers, nothing of this happens.
//!
//! # Invariants
//!
//! 1. While a host is served, only [`local`] writes to stdout, or [`refusal`] in its place, and only messages. Logs go to
//!    stderr and the debug file.
//! 2. Ids and bodies pass unchanged, but for line breaks between tokens, the tools that [`tools`] hides or whose marks are
//!    invalid in the modern era, an id that the server itself wrote in another way, the id of a modern request that is
//!    sent again, and what a bridge between the eras must change.
//! 3. Every request of the host is answered exactly once: by the server, by us as the server was last
//!    known, or with an error that says what, why and what to do. No message is dropped without a line
//!    in the log.
//! 4. No probe traffic but this. The sign-in page is probed before a client that the user has given, a registration from
//!    disk, or one that names less scope, is used for it, and where its provider is known for a refusal. Lists that the
//!    host has seen are asked for again after a session was replaced. A `ping` goes out after the machine has slept, or
//!    where the user wants one. The tools are listed where a modern server wants headers for a call whose schema was never
//!    seen. `server/discover` is asked of a server that does not know `initialize`, or for a modern host that has not asked it
//!    at a server whose era is not known. After a proxy has refused a tunnel, one CONNECT of its own asks for the proxy's words (`network/proxy.rs`). A new
//!    session is told what the host had set in the old one. The first request a server sees is the host's own.
//! 5. A `tools/call` that may have run is never sent twice. A request goes out again at most once for
//!    each challenge.
//! 6. Headers given by the user, cookies, tokens and message bodies go to the server's origin only: not
//!    to an authorization server, not across a redirect.
//! 7. One network configuration for everything ([`network`]).
//! 8. Nothing secret implements `Display` or reaches a log; [`secret::Secret::expose`] marks the
//!    boundary. What the server repeats of the secrets of a request is masked before a log or an error shows it
//!    ([`remote::http::masking`]); a message that the host gets stays as it came.
//! 9. No task, port or file lock outlives [`forward::run`]; end of input ends the program within 1.5 s
//!    in every state. In that time it waits for a token that is being spent.
//! 10. The loop is one closed event enum and a synchronous handler; a state is an enum variant with
//!     its data inside.
//! 11. Files of the store are replaced, never written in place (but for the key of proofs, which is made once
//!     under its own lock: [`oauth::protocol::dpop`]), and belong to their owner; a lost race never removes a newer
//!     token.
//! 12. The redirect's listener is on loopback, exists only while a sign-in is under way and for three seconds after it,
//!     and ignores what is not its own.
//! 13. While a host is served, the loop's thread touches no disk: authorization has a thread of its own, and every other
//!     look into the store is waited for up to a limit.
//! 14. What a server makes this program keep or write has a limit for all of it, not only for each piece: responses, cookies,
//!     log lines. A log line has a limit of its own ([`logging`]), because the number of lines limits nothing without it.

#![forbid(unsafe_code)]
// The map leads to private modules: it is read with `cargo doc --document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]

// From the top down.
#[doc(hidden)]
pub mod internals;

mod program;

mod commands;
mod refusal;

mod compose;

mod cli;

pub mod help;

mod forward;

mod remote;

mod observer;

mod oauth;

mod description;
mod era;
mod network;

mod config;

mod hosts;
mod known_hosts;
mod local;
mod tools;

mod store;

mod report;

mod logging;

mod bot_filter;
mod status;

mod mcp;
mod message;

mod child;
mod worker;

mod own_process;
mod reminders;
mod secret;
mod shutdown;
mod sleep_watch;
mod surroundings;
mod sync;
mod text;

pub use cli::Program;
pub use program::{main, main_with};
