use proptest::prelude::*;

use super::*;
use crate::hosts::{CODEX, CURSOR, GEMINI, GOOSE, OPENCODE, VS_CODE, ZED};

fn members() -> Members {
    vec![("command", Member::Text("/opt/mcp-remote".into())), ("args", Member::List(vec!["https://a/mcp".into()]))]
}

fn add(text: &str, host: &Host) -> Result<String, Refusal> {
    apply(text, host, &Change::Add { name: "new".into(), members: members() })
}

fn path(host: &Host, name: &str) -> Vec<String> {
    vec![host.key.to_owned(), name.to_owned()]
}

fn start(text: &str, host: &Host, arguments: &[&str]) -> Result<String, Refusal> {
    let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    apply(text, host, &Change::Start { path: path(host, "old"), command: "/opt/mcp-remote".into(), arguments })
}

fn remove(text: &str, host: &Host, name: &str) -> Result<String, Refusal> {
    apply(text, host, &Change::Remove { path: path(host, name) })
}

#[test]
fn entry_is_added_in_the_layout_of_its_neighbors() {
    for (before, after) in [
        (
            "",
            "{\n  \"mcpServers\": {\n    \"new\": {\n      \"command\": \"/opt/mcp-remote\",\n      \"args\": [\"https://a/mcp\"]\n    }\n  }\n}\n",
        ),
        (
            "{}",
            "{\n  \"mcpServers\": {\n    \"new\": {\n      \"command\": \"/opt/mcp-remote\",\n      \"args\": [\"https://a/mcp\"]\n    }\n  }\n}",
        ),
        (
            "{\"mcpServers\":{\"a\":{\"command\":\"x\"}},\"b\":1}",
            "{\"mcpServers\":{\"a\":{\"command\":\"x\"}, \"new\": { \"command\": \"/opt/mcp-remote\", \"args\": [\"https://a/mcp\"] }},\"b\":1}",
        ),
        (
            "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {}\r\n\t},\r\n\t\"b\": 1\r\n}\r\n",
            "{\r\n\t\"mcpServers\": {\r\n\t\t\"a\": {},\r\n\t\t\"new\": {\r\n\t\t\t\"command\": \"/opt/mcp-remote\",\r\n\t\t\t\"args\": [\"https://a/mcp\"]\r\n\t\t}\r\n\t},\r\n\t\"b\": 1\r\n}\r\n",
        ),
        (
            "\u{feff}{\n    \"theme\": \"dark\"\n}\n",
            "\u{feff}{\n    \"theme\": \"dark\",\n    \"mcpServers\": {\n        \"new\": {\n            \"command\": \"/opt/mcp-remote\",\n            \"args\": [\"https://a/mcp\"]\n        }\n    }\n}\n",
        ),
        (
            "{\n  \"mcpServers\": {}\n}\n",
            "{\n  \"mcpServers\": {\n    \"new\": {\n      \"command\": \"/opt/mcp-remote\",\n      \"args\": [\"https://a/mcp\"]\n    }\n  }\n}\n",
        ),
    ] {
        assert_eq!(add(before, &CURSOR).unwrap(), after, "{before:?}");
    }
}

#[test]
fn comments_and_trailing_commas_stay() {
    let before = "// top\n{\n  \"servers\": {\n    // about a\n    \"a\": { \"command\": \"x\" }, // behind a\n    // last\n  }, /* end */\n}\n// bottom\n";
    let after = add(before, &VS_CODE).unwrap();
    let entry =
        "\n    \"new\": {\n      \"command\": \"/opt/mcp-remote\",\n      \"args\": [\"https://a/mcp\"]\n    },";
    assert_eq!(after, before.replace(", // behind a", &format!(", // behind a{entry}")));
    // A comma that is missing comes before the comment.
    let before = "{\n  \"mcpServers\": {\n    \"a\": {} // behind a\n  }\n}\n";
    let after = add(before, &GEMINI).unwrap();
    assert!(after.contains("\"a\": {}, // behind a\n    \"new\": {\n"), "{after}");
    let before = "{\n  \"context_servers\": {\n    // none yet\n  }\n}\n";
    assert!(add(before, &ZED).unwrap().contains("    // none yet\n    \"new\": {\n"));
    assert_eq!(remove(&add(before, &ZED).unwrap(), &ZED, "new").unwrap(), before);
}

#[test]
fn start_changes_only_command_and_launcher_words() {
    let own = &["https://a/mcp", "--header", "X: y  z"];
    for (host, before, after) in [
        (
            &CURSOR,
            r#"{"mcpServers":{"old":{"command":"npx","args":["-y", "mcp-remote@latest","https://a/mcp" ,"--header","X: y  z"],"env":{"K":"v"}}}}"#,
            r#"{"mcpServers":{"old":{"command":"/opt/mcp-remote","args":["https://a/mcp" ,"--header","X: y  z"],"env":{"K":"v"}}}}"#,
        ),
        (
            &VS_CODE,
            "{ \"servers\": { \"old\": {\n  \"command\": \"npx\", // why\n  \"args\": [\n    \"-y\", // yes\n    // package\n    \"mcp-remote\",\n    \"https://a/mcp\",\n    \"--header\",\n    \"X: y  z\",\n  ],\n} } }",
            "{ \"servers\": { \"old\": {\n  \"command\": \"/opt/mcp-remote\", // why\n  \"args\": [\n    // yes\n    // package\n    \"https://a/mcp\",\n    \"--header\",\n    \"X: y  z\",\n  ],\n} } }",
        ),
        (
            &OPENCODE,
            r#"{"mcp":{"old":{"type":"local","command":["npx","-y","mcp-remote","https://a/mcp","--header","X: y  z"]}}}"#,
            r#"{"mcp":{"old":{"type":"local","command":["/opt/mcp-remote","https://a/mcp","--header","X: y  z"]}}}"#,
        ),
        (
            &ZED,
            r#"{"context_servers":{"old":{"command":{"path":"npx","args":["-y","mcp-remote","https://a/mcp","--header","X: y  z"],"env":{}}}}}"#,
            r#"{"context_servers":{"old":{"command":{"path":"/opt/mcp-remote","args":["https://a/mcp","--header","X: y  z"],"env":{}}}}}"#,
        ),
        (
            &CURSOR,
            "{\"mcpServers\":{\"old\":{\n  \"command\": \"npx -y mcp-remote https://a/mcp\",\n  \"env\": {}\n}}}",
            "{\"mcpServers\":{\"old\":{\n  \"command\": \"/opt/mcp-remote\",\n  \"args\": [\"https://a/mcp\", \"--header\", \"X: y  z\"],\n  \"env\": {}\n}}}",
        ),
        (
            &CODEX,
            "# mine\n[mcp_servers.old] # x\ncommand = \"npx\" # npm\nargs = [\"-y\", 'mcp-remote', \"https://a/mcp\", \"--header\", \"X: y  z\"]\nenv = { K = 'v' }\n",
            "# mine\n[mcp_servers.old] # x\ncommand = \"/opt/mcp-remote\" # npm\nargs = [\"https://a/mcp\", \"--header\", \"X: y  z\"]\nenv = { K = 'v' }\n",
        ),
    ] {
        assert_eq!(start(before, host, own).unwrap(), after, "{before}");
    }
}

#[test]
fn entry_is_removed_with_its_line() {
    for (before, name, after) in [
        (
            "{\n  \"mcpServers\": {\n    \"a\": {},\n    // about b\n    \"b\": {} // b\n  }\n}",
            "b",
            "{\n  \"mcpServers\": {\n    \"a\": {}\n    // about b\n  }\n}",
        ),
        (
            "{\n  \"mcpServers\": {\n    \"a\": {\n    },\n    \"b\": {}\n  }\n}",
            "a",
            "{\n  \"mcpServers\": {\n    \"b\": {}\n  }\n}",
        ),
        ("{\"mcpServers\":{\"a\":{}, \"b\":{}}}", "a", "{\"mcpServers\":{\"b\":{}}}"),
        ("{\"mcpServers\":{\"a\":{}, \"b\":{}}}", "b", "{\"mcpServers\":{\"a\":{}}}"),
        ("{\"mcpServers\": { \"a\": {} }}", "a", "{\"mcpServers\": {}}"),
        ("{\n  \"mcpServers\": {\n    \"a\": {}\n  }\n}", "a", "{\n  \"mcpServers\": {}\n}"),
    ] {
        assert_eq!(remove(before, &GEMINI, name).unwrap(), after, "{before}");
    }
    let toml = "model = \"m\"\n\n# one\n[mcp_servers.a]\ncommand = \"x\"\nargs = [\n  \"y\",\n]\n\n[mcp_servers.a.env]\nK = \"v\"\n\n# two\n[mcp_servers.b]\ncommand = \"z\"\n";
    assert_eq!(
        remove(toml, &CODEX, "a").unwrap(),
        "model = \"m\"\n\n# one\n\n# two\n[mcp_servers.b]\ncommand = \"z\"\n"
    );
    assert_eq!(remove(toml, &CODEX, "b").unwrap(), toml.replace("[mcp_servers.b]\ncommand = \"z\"\n", ""));
}

#[test]
fn toml_table_is_added_at_the_end() {
    let entry = "[mcp_servers.new]\ncommand = \"/opt/mcp-remote\"\nargs = [\"https://a/mcp\"]\n";
    for (before, between) in [("", ""), ("a = 1\n", "\n"), ("a = 1 # no end of line", "\n\n")] {
        assert_eq!(add(before, &CODEX).unwrap(), format!("{before}{between}{entry}"));
    }
    assert_eq!(add("a = 1\r\n", &CODEX).unwrap(), format!("a = 1\r\n\r\n{}", entry.replace('\n', "\r\n")));
}

#[test]
fn comment_in_inline_table_is_kept() {
    let entry = r#"old = { command = "npx", args = ["mcp-remote", "https://a/mcp"] }"#;
    for text in [
        format!("mcp_servers = {{\n  # the token is elsewhere\n  {entry}\n}}\n"),
        format!("mcp_servers = {{ b = 1, # of mine\n  {entry}\n}}\n"),
    ] {
        assert!(matches!(remove(&text, &CODEX, "old"), Err(Refusal::Comment)), "{text}");
    }
    assert!(matches!(add("mcp_servers = {\n  # none yet\n}\n", &CODEX), Err(Refusal::Comment)));
}

#[test]
fn toml_entry_is_changed_however_it_is_written() {
    let own = &["https://a/mcp", "--ipv4"];
    for (before, started, removed) in [
        (
            "[mcp_servers]\nold = { command = \"npx\", args = [\"-y\", \"mcp-remote\", \"https://a/mcp\", '--ipv4'], env = { K = 'v' } } # mine\nb = 1\n",
            "[mcp_servers]\nold = { command = \"/opt/mcp-remote\", args = [\"https://a/mcp\", '--ipv4'], env = { K = 'v' } } # mine\nb = 1\n",
            "[mcp_servers]\nb = 1\n",
        ),
        (
            "mcp_servers = { old = { command = \"npx\", args = [\"mcp-remote\", \"https://a/mcp\", \"--ipv4\"] }, b = 1 }\n",
            "mcp_servers = { old = { command = \"/opt/mcp-remote\", args = [\"https://a/mcp\", \"--ipv4\"] }, b = 1 }\n",
            "mcp_servers = { b = 1 }\n",
        ),
        (
            "mcp_servers = { b = 1, \"old\" = { command = \"npx -y mcp-remote https://a/mcp --ipv4\" } } # c\n",
            "mcp_servers = { b = 1, \"old\" = { command = \"/opt/mcp-remote\", args = [\"https://a/mcp\", \"--ipv4\"] } } # c\n",
            "mcp_servers = { b = 1 } # c\n",
        ),
        (
            "mcp_servers = {old = { command = \"npx\", args = \"mcp-remote https://a/mcp --ipv4\" }}",
            "mcp_servers = {old = { command = \"/opt/mcp-remote\", args = [\"https://a/mcp\", \"--ipv4\"] }}",
            "mcp_servers = {}",
        ),
        (
            "mcp_servers.old.command = \"npx mcp-remote https://a/mcp --ipv4\" # c\r\nmcp_servers.b.command = \"x\"\r\n",
            "mcp_servers.old.command = \"/opt/mcp-remote\"\r\nmcp_servers.old.args = [\"https://a/mcp\", \"--ipv4\"] # c\r\nmcp_servers.b.command = \"x\"\r\n",
            "mcp_servers.b.command = \"x\"\r\n",
        ),
        (
            "[mcp_servers]\nold.command = \"npx\"\nold.args = [\n  \"mcp-remote https://a/mcp\",\n  \"--ipv4\",\n]\n[mcp_servers.old.env]\nK = 'v'\n[z]\n",
            "[mcp_servers]\nold.command = \"/opt/mcp-remote\"\nold.args = [\"https://a/mcp\", \"--ipv4\"]\n[mcp_servers.old.env]\nK = 'v'\n[z]\n",
            "[mcp_servers]\n[z]\n",
        ),
        (
            "[mcp_servers.old]\n  command = \"npx mcp-remote https://a/mcp --ipv4\"\n",
            "[mcp_servers.old]\n  command = \"/opt/mcp-remote\"\n  args = [\"https://a/mcp\", \"--ipv4\"]\n",
            "",
        ),
    ] {
        assert_eq!(start(before, &CODEX, own).unwrap(), started, "{before}");
        assert_eq!(remove(before, &CODEX, "old").unwrap(), removed, "{before}");
    }
    let entry = "new = { command = \"/opt/mcp-remote\", args = [\"https://a/mcp\"] }";
    for (before, after) in [
        (
            "mcp_servers = { a = { command = \"x\" } }\n",
            format!("mcp_servers = {{ a = {{ command = \"x\" }}, {entry} }}\n"),
        ),
        ("mcp_servers = { a.command = \"x\" }", format!("mcp_servers = {{ a.command = \"x\", {entry} }}")),
        ("a = 1\nmcp_servers = {}\n", format!("a = 1\nmcp_servers = {{ {entry} }}\n")),
    ] {
        assert_eq!(add(before, &CODEX).unwrap(), after);
    }
    let comment =
        "[mcp_servers.old]\ncommand = \"npx\"\nargs = [\n  \"mcp-remote https://a/mcp\", # why\n  \"--ipv4\",\n]\n";
    assert!(matches!(start(comment, &CODEX, own), Err(Refusal::Comment)));
}

#[test]
fn last_of_several_members_is_what_the_host_reads() {
    let servers =
        r#"{"mcpServers":{"old":{"command":"a"},"old":{"command":"npx","args":["mcp-remote","https://a/mcp"]}}}"#;
    let after = start(servers, &CURSOR, &["https://a/mcp"]).unwrap();
    let expected =
        r#"{"mcpServers":{"old":{"command":"a"},"old":{"command":"/opt/mcp-remote","args":["https://a/mcp"]}}}"#;
    assert_eq!(after, expected);
    assert!(matches!(remove(servers, &CURSOR, "old"), Err(Refusal::Twice)));
    let lists = r#"{"mcpServers":{"a":{}},"mcpServers":{}}"#;
    let entry = r#"{ "new": { "command": "/opt/mcp-remote", "args": ["https://a/mcp"] } }"#;
    assert_eq!(add(lists, &CURSOR).unwrap(), format!(r#"{{"mcpServers":{{"a":{{}}}},"mcpServers":{entry}}}"#));
}

#[test]
fn text_that_cannot_be_changed_is_refused() {
    assert!(matches!(add("{ // comment\n}", &CURSOR), Err(Refusal::Invalid(Invalid { line: 1, column: 3, .. }))));
    let refusal = |text| add(text, &CURSOR).unwrap_err().to_string();
    assert_eq!(refusal("[]"), "its content is not an object");
    assert_eq!(refusal(r#"{"mcpServers":[]}"#), "its \"mcpServers\" is not an object");
    assert!(matches!(add("a: 1", &GOOSE), Err(Refusal::Yaml)));
    let number = r#"{"mcpServers":{"old":{"command":"npx","args":["mcp-remote","https://a/mcp",3334]}}}"#;
    assert!(matches!(start(number, &CURSOR, &["https://a/mcp"]), Err(Refusal::NotText)));
}

/// Blanks, line ends and comments between two tokens.
fn trivia() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![
            4 => Just(String::new()),
            3 => Just(" ".to_owned()),
            3 => Just("\n  ".to_owned()),
            1 => Just("\r\n\t".to_owned()),
            1 => Just("\n\n".to_owned()),
            1 => "// [a-z{}\\[\\],\":]{0,8}\n",
            1 => "/\\* [a-z{}\\[\\],\": \n]{0,8} \\*/",
        ],
        0..3,
    )
    .prop_map(|parts| parts.concat())
}

/// An object of these members, each of them in any layout.
fn object(members: Vec<(String, String)>) -> impl Strategy<Value = String> {
    let count = members.len();
    (prop::collection::vec(trivia(), count * 4 + 1), any::<bool>()).prop_map(move |(trivia, has_comma)| {
        let mut blanks = trivia.into_iter();
        let mut next = || blanks.next().unwrap_or_default();
        let mut text = format!("{{{}", next());
        for (index, (name, value)) in members.iter().enumerate() {
            let comma = if index + 1 < count || has_comma { "," } else { "" };
            text += &format!("\"{name}\"{}:{}{value}{}{comma}{}", next(), next(), next(), next());
        }
        text + "}"
    })
}

fn file() -> impl Strategy<Value = String> {
    let entry = |name: &str| {
        let value = r#"{"command":"npx","args":["-y", /* c */ "mcp-remote","https://a/mcp"],"env":{}}"#.to_owned();
        (name.to_owned(), value)
    };
    object(vec![entry("one"), entry("old"), entry("two")])
        .prop_flat_map(|servers| object(vec![("before".into(), "1".into()), ("servers".into(), servers)]))
        .prop_flat_map(|root| {
            (trivia(), Just(root), trivia()).prop_map(|(before, root, after)| before + &root + &after)
        })
}

/// The comments of a text, in order.
fn comments(text: &str) -> Vec<String> {
    use jsonc_parser::{CollectOptions, CommentCollectionStrategy, parse_to_ast, tokens::Token};
    let collect = CollectOptions { comments: CommentCollectionStrategy::AsTokens, tokens: true };
    let tokens = parse_to_ast(text, &collect, &syntax::options(Syntax::Jsonc)).unwrap().tokens.unwrap();
    let comment = |token: Token<'_>| match token {
        Token::CommentLine(text) | Token::CommentBlock(text) => Some(text.trim_end().to_owned()),
        _ => None,
    };
    tokens.into_iter().filter_map(|token| comment(token.token)).collect()
}

proptest! {
    #[test]
    fn any_layout_keeps_all_bytes_around_a_new_entry(text in file()) {
        let after = add(&text, &VS_CODE).unwrap();
        let mut rest = after.chars();
        prop_assert!(text.chars().all(|one| rest.any(|other| other == one)), "{text:?} became {after:?}");
        prop_assert_eq!(comments(&text), comments(&after));
    }

    #[test]
    fn any_layout_keeps_comments_where_the_start_changes(text in file()) {
        let after = start(&text, &VS_CODE, &["https://a/mcp"]).unwrap();
        prop_assert_eq!(comments(&text), comments(&after));
    }

    #[test]
    fn any_layout_allows_to_remove_each_entry(text in file()) {
        for name in ["one", "old", "two"] {
            let after = remove(&text, &VS_CODE, name);
            prop_assert!(after.is_ok(), "{name} of {text:?}: {after:?}");
        }
        let none = ["one", "old", "two"].iter().try_fold(text.clone(), |text, name| remove(&text, &VS_CODE, name));
        prop_assert!(none.is_ok(), "{text:?}: {none:?}");
    }
}
