//! `mcp-remote bundle`: the archive, the manifest in it, and what the command prints.

use std::{fs, io::Read as _, path::Path, process::Command};

use flate2::{Crc, read::DeflateDecoder};
use serde_json::{Value, json};

const URL: &str = "https://example.com/mcp";

struct Unpacked {
    name: String,
    mode: u32,
    data: Vec<u8>,
}

/// Reads an archive by its directory, as programs do that unpack it.
fn unzip(bytes: &[u8]) -> Vec<Unpacked> {
    let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
    let long = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let end = bytes.len() - 22;
    assert_eq!(&bytes[end..end + 4], b"PK\x05\x06");
    let mut at = long(end + 16) as usize;
    assert_eq!(at + long(end + 12) as usize, end);
    let mut files = Vec::new();
    for _ in 0..short(end + 10) {
        assert_eq!(&bytes[at..at + 4], b"PK\x01\x02");
        let name = &bytes[at + 46..at + 46 + short(at + 28)];
        let local = long(at + 42) as usize;
        assert_eq!(&bytes[local..local + 4], b"PK\x03\x04");
        // Both say the same of the file.
        assert_eq!(bytes[at + 6..at + 32], bytes[local + 4..local + 30]);
        let start = local + 30 + name.len();
        assert_eq!(&bytes[local + 30..start], name);
        let mut data = Vec::new();
        DeflateDecoder::new(&bytes[start..start + long(at + 20) as usize]).read_to_end(&mut data).unwrap();
        let mut checksum = Crc::new();
        checksum.update(&data);
        assert_eq!((checksum.sum(), data.len()), (long(at + 16), long(at + 24) as usize));
        let name = String::from_utf8(name.to_vec()).unwrap();
        files.push(Unpacked { mode: long(at + 38) >> 16, data, name: name.clone() });
        at += 46 + name.len();
    }
    assert_eq!(at, end);
    files
}

/// Programs that look like those of each system, so that the test need not pack the program that it tests.
fn programs(folder: &Path) -> Vec<String> {
    let starts = [("darwin", &b"\xcf\xfa\xed\xfe"[..]), ("linux", b"\x7fELF"), ("win32", b"MZ")];
    let mut flags = Vec::new();
    for (platform, start) in starts {
        let file = folder.join(platform);
        fs::write(&file, [start, &[7; 1000], platform.as_bytes()].concat()).unwrap();
        flags.push(format!("--binary={platform}={}", file.display()));
    }
    flags
}

fn bundle(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-remote"));
    let done = command.current_dir(folder).arg("bundle").args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn bundle_has_manifest_and_programs() {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs(folder.path());
    let mut arguments = vec![URL, "--header", "X-Api-Key:${API_KEY}", "--transport", "http-only"];
    arguments.extend(programs.iter().map(String::as_str));
    let (code, stdout, stderr) = bundle(folder.path(), &arguments);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert_eq!(
        stdout,
        "Wrote example-com.mcpb (0.0 MB).\nIt installs https://example.com/mcp on macOS, Linux, Windows.\nThe host asks \
         the user for API_KEY.\n"
    );

    let files = unzip(&fs::read(folder.path().join("example-com.mcpb")).unwrap());
    let listed: Vec<_> = files.iter().map(|file| (&*file.name, file.mode)).collect();
    assert_eq!(
        listed,
        [
            ("manifest.json", 0o100_644),
            ("server/darwin/mcp-remote", 0o100_755),
            ("server/linux/mcp-remote", 0o100_755),
            ("server/win32/mcp-remote.exe", 0o100_755),
        ]
    );
    for (file, platform) in files[1..].iter().zip(["darwin", "linux", "win32"]) {
        assert_eq!(file.data, fs::read(folder.path().join(platform)).unwrap());
    }
    let manifest: Value = serde_json::from_slice(&files[0].data).unwrap();
    assert_eq!(manifest["name"], "example-com");
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        manifest["server"],
        json!({
            "type": "binary",
            "entry_point": "server/darwin/mcp-remote",
            "mcp_config": {
                "command": "${__dirname}/server/darwin/mcp-remote",
                "args": [URL, "--header", "X-Api-Key:${API_KEY}", "--transport", "http-only"],
                "env": { "API_KEY": "${user_config.API_KEY}" },
                "platform_overrides": {
                    "linux": { "command": "${__dirname}/server/linux/mcp-remote" },
                    "win32": { "command": "${__dirname}/server/win32/mcp-remote.exe" },
                },
            },
        })
    );
    let asked = &manifest["user_config"]["API_KEY"];
    assert_eq!((&asked["sensitive"], &asked["required"]), (&json!(true), &json!(true)));
    // Nobody is left behind who is in the way of the next one.
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn same_bundle_has_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let programs = programs(folder.path());
    let made = |output: &str| {
        let mut arguments = vec![URL, "--output", output, "--name", "An Example", "--bundle-version", "2.1.0"];
        arguments.extend(programs.iter().map(String::as_str));
        assert_eq!(bundle(folder.path(), &arguments).0, Some(0));
        fs::read(folder.path().join(output)).unwrap()
    };
    let one = made("one.mcpb");
    assert_eq!(one, made("two.mcpb"));
    let manifest: Value = serde_json::from_slice(&unzip(&one)[0].data).unwrap();
    let named = ["name", "display_name", "version"].map(|member| manifest[member].as_str().unwrap());
    assert_eq!(named, ["an-example", "An Example", "2.1.0"]);
}

#[test]
fn failed_bundle_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let fine = programs(folder.path());
    let fine: Vec<_> = fine.iter().map(String::as_str).collect();
    fs::write(folder.path().join("text"), "no program").unwrap();
    let place = folder.path().join("text").display().to_string();
    for (arguments, code, expected) in [
        (&["--header", "Authorization:Bearer hush"][..], 2, "error: a bundle cannot have the value of the header"),
        (&["--binary", "win32=missing"], 1, "error: cannot read missing: "),
        (&["--binary", &format!("win32={place}")], 1, "is no program for Windows"),
        (&["--output", "missing/a.mcpb"], 1, "error: cannot write missing/a.mcpb: "),
        (&["--binary", "plan9=a"], 2, "the platform must be darwin, linux or win32"),
    ] {
        let arguments = [&[URL], &fine[..], arguments].concat();
        let (exit, stdout, stderr) = bundle(folder.path(), &arguments);
        assert_eq!((exit, &*stdout), (Some(code), ""), "{stderr}");
        assert!(stderr.contains(expected) && !stderr.contains("hush"), "{stderr}");
        assert!(!folder.path().join("example-com.mcpb").exists());
    }
}
