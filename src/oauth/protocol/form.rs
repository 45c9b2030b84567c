//! The form that requests to authorization servers are sent as (RFC 6749 Appendix B; WHATWG URL §5).

use reqwest::Url;

/// Names and values, in order.
pub(crate) type Form = Vec<(String, String)>;

/// Returns a form of these members.
pub(crate) fn of(members: &[(&str, &str)]) -> Form {
    members.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn encode(form: &Form) -> String {
    let mut url = blank();
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

pub(crate) fn encode_one(text: &str) -> String {
    let mut url = blank();
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_owned()
}

pub(crate) fn decode(body: &[u8]) -> Form {
    let mut url = blank();
    url.set_query(std::str::from_utf8(body).ok());
    url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
}

/// Returns a URL whose query is the form, because the url crate has the encoding.
fn blank() -> Url {
    #[expect(clippy::unwrap_used, reason = "a constant")]
    Url::parse("data:,").unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_survives_encoding() {
        let form = of(&[("a b", "1&2=ü+~*"), ("c", "")]);
        assert_eq!(encode(&form), "a+b=1%262%3D%C3%BC%2B%7E*&c=");
        assert_eq!(decode(encode(&form).as_bytes()), form);
        assert_eq!(encode_one("s3 cr&t:%"), "s3+cr%26t%3A%25");
    }
}
