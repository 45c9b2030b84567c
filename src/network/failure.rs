//! What a failed request says of its cause: the TLS library, or a proxy.
//!
//! # Invariants
//!
//! - Text is compared only where a library keeps the kind to itself.

/// What hyper-util says if a proxy answers 407 (RFC 9110 §15.5.8).
const PROXY_AUTHORIZATION: &str = "proxy authorization required";

/// Returns the error of rustls somewhere in the chain. It may be inside an I/O error, which does not count it among its
/// sources, and twice so.
pub(crate) fn tls_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    error
        .downcast_ref::<rustls::Error>()
        .or_else(|| inside.and_then(|inside| tls_cause(inside)))
        .or_else(|| error.source().and_then(tls_cause))
}

/// Returns whether the proxy wants credentials.
pub(crate) fn wants_password(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string().contains(PROXY_AUTHORIZATION) || error.source().is_some_and(wants_password)
}

/// Returns whether a response over HTTP/1.1 has more header lines, or longer ones, than hyper reads.
pub(crate) fn is_head_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string().contains("message head is too large") || error.source().is_some_and(is_head_too_large)
}

/// Returns whether a proxy refused CONNECT. hyper-util keeps the kind to itself, so its words are compared.
pub(crate) fn refused_by_proxy(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = error.to_string();
    text.contains(PROXY_AUTHORIZATION)
        || text.contains("tunnel error: unsuccessful")
        || error.source().is_some_and(refused_by_proxy)
}
