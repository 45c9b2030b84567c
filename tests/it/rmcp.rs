//! Hosts and servers on rmcp, the official Rust SDK, in both eras, with the real binary between them.

use std::{convert::Infallible, process::Stdio, sync::Arc};

use hyper::{Request as HttpRequest, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rmcp::{
    ErrorData, RoleClient, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    },
    object,
    service::{
        ClientInitializeError, ClientLifecycleMode, RequestContext, RunningService, serve_client_with_lifecycle,
    },
    transport::streamable_http_server::{StreamableHttpService, session::local::LocalSessionManager},
};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    task::JoinSet,
};

use crate::support::{
    kept,
    server::{Reply, Request, Server, ordinary},
    soon,
};

struct Tools;

impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = object!({ "type": "object", "properties": {} });
        Ok(ListToolsResult::with_all_items(vec![Tool::new("real", "A tool", schema)]))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text(format!("called {}", call.name))]).into())
    }
}

/// A server on rmcp, which speaks both eras; its URL.
async fn both_eras() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(|| Ok(Tools), sessions, Default::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            let service = service.clone();
            let answer = service_fn(move |request: HttpRequest<Incoming>| {
                let service = service.clone();
                async move { Ok::<_, Infallible>(service.handle(request).await) }
            });
            connections.spawn(async move {
                _ = http1::Builder::new().serve_connection(TokioIo::new(connection), answer).await;
            });
        }
    });
    (url, tasks)
}

/// A legacy server with one tool.
async fn legacy() -> Server {
    Server::with(|request: &Request| match request.rpc().as_str() {
        "server/discover" => Reply::status(
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Missing session ID"}}"#,
        ),
        "tools/list" => {
            Reply::result(request, r#"{"tools":[{"name":"real","inputSchema":{"type":"object","properties":{}}}]}"#)
        }
        "tools/call" => Reply::result(request, r#"{"content":[{"type":"text","text":"called real"}]}"#),
        _ => ordinary(request),
    })
    .await
}

fn auto() -> ClientLifecycleMode {
    ClientLifecycleMode::Auto { preferred_versions: vec![ProtocolVersion::V_2026_07_28], legacy_version: None }
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// A host on rmcp, and the adapter that it has started.
async fn connect(
    url: &str,
    mode: ClientLifecycleMode,
) -> (Result<RunningService<RoleClient, ()>, ClientInitializeError>, Child) {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mcp-remote"))
        .arg(url)
        .env_clear()
        .envs(kept())
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let connected = soon("rmcp connects", serve_client_with_lifecycle((), pipes, mode)).await;
    (connected, child)
}

async fn works(url: &str, mode: ClientLifecycleMode) {
    let what = format!("{mode:?}");
    let (host, mut child) = connect(url, mode).await;
    let host = host.unwrap_or_else(|error| panic!("{what}: {error}"));
    let tools = host.list_all_tools().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(tools.iter().map(|tool| &*tool.name).collect::<Vec<_>>(), ["real"], "{what}");
    let called =
        host.call_tool(CallToolRequestParams::new("real")).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(called.content[0].as_text().unwrap().text, "called real", "{what}");
    host.cancel().await.unwrap();
    assert!(soon("the adapter exits", child.wait()).await.unwrap().success(), "{what}");
}

#[tokio::test]
async fn every_rmcp_mode_reaches_dual_era_server() {
    let (url, _server) = both_eras().await;
    for mode in [ClientLifecycleMode::Initialize, auto(), discover()] {
        works(&url, mode).await;
    }
}

#[tokio::test]
async fn every_rmcp_mode_reaches_legacy_server() {
    let server = legacy().await;
    for mode in [ClientLifecycleMode::Initialize, auto(), discover()] {
        works(&server.url("/mcp"), mode).await;
    }
}
