//! The pages that the browser shows after the authorization server redirects it to the callback port. Each page is one
//! self-contained HTML document (HTML Living Standard; Content Security Policy Level 3; WCAG 2.2 §1.4.3 for the colors).
//!
//! # Invariants
//!
//! - A page contains no script and fetches nothing.
//! - Untrusted text is escaped.
//! - Only [`Page::SignedIn`] reports success.
//! - A page names the MCP server and the host once each.

use std::{borrow::Cow, fmt::Write as _, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;

use crate::report::Code;

/// Longest server shown, in characters: a whole name (RFC 1035 §2.3.4) with its port, because the end of a
/// name says whose it is.
const LONGEST_SERVER: usize = 260;
/// Longest name of a host program shown, in characters: a line or two on a phone.
const LONGEST_NAME: usize = 60;
/// Longest reason or step shown, in characters: a paragraph. The log has the rest.
const LONGEST_TEXT: usize = 600;

/// A state of the sign-in, as the browser shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The tokens have arrived.
    SignedIn {
        /// `host[:port]` of the MCP server.
        server: String,
        /// `host[:port]` of the page where the user signed in.
        by: String,
        /// Where the sign-in was started.
        start: StartedFrom,
    },
    /// The sign-in failed.
    Failed {
        /// `host[:port]` of the MCP server.
        server: String,
        /// Where the sign-in was started.
        start: StartedFrom,
        /// The sentence of the report.
        reason: String,
        /// The tip of the report.
        next: Option<String>,
        /// The failure's code.
        code: Code,
    },
    /// The process ended, or stopped waiting, before the outcome was known.
    Interrupted,
    /// A redirect of a sign-in that this process does not wait for.
    NotWaiting,
    /// An error that names no sign-in, while one waits.
    Unproven {
        /// The error code.
        error: String,
        /// The description of the error.
        description: Option<String>,
    },
    /// A redirect that was received before, loaded again.
    AlreadyHandled,
    /// A redirect that lacks a required parameter, or repeats one.
    Malformed,
    /// A URL that is longer than any redirect.
    TooLong,
    /// Another path.
    NotFound,
    /// A method other than GET and HEAD.
    MethodNotAllowed,
    /// A request for another host name.
    Misdirected,
}

/// The program that started a sign-in, to which the user goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StartedFrom {
    /// An MCP host, by the name that it gives itself.
    Host(Option<String>),
    /// A command in a terminal.
    Terminal,
}

impl StartedFrom {
    fn html(&self) -> String {
        match self {
            Self::Host(name) => {
                let name = name.as_deref().map(|name| escaped(name, LONGEST_NAME)).filter(|name| !name.is_empty());
                name.map_or_else(|| "your app".to_owned(), |name| format!("<b><bdi>{name}</bdi></b>"))
            }
            Self::Terminal => "your terminal".to_owned(),
        }
    }
}

impl Page {
    /// Returns the HTTP status (RFC 9110 §15).
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::SignedIn { .. } => 200,
            Self::Failed { .. } | Self::Unproven { .. } | Self::NotWaiting | Self::Malformed => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::AlreadyHandled => 409,
            Self::TooLong => 414,
            Self::Misdirected => 421,
            Self::Interrupted => 503,
        }
    }

    /// Returns the headers of every page.
    pub(crate) fn headers() -> [(&'static str, &'static str); 2] {
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", &POLICY)]
    }

    /// Returns the document.
    pub(crate) fn html(&self) -> String {
        let mut body = String::new();
        let (tone, title) = match self {
            Self::SignedIn { server, by, start } => {
                _ = write!(body, "<p class=\"at\">You signed in to <bdi>{}</bdi>", escaped(server, LONGEST_SERVER));
                if by != server {
                    _ = write!(body, " with <bdi>{}</bdi>", escaped(by, LONGEST_SERVER));
                }
                _ = write!(body, ".</p><p>You can close this tab and go back to {}.</p>", start.html());
                (Tone::Good, "Signed in")
            }
            Self::Failed { server, start, reason, next, code } => {
                let name = escaped(server, LONGEST_SERVER);
                _ = write!(body, "<p class=\"at\">mcp-remote could not sign you in to <bdi>{name}</bdi>.</p>");
                _ = write!(body, "<p class=\"why\">{}</p>", sentence(&cause(reason, server)));
                _ = write!(body, "<h2>What to do next</h2>{}", steps(*code, next.as_deref(), start));
                _ = write!(
                    body,
                    "<p><small>For details, run this command: <code>mcp-remote explain {code}</code></small></p>"
                );
                (Tone::Bad, "Sign-in failed")
            }
            Self::Interrupted => {
                body.push_str("<p>mcp-remote stopped before the sign-in was complete.</p>");
                body.push_str("<p>Close this tab and sign in again from your app.</p>");
                (Tone::Bad, "Sign-in interrupted")
            }
            Self::NotWaiting => {
                body.push_str("<p>The sign-in was completed or canceled, or a newer sign-in replaced it.</p>");
                body.push_str("<p>Close this tab and go back to your app. If the app still asks you to sign in, ");
                body.push_str("sign in again from there.</p>");
                (Tone::Calm, "This sign-in is no longer active")
            }
            Self::Unproven { error, description } => {
                let words = description.as_deref().map_or_else(|| error.clone(), |words| format!("{error}: {words}"));
                _ = write!(body, "<p class=\"why\">{}</p>", escaped(&words, LONGEST_TEXT));
                body.push_str(
                    "<p>The error does not say which sign-in it belongs to, so mcp-remote keeps waiting.</p>",
                );
                body.push_str("<p>Go back to the sign-in page and try again.</p>");
                (Tone::Bad, "The sign-in page reported an error")
            }
            Self::AlreadyHandled => {
                body.push_str("<p>mcp-remote already received the result of this sign-in.</p>");
                body.push_str("<p>You can close this tab and go back to your app.</p>");
                (Tone::Calm, "This page was opened before")
            }
            Self::Malformed => {
                body.push_str("<p>The sign-in page sent an incomplete or contradictory response. ");
                body.push_str("mcp-remote ignored the response.</p>");
                body.push_str("<p>Go back to the sign-in page and try again.</p>");
                (Tone::Bad, "Invalid response")
            }
            Self::TooLong => {
                body.push_str("<p>The URL of this page is longer than mcp-remote accepts.</p>");
                body.push_str("<p>Close this tab and sign in again from your app.</p>");
                (Tone::Bad, "URL too long")
            }
            Self::NotFound => {
                body.push_str("<p>mcp-remote only receives the result of a sign-in here.</p>");
                body.push_str("<p>You can close this tab.</p>");
                (Tone::Calm, "Page not found")
            }
            Self::MethodNotAllowed => {
                body.push_str("<p>mcp-remote only accepts GET and HEAD requests here.</p>");
                (Tone::Calm, "Method not allowed")
            }
            Self::Misdirected => {
                body.push_str("<p>The browser asked for this page under a host name that mcp-remote does not use.</p>");
                body.push_str("<p>Close this tab and sign in again from your app.</p>");
                (Tone::Bad, "Wrong host name")
            }
        };
        document(tone, title, &body)
    }
}

/// Returns what to do about a failure, as paragraphs. A code's own tip is for a terminal, so the browser shows another one
/// where that tip is to sign in again. A more exact tip is always shown.
fn steps(code: Code, tip: Option<&str>, start: &StartedFrom) -> String {
    let start = start.html();
    let again = format!("this tab and sign in again from {start}.");
    let exact = tip.filter(|tip| Some(*tip) != code.entry().action);
    match (exact, code) {
        (None, Code::SignInDenied) => format!("<p>If you did not mean to decline, close {again}</p>"),
        (None, Code::SignInRefused | Code::SignInTimedOut) => format!("<p>Close {again}</p>"),
        (None, Code::AuthorizationServerFailed | Code::WrongIssuer) => {
            format!("<p>Close {again} If the sign-in fails again, report this error to the server's operator.</p>")
        }
        _ => match tip.map(|tip| flags_as_code(&sentence(tip))) {
            None => format!("<p>Close {again}</p>"),
            // The tip itself says how to sign in again.
            Some(tip) if tip.contains("mcp-remote login") => format!("<p>{tip}</p><p>You can close this tab.</p>"),
            Some(tip) => format!("<p>{tip}</p><p>Then close {again}</p>"),
        },
    }
}

/// Returns the sentence of a report without what the page has already said: that the sign-in failed, and the server's name.
fn cause<'a>(reason: &'a str, server: &str) -> Cow<'a, str> {
    for said in [&format!("cannot sign in to {server}: "), "cannot sign in: ", &format!("{server}: ")] {
        if let Some(cause) = reason.strip_prefix(said) {
            return cause.into();
        }
    }
    match reason.strip_prefix(server).and_then(|rest| rest.strip_prefix(' ')) {
        Some(rest) => format!("the server {rest}").into(),
        None => reason.into(),
    }
}

/// Returns escaped text with each flag in code style.
fn flags_as_code(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let flag = word.trim_end_matches([',', '.', ':']);
        let rest = &word[flag.len()..];
        if flag.starts_with("--") { format!("<code>{flag}</code>{rest}") } else { word.to_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the text of a report or a tip as a sentence, escaped. Names and text to copy keep their form, so a first word that
/// is more than letters gets no capital, and a last word of that kind gets no full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let is_word = |word: &str| {
        let letters = |part: &str| !part.is_empty() && part.chars().all(char::is_alphabetic);
        word != "mcp-remote" && word.trim_end_matches(',').split('-').all(letters)
    };
    let mut sentence = escaped(text, LONGEST_TEXT);
    if text.split(' ').next().is_some_and(is_word)
        && let Some(first) = sentence.get(..1)
    {
        sentence.replace_range(..1, &first.to_ascii_uppercase());
    }
    let is_copied = |word: &str| {
        word.contains(['/', '=', '_', '{']) || word.starts_with('-') || word.len() > 1 && is_placeholder(word)
    };
    if !sentence.ends_with(['.', '!', '?', '…']) && !text.rsplit(' ').next().is_some_and(is_copied) {
        sentence.push('.');
    }
    sentence
}

/// Whether a word is a placeholder for a value, such as `FILE`.
fn is_placeholder(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_uppercase())
}

#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Calm,
}

impl Tone {
    const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Calm => "calm",
        }
    }

    /// Returns a tick, a cross or an i, drawn in a square of 24.
    const fn strokes(self) -> &'static str {
        match self {
            Self::Good => "M6 12.6l4 4 8-8.6",
            Self::Bad => "M7.5 7.5l9 9m0-9l-9 9",
            Self::Calm => "M12 11v6m0-10v.01",
        }
    }
}

fn document(tone: Tone, title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main class=\"{class}\">\n\
         <svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"{strokes}\"/></svg>\n\
         <h1>{title}</h1>\n{body}\n</main>\n<footer>This page comes from mcp-remote on this computer.</footer>\n</body>\n</html>\n",
        class = tone.class(),
        strokes = tone.strokes(),
    )
}

/// Returns untrusted text without markup (HTML §13.1.4) and control characters, shortened.
fn escaped(text: &str, longest: usize) -> String {
    let mut safe = String::with_capacity(text.len().min(longest) + 8);
    let mut rest = text.trim().chars();
    for character in rest.by_ref().take(longest) {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    if rest.next().is_some() {
        safe.push('…');
    }
    safe
}

/// The policy that allows the style by its hash, and no other (CSP 3 §2.3.1).
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

const STYLE: &str = "
:root{color-scheme:light dark;
--page:#f3f4f6;--card:#ffffff;--edge:#e2e5e9;--well:#f5f6f8;--text:#1b1f24;--soft:#5a626c;
--good:#15784a;--good-well:#e4f4ec;--bad:#bf2c31;--bad-well:#fcebeb;--calm:#4b5a6b;--calm-well:#eaeef3}
@media(prefers-color-scheme:dark){:root{
--page:#0f1114;--card:#181b20;--edge:#2a2f37;--well:#21252c;--text:#eceef1;--soft:#a5aeb9;
--good:#55cb94;--good-well:#15301f;--bad:#ff8b8e;--bad-well:#3a1d20;--calm:#a9b8c9;--calm-well:#242c36}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;padding:1.5rem;display:flex;flex-direction:column;align-items:center;
justify-content:center;gap:1.5rem;background:var(--page);color:var(--text);
font:1rem/1.6 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;overflow-wrap:anywhere;text-align:center}
main{width:100%;max-width:28rem;padding:3rem 2.25rem 2.5rem;background:var(--card);
border:1px solid var(--edge);border-radius:1.25rem;box-shadow:0 1px 2px #0000000a,0 12px 32px #00000012}
svg{display:block;width:5rem;height:5rem;margin:0 auto 1.5rem;padding:.8rem;border-radius:50%;fill:none;
stroke:currentColor;stroke-width:2.2;stroke-linecap:round;stroke-linejoin:round}
.good svg{color:var(--good);background:var(--good-well)}
.bad svg{color:var(--bad);background:var(--bad-well)}
.calm svg{color:var(--calm);background:var(--calm-well)}
h1{margin:0;font-size:1.6rem;line-height:1.25;font-weight:650;letter-spacing:-.01em;text-wrap:balance}
h2{margin:1.5rem 0 .25rem;font-size:1rem;font-weight:650}
p{margin:.75rem 0 0;color:var(--soft);text-wrap:pretty}
h2+p{margin-top:0}
b{font-weight:600;color:var(--text)}
.at{margin-top:.35rem;font-size:1.1rem;color:var(--text)}
.at+p{margin-top:1.5rem}
code{display:inline-block;padding:0 .35rem;border-radius:.35rem;background:var(--well);color:var(--text)}
.why{padding:.85rem 1.1rem;border-radius:.75rem;background:var(--well);color:var(--text)}
footer{font-size:.875rem;color:var(--soft)}
@media(max-width:30rem){body{padding:1rem}main{padding:2.25rem 1.25rem 1.75rem}}
@media(forced-colors:active){svg{border:2px solid}}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> StartedFrom {
        StartedFrom::Host(Some(name.into()))
    }

    fn failed(reason: &str, next: Option<&str>) -> Page {
        Page::Failed {
            server: "a.example".into(),
            start: host("Claude"),
            reason: reason.into(),
            next: next.map(Into::into),
            code: Code::SignInDenied,
        }
    }

    #[test]
    fn success_page_keeps_its_bytes() {
        let page = Page::SignedIn {
            server: "mcp.example.com:8443".into(),
            by: "login.example.com".into(),
            start: host("Claude & Co"),
        }
        .html();
        let (head, rest) = page.split_once("<style>").unwrap();
        let (style, body) = rest.split_once("</style>").unwrap();
        assert_eq!(style, STYLE);
        assert_eq!(
            [head, body].concat(),
            r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Signed in</title>

</head>
<body>
<main class="good">
<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 12.6l4 4 8-8.6"/></svg>
<h1>Signed in</h1>
<p class="at">You signed in to <bdi>mcp.example.com:8443</bdi> with <bdi>login.example.com</bdi>.</p><p>You can close this tab and go back to <b><bdi>Claude &amp; Co</bdi></b>.</p>
</main>
<footer>This page comes from mcp-remote on this computer.</footer>
</body>
</html>
"#
        );
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        const ATTACK: &str = r#"</style><script>alert('1')</script><img src="x" onerror=alert(1)>"#;
        let pages = [
            Page::SignedIn { server: ATTACK.into(), by: ATTACK.into(), start: host(ATTACK) },
            Page::Failed {
                server: ATTACK.into(),
                start: host(ATTACK),
                reason: ATTACK.into(),
                next: Some(ATTACK.into()),
                code: Code::SignInDenied,
            },
        ];
        for page in pages {
            let html = page.html();
            assert!(
                html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&lt;img src=&quot;x&quot;"),
                "{html}"
            );
            assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
            assert_eq!(html.matches("</style>").count(), 1);
        }
    }

    #[test]
    fn names_are_isolated_and_shortened() {
        let name = format!("\u{202e}gro\0\n{}", "x".repeat(5000));
        let page = |start| Page::SignedIn { server: "a.example".into(), by: "b.example".into(), start }.html();
        let html = page(StartedFrom::Host(Some(name)));
        assert!(html.contains(&format!("<bdi>\u{202e}gro  {}…</bdi>", "x".repeat(54))), "{html}");
        for nameless in [Some("  ".into()), None] {
            assert!(page(StartedFrom::Host(nameless)).contains("go back to your app."));
        }
        assert!(page(StartedFrom::Terminal).contains("go back to your terminal."));
    }

    #[test]
    fn server_that_signs_in_itself_is_named_once() {
        let html = Page::SignedIn { server: "a.example".into(), by: "a.example".into(), start: host("Claude") }.html();
        assert_eq!(html.matches("a.example").count(), 1, "{html}");
        assert_eq!(html.matches("Claude").count(), 1, "{html}");
    }

    #[test]
    fn failure_page_names_server_and_host_once() {
        for (reason, shown) in [
            ("a.example: the code expired", "The code expired."),
            ("cannot sign in to a.example: the code expired", "The code expired."),
            ("cannot sign in: the code expired", "The code expired."),
            ("a.example rejected the token", "The server rejected the token."),
            ("a.examples.example rejected the token", "a.examples.example rejected the token."),
        ] {
            let html = failed(reason, Some("name the resource: --resource URI")).html();
            assert!(html.contains(&format!("<p class=\"why\">{shown}</p>")), "{html}");
            let names = html.replace("a.examples.example", "");
            assert_eq!((names.matches("a.example").count(), names.matches("Claude").count()), (1, 1), "{html}");
        }
    }

    #[test]
    fn failure_page_shows_reason_and_action() {
        let html = failed("the server rejected you", Some("name the scopes: --scope NAME")).html();
        assert!(html.contains("<p class=\"why\">The server rejected you.</p>"), "{html}");
        assert!(
            html.contains("What to do next</h2><p>Name the scopes: <code>--scope</code> NAME</p><p>Then close"),
            "{html}"
        );
        assert!(html.contains("<code>mcp-remote explain sign_in_denied</code>"), "{html}");
        assert!(failed("x", None).html().contains("sign in again from <b><bdi>Claude</bdi></b>."));
        assert!(!html.contains("Signed in"));
    }

    #[test]
    fn report_text_becomes_sentence_and_keeps_names() {
        for (text, expected) in [
            ("the session expired", "The session expired."),
            ("sign-in timed out", "Sign-in timed out."),
            ("login.example.com rejected the code", "login.example.com rejected the code."),
            ("mcp-remote stopped", "mcp-remote stopped."),
            ("access_denied (\"no\")", "access_denied (&quot;no&quot;)."),
            ("run: mcp-remote logout --all", "run: mcp-remote logout --all"),
            ("add --host NAME", "Add --host NAME"),
            ("add scope={}", "Add scope={}"),
            ("try again!", "Try again!"),
            ("été", "été."),
            ("", "."),
        ] {
            assert_eq!(sentence(text), expected);
        }
    }

    #[test]
    fn policy_allows_only_the_style() {
        // From outside: `openssl dgst -sha256 -binary | base64` of the style.
        assert_eq!(
            Page::headers()[1].1,
            "default-src 'none'; style-src 'sha256-Ukui8xUJeBgpCviELHJOjehOWB0gTQzO75FkSjS41mQ='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let html = failed("x", None).html();
        for forbidden in [" style=", "<script", "<link", "<img", "<form", "http:", "https:", "url("] {
            assert!(!html.contains(forbidden), "{forbidden} in {html}");
        }
    }

    #[test]
    fn text_is_readable_in_light_and_dark() {
        let (light, dark) = STYLE.split_once("@media(prefers-color-scheme:dark)").unwrap();
        let dark = dark.split_once("}}").unwrap().0;
        for palette in [light, dark] {
            let colour = |name: &str| {
                let (_, value) = palette.split_once(&format!("--{name}:#")).unwrap();
                luminance(&value[..6])
            };
            for (ink, paper, least) in [
                ("text", "card", 4.5),
                ("soft", "card", 4.5),
                ("soft", "page", 4.5),
                ("text", "well", 4.5),
                // WCAG 2.2 §1.4.11: a drawing needs 3; these have what text needs.
                ("good", "good-well", 4.5),
                ("bad", "bad-well", 4.5),
                ("calm", "calm-well", 4.5),
            ] {
                let (ink_light, paper_light) = (colour(ink), colour(paper));
                let ratio = (ink_light.max(paper_light) + 0.05) / (ink_light.min(paper_light) + 0.05);
                assert!(ratio >= least, "{ink} on {paper}: {ratio}");
            }
        }
    }

    /// WCAG 2.2, relative luminance.
    fn luminance(hex: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(0) + 0.7152 * channel(2) + 0.0722 * channel(4)
    }
}
