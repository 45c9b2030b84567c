//! `mcp-remote-client`: what it shows of a server, and how it says that it cannot.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    kept,
    server::{Reply, Request, Server, ordinary, reserved_port},
    soon,
};

struct Shown {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `PROGRAM ARGUMENTS` to its end.
async fn run(program: &str, arguments: &[&str]) -> Shown {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(kept()).env("HOME", home.path()).env("MCP_REMOTE_CONFIG_DIR", home.path());
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = soon("the client ends", command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Shown { code: done.status.code(), stdout: text(done.stdout), stderr: text(done.stderr) }
}

async fn client(arguments: &[&str]) -> Shown {
    run(env!("CARGO_BIN_EXE_mcp-remote-client"), arguments).await
}

/// A server with two pages of everything.
fn rich(request: &Request) -> Reply {
    let pages = |name: &str, items: [Value; 2]| {
        let [first, second] = items;
        match request.json()["params"]["cursor"].as_str() {
            None => Reply::result(request, json!({name: [first], "nextCursor": "page/2"})),
            Some("page/2") => Reply::result(request, json!({name: [second]})),
            Some(other) => panic!("a cursor nobody gave: {other}"),
        }
    };
    match request.rpc().as_str() {
        "initialize" => Reply::result(
            request,
            json!({
                "protocolVersion": request.json()["params"]["protocolVersion"],
                "capabilities": {"tools": {}, "resources": {}, "prompts": {}},
                "serverInfo": {"name": "rich", "version": "4.2"},
                "instructions": "Ask nicely.",
            }),
        )
        .with("mcp-session-id", "s1"),
        "tools/list" => pages(
            "tools",
            [
                json!({"name": "add", "description": "Adds\ntwo numbers", "inputSchema": {"type": "object"}}),
                json!({"name": "subtract", "inputSchema": {"type": "object"}}),
            ],
        ),
        "resources/list" => pages(
            "resources",
            [json!({"uri": "file:///a", "name": "letter a"}), json!({"uri": "file:///b", "name": "letter b"})],
        ),
        "resources/templates/list" => pages(
            "resourceTemplates",
            [json!({"uriTemplate": "file:///{x}", "name": "any"}), json!({"uriTemplate": "db://{y}", "name": "row"})],
        ),
        "prompts/list" => {
            pages("prompts", [json!({"name": "greet", "description": "Says hello"}), json!({"name": "part"})])
        }
        _ => ordinary(request),
    }
}

#[tokio::test]
async fn inventory_shows_all_pages() {
    let server = Server::with(rich).await;
    for (program, arguments) in [
        (env!("CARGO_BIN_EXE_mcp-remote-client"), &[&*server.url("/mcp")][..]),
        (env!("CARGO_BIN_EXE_mcp-remote"), &["mcp-remote-client", &server.url("/mcp")]),
    ] {
        let shown = run(program, arguments).await;
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        for expected in [
            "rich 4.2",
            "Ask nicely.",
            "tools                 2 (",
            "add",
            "Adds",
            "subtract",
            "resources             2 (",
            "file:///a",
            "letter a",
            "file:///b",
            "resource-templates    2 (",
            "file:///{x}",
            "db://{y}",
            "prompts               2 (",
            "greet",
            "Says hello",
            "part",
        ] {
            assert!(shown.stdout.contains(expected), "{expected}:\n{}", shown.stdout);
        }
        assert!(!shown.stdout.contains("two numbers"), "a line for each tool:\n{}", shown.stdout);
        assert_eq!(server.summary().last().unwrap(), "DELETE");
    }
    assert_eq!(server.summary()[..3], ["POST server/discover", "POST initialize", "POST notifications/initialized"]);
    // The newest version that has an initialize.
    assert_eq!(server.requests()[1].json()["params"]["protocolVersion"], "2025-11-25");
}

#[tokio::test]
async fn json_output_is_one_value() {
    let server = Server::with(rich).await;
    let shown = client(&[&server.url("/mcp"), "--json"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let value: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(value["server"]["serverInfo"]["name"], "rich");
    let names = |list: &str, member: &str| -> Vec<Value> {
        value[list].as_array().unwrap().iter().map(|item| item[member].clone()).collect()
    };
    assert_eq!(names("tools", "name"), ["add", "subtract"]);
    assert_eq!(value["tools"][0]["description"], "Adds\ntwo numbers");
    assert_eq!(names("resources", "uri"), ["file:///a", "file:///b"]);
    assert_eq!(names("resourceTemplates", "uriTemplate"), ["file:///{x}", "db://{y}"]);
    assert_eq!(names("prompts", "name"), ["greet", "part"]);
}

#[tokio::test]
async fn undeclared_capabilities_are_not_requested() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "tools/list" => rich(request),
        _ => ordinary(request), // declares tools only
    })
    .await;
    let shown = client(&[&server.url("/mcp")]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for expected in ["ok    tools                 2 (", "ok    handshake "] {
        assert!(shown.stdout.contains(expected), "{expected}: {}", shown.stdout);
    }
    assert_eq!(server.asked("resources/list").len() + server.asked("prompts/list").len(), 0);
}

#[tokio::test]
async fn client_accepts_adapter_flags() {
    let server = Server::with(rich).await;
    let shown =
        client(&["--ignore-tool", "sub*", "--header", "X-Key: v", &server.url("/mcp"), "--json", "--silent"]).await;
    assert_eq!((shown.code, &*shown.stderr), (Some(0), ""));
    let value: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(value["tools"].as_array().unwrap().len(), 1);
    assert!(server.requests().iter().all(|request| request.header("x-key") == Some("v")));
}

/// Failed with this exit code, and said at this step, in these words, why.
fn assert_failed(shown: &Shown, code: i32, step: &str, words: &[&str]) {
    assert_eq!((shown.code, &*shown.stderr), (Some(code), ""), "{}", shown.stdout);
    let failed = shown.stdout.lines().find(|line| line.starts_with("FAIL  ")).unwrap_or_default();
    assert_eq!(failed.split_whitespace().nth(1), Some(step), "{}", shown.stdout);
    for word in words {
        assert!(failed.contains(word), "{word:?} in the line of the failure:\n{}", shown.stdout);
    }
}

#[tokio::test]
async fn server_down_is_reason() {
    let port = reserved_port().await;
    let shown = client(&[&format!("http://127.0.0.1:{port}/mcp"), "--retry-for", "0"]).await;
    assert_failed(&shown, 4, "tcp", &["cannot connect to 127.0.0.1", "refused"]);
}

#[tokio::test]
async fn refused_initialize_is_reason() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "initialize" => Reply::json(json!({
            "jsonrpc": "2.0", "id": request.json()["id"],
            "error": {"code": -32000, "message": "closed for lunch"}
        })),
        _ => ordinary(request),
    })
    .await;
    let words = ["answered initialize with error -32000", "closed for lunch"];
    assert_failed(&client(&[&server.url("/mcp")]).await, 5, "handshake", &words);
}

#[tokio::test]
async fn web_page_instead_of_server_is_reason() {
    let server = Server::with(|_| Reply::status(200, "text/html", "<html><title>Welcome</title></html>")).await;
    let words = ["instead of an MCP response", "Welcome"];
    assert_failed(&client(&[&server.url("/mcp")]).await, 5, "transport", &words);
}

#[tokio::test]
async fn failing_list_is_reason_and_others_shown() {
    let server = Server::with(|request| match request.rpc().as_str() {
        "prompts/list" => Reply::json(json!({
            "jsonrpc": "2.0", "id": request.json()["id"],
            "error": {"code": -32603, "message": "no prompts today"}
        })),
        _ => rich(request),
    })
    .await;
    let shown = client(&[&server.url("/mcp")]).await;
    assert_failed(&shown, 5, "prompts", &["answered prompts/list with error -32603", "no prompts today"]);
    assert!(shown.stdout.contains("letter a"), "{}", shown.stdout);
    assert_eq!(server.summary().last().unwrap(), "DELETE", "the session is ended all the same");
}

#[tokio::test]
async fn invalid_answer_is_reason() {
    for nonsense in [r#""result":{"tools":[{"name":1}]}"#, r#""error":{"code":"many","message":1}"#] {
        let server = Server::with(move |request| match request.rpc().as_str() {
            "tools/list" => Reply::json(format!(r#"{{"jsonrpc":"2.0","id":{},{nonsense}}}"#, request.id())),
            _ => rich(request),
        })
        .await;
        assert_failed(&client(&[&server.url("/mcp")]).await, 5, "tools", &[]);
    }
}

#[tokio::test]
async fn secret_in_url_is_not_shown() {
    let port = reserved_port().await;
    let shown = client(&[&format!("http://127.0.0.1:{port}/mcp?api_key=hush"), "--retry-for", "0"]).await;
    assert_failed(&shown, 4, "tcp", &["cannot connect"]);
    assert!(!shown.stdout.contains("hush"), "{}", shown.stdout);
}
