//! What a response proves beyond its status: which party answered, and what that party wants.
//!
//! # Invariants
//!
//! - A cause is named only if the response carries its mark, because one status has many causes.

use reqwest::{
    StatusCode, Url,
    header::{HeaderMap, HeaderName},
};

use crate::{bot_filter, oauth::protocol::challenge::Challenge};

/// Why a request was refused, if the response says more than its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A sign-in for people stands in front of the server.
    WebSignIn,
    /// A filter in front of the server takes this program for a robot.
    BotFilter,
    /// An API gateway has no route with this path.
    NoRoute,
    /// The server allows other values of `Host` only (a guard against DNS rebinding).
    HostNotAllowed,
    /// 401 with these schemes, none of which OAuth obtains.
    OtherSchemes(Vec<String>),
    /// 407 from a proxy that forwards requests.
    Proxy {
        /// What it asks for.
        schemes: Vec<String>,
        /// Whether user and password of its URL were sent.
        had_credentials: bool,
    },
    /// HTTP+SSE: this is the path of the endpoint that the server named, and it leads nowhere.
    Endpoint(String),
}

/// Headers of a web sign-in's own answer: Cloudflare Access, Google IAP.
const WEB_SIGN_IN_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("cf-access-domain"),
    HeaderName::from_static("cf-access-aud"),
    HeaderName::from_static("x-goog-iap-generated-response"),
];
/// AWS API Gateway names its errors here. The two below are what it says of a path that it does not know, without and
/// with an `Authorization` header.
const AWS_ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const AWS_NO_ROUTE: [&str; 2] = ["missingauthenticationtoken", "incompletesignature"];
/// How servers refuse a `Host`, in lower case: the MCP SDKs, Playwright's server, Vite, Django.
const HOST_WORDS: [&str; 6] = [
    "invalid host",
    "only allowed at",
    "host is not allowed",
    "is not an allowed host",
    "disallowedhost",
    "host not allowed",
];

impl Cause {
    /// Returns what a refusal proves by its status, its headers and its `words`: the title or the beginning of its body.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap, body: &[u8], words: &str) -> Option<Self> {
        let words = words.to_ascii_lowercase();
        let has = |names: &[HeaderName]| names.iter().any(|name| headers.contains_key(name));
        let says = |marks: &[&str]| marks.iter().any(|mark| words.contains(mark));
        let aws = headers.get(AWS_ERROR_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let aws = aws.to_ascii_lowercase();
        let is_denied = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if is_denied && (has(&WEB_SIGN_IN_HEADERS) || is_sign_in_page(body)) {
            Some(Self::WebSignIn)
        } else if bot_filter::has_answered(status, headers, &words) {
            Some(Self::BotFilter)
        } else if status == StatusCode::FORBIDDEN
            && (AWS_NO_ROUTE.iter().any(|kind| aws.starts_with(kind)) || words.contains("missing authentication token"))
        {
            Some(Self::NoRoute)
        } else if status == StatusCode::MISDIRECTED_REQUEST || matches!(status.as_u16(), 400 | 403) && says(&HOST_WORDS)
        {
            Some(Self::HostNotAllowed)
        } else {
            let schemes = (status == StatusCode::UNAUTHORIZED).then(|| Challenge::of(headers).only_other);
            schemes.filter(|schemes| !schemes.is_empty()).map(Self::OtherSchemes)
        }
    }

    /// Returns what 404 or 405 proves of a POST to `endpoint`, which the event stream at `server` named: a proxy that takes
    /// the beginning off a path hides it from the server, so that the server names a path without it.
    pub(crate) fn of_endpoint(status: StatusCode, server: &Url, endpoint: &Url) -> Option<Self> {
        let (folder, _) = server.path().rsplit_once('/')?;
        let is_absent = matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        let is_outside = !endpoint.path().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        (is_absent && is_outside).then(|| Self::Endpoint(endpoint.path().to_owned()))
    }
}

/// How a page for people is called that asks for a sign-in, in lower case.
const SIGN_IN_TITLES: [&str; 5] = ["sign in", "sign-in", "signin", "log in", "login"];
/// What such a page has in it, in lower case: a field for a password, or a form of single sign-on.
const SIGN_IN_MARKS: [&str; 5] =
    ["type=\"password\"", "type='password'", "type=password", "samlrequest", "/cdn-cgi/access/"];

/// Returns whether a body is a page on which a person signs in.
pub(crate) fn is_sign_in_page(body: &[u8]) -> bool {
    const BEGINNING: usize = 64 * 1024;
    let text = String::from_utf8_lossy(&body[..body.len().min(BEGINNING)]).to_ascii_lowercase();
    let start = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if !["<!doctype html", "<html", "<head", "<!--"].iter().any(|tag| start.starts_with(tag)) {
        return false;
    }
    let title = text.split_once("<title").and_then(|(_, rest)| Some(rest.split_once("</title>")?.0));
    title.is_some_and(|title| SIGN_IN_TITLES.iter().any(|words| title.contains(words)))
        || SIGN_IN_MARKS.iter().any(|mark| text.contains(mark))
}

/// Hosts that do nothing but sign people in.
const SIGN_IN_HOSTS: [&str; 9] = [
    "cloudflareaccess.com",
    "accounts.google.com",
    "login.microsoftonline.com",
    "login.live.com",
    "okta.com",
    "oktapreview.com",
    "auth0.com",
    "onelogin.com",
    "amazoncognito.com",
];
/// Parts of a path at which sites sign people in.
const SIGN_IN_PARTS: [&str; 15] = [
    "login",
    "log-in",
    "log_in",
    "logon",
    "signin",
    "sign-in",
    "sign_in",
    "sso",
    "sso-api",
    "saml",
    "saml2",
    "saml-login",
    "adfs",
    "authorize",
    "oauth2",
];

/// Returns whether a request for `asked` is led to a sign-in for people: to the host of one, to a path of one, or to a
/// page whose query names where the user came from.
pub(crate) fn is_sign_in_url(target: &Url, asked: &Url) -> bool {
    let host = target.host_str().unwrap_or_default();
    let is_host = |known: &&str| host.strip_suffix(*known).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let parts = |url: &Url| url.path().to_ascii_lowercase().split('/').map(ToOwned::to_owned).collect::<Vec<_>>();
    let known = parts(asked);
    let is_new = |part: &String| SIGN_IN_PARTS.contains(&part.as_str()) && !known.contains(part);
    // A query names where the person came from.
    let back = |value: &str| {
        let from = Url::parse(value).ok().or_else(|| value.starts_with('/').then(|| asked.join(value).ok())?);
        from.is_some_and(|from| from.host_str() == asked.host_str() && from.path() == asked.path())
    };
    SIGN_IN_HOSTS.iter().any(is_host)
        || parts(target).iter().any(is_new)
        || target.query_pairs().any(|(_, value)| back(&value))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn cause(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Option<Cause> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let words = crate::text::one_line(body.as_bytes());
        Cause::of(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), &words)
    }

    #[test]
    fn refusal_cause_needs_its_mark() {
        use Cause::{BotFilter, HostNotAllowed, NoRoute, WebSignIn};
        let schemes = |names: &[&str]| Some(Cause::OtherSchemes(names.iter().map(|name| (*name).to_owned()).collect()));
        const MOMENT: &str = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>";
        for (status, headers, body, expected) in [
            (403, &[("cf-mitigated", "challenge")][..], "", Some(BotFilter)),
            (503, &[], MOMENT, Some(BotFilter)),
            (403, &[], "error code: 1010", Some(BotFilter)),
            (429, &[("x-vercel-mitigated", "challenge")], "", Some(BotFilter)),
            (530, &[], "error code: 1033", None),
            (524, &[], "error code: 524", None),
            (403, &[("x-amzn-errortype", "MissingAuthenticationTokenException")], "{}", Some(NoRoute)),
            (403, &[], r#"{"message":"Missing Authentication Token"}"#, Some(NoRoute)),
            (403, &[("x-amzn-errortype", "IncompleteSignatureException")], "{}", Some(NoRoute)),
            (403, &[("x-amzn-errortype", "ForbiddenException")], r#"{"message":"Forbidden"}"#, None),
            (403, &[], "Access is only allowed at localhost:8931", Some(HostNotAllowed)),
            (403, &[], "Invalid Host: 127.0.0.1", Some(HostNotAllowed)),
            (421, &[], "Misdirected Request", Some(HostNotAllowed)),
            (404, &[], "invalid host", None),
            (403, &[("cf-access-domain", "a.example")], "Forbidden", Some(WebSignIn)),
            (401, &[("x-goog-iap-generated-response", "true")], "Invalid IAP credentials", Some(WebSignIn)),
            (403, &[], "<html><title>Sign in - Example</title></html>", Some(WebSignIn)),
            (403, &[], "members only, log in first", None),
            (404, &[], "<html><title>Log in</title></html>", None),
            (401, &[("www-authenticate", "Negotiate, NTLM")], "", schemes(&["Negotiate", "NTLM"])),
            (401, &[("www-authenticate", "Basic realm=\"a, Digest\"")], "", schemes(&["Basic"])),
            (401, &[("www-authenticate", "Bearer, Basic realm=a")], "", None),
        ] {
            assert_eq!(cause(status, headers, body), expected, "{status} {headers:?} {body}");
        }
    }

    #[test]
    fn endpoint_outside_the_stream_folder_lost_its_prefix() {
        let url = |path: &str| Url::parse("https://a.example").unwrap().join(path).unwrap();
        for (stream, endpoint, is_lost) in [
            ("/api/v1/sse", "/v1/messages", true),
            ("/mcp/sse", "/messages/", true),
            ("/mcp/sse", "/mcp/messages/", false),
            ("/mcp/sse", "/mcp-messages", true),
            ("/sse", "/messages", false),
            ("/mcp/", "/mcp/messages", false),
        ] {
            let cause = Cause::of_endpoint(StatusCode::NOT_FOUND, &url(stream), &url(endpoint));
            assert_eq!(cause, is_lost.then(|| Cause::Endpoint(endpoint.to_owned())), "{stream} {endpoint}");
            assert_eq!(Cause::of_endpoint(StatusCode::FORBIDDEN, &url(stream), &url(endpoint)), None);
        }
    }

    #[test]
    fn sign_in_page_is_html_that_asks() {
        for (body, expected) in [
            ("<!DOCTYPE html><html><head><title>\n Sign In · Example</title>", true),
            ("\u{feff}\n<html><form><input name=p type=\"password\"></form></html>", true),
            ("<html><title>Example API</title><body>login at /login</body></html>", false),
            ("{\"error\":\"please log in\"}", false),
            ("", false),
        ] {
            assert_eq!(is_sign_in_page(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn sign_in_url_has_host_path_or_return() {
        let asked = Url::parse("https://a.example/mcp").unwrap();
        for (target, expected) in [
            ("https://team.cloudflareaccess.com/cdn-cgi/access/login/a.example?kid=1", true),
            ("https://accounts.google.com/o/oauth2/v2/auth", true),
            ("https://a.example/login", true),
            ("https://a.example/users/sign_in", true),
            ("https://a.example/start?rd=https%3A%2F%2Fa.example%2Fmcp", true),
            ("https://a.example/who?next=/mcp", true),
            ("https://a.example/mcp/", false),
            ("https://a.example/mcp?page=/other", false),
            ("https://b.example/mcp", false),
            ("https://notokta.com/mcp", false),
        ] {
            assert_eq!(is_sign_in_url(&Url::parse(target).unwrap(), &asked), expected, "{target}");
        }
        let inside = Url::parse("https://a.example/login/mcp").unwrap();
        assert!(
            !is_sign_in_url(&Url::parse("https://a.example/login/mcp/").unwrap(), &inside),
            "it was asked for there"
        );
    }
}
