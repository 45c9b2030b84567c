//! What a server asks for in `WWW-Authenticate` (RFC 9110 §11.6.1; the parameters of RFC 6750 §3,
//! RFC 9449 §7.1 and RFC 9728 §5.1). It is read as it is rather than as it should be, because servers forget commas and
//! quotes.
//!
//! # Invariants
//!
//! - No parameter is taken from inside another parameter's quoted text, or from a scheme that is neither Bearer nor
//!   DPoP.

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};

/// All challenges of one response, as far as they concern OAuth. Where Bearer and DPoP both give a
/// parameter, Bearer's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Where the protected resource metadata are (RFC 9728 §5.1).
    pub(crate) resource_metadata: Option<String>,
    /// The scopes needed, as they stand there.
    pub(crate) scope: Option<String>,
    /// Such as `invalid_token` or `insufficient_scope`.
    pub(crate) error: Option<String>,
    /// For people.
    pub(crate) error_description: Option<String>,
    /// There is a Bearer challenge.
    pub(crate) bearer: bool,
    /// There is a DPoP challenge.
    pub(crate) dpop: bool,
    /// What went wrong according to the DPoP challenge, whatever Bearer's says: `use_dpop_nonce` is
    /// no reason to sign in (RFC 9449 §9).
    pub(crate) dpop_error: Option<String>,
    /// The algorithms a proof may be signed with (RFC 9449 §7.1, `algs`).
    pub(crate) dpop_algorithms: Vec<String>,
    /// The schemes named where neither Bearer nor DPoP is among them, such as Basic.
    pub(crate) only_other: Vec<String>,
}

impl Challenge {
    /// What a server means that says `invalid_token` in the body only.
    pub(crate) fn invalid_token() -> Self {
        Self { error: Some("invalid_token".to_owned()), bearer: true, ..Self::default() }
    }

    /// Whether it says that the token is expired, revoked or malformed (RFC 6750 §3.1).
    pub(crate) fn is_invalid_token(&self) -> bool {
        self.error.as_deref() == Some("invalid_token")
    }

    /// Reads every `WWW-Authenticate` line.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let (mut bearer, mut dpop) = (None::<Parameters>, None::<Parameters>);
        let mut others: Vec<String> = Vec::new();
        let mut current = Scheme::Other;
        for line in headers.get_all(WWW_AUTHENTICATE) {
            // The scheme stays: lines are one list, which may be cut at any comma (RFC 9110 §5.3).
            for item in (Line { rest: line.as_bytes(), begins: true }) {
                match item {
                    Item::Scheme(name) => {
                        // RFC 9110 §11.1: in any case.
                        if name.eq_ignore_ascii_case("Bearer") {
                            current = Scheme::Bearer;
                            bearer.get_or_insert_default();
                        } else if name.eq_ignore_ascii_case("DPoP") {
                            current = Scheme::Dpop;
                            dpop.get_or_insert_default();
                        } else {
                            current = Scheme::Other;
                            if !others.contains(&name) {
                                others.push(name);
                            }
                        }
                    }
                    Item::Parameter { name, value } => {
                        let parameters = match current {
                            Scheme::Bearer => bearer.as_mut(),
                            Scheme::Dpop => dpop.as_mut(),
                            Scheme::Other => None,
                        };
                        if let Some(parameters) = parameters {
                            parameters.keep(&name, value);
                        }
                    }
                }
            }
        }
        if bearer.is_some() || dpop.is_some() {
            others.clear();
        }
        let (has_bearer, has_dpop) = (bearer.is_some(), dpop.is_some());
        let (bearer, dpop) = (bearer.unwrap_or_default(), dpop.unwrap_or_default());
        Self {
            resource_metadata: bearer.resource_metadata.or(dpop.resource_metadata),
            scope: bearer.scope.or(dpop.scope),
            error: bearer.error.or_else(|| dpop.error.clone()),
            error_description: bearer.error_description.or(dpop.error_description),
            bearer: has_bearer,
            dpop: has_dpop,
            dpop_error: dpop.error,
            dpop_algorithms: dpop.algs.unwrap_or_default().split_whitespace().map(Into::into).collect(),
            only_other: others,
        }
    }
}

/// Returns what [`Challenge::of`] reads in these lines, each value with its name, for fuzz targets; `None` if one of them
/// is no header value.
#[must_use]
pub fn challenge_of(lines: &[&[u8]]) -> Option<Vec<(&'static str, String)>> {
    let values = lines.iter().map(|line| Some((WWW_AUTHENTICATE, HeaderValue::from_bytes(line).ok()?)));
    let challenge = Challenge::of(&values.collect::<Option<_>>()?);
    let flag = |is_set: bool| is_set.then(String::new);
    let one = [
        ("bearer", flag(challenge.bearer)),
        ("dpop", flag(challenge.dpop)),
        ("resource_metadata", challenge.resource_metadata),
        ("scope", challenge.scope),
        ("error", challenge.error),
        ("error_description", challenge.error_description),
        ("dpop_error", challenge.dpop_error),
    ];
    let algorithms = challenge.dpop_algorithms.into_iter().map(|name| ("algs", name));
    let others = challenge.only_other.into_iter().map(|name| ("only_other", name));
    let one = one.into_iter().filter_map(|(name, value)| Some((name, value?)));
    Some(one.chain(algorithms).chain(others).collect())
}

enum Scheme {
    Bearer,
    Dpop,
    Other,
}

/// Of all challenges of one scheme.
#[derive(Default)]
struct Parameters {
    resource_metadata: Option<String>,
    scope: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    algs: Option<String>,
}

impl Parameters {
    /// The first that says something counts.
    fn keep(&mut self, name: &str, value: String) {
        // RFC 9110 §11.2: in any case.
        let place = match name.to_ascii_lowercase().as_str() {
            "resource_metadata" => &mut self.resource_metadata,
            "scope" => &mut self.scope,
            "error" => &mut self.error,
            "error_description" => &mut self.error_description,
            "algs" => &mut self.algs,
            _ => return,
        };
        if place.is_none() && !value.is_empty() {
            *place = Some(value);
        }
    }
}

enum Item {
    Scheme(String),
    Parameter { name: String, value: String },
}

/// What is left of a header line.
struct Line<'a> {
    rest: &'a [u8],
    /// Here a challenge may begin: nothing but commas and spaces since the last item.
    begins: bool,
}

impl Iterator for Line<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            match *self.rest.first()? {
                b',' => {
                    self.begins = true;
                    self.rest = &self.rest[1..];
                }
                b'"' => _ = self.quoted(), // nobody's value
                byte if is_token(byte) => {
                    let word = self.take_while(is_token);
                    let begins = std::mem::take(&mut self.begins);
                    // RFC 9110 §11.2 allows space around the sign.
                    if let Some(value) = self.rest.trim_ascii_start().strip_prefix(b"=") {
                        self.rest = value.trim_ascii_start();
                        let value = if self.rest.first() == Some(&b'"') {
                            self.quoted()
                        } else {
                            self.take_while(is_bare) // more than a token: addresses come without quotes too
                        };
                        return Some(Item::Parameter { name: word, value });
                    }
                    if begins {
                        return Some(Item::Scheme(word));
                    }
                    self.take_while(is_bare); // a token68, or what should have been in quotes
                }
                _ => self.rest = &self.rest[1..],
            }
        }
    }
}

impl Line<'_> {
    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> String {
        let end = self.rest.iter().position(|byte| !belongs(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        String::from_utf8_lossy(taken).into_owned()
    }

    /// RFC 9110 §5.6.4: up to the quote that ends it, or to the end of the line where that is missing.
    fn quoted(&mut self) -> String {
        let mut text = Vec::new();
        let mut bytes = self.rest[1..].iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(bytes.next()),
                _ => text.push(byte),
            }
        }
        self.rest = bytes.as_slice();
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_bare(byte: u8) -> bool {
    !matches!(byte, b',' | b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&[u8]]) -> Challenge {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(line).unwrap());
        }
        Challenge::of(&headers)
    }

    /// Metadata, scope, error.
    type Read<T> = (Option<T>, Option<T>, Option<T>);

    fn read(lines: &[&str]) -> Read<String> {
        let challenge = of(&lines.iter().map(|line| line.as_bytes()).collect::<Vec<_>>());
        (challenge.resource_metadata, challenge.scope, challenge.error)
    }

    #[test]
    fn every_spelling_of_a_challenge_is_read() {
        let all = (Some("https://a/m"), Some("r w"), Some("invalid_token"));
        let spellings: &[(&[&str], Read<&str>)] = &[
            (&[r#"Bearer resource_metadata="https://a/m", scope="r w", error="invalid_token""#], all),
            (&[r#"bEARER RESOURCE_METADATA="https://a/m",Scope="r w",ERROR=invalid_token"#], all),
            (&["Bearer\terror = \"invalid_token\"\t,\tscope =\"r w\" , ,, resource_metadata= https://a/m"], all),
            (&[r#", ,Bearer , error="invalid_token", scope="r w", resource_metadata="https://a/m","#], all),
            // several challenges in one line
            (
                &[
                    r#"Basic realm="x", scope="no", Bearer scope="r w", error="invalid_token", resource_metadata="https://a/m", Digest error="no""#,
                ],
                all,
            ),
            (
                &[
                    r#"Negotiate, Bearer scope="r w", error="invalid_token", resource_metadata="https://a/m", Negotiate oRMw/x==, NTLM scope=no"#,
                ],
                all,
            ),
            // several lines
            (
                &[
                    r#"Basic realm="scope=no""#,
                    r#"Bearer scope="r w", resource_metadata="https://a/m""#,
                    r#"Bearer error="invalid_token""#,
                ],
                all,
            ),
            // one list, cut at a comma on its way
            (&[r#"Bearer scope="r w""#, r#"error=invalid_token, resource_metadata="https://a/m""#], all),
            // no commas between parameters
            (&[r#"Bearer scope="r w" error="invalid_token" resource_metadata="https://a/m""#], all),
            // names inside quoted text
            (
                &[
                    r#"Bearer realm="scope=\"no\", error=\"no\", Bearer scope=no", error_description="resource_metadata=https://no", scope="r w""#,
                ],
                (None, Some("r w"), None),
            ),
            (&[r#"Bearer xscope="no", scope_="no", x-error="no""#], (None, None, None)),
            (&[r#"Bearer scope="\r\ w""#], (None, Some("r w"), None)),
            (&[r#"Bearer scope="a\"b\\c""#], (None, Some(r#"a"b\c"#), None)),
            // other schemes' parameters
            (&[r#"Basic scope="no", resource_metadata="https://no", error="no""#], (None, None, None)),
            (&[r#"scope="no""#], (None, None, None)),
            (&["Bearer"], (None, None, None)),
            (&["Bearer token68=="], (None, None, None)),
            (&[r#"Bearer realm="""#], (None, None, None)),
            // DPoP alone, beside, before, against Bearer
            (&[r#"DPoP resource_metadata="https://a/m", scope="r w", error="invalid_token""#], all),
            (
                &[
                    r#"DPoP resource_metadata="https://no", scope="no", error="invalid_token", Bearer scope="r w", resource_metadata="https://a/m""#,
                ],
                all,
            ),
            (
                &[r#"DPoP scope="r w""#, r#"Bearer scope="", resource_metadata="https://a/m", error="invalid_token""#],
                all,
            ),
            // what is broken, as far as it can be read
            (&["Bearer scope=r w, error=invalid_token"], (None, Some("r"), Some("invalid_token"))),
            (&[r#"Bearer error="invalid_token", scope="r w"#], (None, Some("r w"), Some("invalid_token"))),
            (&[r#"Bearer error="invalid_token", scope="r w\"#], (None, Some("r w"), Some("invalid_token"))),
            (&[r#"Bearer: scope="r w"; error="invalid_token""#], (None, Some("r w"), Some("invalid_token"))),
            (&[r#"Bearer scope="first", scope="second""#], (None, Some("first"), None)),
            (&[r#"Bearer "x", "scope=no, error=no", scope="r w""#], (None, Some("r w"), None)),
            (&[r#"Bearer scope=, error="#], (None, None, None)),
            (&["", "=", "\"", "=\"", "Bearer =x"], (None, None, None)),
        ];
        for (lines, (metadata, scope, error)) in spellings {
            let expected = (metadata.map(Into::into), scope.map(Into::into), error.map(Into::into));
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn challenge_schemes_are_separated() {
        let challenge =
            of(&[b"dpop algs=\"ES256 PS256\", error=\"use_dpop_nonce\", bearer error=invalid_token, Basic"]);
        assert!(challenge.bearer && challenge.dpop);
        assert_eq!(challenge.dpop_algorithms, ["ES256", "PS256"]);
        assert_eq!(challenge.dpop_error.as_deref(), Some("use_dpop_nonce"));
        assert_eq!(challenge.error.as_deref(), Some("invalid_token"));
        assert!(challenge.only_other.is_empty());

        let challenge = of(&[b"Negotiate YII/x==, Basic realm=\"Bearer\"", b"Basic realm=b, algs=ES256"]);
        assert!(!challenge.bearer && !challenge.dpop);
        assert_eq!(challenge.only_other, ["Negotiate", "Basic"]);
        assert!(challenge.dpop_algorithms.is_empty());

        assert_eq!(Challenge::of(&HeaderMap::new()), Challenge::default());
    }

    #[test]
    fn text_that_is_not_utf_8_is_read() {
        let challenge = of(&[b"Bearer error_description=\"\xfc\", scope=r"]);
        assert_eq!(challenge.error_description.as_deref(), Some("\u{fffd}"));
        assert_eq!(challenge.scope.as_deref(), Some("r"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let legal = |byte: &u8| *byte == b'\t' || (*byte >= 32 && *byte != 127);
            let lines: Vec<Vec<u8>> =
                lines.into_iter().map(|line| line.into_iter().filter(legal).collect()).collect();
            of(&lines.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }

        #[test]
        fn no_sequence_of_pieces_makes_it_panic(
            line in proptest::collection::vec(
                proptest::sample::select(vec!["Bearer", "DPoP", "Basic", "scope", "=", "\"", "\\", ",", " ", "\t", "é", ";", "a/b=="]),
                0..20,
            )
        ) {
            of(&[line.concat().as_bytes()]);
        }

        #[test]
        fn any_text_survives_its_quotes_beside_a_decoy(text in "[ -~]{1,40}", decoy in "[ -~]{0,40}") {
            let quote = |text: &str| format!("\"{}\"", text.replace('\\', r"\\").replace('"', r#"\""#));
            let line = format!("Basic realm={}, Bearer realm={}, scope={}", quote(&decoy), quote(&decoy), quote(&text));
            prop_assert_eq!(of(&[line.as_bytes()]).scope, Some(text));
        }
    }
}
