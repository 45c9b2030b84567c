//! Names of authorization servers, and when two of them are the same.

use reqwest::Url;

use crate::oauth::http::address::with_lost_scheme;

/// Hosts of Entra, and the first segments of the paths there that several tenants share. The documents at these name
/// no tenant: <https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc>.
const ENTRA_HOSTS: [&str; 3] =
    ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"];
const ENTRA_SHARED: [&str; 3] = ["common", "organizations", "consumers"];
/// What these documents write in the place of the tenant, the second one at `consumers`
/// (<https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference>).
const ENTRA_TENANTS: [&str; 2] = ["{tenantid}", "9188040d-6c67-4c5b-b112-36a304b66dad"];

/// Compares issuers that were stored, as npm does: one slash at the end is forgiven. A published document must name
/// its issuer to the letter (RFC 8414 §3.3; [`published_as`]).
pub(crate) fn same_issuer(one: &str, other: &str) -> bool {
    one == other || one.strip_suffix('/') == Some(other) || other.strip_suffix('/') == Some(one)
}

/// How a document names the issuer that it was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// To the letter, as RFC 8414 §3.3 demands.
    Exact,
    /// With a slash more or less at the end.
    OtherSlash,
    /// With http, although the document came over https.
    SchemeLost,
    /// As Entra's shared endpoints do: without the tenant.
    Template,
    /// As another one.
    Other,
}

/// Returns how a document about the issuer `asked` names it, if it says `published`.
pub(crate) fn published_as(asked: &str, published: &str) -> Name {
    if asked == published {
        return Name::Exact;
    }
    if same_issuer(asked, published) {
        return Name::OtherSlash;
    }
    let (Ok(asked_url), Ok(published_url)) = (Url::parse(asked), Url::parse(published)) else { return Name::Other };
    if with_lost_scheme(&asked_url, &published_url)
        .is_some_and(|regained| same_issuer(regained.as_str(), asked_url.as_str()))
    {
        return Name::SchemeLost;
    }
    if is_entra_template(&asked_url, published) { Name::Template } else { Name::Other }
}

fn is_entra_template(asked: &Url, published: &str) -> bool {
    let host = asked.host_str().filter(|host| ENTRA_HOSTS.contains(host));
    let (Some(host), "https", None) = (host, asked.scheme(), asked.port()) else { return false };
    let path = asked.path().trim_start_matches('/');
    let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    ENTRA_SHARED.contains(&first)
        && ENTRA_TENANTS.iter().any(|tenant| {
            // Version 1 of the endpoints has no second segment, and another host in its names.
            same_issuer(published, &format!("https://{host}/{tenant}{rest}"))
                || rest.trim_matches('/').is_empty()
                    && same_issuer(published, &format!("https://sts.windows.net/{tenant}"))
        })
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

    #[test]
    fn document_names_its_issuer() {
        for (asked, published, name) in [
            ("https://a/t", "https://a/t", Name::Exact),
            ("https://a/t", "https://a/t/", Name::OtherSlash),
            ("https://a/t", "http://a/t", Name::SchemeLost),
            ("https://a:8443", "http://a:8000/", Name::SchemeLost),
            ("https://a/t", "http://a", Name::Other),
            ("http://a", "https://a", Name::Other),
            ("https://a", "http://b", Name::Other),
            (
                "https://login.microsoftonline.com/organizations/v2.0",
                "https://login.microsoftonline.com/{tenantid}/v2.0",
                Name::Template,
            ),
            ("https://login.microsoftonline.com/common", "https://sts.windows.net/{tenantid}/", Name::Template),
            (
                "https://login.microsoftonline.com/consumers/v2.0",
                "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0",
                Name::Template,
            ),
            (
                "https://login.microsoftonline.com/my-tenant/v2.0",
                "https://login.microsoftonline.com/{tenantid}/v2.0",
                Name::Other,
            ),
            ("https://login.example/common/v2.0", "https://login.example/{tenantid}/v2.0", Name::Other),
        ] {
            assert_eq!(published_as(asked, published), name, "{asked} {published}");
        }
    }
}
