//! What came with a status that is no success.
//!
//! # Invariants
//!
//! - Whatever of a refusal is shown is masked ([`masking`](super::masking)). What it is judged by is not, and is not shown.
//! - The JSON-RPC answer stays as it came, because the host gets it.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{StatusCode, Url, header};
use serde::Deserialize;

use super::Http;
use crate::{
    message::{Assembly, Message, Shape, peek},
    network::{message_client::Response, proxy::schemes},
    oauth::Credential,
    remote::{error::Refusal, evidence::Cause},
    secret::Secret,
    status::retry_after,
    text::one_line,
};

/// How much of the body is read, in bytes: enough for any JSON-RPC error.
const LONGEST_BODY: usize = 256 * 1024;
/// How long the body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

impl Http {
    /// Reads a refusal of a request to `url` to its end, so that the connection can be used again.
    pub(super) async fn refusal(&self, response: Response, used: Option<&Credential>, url: &Url) -> Refusal {
        let asked = response.headers().get_all(header::PROXY_AUTHENTICATE).iter();
        let asked: Vec<_> = asked.filter_map(|value| value.to_str().ok()).flat_map(schemes).collect();
        let (mut refusal, text) = read(response).await;
        let secrets = self.secrets(used);
        refusal.text = secrets.masked_line(&text);
        if let (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(proxy)) = (refusal.status, self.clients.proxy_to(url)) {
            let had_credentials = proxy.basic_auth().is_some();
            refusal.cause = Some(Cause::Proxy { schemes: asked, had_credentials });
        }
        let cause = refusal.cause.take();
        refusal.cause = cause.or_else(|| Cause::of_endpoint(refusal.status, &self.server, url));
        if let Some(Cause::OtherSchemes(schemes) | Cause::Proxy { schemes, .. }) = &mut refusal.cause {
            schemes.iter_mut().for_each(|scheme| *scheme = secrets.masked(scheme));
        }
        // Of itself, a User-Agent opens no door.
        refusal.had_headers = self.given_headers.keys().any(|name| *name != header::USER_AGENT);
        refusal.credential_since = used.map(Credential::since);
        refusal
    }
}

/// Reads a refusal, whose text is still empty, and the words of the server.
async fn read(mut response: Response) -> (Refusal, Bytes) {
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
    _ = tokio::time::timeout(BODY_TIMEOUT, read).await;
    let text = Bytes::from(text);
    let said = one_line(&text);
    let cause = Cause::of(status, &headers, &text, &said);
    let mut assembly = Assembly::default();
    let answer = assembly.push(text.clone()).and_then(|()| assembly.finish()).ok().filter(is_json_rpc_error);
    let words = answer.as_ref().and_then(|answer| peek::error(&answer.body)?.message);
    let (text, said) = match words {
        Some(words) => (Bytes::from(words), None),
        None => (text, Some(said)),
    };
    let said = Secret::new(said.unwrap_or_else(|| one_line(&text)));
    let refusal = Refusal {
        status,
        retry_after,
        text: String::new(),
        said,
        had_headers: false,
        answer,
        cause,
        credential_since: None,
    };
    (refusal, text)
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
