//! What the browser shows after the authorization server redirects it here: one HTML document that needs nothing else
//! (HTML Living Standard; Content Security Policy Level 3; WCAG 2.2 §1.4.3 for the colors).
//!
//! # Invariants
//!
//! - The page holds no script and fetches nothing.
//! - No word from outside is shown unescaped.
//! - Nothing but [`Page::SignedIn`] says "signed in".

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest;

use crate::report::Code;

/// Longest server shown, in characters: a whole name (RFC 1035 §2.3.4) with its port, since the end of a
/// name says whose it is.
const LONGEST_SERVER: usize = 260;
/// Longest name of a program shown, in characters: a line or two on a phone.
const LONGEST_NAME: usize = 60;
/// Longest reason or advice shown, in characters: a paragraph; the log has the rest.
const LONGEST_TEXT: usize = 600;

/// A state of the sign-in, as the person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// The tokens are there.
    SignedIn {
        /// `host[:port]` of the MCP server.
        server: String,
        /// `host[:port]` of the page where the person signed in.
        by: String,
        /// What the host program calls itself.
        host: Option<String>,
    },
    /// There are none, and why.
    Failed {
        /// `host[:port]` of the MCP server.
        server: String,
        /// In plain words.
        reason: String,
        /// One thing to do.
        next: Option<String>,
        /// The failure's name, to look it up.
        code: Code,
    },
    /// The program went on without telling how the sign-in ended.
    Interrupted,
    /// A redirect of a sign-in that this process does not wait for.
    NotWaiting,
    /// An error that names no sign-in, while one waits.
    Unproven {
        /// The error code.
        error: String,
        /// What it adds.
        description: Option<String>,
    },
    /// A redirect that came before, loaded again.
    AlreadyHandled,
    /// A redirect that lacks what it must have, or has it twice.
    Malformed,
    /// A longer address than any redirect has.
    TooLong,
    /// Another path.
    NotFound,
    /// Another method than GET and HEAD.
    MethodNotAllowed,
    /// Another host name led here.
    Misdirected,
}

impl Page {
    /// The HTTP status (RFC 9110 §15).
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

    /// The headers that go with every page.
    pub(crate) fn headers() -> [(&'static str, &'static str); 2] {
        [("Content-Type", "text/html; charset=utf-8"), ("Content-Security-Policy", &POLICY)]
    }

    /// The document.
    pub(crate) fn html(&self) -> String {
        let mut body = String::new();
        let (tone, title) = match self {
            Self::SignedIn { server, by, host } => {
                let host = host.as_deref().map(|name| escaped(name, LONGEST_NAME)).filter(|name| !name.is_empty());
                let host = host.map_or_else(|| "your app".to_owned(), |name| format!("<b><bdi>{name}</bdi></b>"));
                _ = write!(body, "<p class=\"at\">to <bdi>{}</bdi>", escaped(server, LONGEST_SERVER));
                _ = write!(body, " with <bdi>{}</bdi></p>", escaped(by, LONGEST_SERVER));
                _ = write!(body, "<p>You can close this tab and go back to {host}.</p>");
                (Tone::Good, "Signed in")
            }
            Self::Failed { server, reason, next, code } => {
                let next = next.as_deref().unwrap_or("Close this tab and try again from your app.");
                _ = write!(body, "<p class=\"at\"><bdi>{}</bdi></p>", escaped(server, LONGEST_SERVER));
                _ = write!(body, "<p class=\"why\">{}</p>", escaped(reason, LONGEST_TEXT));
                _ = write!(body, "<h2>What to do next</h2><p>{}</p>", escaped(next, LONGEST_TEXT));
                _ = write!(body, "<p><small>{}</small></p>", escaped(code.as_str(), LONGEST_NAME));
                (Tone::Bad, "Sign-in failed")
            }
            Self::Interrupted => {
                body.push_str("<p>The app that asked for it ended or went on before it was complete.</p>");
                body.push_str("<p>Close this tab and start again from there.</p>");
                (Tone::Bad, "Sign-in interrupted")
            }
            Self::NotWaiting => {
                body.push_str("<p>It was finished or given up, or a newer one took its place.</p>");
                body.push_str("<p>Close this tab and go back to your app. If it still asks, sign in there.</p>");
                (Tone::Calm, "This sign-in is no longer waiting")
            }
            Self::Unproven { error, description } => {
                let words = description.as_deref().map_or_else(|| error.clone(), |words| format!("{error}: {words}"));
                body.push_str("<p>The sign-in page sent you back with an error:</p>");
                _ = write!(body, "<p class=\"why\">{}</p>", escaped(&words, LONGEST_TEXT));
                body.push_str("<p>It does not say which sign-in it means, so the sign-in stays open. ");
                body.push_str("You can go back and try again there.</p>");
                (Tone::Bad, "Sign-in refused")
            }
            Self::AlreadyHandled => {
                body.push_str("<p>This page was loaded before, and that was enough.</p>");
                body.push_str("<p>You can close this tab and go back to your app.</p>");
                (Tone::Calm, "This sign-in was already handled")
            }
            Self::Malformed => {
                body.push_str("<p>The sign-in page sent something incomplete or contradictory; it was ignored.</p>");
                body.push_str("<p>Go back to the sign-in page and try once more.</p>");
                (Tone::Bad, "This answer cannot be used")
            }
            Self::TooLong => (Tone::Bad, "This address is too long"),
            Self::NotFound => {
                body.push_str("<p>mcp-remote waits here for a sign-in to come back, nothing else.</p>");
                (Tone::Calm, "There is nothing here")
            }
            Self::MethodNotAllowed => (Tone::Calm, "This page can only be read"),
            Self::Misdirected => (Tone::Bad, "This is not the address you asked for"),
        };
        document(tone, title, &body)
    }
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

    /// A tick, a cross, an i, drawn in a square of 24.
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
         <h1>{title}</h1>\n{body}\n</main>\n<footer>mcp-remote, on this computer</footer>\n</body>\n</html>\n",
        class = tone.class(),
        strokes = tone.strokes(),
    )
}

/// Text of others as text: nothing of it is markup (HTML §13.1.4), moves the cursor, or is endless.
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

/// Names the style by its hash, so that no other runs (CSP 3 §2.3.1).
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
.why{padding:.85rem 1.1rem;border-radius:.75rem;background:var(--well);color:var(--text)}
footer{font-size:.875rem;color:var(--soft)}
@media(max-width:30rem){body{padding:1rem}main{padding:2.25rem 1.25rem 1.75rem}}
@media(forced-colors:active){svg{border:2px solid}}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: &str, next: Option<&str>) -> Page {
        Page::Failed {
            server: "a.example".into(),
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
            host: Some("Claude & Co".into()),
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
<p class="at">to <bdi>mcp.example.com:8443</bdi> with <bdi>login.example.com</bdi></p><p>You can close this tab and go back to <b><bdi>Claude &amp; Co</bdi></b>.</p>
</main>
<footer>mcp-remote, on this computer</footer>
</body>
</html>
"#
        );
    }

    #[test]
    fn markup_in_any_field_stays_text() {
        const ATTACK: &str = r#"</style><script>alert('1')</script><img src="x" onerror=alert(1)>"#;
        let pages = [
            Page::SignedIn { server: ATTACK.into(), by: ATTACK.into(), host: Some(ATTACK.into()) },
            Page::Failed {
                server: ATTACK.into(),
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
        let host = format!("\u{202e}gro\0\n{}", "x".repeat(5000));
        let html = Page::SignedIn { server: "a.example".into(), by: "b.example".into(), host: Some(host) }.html();
        assert!(html.contains(&format!("<bdi>\u{202e}gro  {}…</bdi>", "x".repeat(54))), "{html}");
        let nameless =
            Page::SignedIn { server: "a.example".into(), by: "b.example".into(), host: Some("  ".into()) }.html();
        assert!(nameless.contains("go back to your app."), "{nameless}");
    }

    #[test]
    fn failure_page_shows_reason_and_action() {
        let html = failed("You declined.", Some("Run mcp-remote login")).html();
        assert!(html.contains("<p class=\"why\">You declined.</p>"), "{html}");
        assert!(html.contains("What to do next</h2><p>Run mcp-remote login</p>"), "{html}");
        assert!(html.contains("<small>sign_in_denied</small>"), "{html}");
        assert!(failed("x", None).html().contains("try again from your app"));
        assert!(!html.contains("Signed in"));
    }

    #[test]
    fn policy_allows_only_the_style() {
        // From outside: `openssl dgst -sha256 -binary | base64` of the style.
        assert_eq!(
            Page::headers()[1].1,
            "default-src 'none'; style-src 'sha256-qsH+34pBY4hPBHSpMWwb+qVPYJiOtIW1sl4emBsovT0='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let html = failed("x", None).html();
        for forbidden in [" style=", "<script", "<link", "<img", "<form", "http:", "https:", "url("] {
            assert!(!html.contains(forbidden), "{forbidden} in {html}");
        }
    }

    #[test]
    fn everything_can_be_read_in_light_and_dark() {
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
