//! Streamable HTTP, seen from both ends: a real host process in front, a scripted server behind
//! (MCP 2025-11-25, Transports).

mod support;

use serde_json::json;
use support::{
    host::Host,
    server::{Server, ordinary},
};

#[tokio::test]
async fn the_first_request_a_server_sees_is_the_hosts_own() {
    let server = Server::with(ordinary).await;
    let mut host = Host::start(&server.url("/mcp"), &[]);
    assert_eq!(host.initialize().await["result"]["serverInfo"]["name"], "peer");
    assert_eq!(host.ask(1, "tools/list", json!({})).await["result"], json!({"echo": "tools/list"}));
    assert_eq!(server.summary()[..3], ["POST initialize", "POST notifications/initialized", "POST tools/list"]);
    host.close().await;
    assert_eq!(server.request("DELETE", "").await.header("mcp-session-id"), Some("s1"));
}
