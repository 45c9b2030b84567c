//! Tokens as npm mcp-remote 0.15.1 stores them: `tokens.json`, the token response (RFC 6749 §5.1) and three members of
//! that package.
//!
//! # Invariants
//!
//! - Nothing is written that the npm package would misread.
//! - A member that another program has written is not lost.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use crate::{config::Grant, oauth::protocol::scope, secret::Secret, store::Store};

/// How long before its end a token is replaced, at most. Requests on their way, and clocks, differ
/// by less.
const LONGEST_SKEW: Duration = Duration::from_secs(60);
/// Share of a token's life that is left at its end: a token of seconds must not be replaced for
/// each request.
const SKEW_SHARE: u32 = 10;

/// Which file tokens are kept in. The npm package's holds only what that package can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenFile {
    /// What the names of the tokens' file and of their provenance's begin with.
    prefix: &'static str,
}

impl TokenFile {
    /// The npm package's: bearer tokens of a person.
    pub(crate) const NPM: Self = Self { prefix: "" };
    /// Tokens of a person that are bound to a key (RFC 9449).
    pub(crate) const DPOP: Self = Self { prefix: "dpop_" };

    /// Returns the file of a grant's tokens.
    pub(crate) fn of(grant: &Grant, bound: bool) -> Self {
        match (grant.needs_person(), bound) {
            (true, false) => Self::NPM,
            (true, true) => Self::DPOP,
            (false, _) => Self { prefix: grant.token_files() },
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::NPM, Self::DPOP].into_iter().chain(Grant::TOKEN_FILES.map(|prefix| Self { prefix }))
    }

    /// Whether a person signed in for the tokens in it.
    pub(crate) fn is_of_person(self) -> bool {
        self == Self::NPM || self == Self::DPOP
    }

    /// Returns its name.
    pub(crate) fn name(self) -> String {
        format!("{}tokens.json", self.prefix)
    }

    /// Returns the name of the file that says how the tokens were obtained.
    pub(crate) fn provenance_name(self) -> String {
        format!("{}grant.json", self.prefix)
    }
}

/// A token response, and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tokens {
    /// Everything, as stored.
    all: Secret<Map<String, Value>>,
}

impl Tokens {
    /// Of a token response that came `now`, from the authorization server called `issuer`.
    pub(crate) fn of_response(mut response: Map<String, Value>, issuer: Option<&str>, now: SystemTime) -> Self {
        if let Some(lifetime) = response.get("expires_in").and_then(Value::as_u64).filter(|seconds| *seconds > 0) {
            let at = since_epoch(now).as_millis().saturating_add(u128::from(lifetime) * 1000);
            response.insert("expires_at".to_owned(), Value::from(u64::try_from(at).unwrap_or(u64::MAX)));
        }
        if let Some(issuer) = issuer {
            response.insert("issuer".to_owned(), issuer.into());
        }
        Self { all: Secret::new(response) }
    }

    /// Reads a file's content.
    pub(crate) fn from_json(content: &[u8]) -> Option<Self> {
        let all: Map<String, Value> = serde_json::from_slice(content).ok()?;
        all.get("access_token").is_some_and(Value::is_string).then_some(Self { all: Secret::new(all) })
    }

    /// A file's content, as npm writes it.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self.all.expose()).unwrap_or_default()
    }

    /// The stored tokens.
    pub(crate) fn load(store: &Store, file: TokenFile) -> Option<Self> {
        store.parse(&file.name(), Self::from_json)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.all.expose().get(name)?.as_str()
    }

    /// A name for the access token that gives nothing away: half of its SHA-256, in hexadecimal.
    pub(crate) fn digest(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.access_token().expose().as_bytes());
        digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The access token.
    pub(crate) fn access_token(&self) -> Secret<&str> {
        Secret::new(self.text("access_token").unwrap_or_default())
    }

    /// The refresh token.
    pub(crate) fn refresh_token(&self) -> Option<Secret<&str>> {
        self.text("refresh_token").filter(|token| !token.is_empty()).map(Secret::new)
    }

    /// The id token (OpenID Connect Core §2).
    pub(crate) fn id_token(&self) -> Option<Secret<&str>> {
        self.text("id_token").map(Secret::new)
    }

    /// The type of the access token (RFC 6749 §7.1).
    pub(crate) fn kind(&self) -> &str {
        self.text("token_type").unwrap_or_default()
    }

    /// Whether the access token is one to send in a proof's company (RFC 9449 §5).
    pub(crate) fn is_dpop(&self) -> bool {
        self.kind().eq_ignore_ascii_case("dpop")
    }

    /// Who issued them, if that was noted.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.text("issuer")
    }

    /// The granted scope, as it was written.
    pub(crate) fn scope(&self) -> Option<&str> {
        self.text("scope")
    }

    /// The granted scopes.
    pub(crate) fn scopes(&self) -> Vec<String> {
        scope::split(self.scope())
    }

    /// Whether they are known to have all of these scopes.
    pub(crate) fn has_scopes(&self, scopes: &[String]) -> bool {
        let granted = self.scopes();
        scopes.iter().all(|wanted| granted.contains(wanted))
    }

    /// When the access token ends, if that is known.
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        // npm writes a number of JavaScript, which may have a fraction.
        let at = self.all.expose().get("expires_at")?.as_f64().filter(|at| *at > 0.0)?;
        UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(at / 1000.0).ok()?)
    }

    /// Whether the access token has come to its end. One that names none never does.
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        self.expires_at().is_some_and(|end| end <= now)
    }

    /// Whether it is time to replace the access token: a little before its end.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        let lifetime = self.all.expose().get("expires_in").and_then(Value::as_u64).map(Duration::from_secs);
        let skew = lifetime.map_or(LONGEST_SKEW, |lifetime| LONGEST_SKEW.min(lifetime / SKEW_SHARE));
        self.expires_at().is_some_and(|end| end <= now + skew)
    }

    /// What stays of these tokens when a refresh brought `new`: RFC 6749 §6, a refresh token that is
    /// not replaced lives on; likewise the id token and the scope, which an answer may leave out.
    pub(crate) fn refreshed(&self, new: Self) -> Self {
        let mut all = new.all.expose().clone();
        for kept in ["refresh_token", "id_token", "scope", "issuer", "requested_scope"] {
            if let Some(value) = self.all.expose().get(kept)
                && !all.contains_key(kept)
            {
                all.insert(kept.to_owned(), value.clone());
            }
        }
        Self { all: Secret::new(all) }
    }

    /// The same with a scope, where the response named none.
    pub(crate) fn with_scope(&self, scopes: &[String]) -> Self {
        let mut all = self.all.expose().clone();
        if !scopes.is_empty() {
            all.insert("scope".to_owned(), scopes.join(" ").into());
        }
        Self { all: Secret::new(all) }
    }

    /// The same without the refresh token, which was refused.
    pub(crate) fn without_refresh_token(&self) -> Self {
        let mut all = self.all.expose().clone();
        all.remove("refresh_token");
        Self { all: Secret::new(all) }
    }

    /// Returns the token response, without the members that this program and the npm package add.
    pub(crate) fn response(&self) -> Map<String, Value> {
        let mut all = self.all.expose().clone();
        for own in ["expires_at", "issuer", "requested_scope"] {
            all.remove(own);
        }
        all
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AssertionSource;

    const NOW: SystemTime = UNIX_EPOCH;

    fn tokens(json: &str) -> Tokens {
        Tokens::of_response(serde_json::from_str(json).unwrap(), Some("https://as.example"), NOW)
    }

    #[test]
    fn token_is_due_shortly_before_its_end() {
        let at = |seconds| NOW + Duration::from_secs(seconds);
        let short = tokens(r#"{"access_token":"a","expires_in":20}"#);
        assert!(
            !short.is_due(at(17)) && short.is_due(at(18)) && !short.has_expired(at(19)) && short.has_expired(at(20))
        );
        let long = tokens(r#"{"access_token":"a","expires_in":86400}"#);
        assert!(!long.is_due(at(86339)) && long.is_due(at(86340)));
        for endless in [r#"{"access_token":"a"}"#, r#"{"access_token":"a","expires_in":0}"#] {
            assert!(!tokens(endless).is_due(at(1 << 39)), "{endless}");
        }
    }

    #[test]
    fn refresh_keeps_what_its_answer_omits() {
        let old = tokens(r#"{"access_token":"a","refresh_token":"r","id_token":"i","scope":"x y","expires_in":9}"#);
        let new = old.refreshed(tokens(r#"{"access_token":"b"}"#));
        assert_eq!(new.access_token().expose(), &"b");
        assert_eq!((new.refresh_token().unwrap().expose(), new.id_token().unwrap().expose()), (&"r", &"i"));
        assert_eq!(new.scope(), Some("x y"));
        assert_eq!(new.expires_at(), None, "the old end is not the new token's");
        let rotated = old.refreshed(tokens(r#"{"access_token":"b","refresh_token":"s"}"#));
        assert_eq!(rotated.refresh_token().unwrap().expose(), &"s");
    }

    #[test]
    fn file_is_that_of_the_npm_package() {
        let text = String::from_utf8(tokens(r#"{"access_token":"a","token_type":"Bearer","expires_in":9}"#).to_json());
        assert_eq!(
            text.unwrap(),
            "{\n  \"access_token\": \"a\",\n  \"expires_at\": 9000,\n  \"expires_in\": 9,\n  \"issuer\": \"https://as.example\",\n  \"token_type\": \"Bearer\"\n}"
        );
        assert_eq!(Tokens::from_json(b"{\"access_token\":1}"), None);
        assert_eq!(Tokens::from_json(b"{\"access_tok"), None);
    }

    #[test]
    fn tokens_are_not_shown() {
        assert!(!format!("{:?}", tokens(r#"{"access_token":"hush"}"#)).contains("hush"));
    }

    #[test]
    fn files_keep_their_names() {
        let grants = [
            Grant::AuthorizationCode,
            Grant::DeviceCode,
            Grant::ClientCredentials { token_endpoint: None, key: None },
            Grant::IdJag {
                token: "t".into(),
                token_endpoint: "https://idp".parse().unwrap(),
                client_id: String::new(),
            },
            Grant::WorkloadIdentity(AssertionSource::File("f".into())),
        ];
        let names = |bound| {
            grants.each_ref().map(|grant| {
                let file = TokenFile::of(grant, bound);
                assert!(TokenFile::all().any(|one| one == file), "{file:?}");
                (file.name(), file.provenance_name())
            })
        };
        let of = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        let unattended = [
            of("client_credentials_tokens.json", "client_credentials_grant.json"),
            of("enterprise_tokens.json", "enterprise_grant.json"),
            of("workload_tokens.json", "workload_grant.json"),
        ];
        let npms = of("tokens.json", "grant.json");
        let bound = of("dpop_tokens.json", "dpop_grant.json");
        assert_eq!(names(false), [vec![npms.clone(), npms], unattended.to_vec()].concat()[..]);
        assert_eq!(names(true), [vec![bound.clone(), bound], unattended.to_vec()].concat()[..]);
        assert_eq!(TokenFile::all().count(), 5);
    }
}
