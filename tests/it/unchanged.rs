//! Files and entries that `install`, `migrate` and `uninstall` cannot change: why they stay, what the user writes, and the exit
//! code.

use std::{fs, os::unix::fs::symlink};

use crate::install::{CURSOR, Home, NPX, PROGRAM};

#[test]
fn entry_that_cannot_change_holds_nothing_back() {
    let entry =
        |name: &str, arguments: &str| format!(r#""{name}":{{"command":"npx","args":["mcp-remote",{arguments}]}}"#);
    let number = entry("number", r#""https://n.example/mcp","--header","X: hush-header",3334"#);
    let shell = r#""shell":{"command":"sh","args":["-c","npx mcp-remote https://s.example/mcp"]}"#;
    let good = entry("good", r#""https://g.example/mcp""#);
    let home = Home::with(CURSOR, &format!(r#"{{"mcpServers":{{{number},{shell},{good}}}}}"#));
    home.write(
        ".codex/config.toml",
        "[mcp_servers.comment]\ncommand = \"npx\"\nargs = [\n  \"mcp-remote https://c.example/mcp\", # mine\n]\n\
         [mcp_servers]\ninline = { command = \"npx\", args = [\"mcp-remote\", \"https://i.example/mcp\"] }\n",
    );
    let shown = home.run(&["migrate", "--yes"]);
    shown
        .left_undone(
            "3 entries were not changed: \"shell\" in ~/.cursor/mcp.json, \"number\" in ~/.cursor/mcp.json, \"comment\" in \
             ~/.codex/config.toml",
        )
        .says("  \"shell\" stays as it is: a shell reads its arguments.\n")
        .says("  \"number\" stays as it is: an element of its arguments is not a string. Write this into it (… is a secret")
        .says(&format!("\n    \"command\": \"{PROGRAM}\",\n    \"args\": [\"https://n.example/mcp\", \"--header\", \"X: …\"]\n"))
        .says("  \"comment\" stays as it is: a comment in the text that changes would be lost. Write this into it:\n")
        .says(&format!("    command = \"{PROGRAM}\"\n    args = [\"https://c.example/mcp\"]\n"))
        .says("For you to write, as shown above: Cursor, Codex\n");
    assert!(!shown.stdout.contains("hush"), "{}", shown.stdout);
    let cursor = home.read(CURSOR);
    assert!(cursor.contains(&number) && cursor.contains(shell), "{cursor}");
    assert!(
        cursor.contains(&format!(r#""good":{{"command":"{PROGRAM}","args":["https://g.example/mcp"]}}"#)),
        "{cursor}"
    );
    let inline = format!("inline = {{ command = \"{PROGRAM}\", args = [\"https://i.example/mcp\"] }}\n");
    assert!(home.read(".codex/config.toml").ends_with(&inline), "{}", home.read(".codex/config.toml"));
    // Again, nothing but these is left.
    home.run(&["migrate", "--yes"]).left_undone(
        "3 entries were not changed: \"shell\" in ~/.cursor/mcp.json, \"number\" in ~/.cursor/mcp.json, \"comment\" in \
         ~/.codex/config.toml",
    );
    // What the user did not ask for is no failure.
    home.run(&["uninstall", "--yes"]).succeeded().says("\"shell\" stays because a shell reads its arguments");
    home.run(&["uninstall", "shell", "--yes"]).left_undone("1 entry was not changed: \"shell\" in ~/.cursor/mcp.json");
}

#[test]
fn repeated_name_is_changed_where_the_host_reads_it() {
    let entry = |url: &str| format!(r#""a":{{"command":"npx","args":["mcp-remote","{url}"]}}"#);
    let text = format!(r#"{{"mcpServers":{{{},{}}}}}"#, entry("https://a.example/mcp"), entry("https://b.example/mcp"));
    let home = Home::with(CURSOR, &text);
    let shown = home.run(&["migrate", "--yes"]);
    shown.succeeded().says("\"a\" occurs more than once in the file. The host reads the last one.");
    let (old, new) =
        (entry("https://a.example/mcp"), format!(r#"{{"command":"{PROGRAM}","args":["https://b.example/mcp"]}}"#));
    assert_eq!(home.read(CURSOR), format!(r#"{{"mcpServers":{{{old},"a":{new}}}}}"#));
    let shown = home.run(&["uninstall", "a", "--yes"]);
    shown.left_undone("1 entry was not changed: \"a\" in ~/.cursor/mcp.json");
    shown.says("\"a\" stays as it is: its name occurs more than once in the file. Remove it yourself.");
}

#[test]
fn repeated_list_of_servers_is_named() {
    let home = Home::with(CURSOR, &format!(r#"{{"mcpServers":{{}},{}"#, &NPX[1..]));
    home.run(&["migrate", "--yes"])
        .succeeded()
        .says("\"mcpServers\" occurs more than once in the file. The host reads");
    home.run(&["install", "https://b.example/mcp", "--yes"]).succeeded();
    assert!(home.read(CURSOR).starts_with(r#"{"mcpServers":{},"mcpServers":{"a":{"#), "{}", home.read(CURSOR));
    assert!(home.read(CURSOR).contains("b.example"));
}

#[test]
fn exit_code_says_that_a_file_was_not_changed() {
    const INSTALL: [&str; 3] = ["install", "https://a.example/mcp", "--yes"];
    let home = Home::with(".config/goose/config.yaml", "extensions:\n  a:\n    cmd: npx\n    args: [mcp-remote]\n");
    home.run(&INSTALL).left_undone("1 file was not changed: ~/.config/goose/config.yaml");
    home.run(&["migrate", "--yes"]).left_undone("1 file was not changed: ~/.config/goose/config.yaml");
    home.run(&["uninstall", "a", "--yes"]).left_undone("1 file was not changed: ~/.config/goose/config.yaml");
    home.run(&["uninstall", "other", "--yes"]).says("no host has such an entry");
    // Others are changed.
    home.write(CURSOR, "{");
    home.write(".gemini/settings.json", "{}");
    home.run(&INSTALL)
        .left_undone("1 file was not changed: ~/.cursor/mcp.json")
        .says("ok    Gemini CLI: wrote ~/.gemini/settings.json")
        .says("For you to write, as shown above: Cursor, goose");
    // goose fails no script that names no host.
    home.write(CURSOR, "{}");
    home.run(&INSTALL).succeeded().says("For you to write, as shown above: goose");
    home.run(&[&INSTALL[..], &["--host", "cursor,goose"]].concat())
        .left_undone("1 file was not changed: ~/.config/goose/config.yaml");
    // A URL is meant as a whole.
    home.write(".config/goose/config.yaml", "extensions:\n  a:\n    args: [mcp-remote, https://a.example/mcp2]\n");
    home.run(&["uninstall", "https://a.example/mcp", "--yes"]).succeeded();
    home.write(".config/goose/config.yaml", "extensions:\n  a:\n    args: [mcp-remote, https://a.example/mcp/]\n");
    home.run(&["uninstall", "https://a.example/mcp", "--yes"])
        .left_undone("1 file was not changed: ~/.config/goose/config.yaml");
    home.run(&["install", "https://a.example/mcp", "--yes", "--host", "gemini"]).succeeded();
    // Nothing to change is success.
    home.run(&["install", "https://a.example/mcp", "--yes", "--host", "gemini"]).succeeded().says("Nothing to change.");
}

#[test]
fn file_in_utf16_is_named() {
    let units = |text: &str| text.encode_utf16().collect::<Vec<_>>();
    let little: Vec<u8> = [&[0xfeff], &units(NPX)[..]].concat().into_iter().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = [&[0xfeff], &units(NPX)[..]].concat().into_iter().flat_map(u16::to_be_bytes).collect();
    for text in [little, big] {
        let home = Home::new();
        home.write(CURSOR, text);
        for arguments in
            [&["migrate", "--yes"][..], &["uninstall", "--yes"], &["install", "https://b.example/mcp", "--yes"]]
        {
            home.run(arguments)
                .left_undone("1 file was not changed: ~/.cursor/mcp.json")
                .says("cannot change this file: it is text in UTF-16, which hosts do not read. Save it as UTF-8");
        }
        let shown = home.run(&["client"]);
        shown.says("~/.cursor/mcp.json: is text in UTF-16, which hosts do not read\n").says("Tip: save it as UTF-8");
        assert_eq!(shown.code, Some(1));
    }
}

#[test]
fn unreadable_file_is_named() {
    let home = Home::new();
    fs::create_dir_all(home.at(CURSOR)).unwrap();
    for command in ["migrate", "uninstall"] {
        home.run(&[command, "--yes"]).says("~/.cursor/mcp.json: cannot change this file: it is not a regular file");
    }
}

#[test]
fn link_that_leads_nowhere_is_left() {
    let home = Home::new();
    fs::create_dir(home.at(".cursor")).unwrap();
    symlink(home.at("missing"), home.at(CURSOR)).unwrap();
    home.run(&["migrate", "--yes"]).succeeded().says("No entry of a host starts the npm package.");
    home.run(&["install", "https://a.example/mcp", "--yes"])
        .left_undone("1 file was not changed: ~/.cursor/mcp.json")
        .says("cannot change this file: it is a link to a file that does not exist. Write this yourself:");
    assert!(fs::symlink_metadata(home.at(CURSOR)).unwrap().is_symlink());
}

#[test]
fn folder_that_cannot_be_read_is_named() {
    let home = Home::new();
    // Root reads every folder, except through a link to itself.
    symlink(".cursor", home.at(".cursor")).unwrap();
    for command in ["migrate", "uninstall"] {
        home.run(&[command, "--yes"])
            .left_undone("1 file was not changed: ~/.cursor/mcp.json")
            .says("~/.cursor/mcp.json: cannot change this file: ");
    }
}
