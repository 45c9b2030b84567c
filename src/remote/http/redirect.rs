//! Redirects (RFC 9110 §15.4): which one is followed, and what the others say.
//!
//! # Invariants
//!
//! - A request goes to the server's origin only, and nothing goes out unencrypted that was encrypted before.
//! - Method and body of a request do not change.

use reqwest::{Method, StatusCode, Url, header::LOCATION};

use crate::{
    config::is_loopback,
    network::message_client::Response,
    oauth::http::address::{AddressScope, written},
    remote::{
        error::{Error, Place, same_origin},
        evidence::is_sign_in_url,
    },
};

/// Redirects followed for one request: a mounted application adds a slash, a proxy another.
const MOST_REDIRECTS: u32 = 5;
/// Ends of names that only a private network knows (RFC 6762 §3, ICANN's `.internal`, Kubernetes' services).
const INNER_ENDINGS: [&str; 5] = [".local", ".internal", ".lan", ".svc", ".localdomain"];

/// Returns where a response leads, if it is a redirect.
pub(super) fn target(response: &Response, from: &Url) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(LOCATION)?.to_str().ok()?;
    from.join(location).ok()
}

/// Returns the URL to which a request with this method goes again, after `before` redirects. What is shown of a URL that is
/// not followed goes through `mask`.
///
/// # Errors
/// [`Error::Redirected`] or [`Error::WebSignIn`].
pub(super) fn follow(
    server: &Url,
    asked: &Url,
    method: &Method,
    status: StatusCode,
    target: Url,
    before: u32,
    mask: &dyn Fn(&[u8]) -> String,
) -> Result<Url, Error> {
    if is_sign_in_url(&target, asked) {
        return Err(Error::WebSignIn {
            status,
            seen: format!("redirects to {} (HTTP {})", shown(target, mask), status.as_u16()),
        });
    }
    // Only these two keep method and body (RFC 9110 §15.4.8, §15.4.9).
    let keeps = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    let may_go = (keeps || *method == Method::GET) && before < MOST_REDIRECTS;
    if may_go && same_origin(&target, server) {
        return Ok(target);
    }
    let place = place(server, asked, &target, mask);
    match (place, on_origin(server, &target)) {
        // The server behind a proxy that ends TLS takes its own scheme for the client's: path and query are meant.
        (Place::SchemeLost { own: Some(_) }, own) if may_go => Ok(own),
        (place, _) => Err(Error::Redirected { status, to: shown(target, mask), place }),
    }
}

/// Says what is wrong with a target elsewhere.
fn place(server: &Url, asked: &Url, target: &Url, mask: &dyn Fn(&[u8]) -> String) -> Place {
    let is_lost = server.scheme() == "https" && target.scheme() == "http";
    let own = on_origin(server, target);
    let own = (own != *asked).then(|| shown(own, mask));
    if is_lost && target.host_str() == server.host_str() {
        Place::SchemeLost { own }
    } else if is_inner(target) && !is_inner(server) {
        Place::Inner { own }
    } else if is_lost {
        Place::Unencrypted
    } else {
        Place::Elsewhere
    }
}

/// Returns path and query of `target` on the server's origin.
fn on_origin(server: &Url, target: &Url) -> Url {
    let mut own = server.clone();
    own.set_path(target.path());
    own.set_query(target.query());
    own
}

/// Returns whether a URL names a host that only a private network or this machine knows.
fn is_inner(url: &Url) -> bool {
    if is_loopback(url) {
        return true;
    }
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    match written(url) {
        Some(scope) => scope < AddressScope::Reserved,
        None => !host.contains(['.', ':']) || INNER_ENDINGS.iter().any(|ending| host.ends_with(ending)),
    }
}

/// Returns a URL without what may be secret in it.
fn shown(mut url: Url, mask: &dyn Fn(&[u8]) -> String) -> String {
    url.set_query(None);
    url.set_fragment(None);
    _ = url.set_username("");
    _ = url.set_password(None);
    mask(url.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(server: &str, status: u16, method: &Method, to: &str) -> String {
        let url = |text: &str| Url::parse(text).unwrap();
        let (server, status) = (url(server), StatusCode::from_u16(status).unwrap());
        match follow(&server, &server, method, status, url(to), 0, &crate::text::one_line) {
            Ok(target) => format!("follow {target}"),
            Err(Error::Redirected { place, .. }) => format!("{place:?}"),
            Err(error) => format!("{error}"),
        }
    }

    #[test]
    fn redirect_is_followed_on_own_origin_only() {
        const SERVER: &str = "https://a.example/mcp";
        for (to, expected) in [
            ("https://a.example/mcp/", "follow https://a.example/mcp/"),
            ("http://a.example/mcp/?s=1", "follow https://a.example/mcp/?s=1"),
            ("http://a.example:8000/mcp/", "follow https://a.example/mcp/"),
            ("http://a.example:443/mcp/", "follow https://a.example/mcp/"),
            ("http://a.example/mcp", "SchemeLost { own: None }"),
            ("http://10.1.2.3:8080/mcp/", "Inner { own: Some(\"https://a.example/mcp/\") }"),
            ("http://127.0.0.1:8080/mcp", "Inner { own: None }"),
            ("https://backend:8080/mcp/", "Inner { own: Some(\"https://a.example/mcp/\") }"),
            ("http://mcp.team.svc.cluster.local/mcp/", "Inner { own: Some(\"https://a.example/mcp/\") }"),
            ("http://b.example/mcp", "Unencrypted"),
            ("https://b.example/mcp", "Elsewhere"),
        ] {
            assert_eq!(judged(SERVER, 307, &Method::POST, to), expected, "{to}");
        }
        let own = "SchemeLost { own: Some(\"https://a.example/mcp/\") }";
        assert_eq!(judged(SERVER, 302, &Method::POST, "http://a.example/mcp/"), own, "a POST stays a POST");
        assert_eq!(judged(SERVER, 302, &Method::GET, "http://a.example/mcp/"), "follow https://a.example/mcp/");
        assert_eq!(
            judged("https://a.example:8443/mcp", 308, &Method::POST, "http://a.example/mcp/"),
            "follow https://a.example:8443/mcp/"
        );
        assert_eq!(judged("http://10.0.0.1/mcp", 307, &Method::POST, "http://10.0.0.2/mcp"), "Elsewhere");
        assert_eq!(judged("http://a.example/mcp", 307, &Method::POST, "https://a.example/mcp"), "Elsewhere");
    }

    #[test]
    fn redirect_to_sign_in_is_never_followed() {
        for (status, method, to) in [
            (302, Method::POST, "https://team.cloudflareaccess.com/cdn-cgi/access/login/a.example?meta=1"),
            (302, Method::GET, "https://a.example/login"),
            (307, Method::POST, "https://a.example/login?next=%2Fmcp"),
        ] {
            let judged = judged("https://a.example/mcp", status, &method, to);
            assert!(judged.contains("web sign-in protects"), "{to}: {judged}");
        }
    }
}
