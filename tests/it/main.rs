//! The integration tests: the real binaries between scripted peers, one module for each boundary.

#![allow(clippy::unwrap_used, reason = "a test may")]
#![allow(unreachable_pub, reason = "everything is of this crate")]

// Modules for Unix only have tests about modes, links, signals or scripts, or have not been seen to hold elsewhere.
#[cfg(unix)]
mod authorization;
mod bundle;
#[cfg(unix)]
mod catalogue;
mod client;
mod command_line;
mod commands;
#[cfg(unix)]
mod diagnosis;
#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod ends;
#[cfg(unix)]
mod entries;
mod eras;
mod fidelity;
mod field_arguments;
mod field_documents;
mod field_flow;
mod field_tips;
mod field_wire;
#[cfg(unix)]
mod grants;
mod hold;
mod hostile;
mod http2;
mod http_sse;
#[cfg(unix)]
mod install;
mod instances;
mod layout;
mod log;
mod manual;
mod masking;
mod modern;
mod network;
mod packages;
mod properties;
#[cfg(unix)]
mod providers;
mod rmcp;
#[cfg(unix)]
mod secrets;
mod sessions;
mod start;
mod streamable_http;
mod streams;
#[cfg_attr(not(unix), allow(dead_code, reason = "some modules are for Unix only"))]
mod support;
mod tokens;
mod transport_strategy;
#[cfg(unix)]
mod trust;
#[cfg(unix)]
mod unchanged;
mod words;
