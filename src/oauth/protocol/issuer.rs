//! Names of authorization servers, and when two of them are the same.

/// Compares issuers that were stored, as npm does: one slash at the end is forgiven. A published document must name
/// its issuer to the letter (RFC 8414 §3.3; [`super::discovery`]).
pub(crate) fn same_issuer(one: &str, other: &str) -> bool {
    one == other || one.strip_suffix('/') == Some(other) || other.strip_suffix('/') == Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slash_at_the_end_is_forgiven() {
        for (one, other, same) in [
            ("https://a", "https://a", true),
            ("https://a/", "https://a", true),
            ("https://a", "https://a/", true),
            ("https://a//", "https://a", false),
            ("https://a/t", "https://a", false),
            ("https://A", "https://a", false),
            ("https://a.example", "https://a.example.evil", false),
        ] {
            assert_eq!(same_issuer(one, other), same, "{one} {other}");
        }
    }
}
