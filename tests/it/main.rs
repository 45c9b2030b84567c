//! The integration tests: the real binaries between scripted peers, one module for each boundary.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(unreachable_pub, reason = "everything is of this crate")]

#[cfg(unix)]
mod authorization;
mod bundle;
#[cfg(unix)]
mod catalogue;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod command_line;
#[cfg(unix)]
mod commands;
#[cfg(unix)]
mod diagnosis;
#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod ends;
#[cfg(unix)]
mod entries;
#[cfg(unix)]
mod eras;
#[cfg(unix)]
mod fidelity;
#[cfg(unix)]
mod field_arguments;
#[cfg(unix)]
mod field_documents;
#[cfg(unix)]
mod field_flow;
#[cfg(unix)]
mod field_tips;
#[cfg(unix)]
mod field_wire;
#[cfg(unix)]
mod grants;
#[cfg(unix)]
mod hold;
#[cfg(unix)]
mod hostile;
#[cfg(unix)]
mod http_sse;
#[cfg(unix)]
mod install;
#[cfg(unix)]
mod instances;
mod layout;
#[cfg(unix)]
mod log;
mod manual;
#[cfg(unix)]
mod modern;
#[cfg(unix)]
mod network;
mod packages;
mod properties;
#[cfg(unix)]
mod providers;
#[cfg(unix)]
mod rmcp;
#[cfg(unix)]
mod secrets;
#[cfg(unix)]
mod sessions;
#[cfg(unix)]
mod start;
#[cfg(unix)]
mod streamable_http;
#[cfg(unix)]
mod support;
#[cfg(unix)]
mod tokens;
#[cfg(unix)]
mod transport_strategy;
#[cfg(unix)]
mod trust;
mod words;
