//! The words that users read: README, manual, messages in the code, help. No word that the glossary has replaced, no long
//! sentence, no link that leads nowhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::kept;

/// Words of an older text, and what stands in their place. A word that ends in `*` is the beginning of one.
const REPLACED: &[(&str, &str)] = &[
    ("way back", "redirect, callback port"),
    ("who we are", "client ID, client registration"),
    ("registers us", "registers mcp-remote as a client"),
    ("copies of mcp-remote", "instances"),
    ("another copy", "another mcp-remote process"),
    ("npm's", "the npm package"),
    ("hurdle*", "obstacle"),
    ("remedy", "workaround"),
    ("stand-in", "placeholder"),
    ("comes about", "is established"),
    ("come about", "be established"),
    ("comes to its end", "completes"),
    ("goes out again", "is resent"),
    ("nearer to", "on a private network"),
    ("the very", ""),
    ("such ones", ""),
    ("that is none", ""),
    ("'s sake", ""),
    ("in vain", ""),
    ("aloud", ""),
    ("whoever", ""),
    ("nobody", "name the actor"),
    ("somebody", "name the actor"),
    ("for ever", "forever"),
    ("in the place of", "instead of"),
    ("in place of", "instead of"),
    ("time-out", "timeout"),
    ("not any more", "no longer"),
    ("revision*", "protocol version"),
    ("is told", "is reported"),
    ("metadata are", "metadata is"),
    ("metadata name", "metadata names"),
    ("honour*", "honor"),
    ("colour*", "color"),
    ("recognise*", "recognize"),
    ("behaviour*", "behavior"),
    ("we", "mcp-remote"),
    ("us", "mcp-remote"),
    ("our", "mcp-remote's"),
    ("ours", "mcp-remote's"),
    ("ourselves", "mcp-remote"),
    ("server's address", "server URL"),
    ("os error", "words for the reason"),
];

/// Longest sentence, in words.
const LONGEST: usize = 30;
/// Largest README, in bytes.
const README_SIZE: usize = 14 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with this extension below a folder of the repository.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// README, topics and pages of codes: name and text.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md")];
    paths.extend(files("src/help", "md"));
    assert!(paths.len() > 80, "the manual is there: {}", paths.len());
    paths
        .into_iter()
        .map(|path| (path.strip_prefix(root()).unwrap().display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The texts of string literals outside tests, with the number of their line.
fn literals(source: &str) -> Vec<(usize, String)> {
    let tests = ["\n#[cfg(test)]", "\n#[cfg(all(test,"].iter().filter_map(|attribute| source.find(attribute)).min();
    let source = &source[..tests.unwrap_or(source.len())];
    let bytes = source.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("'\"'") || rest.starts_with("'\\") {
            at += 3;
        } else if let Some(raw) = rest.strip_prefix("r#\"") {
            let end = raw.find("\"#").unwrap();
            found.push((source[..at].lines().count(), raw[..end].to_owned()));
            at += end + 5;
        } else if rest.starts_with('"') {
            let mut end = 1;
            while bytes[at + end] != b'"' {
                end += if bytes[at + end] == b'\\' { 2 } else { 1 };
            }
            found.push((source[..at].lines().count(), rest[1..end].to_owned()));
            at += end + 1;
        } else {
            at += rest.chars().next().unwrap().len_utf8();
        }
    }
    found
}

/// The first word of the list in a text, as it stands there or with a capital. A `*` stands for any end.
fn replaced(text: &str) -> Option<(&'static str, &'static str)> {
    let is_part = |one: Option<char>| one.is_some_and(|one| one.is_alphanumeric() || one == '_');
    let has = |word: &str, any_end: bool| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            (word.starts_with('\'') || !is_part(before)) && (any_end || !is_part(after))
        })
    };
    REPLACED.iter().copied().find(|(entry, _)| {
        let word = entry.trim_end_matches('*');
        let capital = word[..1].to_uppercase() + &word[1..];
        has(word, word != *entry) || has(&capital, word != *entry)
    })
}

#[test]
fn glossary_finds_words_and_no_parts_of_words() {
    assert!(replaced("the way back is closed").is_some());
    assert!(replaced("for npm's sake").is_some());
    assert!(replaced("We send it").is_some());
    assert!(replaced("status of your hours, for every US server; previous answers").is_none());
}

#[test]
fn documents_use_words_of_glossary() {
    let mut found = Vec::new();
    let mut documents = documents();
    for path in ["CHANGELOG.md", ".github/SECURITY.md", ".github/CONTRIBUTING.md"] {
        documents.push((path.to_owned(), fs::read_to_string(root().join(path)).unwrap()));
    }
    for (name, text) in documents {
        for (number, line) in text.lines().enumerate() {
            if let Some((word, instead)) = replaced(line) {
                found.push(format!("{name}:{}: {word:?} -> {instead:?}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}\n{}", found.len(), found.join("\n"));
}

#[test]
fn messages_use_words_of_glossary() {
    let mut found = Vec::new();
    for path in files("src", "rs") {
        if path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let source = fs::read_to_string(&path).unwrap();
        for (line, text) in literals(&source) {
            // What is no sentence is a name, a path or part of the protocol.
            if text.split_whitespace().count() < 3 {
                continue;
            }
            if let Some((word, instead)) = replaced(&text) {
                let path = path.strip_prefix(root()).unwrap().display();
                found.push(format!("{path}:{line}: {word:?} -> {instead:?}: {text}"));
            }
        }
    }
    assert!(found.is_empty(), "{}\n{}", found.len(), found.join("\n"));
}

#[test]
fn help_uses_words_of_glossary() {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).env_clear().envs(kept()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let mut texts: Vec<String> = ["", "login", "logout", "status", "client", "finish", "bundle", "help", "explain"]
        .into_iter()
        .map(|command| {
            let words: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
            run(env!("CARGO_BIN_EXE_mcp-remote"), &words)
        })
        .collect();
    texts.push(run(env!("CARGO_BIN_EXE_mcp-remote-client"), &["--help"]));
    for text in texts {
        assert!(text.contains("Usage: "), "{text}");
        for line in text.lines() {
            assert_eq!(replaced(line), None, "{line}");
        }
    }
}

/// The sentences of a document, in words each: running text, items of lists, cells of tables.
fn sentences(markdown: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut in_code = false;
    let mut continues = false;
    for line in markdown.lines() {
        let text = line.trim();
        if text.starts_with("```") {
            in_code = !in_code;
            continues = false;
        } else if in_code || text.starts_with('#') || text.is_empty() || text.starts_with("![") {
            continues = false;
        } else if text.starts_with('|') {
            blocks.extend(text.split('|').map(|cell| cell.trim().to_owned()));
            continues = false;
        } else {
            let item = text.strip_prefix("- ").or_else(|| {
                let (number, item) = text.split_once(". ")?;
                number.bytes().all(|byte| byte.is_ascii_digit()).then_some(item)
            });
            match (item, blocks.last_mut()) {
                (None, Some(block)) if continues => *block = format!("{block} {text}"),
                (item, _) => blocks.push(item.unwrap_or(text).to_owned()),
            }
            continues = true;
        }
    }
    let mut sentences = Vec::new();
    for block in blocks {
        // One code span counts as one word.
        let mut text = String::new();
        for (index, part) in block.split('`').enumerate() {
            text.push_str(if index % 2 == 1 { "CODE" } else { part });
        }
        let mut rest = text.as_str();
        while let Some(end) = [". ", "? ", "! ", ".** ", ": "].iter().filter_map(|mark| rest.find(mark)).min() {
            sentences.push(rest[..end].to_owned());
            rest = rest[end + 1..].trim_start_matches(['*', ' ', '.']);
        }
        sentences.push(rest.to_owned());
    }
    sentences.retain(|sentence| sentence.split_whitespace().count() > 1);
    sentences
}

#[test]
fn sentences_are_short() {
    let mut long = Vec::new();
    let (mut count, mut words) = (0, 0);
    for (name, text) in documents() {
        for sentence in sentences(&text) {
            let length = sentence.split_whitespace().count();
            count += 1;
            words += length;
            if length > LONGEST {
                long.push(format!("{name}: {length}: {sentence}"));
            }
        }
    }
    println!("{count} sentences, {:.1} words on average", words as f64 / count as f64);
    assert!(long.is_empty(), "{}\n{}", long.len(), long.join("\n"));
    assert!(words <= 20 * count, "{words} words in {count} sentences");
}

#[test]
fn readme_fits_its_limit() {
    let size = fs::metadata(root().join("README.md")).unwrap().len();
    assert!(size <= README_SIZE as u64, "{size} bytes");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (name, text) in documents() {
        let folder = root().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let path = link.split('#').next().unwrap();
            assert!(folder.join(path).exists(), "{name}: {link}");
        }
    }
}

#[test]
fn set_up_commands_of_readme_are_run_by_ci() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, development) = readme.split_once("\n## Development\n").unwrap();
    let commands: Vec<_> = development.lines().filter(|line| line.starts_with("cargo ")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let ci = fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in commands {
        let (_, arguments) = command.split_once(' ').unwrap();
        let (verb, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
        let step = format!("step cargo {verb} --locked {rest}");
        assert!(ci.lines().any(|line| line == step.trim_end()), "{step}");
    }
}
