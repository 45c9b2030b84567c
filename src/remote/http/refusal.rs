//! What came with a status that is no success.
//!
//! # Invariants
//!
//! - What this program sent in secret does not return in the text, because that reaches logs.

use std::time::Duration;

use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use super::Http;
use crate::{
    message::{Assembly, Message, Shape, peek},
    network::{message_client::Response, proxy::schemes},
    oauth::Credential,
    remote::{error::Refusal, evidence::Cause},
    status::retry_after,
    text::one_line,
};

/// How much of the body is read, in bytes: enough for any JSON-RPC error.
const LONGEST_BODY: usize = 256 * 1024;
/// How long the body may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shorter values of headers are words, not secrets, in bytes.
const SHORTEST_SECRET: usize = 6;

impl Http {
    /// Reads a refusal of a request to `url` to its end, so that the connection can be used again.
    pub(super) async fn refusal(&self, response: Response, used: Option<&Credential>, url: &Url) -> Refusal {
        let asked = response.headers().get_all(header::PROXY_AUTHENTICATE).iter();
        let asked: Vec<_> = asked.filter_map(|value| value.to_str().ok()).flat_map(schemes).collect();
        let mut refusal = read(response).await;
        if let (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(proxy)) = (refusal.status, self.clients.proxy_to(url)) {
            let had_credentials = proxy.basic_auth().is_some();
            refusal.cause = Some(Cause::Proxy { schemes: asked, had_credentials });
        }
        let cause = refusal.cause.take();
        refusal.cause = cause.or_else(|| Cause::of_endpoint(refusal.status, &self.server, url));
        // Of itself, a User-Agent opens no door.
        let own = || self.given_headers.iter().filter(|(name, _)| **name != header::USER_AGENT);
        refusal.had_headers = own().next().is_some();
        refusal.credential_since = used.map(Credential::since);
        let values = own().filter_map(|(_, value)| value.to_str().ok());
        // Also without `Bearer` and the like before it.
        let values = values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or_default()]);
        let token = used.map(|used| used.tokens().access_token());
        for secret in values.chain(token.iter().map(|token| *token.expose())) {
            if secret.len() >= SHORTEST_SECRET {
                refusal.text = refusal.text.replace(secret, "…");
            }
        }
        refusal
    }
}

async fn read(mut response: Response) -> Refusal {
    let (status, retry_after) = (response.status(), retry_after(response.headers()));
    let headers = response.headers().clone();
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            text.extend_from_slice(&piece[..piece.len().min(LONGEST_BODY - text.len())]);
            if text.len() == LONGEST_BODY {
                break;
            }
        }
    };
    _ = tokio::time::timeout(PATIENCE, read).await;
    let shown = one_line(&text);
    let cause = Cause::of(status, &headers, &text, &shown);
    let mut assembly = Assembly::default();
    let answer = assembly.push(text.into()).and_then(|()| assembly.finish()).ok().filter(is_json_rpc_error);
    let words = answer.as_ref().and_then(|answer| peek::error(&answer.body)?.message);
    let text = words.map_or(shown, |words| one_line(words.as_bytes()));
    Refusal { status, retry_after, text, had_headers: false, answer, cause, credential_since: None }
}

/// Returns whether this is an error that a host can read (JSON-RPC 2.0 §5.1), and not another idea of an error in JSON.
fn is_json_rpc_error(answer: &Message) -> bool {
    #[derive(Deserialize)]
    struct Envelope {
        jsonrpc: String,
    }
    matches!(answer.shape, Shape::Response { .. })
        && peek::error(&answer.body).is_some()
        && serde_json::from_slice::<Envelope>(&answer.body.to_bytes()).is_ok_and(|envelope| envelope.jsonrpc == "2.0")
}
