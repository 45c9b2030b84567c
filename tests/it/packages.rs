//! The packages have the names that the documents say.

use std::{fs, path::Path};

use serde_json::Value;

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// The names in a document that are one of a registry or of an owner there.
fn named(document: &str) -> Vec<&str> {
    let is_name = |one: char| one.is_ascii_alphanumeric() || "@/.-".contains(one);
    let words = document.split(|one| !is_name(one)).map(|word| word.trim_matches('.'));
    words
        .map(|word| word.strip_suffix("@latest").unwrap_or(word))
        .filter(|word| {
            word.contains("mcp-remote-rs") && !word.contains("//github.com/") && !word.contains("github.com/")
        })
        .collect()
}

#[test]
fn documents_name_packages_as_they_are_made() {
    let names: Value = serde_json::from_str(&read(".packaging/names.json")).unwrap();
    let name = |of: &str| names[of].as_str().unwrap().to_owned();
    // The repository, too, has the owner's name.
    let known = [name("npm"), name("pypi"), name("homebrew"), name("image"), "mcp-remote-rs/mcp-remote".to_owned()];
    for file in ["README.md", "src/help/topics/packages.md"] {
        let document = read(file);
        let found = named(&document);
        for each in &found {
            assert!(known.iter().any(|known| known == each), "{file}: {each}");
        }
        for kind in ["npm", "pypi", "homebrew"] {
            assert!(found.contains(&&*name(kind)), "{file} does not name {}", name(kind));
        }
    }
}

/// A reader must learn that a command cannot work yet before the command fails.
#[test]
fn documents_say_whether_packages_are_published() {
    let names: Value = serde_json::from_str(&read(".packaging/names.json")).unwrap();
    let is_published = names["published"].as_bool().unwrap();
    for file in ["README.md", "src/help/topics/packages.md"] {
        let document = read(file);
        let (before, _) = document.split_once("npm install").unwrap();
        assert_eq!(before.contains("No package is published yet"), !is_published, "{file}");
    }
}
