//! The settings of authorization: the grant, the client, URLs and parameters.
//!
//! # Invariants
//!
//! - No message shows the text of a client's information, which may hold a secret.

use std::{fs::File, path::Path};

use reqwest::Url;
use serde_json::{Map, Value};

use super::{
    Environment,
    flags::Args,
    headers::expand,
    mistakes::{Mistake, unreadable},
    words,
};
use crate::{
    config::{AssertionSource, Endpoints, Grant, PlainHttp, ServerUrl},
    secret::Secret,
    text::without_mark,
};

const GIVE_CLIENT: &str = "name a file with the client: --static-oauth-client-info @FILE";

/// At most one of its flags is given, and none alone: clap has seen to that.
pub(super) fn grant(
    args: &Args,
    client_info: Option<&Secret<Map<String, Value>>>,
    token_endpoint: Option<Url>,
) -> Result<Grant, Mistake> {
    if args.device_code {
        return Ok(Grant::DeviceCode);
    }
    if args.client_credentials {
        let known = |member| {
            let text = client_info.and_then(|info| info.expose().get(member)).and_then(Value::as_str);
            text.is_some_and(|text| !text.is_empty())
        };
        if !known("client_id") {
            return Err(Mistake::new("--client-credentials needs a client_id", GIVE_CLIENT));
        }
        let key = args.client_key_jwt.clone();
        match &key {
            // Signing comes later, but a wrong name is reported at once.
            Some(path) => _ = File::open(path).map_err(|error| unreadable("--client-key-jwt", path, &error))?,
            None if known("client_secret") => {}
            None => {
                return Err(Mistake::new(
                    "--client-credentials needs a client_secret or a private key",
                    "add a client_secret to --static-oauth-client-info, or add --client-key-jwt FILE",
                ));
            }
        }
        return Ok(Grant::ClientCredentials { token_endpoint, key });
    }
    if let (Some(token), Some(endpoint), Some(client_id)) =
        (&args.id_jag_token, &args.id_jag_token_endpoint, &args.id_jag_client_id)
    {
        if client_info.is_none() && args.client_metadata_url.is_none() {
            return Err(Mistake::new(
                "--id-jag-token needs an OAuth client at the MCP server's authorization server",
                GIVE_CLIENT,
            ));
        }
        return Ok(Grant::IdJag {
            token: token.clone(),
            token_endpoint: self::token_endpoint("--id-jag-token-endpoint", endpoint)?,
            client_id: client_id.clone(),
        });
    }
    if let Some(file) = &args.assertion_file {
        return Ok(Grant::WorkloadIdentity(AssertionSource::File(file.clone())));
    }
    if let Some(command) = &args.assertion_command {
        let mut words = words::split(command).map_err(|why| format!("--assertion-command {why}"))?.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        let program = program.ok_or_else(|| "--assertion-command is empty".to_owned())?;
        return Ok(Grant::WorkloadIdentity(AssertionSource::Command { program, arguments: words.collect() }));
    }
    Ok(Grant::AuthorizationCode)
}

/// Returns the endpoints that take the place of an authorization server's metadata.
pub(super) fn endpoints(args: &Args, token: Option<&Url>) -> Result<Option<Endpoints>, Mistake> {
    match (&args.authorization_endpoint, token) {
        (None, Some(_)) if !args.client_credentials => Err(Mistake::new(
            "--token-endpoint has no effect alone",
            "add --authorization-endpoint URL or --client-credentials, or leave it out",
        )),
        (Some(text), Some(token)) => {
            let authorization = token_endpoint("--authorization-endpoint", text)?;
            Ok(Some(Endpoints { authorization, token: token.clone() }))
        }
        _ => Ok(None),
    }
}

pub(super) fn authorize_param(text: &str) -> Result<(String, String), String> {
    /// Set by the authorization itself.
    const RESERVED: [&str; 6] =
        ["client_id", "code_challenge", "code_challenge_method", "redirect_uri", "response_type", "state"];
    match text.split_once('=') {
        Some((name, _)) if RESERVED.contains(&name.trim()) => {
            Err(format!("--authorize-param cannot set {}, because mcp-remote sets it", name.trim()))
        }
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("invalid value '{text}' for '--authorize-param <NAME=VALUE>': it has no '='")),
    }
}

pub(super) fn client_metadata_url(text: &str) -> Result<Url, String> {
    let fault = |what: &str| format!("invalid value '{text}' for '--client-metadata-url <URL>': {what}");
    let url = Url::parse(text.trim()).map_err(|error| fault(&format!("it is not a URL ({error})")))?;
    // Client ID Metadata Documents: https, a path, no fragment, no user information.
    if url.scheme() != "https" || url.path() == "/" || url.fragment().is_some() || !url.username().is_empty() {
        return Err(fault("it must begin with https://, with a path, without user and fragment"));
    }
    Ok(url)
}

/// As it is written: issuers are compared to the letter, but for a slash at the end.
pub(super) fn issuer(text: &str) -> Result<String, Mistake> {
    let text = text.trim();
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "https" | "http") && url.has_host() => Ok(text.to_owned()),
        _ => Err(Mistake::new(
            format!("invalid value '{text}' for '--issuer <URL>': it is not a URL"),
            "write the issuer exactly as the authorization server's metadata names it",
        )),
    }
}

pub(super) fn sign_in_host(text: &str) -> Result<String, String> {
    // A whole URL is what people have at hand.
    let url = Url::parse(text).ok().filter(Url::has_host).or_else(|| Url::parse(&format!("https://{text}/")).ok());
    let host = url.as_ref().and_then(|url| url.host_str());
    host.map(ToOwned::to_owned)
        .ok_or_else(|| format!("invalid value '{text}' for '--sign-in-host <HOST>': it is not a host name"))
}

pub(super) fn token_endpoint(flag: &str, text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{flag} is not a URL: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    // OAuth 2.1 §1.5: only loopback may do without TLS.
    if ServerUrl::parse(text, PlainHttp::ForLoopback).is_err() {
        return Err(format!(
            "the URL of {flag} (host '{host}') must begin with https://, or with http:// on this computer"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(format!("the URL of {flag} (host '{host}') must have no user and no fragment"));
    }
    Ok(url)
}

pub(super) fn success_url(text: &str, plain_http: PlainHttp) -> Result<Url, String> {
    let server = ServerUrl::parse(text, plain_http).map_err(|why| format!("the URL of --auth-success-url {why}"))?;
    let url = server.url().clone();
    if !url.username().is_empty() || url.password().is_some() || text.contains(['?', '#']) {
        return Err("the URL of --auth-success-url must have no user, no query and no fragment".to_owned());
    }
    Ok(url)
}

/// JSON given inline or as `@FILE`. The error never shows the text: it may hold a secret.
pub(super) fn json_object(flag: &str, text: &str) -> Result<Map<String, Value>, Mistake> {
    let read;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            read = std::fs::read_to_string(path).map_err(|error| unreadable(flag, Path::new(path), &error))?;
            without_mark(&read)
        }
        None => text,
    };
    serde_json::from_str(text).map_err(|error| {
        Mistake::new(
            format!("{flag} is not a JSON object (line {}, column {})", error.line(), error.column()),
            format!("write the JSON into a file, so that no shell or host changes its quotes: {flag} @FILE"),
        )
    })
}

pub(super) fn client_info(text: &str, environment: Environment<'_>) -> Result<Secret<Map<String, Value>>, Mistake> {
    let flag = "--static-oauth-client-info";
    let mut info = json_object(flag, text)?;
    // After parsing, so that no character of a secret can break the JSON.
    for value in info.values_mut() {
        if let Value::String(text) = value {
            *text = expand(text, environment).map_err(|name| Mistake::not_set(flag, &name))?;
        }
    }
    if info.get("client_id").and_then(Value::as_str).is_none_or(str::is_empty) {
        let tip = format!("add it: {flag} '{{\"client_id\":\"ID\"}}'");
        return Err(Mistake::new(format!("{flag} has no client_id"), tip));
    }
    Ok(Secret::new(info))
}
