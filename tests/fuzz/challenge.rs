//! `WWW-Authenticate`: what was written as RFC 9110 has it is read as it was meant, and no other text becomes a value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::challenge_of;

type Read = Vec<(&'static str, String)>;

const OTHER: &[u8] = b"Basic realm=\"x\"";

fuzz_target!(|input: &[u8]| {
    written(input);
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let Some(read) = challenge_of(&lines) else { return };
    let is_ours = |name: &str| matches!(name, "bearer" | "dpop");
    let others = read.iter().filter(|(name, _)| *name == "only_other").count();
    // A scheme is named, or its parameters are nobody's.
    if !read.iter().any(|(name, _)| is_ours(name)) {
        assert_eq!(others, read.len(), "{read:?}");
    } else {
        assert_eq!(others, 0, "{read:?}");
    }
    for (name, value) in &read {
        if is_ours(name) {
            continue;
        }
        assert!(!value.is_empty(), "{name} is empty");
        // Nothing is made up.
        if !input.contains(&b'\\') && !value.contains('\u{fffd}') {
            assert!(lines.iter().any(|line| contains(line, value.as_bytes())), "{name} {value:?}");
        }
    }
    // Another scheme takes nothing and gives nothing.
    assert_eq!(ours(&[&[OTHER][..], &lines].concat()), own(&read), "before");
    assert_eq!(ours(&[&lines, &[OTHER][..]].concat()), own(&read), "after");
    // The first value counts.
    assert_eq!(ours(&[&lines, &[OTHER][..], &lines].concat()), own(&read), "twice");
});

fn own(read: &Read) -> Read {
    read.iter().filter(|(name, _)| *name != "only_other").cloned().collect()
}

fn ours(lines: &[&[u8]]) -> Read {
    own(&challenge_of(lines).unwrap())
}

fn contains(line: &[u8], value: &[u8]) -> bool {
    line.windows(value.len().max(1)).any(|part| part == value)
}

/// Writes challenges of which the input gives schemes, names and values, and reads them again.
fn written(input: &[u8]) {
    const SCHEMES: [&str; 4] = ["Bearer", "DPoP", "Basic", "x-own"];
    const NAMES: [&str; 6] = ["resource_metadata", "scope", "error", "error_description", "realm", "nonce"];
    let mut header = String::new();
    let mut expected = [const { Vec::<(&str, String)>::new() }; 2];
    let mut scheme = None;
    for part in input.split(|byte| *byte == b'\n').take(16) {
        let Some((kind, text)) = part.split_first() else { continue };
        if !text.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return;
        }
        let text = std::str::from_utf8(text).unwrap();
        let kind = usize::from(*kind);
        if kind >= 0x80 || scheme.is_none() {
            scheme = Some(kind % SCHEMES.len());
            header += if header.is_empty() { "" } else { ", " };
            header += SCHEMES[kind % SCHEMES.len()];
            header += " realm=x";
        }
        let name = NAMES[kind / SCHEMES.len() % NAMES.len()];
        let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
        header += &format!(", {name}=\"{quoted}\"");
        let ours = scheme.and_then(|scheme| expected.get_mut(scheme));
        if let Some(ours) = ours
            && !["realm", "nonce"].contains(&name)
            && !text.is_empty()
            && !ours.iter().any(|(known, _)| *known == name)
        {
            ours.push((name, text.to_owned()));
        }
    }
    let [bearer, dpop] = &expected;
    let read = challenge_of(&[header.as_bytes()]).unwrap();
    for name in &NAMES[..4] {
        let find = |all: &[(&str, String)]| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        assert_eq!(find(&read), find(bearer).or_else(|| find(dpop)), "{name} in {header}");
    }
}
