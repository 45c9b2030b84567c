//! Where the configuration files of hosts are, on each operating system.
//!
//! # Invariants
//!
//! - Only folders are listed here. No file is read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    CLAUDE_CODE, CLAUDE_DESKTOP, CLINE, CODEX, COPILOT, CURSOR, GEMINI, GOOSE, Host, OPENCODE, PROJECT, VS_CODE,
    WINDSURF, ZED,
};

/// An operating system, as far as hosts keep their files in different folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// Windows.
    Windows,
    /// macOS.
    MacOs,
    /// Linux and other systems of the X Desktop Group.
    Other,
}

impl System {
    /// The one that this program runs on.
    pub(crate) const HERE: Self = if cfg!(windows) {
        Self::Windows
    } else if cfg!(target_os = "macos") {
        Self::MacOs
    } else {
        Self::Other
    };
}

/// The folders below which hosts keep their files.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) system: System,
    /// The home folder.
    pub(crate) home: Option<PathBuf>,
    /// Where programs keep their settings: `%APPDATA%`, `~/Library/Application Support`, `$XDG_CONFIG_HOME`.
    pub(crate) settings: Option<PathBuf>,
    /// `%LOCALAPPDATA%`, on Windows only.
    pub(crate) local: Option<PathBuf>,
    /// `CODEX_HOME`.
    pub(crate) codex: Option<PathBuf>,
    /// The folder of the project.
    pub(crate) project: Option<PathBuf>,
}

/// Whom a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The user.
    User,
    /// The project in the current folder.
    Project,
    /// No host: the host reads another file.
    Unread,
}

/// A configuration file that there may be.
#[derive(Clone, Debug)]
pub(crate) struct HostFile {
    pub(crate) host: Host,
    pub(crate) path: PathBuf,
    pub(crate) scope: Scope,
    /// The folder that a host makes when it is first started.
    folder: PathBuf,
}

impl HostFile {
    /// Returns whether the host was ever used here.
    pub(crate) fn is_there(&self) -> bool {
        self.folder.is_dir() || self.path.is_file()
    }
}

/// The folder that the Windows package of Claude Desktop sees as `%APPDATA%`.
///
/// Claude Desktop is an MSIX package since February 2026. Windows redirects what a package writes into `%APPDATA%`
/// (<https://learn.microsoft.com/windows/msix/desktop/desktop-to-uwp-behind-the-scenes>).
fn packaged_settings(local: &Path) -> Option<PathBuf> {
    let packages = fs::read_dir(local.join("Packages")).ok()?;
    let mut folders: Vec<_> = packages
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("Claude_"))
        .map(|entry| entry.path().join("LocalCache").join("Roaming"))
        .collect();
    folders.sort();
    folders.into_iter().next()
}

impl Places {
    /// Returns the files there may be: of the user, then of the project.
    pub(crate) fn files(&self) -> Vec<HostFile> {
        let mut files = Vec::new();
        let mut add = |host: Host, scope: Scope, folder: PathBuf, file: &str| {
            files.push(HostFile { host, path: folder.join(file), scope, folder });
        };
        if let Some(settings) = &self.settings {
            let file = "claude_desktop_config.json";
            let packaged = self.local.as_deref().filter(|_| self.system == System::Windows).and_then(packaged_settings);
            let scope = if packaged.is_some() { Scope::Unread } else { Scope::User };
            if let Some(packaged) = packaged {
                add(CLAUDE_DESKTOP, Scope::User, packaged.join("Claude"), file);
            }
            add(CLAUDE_DESKTOP, scope, settings.join("Claude"), file);
            for (edition, name) in
                [("Code", VS_CODE.name), ("Code - Insiders", "VS Code Insiders"), ("VSCodium", "VSCodium")]
            {
                let user = settings.join(edition).join("User");
                add(VS_CODE.called(name), Scope::User, user.clone(), "mcp.json");
                let cline = user.join("globalStorage").join("saoudrizwan.claude-dev").join("settings");
                add(CLINE, Scope::User, cline, "cline_mcp_settings.json");
            }
        }
        // https://zed.dev/docs/configuring-zed
        let zed = match self.system {
            System::Windows => self.settings.as_ref().map(|settings| settings.join("Zed")),
            System::MacOs => self.home.as_ref().map(|home| home.join(".config").join("zed")),
            System::Other => self.settings.as_ref().map(|settings| settings.join("zed")),
        };
        if let Some(zed) = zed {
            add(ZED, Scope::User, zed, "settings.json");
        }
        if let Some(home) = &self.home {
            files.push(HostFile {
                host: CLAUDE_CODE,
                path: home.join(".claude.json"),
                scope: Scope::User,
                folder: home.join(".claude"),
            });
            let mut add = |host: Host, folder: PathBuf, file: &str| {
                files.push(HostFile { host, path: folder.join(file), scope: Scope::User, folder });
            };
            add(CURSOR, home.join(".cursor"), "mcp.json");
            add(WINDSURF, home.join(".codeium").join("windsurf"), "mcp_config.json");
            add(CODEX, self.codex.clone().unwrap_or_else(|| home.join(".codex")), "config.toml");
            add(GEMINI, home.join(".gemini"), "settings.json");
            let opencode = home.join(".config").join("opencode");
            add(OPENCODE, opencode.clone(), "opencode.jsonc");
            add(OPENCODE, opencode, "opencode.json");
            add(COPILOT, home.join(".copilot"), "mcp-config.json");
            add(CLINE, home.join(".cline").join("data").join("settings"), "cline_mcp_settings.json");
            let goose = match (self.system, &self.settings) {
                (System::Windows, Some(settings)) => settings.join("Block").join("goose").join("config"),
                _ => home.join(".config").join("goose"),
            };
            add(GOOSE, goose, "config.yaml");
        }
        if let Some(project) = &self.project {
            for (host, folder, file) in [
                (PROJECT, "", ".mcp.json"),
                (CURSOR.called("Cursor in this project"), ".cursor", "mcp.json"),
                (VS_CODE.called("VS Code in this project"), ".vscode", "mcp.json"),
                (ZED.called("Zed in this project"), ".zed", "settings.json"),
                (GEMINI.called("Gemini CLI in this project"), ".gemini", "settings.json"),
                (CODEX.called("Codex in this project"), ".codex", "config.toml"),
            ] {
                let folder = project.join(folder);
                let path = folder.join(file);
                if !files.iter().any(|known| known.path == path) {
                    files.push(HostFile { host, path, scope: Scope::Project, folder });
                }
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(system: System, root: &Path) -> Places {
        Places {
            system,
            home: Some(root.join("home")),
            settings: Some(root.join("settings")),
            local: Some(root.join("local")),
            codex: None,
            project: None,
        }
    }

    fn files(places: &Places, id: &str) -> Vec<(PathBuf, Scope)> {
        let files = places.files().into_iter().filter(|file| file.host.id == id);
        files.map(|file| (file.path, file.scope)).collect()
    }

    #[test]
    fn packaged_claude_desktop_reads_its_own_folder() {
        let root = tempfile::tempdir().unwrap();
        let places = places(System::Windows, root.path());
        let classic = root.path().join("settings/Claude/claude_desktop_config.json");
        assert_eq!(files(&places, "claude-desktop"), [(classic.clone(), Scope::User)]);
        let package = root.path().join("local/Packages/Claude_pzs8sxrjxfjjc");
        fs::create_dir_all(&package).unwrap();
        let packaged = package.join("LocalCache/Roaming/Claude/claude_desktop_config.json");
        assert_eq!(files(&places, "claude-desktop"), [(packaged, Scope::User), (classic.clone(), Scope::Unread)]);
        // Elsewhere, a folder of that name means nothing.
        let elsewhere = Places { system: System::MacOs, ..places };
        assert_eq!(files(&elsewhere, "claude-desktop"), [(classic, Scope::User)]);
    }

    #[test]
    fn zed_and_goose_are_where_each_system_has_them() {
        let root = Path::new("/r");
        for (system, zed, goose) in [
            (System::Windows, "settings/Zed/settings.json", "settings/Block/goose/config/config.yaml"),
            (System::MacOs, "home/.config/zed/settings.json", "home/.config/goose/config.yaml"),
            (System::Other, "settings/zed/settings.json", "home/.config/goose/config.yaml"),
        ] {
            let places = places(system, root);
            assert_eq!(files(&places, "zed"), [(root.join(zed), Scope::User)], "{system:?}");
            assert_eq!(files(&places, "goose"), [(root.join(goose), Scope::User)], "{system:?}");
        }
    }

    #[test]
    fn project_file_of_home_folder_is_listed_once() {
        let root = tempfile::tempdir().unwrap();
        let all = places(System::Other, root.path());
        let at_home = Places { project: all.home.clone(), ..all };
        let cursor = files(&at_home, "cursor");
        assert_eq!(cursor, [(root.path().join("home/.cursor/mcp.json"), Scope::User)]);
    }
}
