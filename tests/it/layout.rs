//! The layout of `src`: arrows between files, and between the modules at the top, point one way.
//!
//! A file is a module; a `mod.rs` and the files of its folder count as one another's relatives, between which arrows may
//! go both ways. Paths are followed through re-exports, and unit tests are left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A module's path from the crate's root.
type Module = Vec<String>;
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

#[test]
fn file_dependencies_form_no_cycle() {
    let arrows = arrows();
    assert!(arrows.len() > 100, "src was not found: {} files", arrows.len());
    assert_eq!(circles(&arrows), Vec::<Vec<String>>::new());
}

#[test]
fn top_module_dependencies_form_no_cycle() {
    let mut tops = Arrows::new();
    for (from, targets) in arrows() {
        let top = tops.entry(from[..1].to_vec()).or_default();
        top.extend(targets.into_iter().filter(|to| to[0] != from[0]).map(|to| to[..1].to_vec()));
    }
    assert_eq!(circles(&tops), Vec::<Vec<String>>::new());
}

#[test]
fn maps_list_modules_from_top_down() {
    let arrows = arrows();
    for (map, folder) in [("src/lib.rs", &[][..]), ("src/oauth/mod.rs", &["oauth"])] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(map)).unwrap();
        let declared = text.lines().filter_map(|line| line.rsplit_once("mod ")?.1.strip_suffix(';'));
        let order: Vec<_> = declared.collect();
        let place = |module: &Module| {
            let name =
                module.strip_prefix(&*folder.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?.first()?;
            Some(order.iter().position(|declared| declared == name).expect("module is on the map"))
        };
        let upward: BTreeSet<_> = arrows
            .iter()
            .flat_map(|(from, targets)| targets.iter().map(move |to| (from, to)))
            .filter(|(from, to)| matches!((place(from), place(to)), (Some(from), Some(to)) if from > to))
            .map(|(from, to)| format!("{} uses {}", from.join("::"), to.join("::")))
            .collect();
        assert_eq!(upward, BTreeSet::new(), "{map}");
    }
}

#[test]
fn protocol_knows_neither_store_nor_settings() {
    let arrows = arrows();
    let protocol = arrows.iter().filter(|(module, _)| module.starts_with(&["oauth".to_owned(), "protocol".to_owned()]));
    let used: BTreeSet<&str> = protocol.flat_map(|(_, targets)| targets).map(|target| &*target[0]).collect();
    assert!(used.contains("oauth"));
    for module in ["config", "description", "observer", "store"] {
        assert!(!used.contains(module), "oauth::protocol uses {module}");
    }
}

#[test]
fn checker_finds_cycle_through_re_export() {
    let sources = [
        (&["a"][..], "use crate::b::Name; fn f() { let text = \"crate::c::X\"; } // crate::c::X"),
        (&["b"], "mod inner; pub(crate) use self::inner::Name;"),
        (&["b", "inner"], "pub(crate) struct Name; fn f() { crate::c::g() }"),
        (&["c"], "use crate::{a::{self, F}, d}; #[cfg(test)] mod tests { use crate::e::X; }"),
        (&["d"], "pub(crate) fn f() {}"),
        (&["e"], "use crate::c;"),
    ];
    let sources =
        sources.map(|(module, text)| (module.iter().map(|name| (*name).to_owned()).collect(), text.to_owned()));
    let arrows = arrows_of(&sources.into_iter().collect());
    assert_eq!(circles(&arrows), [["a", "b::inner", "c"]]);
}

fn arrows() -> Arrows {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    read(&root, &mut Vec::new(), &mut sources);
    arrows_of(&sources)
}

fn read(folder: &Path, module: &mut Module, sources: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_root = module.is_empty() && ["lib", "main", "bin"].contains(&&*name);
        if is_root || name == "tests" {
            continue;
        }
        if path.is_dir() {
            module.push(name);
            read(&path, module, sources);
            module.pop();
        } else {
            let mut module = module.clone();
            module.extend((name != "mod").then_some(name));
            sources.insert(module, fs::read_to_string(&path).unwrap());
        }
    }
}

fn arrows_of(sources: &BTreeMap<Module, String>) -> Arrows {
    let mut uses: BTreeMap<&Module, Vec<Module>> = BTreeMap::new();
    let mut exported: BTreeMap<(Module, String), Module> = BTreeMap::new();
    for (module, text) in sources {
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            let mut paths = Vec::new();
            if tokens[at] == "use" {
                let public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                at = tree(&tokens, at + 1, &Vec::new(), &mut paths);
                let paths: Vec<_> = paths.into_iter().filter_map(|path| absolute(module, path, sources)).collect();
                if public {
                    let names = paths.iter().filter_map(|path| Some((path.last()?.clone(), path.clone())));
                    exported.extend(names.map(|(name, path)| ((module.clone(), name), path)));
                }
                uses.entry(module).or_default().extend(paths);
            } else if ["crate", "super"].contains(&&*tokens[at])
                && tokens.get(at + 1).is_some_and(|token| token == "::")
            {
                at = tree(&tokens, at, &Vec::new(), &mut paths);
                let paths = paths.into_iter().filter_map(|path| absolute(module, path, sources));
                uses.entry(module).or_default().extend(paths);
            }
            at += 1;
        }
    }
    let are_relatives = |one: &Module, other: &Module| {
        one.split_last().is_some_and(|(_, parent)| parent == other.as_slice())
            || other.split_last().is_some_and(|(_, parent)| parent == one.as_slice())
    };
    sources
        .keys()
        .map(|module| {
            let paths = uses.remove(module).unwrap_or_default();
            let targets = paths.into_iter().filter_map(|path| home(path, sources, &exported));
            let targets = targets.filter(|target| target != module && !are_relatives(module, target));
            (module.clone(), targets.collect())
        })
        .collect()
}

/// Identifiers and punctuation, without comments, literals and unit tests.
fn tokens(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)] mod ").next().unwrap().split("#[cfg(test)]\nmod tests {").next().unwrap();
    let bytes = text.as_bytes();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let rest = &text[at..];
        let first = bytes[at];
        at += if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = 2 + hashes;
            start + rest[start..].find(&end).unwrap_or(0) + end.len()
        } else if first == b'"' {
            let mut length = 1;
            while bytes.get(at + length).is_some_and(|byte| *byte != b'"') {
                length += if bytes[at + length] == b'\\' { 2 } else { 1 };
            }
            length + 1
        } else if let Some(escaped) = rest.strip_prefix("'\\") {
            2 + escaped.find('\'').map_or(0, |end| if end == 0 { 2 } else { end + 1 })
        } else if first == b'\'' && rest.chars().nth(2) == Some('\'') {
            2 + rest.chars().nth(1).map_or(0, char::len_utf8)
        } else if first.is_ascii_alphanumeric() || first == b'_' {
            let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
            tokens.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            let character = rest.chars().next().unwrap();
            tokens.extend((!character.is_whitespace()).then(|| character.to_string()));
            character.len_utf8()
        };
    }
    tokens
}

/// How many hashes a raw string has, if one begins here.
fn raw_string(text: &str) -> Option<usize> {
    let rest = text.strip_prefix('r')?;
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// Reads the tree of a `use`, or a path in an expression, from `at`; returns where it ends.
fn tree(tokens: &[String], mut at: usize, prefix: &Module, paths: &mut Vec<Module>) -> usize {
    let mut path = prefix.clone();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, &path, paths);
                    if tokens.get(at).is_some_and(|token| token == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some("*") => {
                paths.push(path);
                return at + 1;
            }
            Some(name) => path.push(name.to_owned()),
            None => return at,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    if path.last().is_some_and(|name| name == "self") && path.len() > 1 {
        path.pop();
    }
    paths.push(path);
    if tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    at
}

/// A path from the crate's root; `None` for another crate's.
fn absolute(module: &Module, path: Module, sources: &BTreeMap<Module, String>) -> Option<Module> {
    let mut base = module.clone();
    let mut names = path.into_iter().peekable();
    match names.peek()?.as_str() {
        "crate" => {
            base.clear();
            names.next();
        }
        "self" => _ = names.next(),
        "super" => {
            while names.next_if(|name| name == "super").is_some() {
                base.pop();
            }
        }
        first => {
            base.push(first.to_owned());
            let is_child = sources.contains_key(&base);
            base.pop();
            if !is_child {
                return None;
            }
        }
    }
    base.extend(names);
    Some(base)
}

/// The module that a path leads to.
fn home(
    path: Module,
    sources: &BTreeMap<Module, String>,
    exported: &BTreeMap<(Module, String), Module>,
) -> Option<Module> {
    let length = (1..=path.len()).rev().find(|length| sources.contains_key(&path[..*length]))?;
    let module = path[..length].to_vec();
    let again = path.get(length).and_then(|name| exported.get(&(module.clone(), name.clone())));
    match again {
        Some(target) if *target != path => {
            home(target.iter().chain(&path[length + 1..]).cloned().collect(), sources, exported)
        }
        _ => Some(module),
    }
}

/// The circles, each with its modules in order.
fn circles(arrows: &Arrows) -> Vec<Vec<String>> {
    // Modules that reach each other: small enough for the plain way.
    let reach: BTreeMap<&Module, BTreeSet<&Module>> = arrows
        .keys()
        .map(|from| {
            let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(module) = open.pop() {
                open.extend(arrows.get(module).into_iter().flatten().filter(|to| seen.insert(*to)));
            }
            (from, seen)
        })
        .collect();
    let circles: BTreeSet<Vec<String>> = arrows
        .keys()
        .filter(|module| reach[*module].contains(module))
        .map(|module| {
            let circle =
                reach[module].iter().filter(|other| reach.get(**other).is_some_and(|back| back.contains(module)));
            circle.map(|other| other.join("::")).collect()
        })
        .collect();
    circles.into_iter().collect()
}
