//! How the flags and the environment become a [`Config`].

use std::{cell::RefCell, path::PathBuf, sync::Arc};

use reqwest::{Url, header::AUTHORIZATION};

use super::{
    AllServers, Environment, Output, Status,
    authorization::{
        authorize_param, client_info, client_metadata_url, endpoints, grant, issuer, json_object, sign_in_host,
        success_url, token_endpoint,
    },
    flags::Args,
    headers::{WrittenHeader, basic, expanded, headers, secret_variables, variables},
    mistakes::{Mistake, no_url},
    network::network,
};
use crate::{
    config::{Authorization, Config, Occasion, PlainHttp, Resource, ServerUrl, UserInfo},
    known_hosts::HostEnvironment,
    logging::LogMode,
    store,
    surroundings::Surroundings,
    tools::ToolPattern,
};

const TWO_CREDENTIALS: &str = "the server URL has a user, and --header gives an Authorization";
const ALLOW_HTTP: &str =
    "use https://, or add --allow-http if you trust the network between this computer and the server";

/// A server and what else tells one stored sign-in from another.
struct Addressed {
    server: ServerUrl,
    user_info: Option<UserInfo>,
    server_hash: String,
    written: Vec<WrittenHeader>,
    authorize_params: Vec<(String, String)>,
    resource: Resource,
    client_metadata_url: Option<Url>,
    token_endpoint: Option<Url>,
}

fn addressed(args: &Args) -> Result<Addressed, Mistake> {
    // clap has made sure of it, wherever one is needed.
    let url = args.server_url.as_deref().unwrap_or_default();
    if let Some(mistake) = no_url(url) {
        return Err(mistake);
    }
    let mut server = ServerUrl::parse(url, plain_http(args)).map_err(|fault| {
        let sentence = format!("the server URL {fault}");
        if fault.contains("--allow-http") { Mistake::new(sentence, ALLOW_HTTP) } else { sentence.into() }
    })?;
    let user_info = server.take_user_info();
    let written = headers(args)?;
    let authorize_params =
        args.authorize_param.iter().map(|param| authorize_param(param)).collect::<Result<Vec<_>, _>>()?;
    let resource = match &args.resource {
        _ if args.disable_resource_parameter => Resource::Omitted,
        None => Resource::Published,
        Some(named) if named.trim().is_empty() => Resource::Omitted,
        Some(named) => {
            let named = named.trim().to_owned();
            Url::parse(&named).map_err(|error| format!("invalid value '{named}' for '--resource <URI>': {error}"))?;
            Resource::Named(named)
        }
    };
    let client_metadata_url = args.client_metadata_url.as_deref().map(client_metadata_url).transpose()?;
    let token_endpoint =
        args.token_endpoint.as_deref().map(|url| token_endpoint("--token-endpoint", url)).transpose()?;
    let server_hash = store::server_hash(
        url,
        resource.named(),
        &authorize_params,
        &written.iter().map(|header| (header.name.clone(), header.value.clone())).collect::<Vec<_>>(),
        client_metadata_url.as_ref(),
        token_endpoint.as_ref(),
    );
    Ok(Addressed {
        server,
        user_info,
        server_hash,
        written,
        authorize_params,
        resource,
        client_metadata_url,
        token_endpoint,
    })
}

const fn plain_http(args: &Args) -> PlainHttp {
    if args.allow_http { PlainHttp::Allowed } else { PlainHttp::ForLoopback }
}

pub(super) fn config(args: &Args, environment: Environment<'_>) -> Result<Config, Mistake> {
    let Addressed {
        server,
        user_info,
        server_hash,
        written,
        authorize_params,
        resource,
        client_metadata_url,
        token_endpoint,
    } = addressed(args)?;
    let used = RefCell::new(Vec::new());
    let noting = |name: &str| {
        used.borrow_mut().push(name.to_owned());
        environment(name)
    };
    let client_info = args.static_oauth_client_info.as_deref().map(|text| client_info(text, &noting)).transpose()?;
    let used = used.take();
    let in_headers = written.iter().flat_map(|header| variables(&header.value));
    let secrets = secret_variables(used.iter().map(String::as_str).chain(in_headers), environment);
    let endpoints = endpoints(args, token_endpoint.as_ref())?;
    let grant = grant(args, client_info.as_ref(), token_endpoint)?;
    let mut remarks = Vec::new();
    let authorization = Authorization {
        callback_port: args.callback_port,
        callback_host: args.host.clone(),
        callback_path: args.callback_path.clone(),
        timeout: args.auth_timeout,
        success_url: args.auth_success_url.as_deref().map(|url| success_url(url, plain_http(args))).transpose()?,
        resource,
        authorize_params,
        client_metadata: args
            .static_oauth_client_metadata
            .as_deref()
            .map(|text| json_object("--static-oauth-client-metadata", text))
            .transpose()?,
        client_info,
        client_metadata_url,
        use_id_token: args.use_id_token,
        assume_pkce: args.assume_pkce,
        issuer: args.issuer.as_deref().map(issuer).transpose()?,
        sign_in_hosts: args.sign_in_host.iter().map(|host| sign_in_host(host)).collect::<Result<_, _>>()?,
        private_addresses: args.allow_private_addresses,
        dpop: args.dpop,
        no_browser: args.no_browser,
        occasion: Occasion::Host,
        endpoints,
        surroundings: Surroundings { secrets, ..Surroundings::of(environment) },
        grant,
    };
    let network = network(args, environment, &mut remarks)?;
    let mut headers = expanded(&written, environment)?;
    if let Some(user_info) = &user_info {
        if headers.contains_key(AUTHORIZATION) {
            return Err(Mistake::new(TWO_CREDENTIALS, "leave out one of the two"));
        }
        headers.insert(AUTHORIZATION, basic(user_info)?);
    }
    Ok(Config {
        headers,
        server,
        server_hash,
        plain_http: plain_http(args),
        transport: args.transport,
        network: Arc::new(network),
        limits: args.limits.clone(),
        host_environment: HostEnvironment::of(environment),
        protocol: args.protocol,
        ignored_tools: args.ignore_tool.iter().map(|pattern| ToolPattern::new(pattern)).collect(),
        log: log_mode(args),
        log_filters: environment("RUST_LOG"),
        store: store_folder(args.config_dir.clone(), environment)?,
        authorization: Arc::new(authorization),
        remarks,
    })
}

pub(super) fn status(args: &Args, output: Output, environment: Environment<'_>) -> Result<Status, Mistake> {
    let server = match args.server_url {
        Some(_) => addressed(args).map(|Addressed { server, server_hash, .. }| Some((server, server_hash)))?,
        None => None,
    };
    Ok(Status { store: store_folder(args.config_dir.clone(), environment)?, server, output })
}

pub(super) fn all_servers(args: &Args, environment: Environment<'_>) -> Result<AllServers, Mistake> {
    let mut remarks = Vec::new();
    Ok(AllServers {
        store: store_folder(args.config_dir.clone(), environment)?,
        plain_http: plain_http(args),
        network: Arc::new(network(args, environment, &mut remarks)?),
        log: log_mode(args),
        log_filters: environment("RUST_LOG"),
        remarks,
    })
}

const fn log_mode(args: &Args) -> LogMode {
    match (args.debug, args.silent) {
        (true, _) => LogMode::Debug,
        (_, true) => LogMode::Silent,
        _ => LogMode::Normal,
    }
}

pub(super) fn store_folder(flag: Option<PathBuf>, environment: Environment<'_>) -> Result<PathBuf, Mistake> {
    let variable = || environment("MCP_REMOTE_CONFIG_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || directories::BaseDirs::new().map(|dirs| dirs.home_dir().join(".mcp-auth"));
    let missing = || Mistake::new("there is no home folder to store sign-ins in", "name a folder: --config-dir FOLDER");
    let folder = flag.or_else(variable).or_else(home).ok_or_else(missing)?;
    Ok(folder.join(store::LAYOUT))
}
