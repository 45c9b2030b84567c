//! The integration tests: the real binaries between scripted peers, one module for each boundary.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(unreachable_pub, reason = "everything is of this crate")]

mod authorization;
mod catalogue;
mod client;
mod command_line;
mod commands;
mod copies;
mod diagnosis;
mod ends;
mod fidelity;
mod grants;
mod hold;
mod hostile;
mod http_sse;
mod layout;
mod log;
mod modern;
mod network;
mod properties;
mod providers;
mod readme;
mod rmcp;
mod secrets;
mod sessions;
mod start;
mod streamable_http;
mod support;
mod tokens;
mod transport_strategy;
