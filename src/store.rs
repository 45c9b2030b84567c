//! The store on disk, shared with npm's mcp-remote 0.15.1: where it is and how its files are called.
//!
//! Must never: change a name; that would sign people out.

use md5::{Digest, Md5};
use reqwest::Url;
use serde_json::Value;

use crate::config::Resource;

/// The folder below the configuration folder: npm's name for the layout, not a version of ours.
pub const LAYOUT: &str = "mcp-remote-v1";

/// npm's name for what belongs to one server: a hash over everything that makes its credentials
/// others. `url` is as it was typed, `headers` are as they were written, before `${NAME}` is
/// expanded, so that a new secret keeps the name.
#[must_use]
pub fn server_hash(
    url: &str,
    resource: &Resource,
    authorize_params: &[(String, String)],
    headers: &[(String, String)],
    client_metadata_url: Option<&Url>,
    token_endpoint: Option<&Url>,
) -> String {
    let named = match resource {
        Resource::Named(named) => Some(named.clone()),
        Resource::Published | Resource::Omitted => None,
    };
    let parts = [
        Some(url.to_owned()),
        named,
        json_object(authorize_params),
        json_object(headers),
        client_metadata_url.map(Url::to_string),
        token_endpoint.map(Url::to_string),
    ];
    let text = parts.into_iter().flatten().collect::<Vec<_>>().join("|");
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `JSON.stringify` writes it, sorted by UTF-16 code units; of equal names the later counts.
fn json_object(pairs: &[(String, String)]) -> Option<String> {
    let mut sorted: Vec<&(String, String)> = Vec::new();
    for pair in pairs {
        sorted.retain(|(known, _)| *known != pair.0);
        sorted.push(pair);
    }
    sorted.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    let member =
        |(name, value): &&(String, String)| format!("{}:{}", Value::from(name.as_str()), Value::from(value.as_str()));
    let members: Vec<_> = sorted.iter().map(member).collect();
    (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn the_hash_is_npms() {
        let plain = |url| server_hash(url, &Resource::Published, &[], &[], None, None);
        assert_eq!(plain("http://127.0.0.1:7802/mcp"), "9ca486285bd01d5fdc4abad83d5bb5d5");
        assert_eq!(plain("http://127.0.0.1:7804/mcp"), "ff12414734d711ab210706ed355b5813");
        let everything = server_hash(
            "http://127.0.0.1:7812/mcp",
            &Resource::Published,
            &[pair("prompt", "login"), pair("a", "b=c")],
            &[pair("X-Z", "1")],
            Some(&Url::parse("https://c.example/m.json").unwrap()),
            None,
        );
        assert_eq!(everything, "9e721942d4e1f98b1ee20f0278cbaf78");
    }
}
