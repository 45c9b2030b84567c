//! `install`, `migrate`, `uninstall` and `undo` in a temporary home, over the files of `fixtures/hosts` and the odd cases.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mcp-remote");
pub const CURSOR: &str = ".cursor/mcp.json";
/// Where programs keep their settings, below the home folder.
const SETTINGS: &str = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".config" };
const CLAUDE_DESKTOP: &str = "SETTINGS/Claude/claude_desktop_config.json";
pub const NPX: &str = r#"{"mcpServers":{"a":{"command":"npx","args":["-y","mcp-remote","https://a.example/mcp"]}}}"#;

/// Where each host has its file, below the home folder.
const PLACES: [(&str, &str); 13] = [
    ("claude-desktop", "SETTINGS/Claude/claude_desktop_config.json"),
    ("claude-code", ".claude.json"),
    ("cursor", CURSOR),
    ("windsurf", ".codeium/windsurf/mcp_config.json"),
    ("vscode", "SETTINGS/Code/User/mcp.json"),
    ("zed", ".config/zed/settings.json"),
    ("codex", ".codex/config.toml"),
    ("gemini", ".gemini/settings.json"),
    ("opencode", ".config/opencode/opencode.jsonc"),
    ("cline", ".cline/data/settings/cline_mcp_settings.json"),
    ("copilot", ".copilot/mcp-config.json"),
    ("goose", ".config/goose/config.yaml"),
    ("project", "project/.mcp.json"),
];

pub struct Home {
    folder: TempDir,
    path: Vec<PathBuf>,
}

pub struct Shown {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("project")).unwrap();
        Self { folder, path: Vec::new() }
    }

    pub fn with(file: &str, text: &str) -> Self {
        let home = Self::new();
        home.write(file, text);
        home
    }

    pub fn at(&self, file: &str) -> PathBuf {
        self.folder.path().join(file.replace("SETTINGS", SETTINGS))
    }

    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.at(file).parent().unwrap()).unwrap();
        fs::write(self.at(file), text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        fs::read_to_string(self.at(file)).unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Shown {
        self.run_as(Path::new(PROGRAM), arguments)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", std::env::join_paths(&self.path).unwrap())
            .current_dir(self.at("project"))
            .stdin(Stdio::null());
        command
    }

    fn run_as(&self, program: &Path, arguments: &[&str]) -> Shown {
        Shown::of(self.command(program, arguments).output().unwrap())
    }

    /// The names of all files, below the home folder.
    fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                if entry.file_type().unwrap().is_dir() { walk(&entry.path(), found) } else { found.push(entry.path()) }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        let name = |path: PathBuf| path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap().to_owned();
        let mut names: Vec<_> = found.into_iter().map(name).collect();
        names.sort();
        names
    }
}

impl Shown {
    fn of(done: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { stdout: text(done.stdout), stderr: text(done.stderr), code: done.status.code() }
    }

    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// The exit code and the last line say that something was not done.
    #[track_caller]
    pub fn left_undone(&self, what: &str) -> &Self {
        assert_eq!(self.code, Some(1), "{}{}", self.stdout, self.stderr);
        assert_eq!(self.stderr, format!("error: {what}\n"), "{}", self.stdout);
        self
    }

    #[track_caller]
    pub fn says(&self, expected: &str) -> &Self {
        let all = format!("{}{}", self.stdout, self.stderr);
        assert!(all.contains(expected), "no {expected:?} in:\n{all}");
        self
    }
}

/// The program at a path of always the same length, because long lines of a difference are cut.
fn program_at_fixed_length() -> PathBuf {
    const LENGTH: usize = 90;
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("mcp-remote{}", std::env::consts::EXE_SUFFIX);
    let used = root.as_os_str().len() + name.len() + 2;
    let folder = root.join("p".repeat(LENGTH.saturating_sub(used).max(1)));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join(name);
    _ = fs::remove_file(&program);
    fs::hard_link(PROGRAM, &program).unwrap();
    program
}

/// Replaces what differs from run to run.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for line in text.replace(&format!("~/{SETTINGS}"), "~/.config").lines() {
        // NAME.mcp-remote-DATE.bak
        let line = match line.split_once(".mcp-remote-20") {
            Some((before, after)) => {
                let rest = after.split_once(".bak").map_or("", |(_, rest)| rest);
                format!("{before}.mcp-remote-DATE.bak{rest}")
            }
            None => line.to_owned(),
        };
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// Returns what a command prints about one file, up to the list of next steps.
fn part(shown: &Shown, program: &Path) -> String {
    let end = shown.stdout.find("\nNext:").unwrap_or(shown.stdout.len());
    let all = format!("{}{}", &shown.stdout[..end], shown.stderr);
    normal(&all.replace(program.to_str().unwrap(), "/PROGRAM"))
}

/// Compares a text with the one that was read and found good. `WRITE_CHANGES=1` writes it anew.
#[track_caller]
fn compare(seen: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/install.md");
    if std::env::var_os("WRITE_CHANGES").is_some() {
        fs::write(&file, seen).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap();
    for (seen, expected) in seen.split("\n## ").zip(expected.split("\n## ")) {
        assert_eq!(seen, expected, "\n--- is\n{seen}\n--- should be\n{expected}");
    }
    assert_eq!(seen.len(), expected.len());
}

#[test]
fn each_file_is_changed_as_shown_and_put_back_to_the_byte() {
    const URL: &str = "https://new.example.com/mcp";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    let program = program_at_fixed_length();
    let (mut sections, mut table, mut count) = (String::new(), String::new(), 0);
    for (host, place) in PLACES {
        let mut fixtures: Vec<_> = fs::read_dir(root.join(host)).unwrap().map(|entry| entry.unwrap().path()).collect();
        fixtures.sort();
        let (mut installed, mut migrated, mut uninstalled, mut undone) = (0, 0, 0, 0);
        for fixture in &fixtures {
            count += 1;
            let name = format!("{host}: {}", fixture.file_name().unwrap().to_str().unwrap());
            let original = fs::read(fixture).unwrap();
            let home = Home::new();
            home.write(place, &original);
            let now = || fs::read(home.at(place)).unwrap();
            let chosen = |arguments: &[&str]| {
                let host = if host == "project" { &[][..] } else { &["--host", host] };
                home.run_as(&program, &[arguments, host, &["--yes"]].concat())
            };
            let _ = write!(sections, "\n## {name}\n");
            let mut changes = 0;
            let mut step = |arguments: &[&str]| {
                let before = now();
                let shown = chosen(arguments);
                let _ = write!(sections, "\n$ mcp-remote {}\n\n{}", arguments.join(" "), part(&shown, &program));
                let has_changed = now() != before;
                assert_eq!(has_changed, shown.stdout.contains("\nok    "), "{name}: {}", shown.stdout);
                changes += usize::from(has_changed);
                has_changed
            };
            if host != "project" {
                installed += usize::from(step(&["install", URL]));
                // A second time, there is nothing to do.
                let before = now();
                assert!(!chosen(&["install", URL]).stdout.contains("\nok    "), "{name}");
                assert_eq!(now(), before, "{name}");
            }
            migrated += usize::from(step(&["migrate"]));
            assert!(!chosen(&["migrate"]).stdout.contains("\nok    "), "{name}: a second time");
            uninstalled += usize::from(step(&["uninstall"]));
            for _ in 0..changes {
                chosen_undo(&home);
            }
            undone += usize::from(now() == original);
            assert_eq!(String::from_utf8_lossy(&now()), String::from_utf8_lossy(&original), "{name}");
            let left: Vec<_> =
                home.files().into_iter().filter(|file| file.contains(".bak") || file.contains(".tmp")).collect();
            assert_eq!(left, [""; 0], "{name}");
        }
        let files = fixtures.len();
        let _ = writeln!(table, "| {host} | {files} | {installed} | {migrated} | {uninstalled} | {undone} |");
    }
    assert!(count >= 40, "{count} files");
    compare(&format!(
        "# What the commands for entries change\n\nWritten by `tests/it/install.rs`: each file of `fixtures/hosts`, changed \
         by one command after the other.\n\n| host | files | install | migrate | uninstall | undo, to the byte \
         |\n|---|---|---|---|---|---|\n{table}{sections}"
    ));
}

#[track_caller]
fn chosen_undo(home: &Home) {
    home.run(&["undo", "--yes"]).succeeded().says("ok    put back");
}

#[test]
fn nothing_is_written_without_agreement() {
    let home = Home::with(CURSOR, NPX);
    for arguments in [&["migrate"][..], &["install", "https://b.example/mcp"], &["uninstall", "a"]] {
        let shown = home.run(arguments);
        shown.says("nothing was changed, because there is no terminal to ask on\nTip: repeat the command with --yes");
        assert_eq!((shown.code, home.read(CURSOR).as_str()), (Some(1), NPX));
    }
    home.run(&["install", "https://b.example/mcp", "--print"])
        .succeeded()
        .says("\"args\": [\"https://b.example/mcp\"]");
    // For one host, the text is a file.
    let shown = home.run(&["install", "https://b.example/mcp", "--print", "--host", "cursor"]);
    let value: serde_json::Value = serde_json::from_str(&shown.succeeded().stdout).unwrap();
    assert_eq!(value["mcpServers"]["b"]["args"][0], "https://b.example/mcp");
    assert_eq!(home.files(), [CURSOR]);
}

#[test]
fn installed_entry_is_added_to_every_host_found() {
    let home = Home::new();
    for folder in [".cursor", ".codeium/windsurf", "SETTINGS/Claude", "SETTINGS/VSCodium/User", ".codex"] {
        fs::create_dir_all(home.at(folder)).unwrap();
    }
    let shown = home.run(&["install", "https://mcp.linear.app/mcp", "--yes", "--header-file", "./key"]);
    // The connection's own checks hold.
    shown.says("key");
    assert_eq!(shown.code, Some(2), "{}", shown.stdout);
    home.write("project/key", "X-Key: hush");
    home.run(&["install", "https://mcp.linear.app/mcp", "--yes", "--header-file", "./key"]).succeeded();
    let key = fs::canonicalize(home.at("project")).unwrap().join("key");
    for file in [CURSOR, ".codeium/windsurf/mcp_config.json", CLAUDE_DESKTOP] {
        let expected = serde_json::json!({"mcpServers": {"linear": {
            "command": PROGRAM, "args": ["https://mcp.linear.app/mcp", "--header-file", key],
        }}});
        let value: serde_json::Value = serde_json::from_str(&home.read(file)).unwrap();
        assert_eq!(value, expected, "{file}");
    }
    assert!(home.read(".codex/config.toml").contains("[mcp_servers.linear]\n"));
    assert!(home.read("SETTINGS/VSCodium/User/mcp.json").contains("\"type\": \"stdio\""));
    assert!(!home.at("SETTINGS/Code/User/mcp.json").exists(), "this edition was never used");
    // New files go.
    chosen_undo(&home);
    assert_eq!(home.files().iter().filter(|file| !file.starts_with(".mcp-auth")).collect::<Vec<_>>(), ["project/key"]);
}

#[test]
fn no_host_is_an_error_that_says_what_to_do() {
    let home = Home::new();
    let shown = home.run(&["install", "https://a.example/mcp", "--yes"]);
    shown.says("no host was found on this computer").says("--print");
    assert_eq!(shown.code, Some(1));
    home.run(&["migrate"]).succeeded().says("No entry of a host starts the npm package.");
    assert_eq!(home.run(&["uninstall", "a"]).says("no host has such an entry").code, Some(1));
    assert_eq!(home.run(&["undo"]).says("there is no change to undo").code, Some(1));
    // A host that is named is changed even if it was never used.
    home.run(&["install", "https://a.example/mcp", "--yes", "--host", "cursor"]).succeeded();
    assert!(home.read(CURSOR).contains("a.example"));
}

#[test]
fn undo_leaves_a_file_that_changed_since() {
    let home = Home::with(CURSOR, NPX);
    home.run(&["migrate", "--yes"]).succeeded();
    let changed = home.read(CURSOR).replace("a.example", "b.example");
    home.write(CURSOR, &changed);
    let shown = home.run(&["undo", "--yes"]);
    shown
        .says("another program has changed it since")
        .says("what was there before is in ~/.cursor/mcp.json.mcp-remote-");
    assert_eq!((shown.code, home.read(CURSOR)), (Some(1), changed));
}

#[test]
fn secrets_of_a_file_are_not_shown() {
    let entry = r#"{"mcpServers":{"a":{"command":"npx","args":["mcp-remote","https://a.example/mcp","--header","Authorization: Bearer hush-header"],"env":{"K":"hush-env"}}}}"#;
    for text in [entry.to_owned(), entry.replace("\"args\"", "\n\"args\"").replace("\"env\"", "\n\"env\"")] {
        let home = Home::with(CURSOR, &text);
        for arguments in [&["migrate", "--yes"][..], &["uninstall", "a", "--yes"], &["undo", "--yes"]] {
            let shown = home.run(arguments);
            shown.succeeded();
            assert!(!shown.stdout.contains("hush") && !shown.stderr.contains("hush"), "{}", shown.stdout);
        }
        let record: Vec<_> = home.files().into_iter().filter(|file| file.starts_with(".mcp-auth")).collect();
        assert!(record.iter().all(|file| !home.read(file).contains("hush")), "{record:?}");
    }
}

#[test]
fn every_spelling_of_a_secret_is_struck_out() {
    let entry = r#"{"mcpServers":{"g":{"url":"https://g.example","headers":{"Authorization":"Bearer hush-other"}},"a":{"command":"npx","args":["mcp-remote","https://a.example/mcp?api_key=hush-query","--header=X-Key: hush-header","--proxy","http://u:hush-proxy@p.example","--static-oauth-client-info","{\"client_secret\":\"hush-client\"}"],"env":{"K":"hush-\"env"}}}}"#;
    for text in [entry.to_owned(), entry.replace(",\"", ",\n\"")] {
        for arguments in
            [&["migrate", "--yes"][..], &["uninstall", "--yes"], &["install", "https://b.example/mcp", "--yes"]]
        {
            let shown = Home::with(CURSOR, &text).run(arguments);
            shown.succeeded();
            assert!(!shown.stdout.contains("hush"), "{}", shown.stdout);
        }
    }
}

#[test]
fn altered_backup_is_not_put_back() {
    let home = Home::with(CURSOR, NPX);
    home.run(&["migrate", "--yes"]).succeeded();
    let backup = home.files().into_iter().find(|file| file.ends_with(".bak")).unwrap();
    home.write(&backup, "");
    let migrated = home.read(CURSOR);
    assert_eq!(home.run(&["undo", "--yes"]).says("its backup has changed since").code, Some(1));
    assert_eq!((home.read(CURSOR), home.at(&backup).exists()), (migrated, true));
}

#[test]
fn older_change_is_undone_after_one_that_cannot() {
    let home = Home::with(CURSOR, NPX);
    home.write(".gemini/settings.json", "{}");
    home.run(&["install", "https://b.example/mcp", "--yes", "--host", "gemini"]).succeeded();
    home.run(&["migrate", "--yes"]).succeeded();
    home.write(CURSOR, "{}");
    assert_eq!(home.run(&["undo", "--yes"]).says("another program has changed it since").code, Some(1));
    home.run(&["undo", "--yes"]).succeeded().says("ok    put back ~/.gemini/settings.json");
    assert_eq!(home.read(".gemini/settings.json"), "{}");
}

#[test]
fn record_that_cannot_be_written_stops_before_the_change() {
    let home = Home::with(CURSOR, NPX);
    home.write(".mcp-auth", "a file");
    assert_eq!(home.run(&["migrate", "--yes"]).says("nothing was changed, because ").code, Some(1));
    assert_eq!((home.read(CURSOR).as_str(), home.files().len()), (NPX, 2));
}

#[test]
fn instances_at_once_record_all_of_their_changes() {
    let home = Home::new();
    let hosts = ["cursor", "gemini", "windsurf", "copilot", "codex"];
    std::thread::scope(|scope| {
        for host in hosts {
            let home = &home;
            scope.spawn(move || {
                home.run(&["install", "https://a.example/mcp", "--yes", "--host", host]).succeeded().code
            });
        }
    });
    hosts.iter().for_each(|_| chosen_undo(&home));
    home.run(&["undo", "--yes"]).says("there is no change to undo");
}

#[test]
fn entry_behind_a_shell_or_in_another_system_stays() {
    let text = r#"{"mcpServers":{"s":{"command":"bash","args":["-lc","npx mcp-remote https://a.example/mcp"]},"w":{"command":"wsl","args":["npx","mcp-remote","https://a.example/mcp"]},"other":{"command":"docker","args":["run","acme/x","--label","not-mcp-remote"]}}}"#;
    for arguments in
        [&["migrate", "--yes"][..], &["uninstall", "--yes"], &["install", "https://a.example/mcp", "--yes"]]
    {
        let home = Home::with(CURSOR, text);
        home.run(arguments).says("a shell reads its arguments");
        assert_eq!(home.read(CURSOR), text, "{arguments:?}");
    }
}

#[test]
fn entry_of_the_npm_package_is_removed_only_by_name() {
    let home = Home::with(CURSOR, NPX);
    home.run(&["uninstall", "--yes"]).succeeded().says("\"a\" stays, because it starts the npm package");
    assert_eq!(home.read(CURSOR), NPX);
    home.run(&["uninstall", "a", "--yes"]).succeeded();
    assert_eq!(home.read(CURSOR), r#"{"mcpServers":{}}"#);
}

#[test]
fn file_of_a_project_is_not_changed() {
    let home = Home::with("project/.cursor/mcp.json", NPX);
    home.run(&["migrate", "--yes", "--host", "cursor"]).says("not changed, because the file belongs to a project");
    home.run(&["uninstall", "a", "--yes"]).says("not changed, because the file belongs to a project");
    assert_eq!(home.read("project/.cursor/mcp.json"), NPX);
}

#[test]
fn migrated_entry_that_cannot_start_is_named() {
    let text = NPX.replace("]}}}", r#","--unknown"]}}}"#);
    let home = Home::with(CURSOR, &text);
    home.run(&["migrate", "--yes"]).succeeded().says("\"a\" will not start: unexpected argument '--unknown' found");
}

#[test]
fn entry_of_a_project_is_not_connected_unless_named() {
    let home = Home::new();
    let entry = format!(r#"{{"mcpServers":{{"p":{{"command":"{PROGRAM}","args":["http://127.0.0.1:1/mcp"]}}}}}}"#);
    home.write("project/.mcp.json", entry);
    let shown = home.run(&["client"]);
    shown.says("no connection, because the file belongs to a project");
    assert!(!shown.stdout.contains("cannot connect"), "{}", shown.stdout);
    home.run(&["client", "--entry", "p"]).says("cannot connect to 127.0.0.1:1");
}

#[test]
fn large_file_of_claude_code_is_migrated_in_place() {
    let history = format!("\"history\": [\"{}\"]", "npx mcp-remote ".repeat(1_500_000));
    let text = format!(
        "{{\n  {history},\n  \"mcpServers\": {{\n    \"a\": {{\n      \"command\": \"npx\",\n      \"args\": [\"-y\", \
         \"mcp-remote\", \"https://a.example/mcp\"]\n    }}\n  }}\n}}\n"
    );
    let home = Home::with(".claude.json", &text);
    let shown = home.run(&["migrate", "--yes"]);
    shown.succeeded();
    let expected = text
        .replace("\"command\": \"npx\"", &format!("\"command\": \"{PROGRAM}\""))
        .replace("[\"-y\", \"mcp-remote\", ", "[");
    assert!(home.read(".claude.json") == expected, "{}", shown.stdout);
    assert!(shown.stdout.len() < 2000, "{} bytes", shown.stdout.len());
}

#[test]
fn client_reports_entry_that_is_gone() {
    let home = Home::with(CURSOR, "{}");
    home.run(&["install", "https://a.example/mcp", "--yes"]).succeeded();
    home.write(CURSOR, "{}");
    let shown = home.run(&["client"]);
    shown.says("Cursor, ~/.cursor/mcp.json: the entry \"a\" is gone, which mcp-remote wrote.");
    home.run(&["uninstall", "a"]).succeeded().says("The entry is gone already.");
    assert!(!home.run(&["client"]).stdout.contains("is gone"));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// Writes a program by another process: a file that this one has open for writing cannot be started.
    fn program(home: &Home, file: &str, from: &Path) {
        fs::create_dir_all(home.at(file).parent().unwrap()).unwrap();
        let done = Command::new("cp").arg(from).arg(home.at(file)).status().unwrap();
        assert!(done.success());
    }

    fn script(home: &Home, file: &str, text: &str) {
        home.write("script", text);
        fs::set_permissions(home.at("script"), fs::Permissions::from_mode(0o755)).unwrap();
        program(home, file, &home.at("script"));
    }

    #[test]
    fn link_stays_and_read_only_file_is_left() {
        let home = Home::with("dotfiles/mcp.json", NPX);
        fs::create_dir(home.at(".cursor")).unwrap();
        symlink(home.at("dotfiles/mcp.json"), home.at(CURSOR)).unwrap();
        fs::set_permissions(home.at("dotfiles/mcp.json"), fs::Permissions::from_mode(0o640)).unwrap();
        home.write(".gemini/settings.json", NPX);
        fs::set_permissions(home.at(".gemini/settings.json"), fs::Permissions::from_mode(0o444)).unwrap();
        let shown = home.run(&["migrate", "--yes"]);
        shown.says("~/.gemini/settings.json: cannot change this file: it is read-only").says("1 file was not changed");
        assert_eq!(shown.code, Some(1));
        assert!(fs::symlink_metadata(home.at(CURSOR)).unwrap().is_symlink());
        let mode = fs::metadata(home.at("dotfiles/mcp.json")).unwrap().permissions().mode();
        assert!(home.read("dotfiles/mcp.json").contains(PROGRAM) && mode & 0o777 == 0o640, "{mode:o}");
        assert_eq!(home.read(".gemini/settings.json"), NPX);
    }

    #[test]
    fn file_of_two_hosts_is_changed_once() {
        let home = Home::with("dotfiles/mcp.json", NPX);
        for file in [CURSOR, ".codeium/windsurf/mcp_config.json"] {
            fs::create_dir_all(home.at(file).parent().unwrap()).unwrap();
            symlink(home.at("dotfiles/mcp.json"), home.at(file)).unwrap();
        }
        // A link out of a project is not followed.
        symlink(home.at("dotfiles/mcp.json"), home.at("project/.mcp.json")).unwrap();
        let shown = home.run(&["migrate", "--yes"]);
        shown.succeeded();
        assert_eq!(shown.stdout.matches("\nok    ").count(), 1, "{}", shown.stdout);
        fs::remove_file(home.at(CURSOR)).unwrap();
        fs::remove_file(home.at(".codeium/windsurf/mcp_config.json")).unwrap();
        home.write("dotfiles/mcp.json", NPX);
        home.run(&["migrate", "--yes"]).says("No entry of a host starts the npm package.");
    }

    #[test]
    fn reader_that_leaves_does_not_cost_the_record() {
        let home = Home::with(CURSOR, NPX);
        let line = format!("exec '{PROGRAM}' migrate --yes | head -1");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &line]).env_clear().env("HOME", home.folder.path()).env("PATH", "/usr/bin:/bin");
        let done = shell.current_dir(home.at("project")).status().unwrap();
        assert!(done.success());
        if home.read(CURSOR) != NPX {
            chosen_undo(&home);
        }
        assert_eq!(home.read(CURSOR), NPX);
    }

    #[test]
    fn program_in_a_cache_copies_itself_first() {
        let home = Home::with(CURSOR, NPX);
        let cached = ".npm/_npx/0123/node_modules/mcp-remote-linux-x64/bin/mcp-remote";
        program(&home, cached, Path::new(PROGRAM));
        let shown = home.run_as(&home.at(cached), &["migrate", "--yes"]);
        shown.succeeded().says("is in a cache, which can be emptied");
        let copy = home.at(".local/share/mcp-remote/bin/mcp-remote");
        assert!(home.read(CURSOR).contains(copy.to_str().unwrap()));
        assert_eq!(fs::read(&copy).unwrap(), fs::read(PROGRAM).unwrap());
        assert_ne!(fs::metadata(&copy).unwrap().permissions().mode() & 0o100, 0);
        // The copy is the same program for the next command.
        home.run_as(&home.at(cached), &["migrate", "--yes"]).says("No entry of a host starts the npm package.");
        home.run_as(&copy, &["migrate", "--yes"]).says("No entry of a host starts the npm package.");
    }

    #[test]
    fn claude_code_is_changed_by_its_own_command() {
        let mut home = Home::with(".claude.json", "{\"numStartups\": 1}");
        home.run(&["install", "https://a.example/mcp", "--yes"])
            .left_undone("1 file was not changed: ~/.claude.json")
            .says("claude mcp add-json a '{\"type\":\"stdio\",\"command\":")
            .says("For you to write, as shown above: Claude Code");
        script(&home, "bin/claude", "#!/bin/sh\nfor word; do echo \"[$word]\"; done >> \"$HOME/calls\"\n");
        home.path.push(home.at("bin"));
        home.run(&["install", "https://a.example/mcp", "--yes"])
            .succeeded()
            .says("added \"a\" with claude mcp add-json");
        let json = format!(r#"{{"type":"stdio","command":"{PROGRAM}","args":["https://a.example/mcp"]}}"#);
        assert_eq!(home.read("calls"), format!("[mcp]\n[add-json]\n[a]\n[{json}]\n[--scope]\n[user]\n"));
        fs::remove_file(home.at("calls")).unwrap();
        home.run(&["undo", "--yes"]).succeeded().says("removed \"a\" from Claude Code");
        assert_eq!(home.read("calls"), "[mcp]\n[remove]\n[a]\n[--scope]\n[user]\n");
        // A failure of the command is shown in the command's words.
        script(&home, "bin/claude", "#!/bin/sh\necho 'MCP server a already exists' >&2\nexit 1\n");
        let shown = home.run(&["install", "https://a.example/mcp", "--yes"]);
        shown.says("FAIL  Claude Code: MCP server a already exists");
        shown.left_undone("1 file was not changed: ~/.claude.json");
        home.run(&["undo"]).says("there is no change to undo");
        // Only a user replaces an entry. Its name is one word of the shell.
        home.write(".claude.json", NPX.replace("\"a\":", "\"it's\":"));
        home.run(&["install", "https://a.example/mcp", "--yes"])
            .left_undone("1 file was not changed: ~/.claude.json")
            .says("\"it's\" is another entry for this server. Write this yourself:\n")
            .says(&format!(
                "  claude mcp remove 'it'\\''s' --scope user\n  claude mcp add-json 'it'\\''s' '{json}' --scope user\n"
            ));
        // A new entry would lose what else is in this one, and a command line would show it.
        for more in [
            r#""args":["mcp-remote","https://a.example/mcp","--header","X: hush-key"]"#,
            r#""args":["mcp-remote","https://a.example/mcp"],"env":{"KEY":"hush-key"}"#,
        ] {
            home.write(".claude.json", format!(r#"{{"mcpServers":{{"a":{{"command":"npx",{more}}}}}}}"#));
            let shown = home.run(&["install", "https://a.example/mcp", "--yes"]);
            shown.left_undone("1 entry was not changed: \"a\" in ~/.claude.json");
            shown.says(
                "\"a\" stays as it is: it is another entry for this server, and each session of Claude Code rewrites",
            );
            shown.says(&format!("    \"command\": \"{PROGRAM}\",\n"));
            assert!(!shown.stdout.contains("hush") && !shown.stdout.contains("claude mcp"), "{}", shown.stdout);
        }
    }

    #[test]
    fn signal_ends_install_and_hanging_claude() {
        let mut home = Home::with(".claude.json", "{}");
        let gate = home.at("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        script(&home, "bin/claude", &format!("#!/bin/sh\necho $$ > '{}'\nexec sleep 1000\n", gate.display()));
        home.path.extend([home.at("bin"), "/usr/bin".into(), "/bin".into()]);
        for signal in ["-INT", "-TERM"] {
            let mut install = home.command(Path::new(PROGRAM), &["install", "https://a.example/mcp", "--yes"]);
            let install = install.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // Ends when the script has written, so that the command waits for it now.
            let claude = fs::read_to_string(&gate).unwrap();
            let kill = |number: &str, pid: &str| Command::new("kill").args([number, pid]).output().unwrap().status;
            assert!(kill("-0", claude.trim()).success());
            assert!(kill(signal, &install.id().to_string()).success());
            let shown = Shown::of(install.wait_with_output().unwrap());
            shown.says("FAIL  Claude Code: claude was stopped by a signal");
            shown.left_undone("1 file was not changed: ~/.claude.json");
            assert!(!kill("-0", claude.trim()).success(), "{signal}: claude still runs");
        }
        // What a signal leaves undone can be undone later.
        let hanging = home.read("bin/claude");
        script(&home, "bin/claude", "#!/bin/sh\n");
        home.run(&["install", "https://a.example/mcp", "--yes"]).succeeded();
        script(&home, "bin/claude", &hanging);
        let mut undo = home.command(Path::new(PROGRAM), &["undo", "--yes"]);
        let undo = undo.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        fs::read_to_string(&gate).unwrap();
        assert!(Command::new("kill").args(["-INT", &undo.id().to_string()]).status().unwrap().success());
        Shown::of(undo.wait_with_output().unwrap()).says("FAIL  Claude Code, \"a\": claude was stopped by a signal");
        script(&home, "bin/claude", "#!/bin/sh\n");
        home.run(&["undo", "--yes"]).succeeded().says("removed \"a\" from Claude Code");
        home.run(&["undo"]).says("there is no change to undo");
    }

    #[test]
    fn running_host_is_warned_of() {
        let mut home = Home::with(CLAUDE_DESKTOP, NPX);
        // Only here is ps in PATH, so that no other test sees which hosts run on this computer.
        home.path.extend(["/usr/bin".into(), "/bin".into()]);
        home.write(".claude.json", NPX);
        for name in ["claude-desktop", "claude"] {
            program(&home, name, Path::new("/bin/sleep"));
        }
        let mut running =
            ["claude-desktop", "claude"].map(|name| Command::new(home.at(name)).arg("60").spawn().unwrap());
        let removed = home.run(&["uninstall", "a", "--yes", "--host", "claude-code"]);
        // A change that was made while no session ran.
        let path = std::mem::take(&mut home.path);
        home.run(&["migrate", "--yes", "--host", "claude-code"]).succeeded();
        home.path = path;
        let undone = home.run(&["undo", "--yes"]);
        assert!(home.read(".claude.json").contains(PROGRAM), "{}", undone.stdout);
        home.path.clear();
        chosen_undo(&home);
        home.path.extend(["/usr/bin".into(), "/bin".into()]);
        let shown = home.run(&["migrate", "--yes"]);
        running.iter_mut().for_each(|child| {
            child.kill().unwrap();
            child.wait().unwrap();
        });
        shown.says("Claude Desktop is running. It rewrites this file and can drop the change. Quit it first");
        shown.says("Claude Code is running, and each session rewrites this file.");
        undone.says("nothing was changed, because Claude Code is running");
        removed.says("Claude Code is running, and each session rewrites this file.");
        assert_eq!(home.read(".claude.json"), NPX);
        assert!(home.read(CLAUDE_DESKTOP).contains(PROGRAM));
        home.path.clear();
        home.run(&["migrate", "--yes", "--host", "claude-code"]).succeeded();
        assert!(home.read(".claude.json").contains(PROGRAM));
    }

    #[test]
    fn client_names_another_version_that_a_host_starts() {
        // The same program with another version inside of it. A script is npm's, and is not run.
        let home = Home::new();
        let own = env!("CARGO_PKG_VERSION");
        let other = format!("{}x", &own[..own.len() - 1]);
        let mut bytes = fs::read(PROGRAM).unwrap();
        let places: Vec<_> = places_of(&bytes, own.as_bytes());
        places.into_iter().for_each(|at| bytes[at..at + own.len()].copy_from_slice(other.as_bytes()));
        home.write("other-version", bytes);
        fs::set_permissions(home.at("other-version"), fs::Permissions::from_mode(0o755)).unwrap();
        program(&home, "old/mcp-remote", &home.at("other-version"));
        script(&home, "npm/mcp-remote", "#!/bin/sh\necho mcp-remote 0.0.8\n");
        let entry = |folder: &str| {
            format!(r#"{{"command":"{}","args":["http://127.0.0.1:1/mcp"]}}"#, home.at(folder).display())
        };
        let (old, npm) = (entry("old/mcp-remote"), entry("npm/mcp-remote"));
        home.write(CURSOR, format!(r#"{{"mcpServers":{{"old":{old},"npm":{npm}}}}}"#));
        let shown = home.run(&["client"]);
        shown.says(&format!("\"old\": this entry starts mcp-remote {other}, and this is {own}"));
        assert!(!shown.stdout.contains("0.0.8"), "{}", shown.stdout);
        // A project may have come from anywhere: its programs are not run.
        home.write("project/.mcp.json", home.read(CURSOR));
        home.write(CURSOR, "{}");
        let shown = home.run(&["client"]);
        shown.says("this project, ");
        assert!(!shown.stdout.contains(&other), "{}", shown.stdout);
        home.write(CURSOR, home.read("project/.mcp.json"));
        home.run(&["migrate", "--yes"]).says("\"old\" stays as it is: it starts another mcp-remote");
    }

    fn places_of(text: &[u8], piece: &[u8]) -> Vec<usize> {
        text.windows(piece.len()).enumerate().filter(|(_, window)| *window == piece).map(|(at, _)| at).collect()
    }
}
