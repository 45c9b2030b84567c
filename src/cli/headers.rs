//! Headers of the user, and `${NAME}` in them.
//!
//! # Invariants
//!
//! - No message shows the value of a header.

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::{Environment, flags::Args, mistakes::Mistake};

/// Schemes of `Authorization` that are nothing without what follows them.
const BARE_SCHEMES: [&str; 3] = ["Basic", "Bearer", "Token"];

/// A header as it was written, before `${NAME}` is expanded.
pub(super) struct WrittenHeader {
    pub(super) name: String,
    pub(super) value: String,
    /// Where it was written, for messages, which must not show the value.
    place: String,
}

pub(super) fn headers(args: &Args) -> Result<Vec<WrittenHeader>, String> {
    let mut written = Vec::new();
    for header in &args.header {
        written.push(split_header(header, "--header".to_owned())?);
    }
    for path in &args.header_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read --header-file {}: {error}", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                written.push(split_header(line, format!("line {} of {}", number + 1, path.display()))?);
            }
        }
    }
    Ok(written)
}

fn split_header(text: &str, place: String) -> Result<WrittenHeader, String> {
    let text = unquoted(text);
    let Some((name, value)) = text.split_once(':') else {
        return Err(format!("{place} is no header: it must be NAME:VALUE"));
    };
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(format!("{place} is no header: its name has a character that no header name may have"));
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
        let text = expand(&header.value, environment).map_err(|name| Mistake::not_set(&place(), &name))?;
        let text = text.trim();
        let (Ok(name), Ok(mut value)) =
            (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_bytes(text.as_bytes()))
        else {
            return Err(format!("the value of {} has a character that no header value may have", place()).into());
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

/// The variables that a text names.
pub(super) fn variables(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|part| Some(part.split_once('}')?.0)).filter(|name| !name.is_empty())
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
