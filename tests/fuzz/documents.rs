//! Documents and answers of authorization servers: what is read and written again is read as the same, whatever is said
//! of them is one line, and nothing is taken for another party's.

#![no_main]

mod alike;
mod shown;

use libfuzzer_sys::fuzz_target;
use mcp_remote::internals::{
    device_authorization_of, library_token_response, metadata_of, places_of, registration_of, resource_metadata_of,
    token_response_of,
};
use serde_json::{Map, Value};

const STATUSES: [u16; 8] = [200, 201, 204, 302, 400, 401, 429, 503];
/// RFC 8259 §8.1.
const MARK: &[u8] = b"\xef\xbb\xbf";
const ASKED: &str = "https://mcp.example:8443/a/b?k=1#f";

fuzz_target!(|input: &[u8]| {
    let Some((kind, body)) = input.split_first() else { return };
    let status = STATUSES[usize::from(*kind) / 8 % STATUSES.len()];
    match kind % 8 {
        0 => again(body, metadata_of),
        1 => again(body, resource_metadata_of),
        2 => registration(status, body),
        3 => tokens(status, body),
        4 => places(ASKED, body),
        _ => {
            // The first line is the URL.
            let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
            let (url, rest) = body.split_at(end);
            places(&String::from_utf8_lossy(url), rest);
        }
    }
});

fn again(body: &[u8], read: fn(&[u8]) -> Result<String, String>) {
    let marked = [MARK, body].concat();
    match read(body) {
        Ok(written) => {
            assert_eq!(read(written.as_bytes()).as_ref(), Ok(&written));
            if !body.starts_with(MARK) {
                assert_eq!(read(&marked).as_ref(), Ok(&written), "with a byte order mark");
            }
        }
        Err(told) => shown::assert_is_line(&told),
    }
}

fn registration(status: u16, body: &[u8]) {
    match registration_of(status, body) {
        Ok(info) => {
            let read: Map<String, Value> = serde_json::from_slice(&info).unwrap();
            assert_eq!(read["issuer"], "https://as.example");
            assert!(read["client_id"].is_string() || read["client_id"].is_number());
            alike::assert_alike(&registration_of(201, &info).unwrap(), &info);
        }
        Err(told) => shown::assert_is_line(&told),
    }
}

fn tokens(status: u16, body: &[u8]) {
    match token_response_of(status, body) {
        Ok(response) => {
            alike::assert_alike(&token_response_of(200, &response).unwrap(), &response);
            if let Some(members) = library_token_response(&response) {
                let read: Value = serde_json::from_slice(&members).unwrap();
                let given: Value = serde_json::from_slice(&response).unwrap();
                for name in ["access_token", "refresh_token", "expires_in", "id_token"] {
                    assert_eq!(read.get(name), given.get(name), "{name}");
                }
                alike::assert_alike(&library_token_response(&members).unwrap(), &members);
            }
            _ = device_authorization_of(&response);
        }
        Err(told) => {
            shown::assert_is_line(&told);
            assert!(!told.contains("hush"), "{told}");
        }
    }
}

fn places(url: &str, body: &[u8]) {
    let Some(places) = places_of(url, body) else { return };
    let find = |wanted: &str| places.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
    let origin_of = |url: &str| places_of(url, b"")?.into_iter().find(|(name, _)| *name == "origin");
    let (origin, canonical) = (find("origin").unwrap(), find("canonical").unwrap());
    if !canonical.starts_with("http://") && !canonical.starts_with("https://") {
        return; // no server has such a URL
    }
    assert!(!canonical.contains(['?', '#']), "{canonical}");
    let again = places_of(canonical, b"").unwrap();
    assert!(again.contains(&("canonical", canonical.to_owned())), "{canonical} becomes {again:?}");
    for (name, place) in &places {
        match *name {
            "origin" => {}
            "resource" => {
                let (_, of) = origin_of(place).expect("a resource is a URL");
                let host = |text: &str| text.split_once("://").unwrap().1.split(':').next().unwrap().to_owned();
                assert_eq!(host(&of), host(origin), "{place}");
                assert!(!place.contains('#'), "{place}");
            }
            _ => assert_eq!(origin_of(place).unwrap().1, origin, "{name} {place}"),
        }
    }
}
