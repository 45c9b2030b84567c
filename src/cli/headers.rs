//! Headers of the user, and `${NAME}` in them.
//!
//! # Invariants
//!
//! - No message shows the value of a header.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{
    Environment,
    flags::Args,
    mistakes::{Mistake, is_name, unreadable},
};
use crate::{config::UserInfo, secret::Secret, text::without_mark};

/// Schemes of `Authorization` that are nothing without what follows them.
const BARE_SCHEMES: [&str; 3] = ["Basic", "Bearer", "Token"];

/// Headers that say how a message is framed, where it goes or what this one connection is (RFC 9110 §7.2, §7.6.1; RFC 9112
/// §6), or how the body is encoded: another value than the client's own breaks the request.
const CLIENTS_OWN: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header as it was written, before `${NAME}` is expanded.
pub(super) struct WrittenHeader {
    pub(super) name: String,
    pub(super) value: String,
    /// Where it was written, for messages, which must not show the value.
    place: String,
}

pub(super) fn headers(args: &Args) -> Result<Vec<WrittenHeader>, Mistake> {
    let mut written = Vec::new();
    for header in &args.header {
        written.push(split_header(header, "--header".to_owned())?);
    }
    for path in &args.header_file {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable("--header-file", path, &error))?;
        for (number, line) in without_mark(&text).lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                written.push(split_header(line, format!("line {} of {}", number + 1, path.display()))?);
            }
        }
    }
    Ok(written)
}

fn split_header(text: &str, place: String) -> Result<WrittenHeader, Mistake> {
    let text = unquoted(text);
    let Some((name, value)) = text.split_once(':') else {
        let tip = "write name and value with a colon between them, such as \"Authorization:${AUTH}\"";
        return Err(Mistake::new(format!("{place} is not a header of the form NAME:VALUE"), tip));
    };
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!("{place} is not a header: its name has a character that header names cannot have").into());
    }
    if CLIENTS_OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        let instead = match name.to_ascii_lowercase().as_str() {
            "host" => "write that host into the server URL instead",
            "proxy-authorization" => "write user and password into the proxy's URL instead",
            _ => "leave it out",
        };
        return Err(Mistake::new(format!("{place} gives {name}, which only mcp-remote itself can set"), instead));
    }
    Ok(WrittenHeader { name: name.to_owned(), value: value.trim_start().to_owned(), place })
}

/// Some hosts hand over the quotes that a person wrote for a shell.
fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    inner.or_else(|| text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''))).unwrap_or(text)
}

pub(super) fn expanded(written: &[WrittenHeader], environment: Environment<'_>) -> Result<HeaderMap, Mistake> {
    let mut headers = HeaderMap::new();
    for header in written {
        let place = || format!("{} ({})", header.place, header.name);
        if let Some(spelling) = other_spelling(&header.value) {
            return Err(Mistake::other_spelling(&place(), spelling));
        }
        let text = expand(&header.value, environment).map_err(|name| Mistake::not_set(&place(), &name))?;
        let text = text.trim();
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_bytes(text.as_bytes()))
        else {
            return Err(format!("the value of {} has a character that header values cannot have", place()).into());
        };
        // `Bearer` and nothing is what an empty variable leaves, or a host that cuts at the space.
        let is_bare = BARE_SCHEMES.iter().any(|scheme| text.eq_ignore_ascii_case(scheme));
        if text.is_empty() || name == AUTHORIZATION && is_bare {
            let empty =
                variables(&header.value).find(|name| environment(name).is_some_and(|value| value.trim().is_empty()));
            return Err(match empty {
                Some(variable) => Mistake::empty(&place(), variable),
                None if text.is_empty() => Mistake::mangled(format!("{} has no value", place())),
                None => Mistake::mangled(format!("{} has no key after {text}", place())),
            });
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Returns how another program spells a placeholder, if a whole value is one, also after a scheme. A key that looks like
/// one can be given by a variable, whose value is not looked at.
fn other_spelling(value: &str) -> Option<&'static str> {
    let value = value.trim();
    let after_scheme =
        value.split_once(' ').filter(|(scheme, _)| scheme.bytes().all(|byte| byte.is_ascii_alphabetic()));
    let value = after_scheme.map_or(value, |(_, rest)| rest.trim());
    let inside = |start: &str, end: &str| value.strip_prefix(start)?.strip_suffix(end);
    let is_words = |text: &str, more: &str| {
        text.bytes().any(|byte| byte.is_ascii_alphabetic())
            && text.chars().all(|one| one.is_ascii_alphanumeric() || more.contains(one))
    };
    let is_upper = |text: &str| is_name(text) && text.len() > 1 && !text.bytes().any(|byte| byte.is_ascii_lowercase());
    if inside("{", "}").is_some_and(|text| is_words(text, "{}:._- ")) {
        Some("{env:NAME}")
    } else if inside("%", "%").is_some_and(is_name) {
        Some("%NAME%")
    } else if inside("<", ">").is_some_and(|text| is_words(text, "._- ")) {
        Some("<NAME>")
    } else if inside("$env:", "").is_some_and(is_name) || inside("$(", ")").is_some_and(is_name) {
        Some("$env:NAME")
    } else if inside("$", "").is_some_and(is_upper) {
        Some("$NAME")
    } else {
        None
    }
}

/// Returns user and password of the server's URL as the value of `Authorization` (RFC 7617 §2).
pub(super) fn basic(UserInfo { user, password }: &UserInfo) -> Result<HeaderValue, String> {
    let pair = [percent_decoded(user.expose()), b":".to_vec(), percent_decoded(password.expose())].concat();
    let pair = Secret::new(BASE64_STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&format!("Basic {}", pair.expose()))
        .map_err(|_| "the user in the server URL has a character that cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// RFC 3986 §2.1; a sign that begins no such triplet is itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let byte = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    decoded
}

/// The variables that a text names.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|part| Some(part.split_once('}')?.0)).filter(|name| !name.is_empty())
}

/// Variables that a program cannot do without, so that they are no secrets whatever names them.
const COMMON: [&str; 22] = [
    "APPDATA",
    "COMPUTERNAME",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "HOME",
    "HOMEDRIVE",
    "HOMEPATH",
    "HOSTNAME",
    "LANG",
    "LOCALAPPDATA",
    "LOGNAME",
    "PATH",
    "PWD",
    "SHELL",
    "SYSTEMROOT",
    "TEMP",
    "TMPDIR",
    "USER",
    "USERNAME",
    "USERPROFILE",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
];
/// Variables with the URL of a proxy.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Returns the variables whose values are secrets: those that were `used`, because a header or a client's information is made of them,
/// or because they are a proxy's URL with a password: no program that is started gets them.
pub(super) fn secret_variables<'a>(used: impl Iterator<Item = &'a str>, environment: Environment<'_>) -> Vec<String> {
    let is_common = |name: &&str| COMMON.iter().any(|common| name.eq_ignore_ascii_case(common));
    let named = used.filter(|name| !is_common(name));
    let has_password = |name: &&str| environment(name).is_some_and(|url| url.contains('@'));
    let mut names: Vec<String> = named.chain(PROXIES.into_iter().filter(has_password)).map(ToOwned::to_owned).collect();
    names.sort();
    names.dedup();
    names
}

/// `${NAME}` becomes the variable's value.
///
/// # Errors
/// The name of a variable that is not set.
pub(super) fn expand(text: &str, environment: Environment<'_>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + length];
        if name.is_empty() {
            break;
        }
        expanded.push_str(&rest[..start]);
        expanded.push_str(&environment(name).ok_or_else(|| name.to_owned())?);
        rest = &rest[start + length + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}
