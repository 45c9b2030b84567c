//! Text without secrets, for a terminal and for reports.
//!
//! # Invariants
//!
//! - A secret is not shown, even if a server repeats it or a part of it.
//! - Text does not move the cursor of a terminal.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    config::{Config, ProxyChoice},
    oauth::stored::tokens::{TokenFile, Tokens},
    store::{DISK_PATIENCE, Store, within},
    text::{is_key, is_obeyed},
};

/// Shorter texts are no secrets, and would be struck out of words that they are part of.
const SHORTEST_SECRET: usize = 6;
/// What replaces a secret, and what was cut off.
const STRUCK_OUT: &str = "…";
/// A shorter beginning of a secret says nothing of it: a header's is its scheme.
const SHORTEST_BEGINNING: usize = 8;

/// Strikes out what is secret, and makes text fit for a terminal.
pub(crate) struct Redactor {
    secrets: Vec<String>,
    home: Option<PathBuf>,
}

impl Redactor {
    /// One that knows no secrets.
    pub(crate) fn of_home(home: Option<PathBuf>) -> Self {
        Self { secrets: Vec::new(), home }
    }

    /// One that knows the secrets of these settings and of the store.
    pub(crate) fn new(config: &Config, home: Option<PathBuf>) -> Self {
        let mut secrets = Vec::new();
        let url = config.server.url();
        secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        secrets.extend(url.query().into_iter().flat_map(|query| query.split('&')).map(|pair| {
            pair.split_once('=').map_or(pair, |(_, value)| value).to_owned() // as it was written
        }));
        secrets.extend(url.password().map(ToOwned::to_owned));
        secrets.extend(url.path().split('/').filter(|part| is_key(part)).map(ToOwned::to_owned));
        for value in config.headers.values().filter_map(|value| value.to_str().ok()) {
            secrets.push(value.to_owned());
            secrets.extend(value.split_once(' ').map(|(_, credential)| credential.trim().to_owned())); // after its scheme
        }
        let info = config.authorization.client_info.as_ref();
        secrets.extend(info.and_then(|info| Some(info.expose().get("client_secret")?.as_str()?.to_owned())));
        if let ProxyChoice::Explicit { http, https, .. } = &config.network.proxy {
            let proxies = [http, https].into_iter().flatten();
            secrets.extend(proxies.filter_map(|proxy| proxy.expose().password().map(ToOwned::to_owned)));
        }
        let store = Store::new(config.store.clone(), config.server_hash.clone());
        let mut redactor = Self::of_home(home);
        redactor.learn(secrets);
        // A token that is read later is learned then.
        let stored =
            within(DISK_PATIENCE, move || TokenFile::all().filter_map(|file| Tokens::load(&store, file)).collect());
        let stored: Vec<_> = stored.unwrap_or_default();
        stored.iter().for_each(|tokens| redactor.learn_tokens(tokens));
        redactor
    }

    /// They may be in no store: it cannot always be written.
    pub(crate) fn learn_tokens(&mut self, tokens: &Tokens) {
        let all = [Some(tokens.access_token()), tokens.refresh_token(), tokens.id_token()];
        self.learn(all.into_iter().flatten().map(|token| (*token.expose()).to_owned()));
    }

    pub(crate) fn learn(&mut self, secrets: impl IntoIterator<Item = String>) {
        self.secrets.extend(secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET));
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len())); // the whole before its part
        self.secrets.dedup();
    }

    /// Without secrets, the home folder and control characters.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.strike(plain(text))
    }

    /// Cleans every text in a value, except for control characters, which [`crate::text::json`] escapes.
    pub(crate) fn clean_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.strike(text)),
            Value::Array(items) => items.into_iter().map(|item| self.clean_value(item)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, member)| (self.strike(name), self.clean_value(member))).collect()
            }
            other => other,
        }
    }

    fn strike(&self, text: String) -> String {
        let text = self.without_secrets(text);
        match self.home.as_ref().and_then(|home| home.to_str()).filter(|home| home.len() > 1) {
            Some(home) => text.replace(home.trim_end_matches(['/', '\\']), "~"),
            None => text,
        }
    }

    /// Without secrets, and with the home folder by its name.
    pub(crate) fn without_secrets(&self, mut text: String) -> String {
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, STRUCK_OUT);
            }
        }
        if text.contains(STRUCK_OUT) {
            let mut parts: Vec<&str> = text.split(STRUCK_OUT).collect();
            let all_but_last = parts.len() - 1;
            parts[..all_but_last].iter_mut().for_each(|part| *part = self.without_beginning(part));
            text = parts.join(STRUCK_OUT);
        }
        text
    }
}

impl Redactor {
    /// A text that was cut in the middle of a secret, without its beginning.
    fn without_beginning<'a>(&self, text: &'a str) -> &'a str {
        let begun = |secret: &String| {
            let lengths = (SHORTEST_BEGINNING..secret.len()).rev();
            lengths.filter_map(|length| text.strip_suffix(secret.get(..length)?)).next()
        };
        self.secrets.iter().find_map(begun).unwrap_or(text)
    }
}

/// One line of text, without characters that a terminal obeys.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|character| if is_obeyed(character) { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_in_path_differs_from_name() {
        for key in ["NjY5ZmQ0MTMtODk4ZS00", "0f8fad5b-d9cb-469f-a165-70867728950e"] {
            assert!(is_key(key), "{key}");
        }
        for name in ["mcp", "v1", "2025-06-18", "a-rather-long-name-of-a-server", "12345678901234567890"] {
            assert!(!is_key(name), "{name}");
        }
    }
}
