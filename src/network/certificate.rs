//! What a server's certificate says (RFC 5280), trusted or not.
//!
//! # Invariants
//!
//! - This module only reads: nothing here trusts a certificate.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::FromDer as _,
    time::ASN1Time,
    x509::{X509Name, X509Version},
};

use crate::text;

/// Most names of a certificate that are kept: a content network's has hundreds.
const MOST_NAMES: usize = 100;

/// What a server's certificate says (RFC 5280).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateInfo {
    /// Who signed it: organization and common name.
    pub issuer: String,
    /// Whose it is, in the same form.
    pub subject: String,
    /// The names and addresses it is good for (RFC 5280 §4.2.1.6).
    pub names: Vec<String>,
    /// Good from here on.
    pub not_before: Timestamp,
    /// Good until here.
    pub not_after: Timestamp,
    /// Whether it has the old format without extensions (RFC 5280 §4.1.2.1).
    pub is_version_1: bool,
    /// Whether it is a certificate authority's (RFC 5280 §4.2.1.9).
    pub is_authority: bool,
}

impl CertificateInfo {
    /// Returns whether the certificate names itself as its issuer.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.issuer == self.subject
    }

    /// Returns why a computer does not trust the certificate, in words that follow the certificate.
    pub(crate) fn distrust(&self) -> String {
        if self.is_self_signed() {
            format!("is self-signed (subject: {})", self.subject)
        } else {
            format!("was issued by {}, which this computer does not trust", self.issuer)
        }
    }

    /// Reads a certificate, trusted or not.
    ///
    /// # Errors
    /// What is wrong with its encoding.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let time = |time: ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string());
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(fit(name)),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        });
        Ok(Self {
            issuer: readable(parsed.issuer()),
            subject: readable(parsed.subject()),
            names: names.take(MOST_NAMES).collect(),
            not_before: time(parsed.validity().not_before)?,
            not_after: time(parsed.validity().not_after)?,
            is_version_1: parsed.version() == X509Version::V1,
            is_authority: parsed.is_ca(),
        })
    }
}

/// Whether a certificate's dates include now (RFC 5280 §4.1.2.5).
pub(crate) fn is_in_force(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    now.is_some_and(|now| parsed.validity().is_valid_at(now))
}

/// `O / CN`, or what there is of both; else everything.
fn readable(name: &X509Name<'_>) -> String {
    let organization = name.iter_organization().next().and_then(|part| part.as_str().ok());
    let common = name.iter_common_name().next().and_then(|part| part.as_str().ok());
    match (organization, common) {
        (Some(organization), Some(common)) if organization != common => {
            format!("{} / {}", fit(organization), fit(common))
        }
        (Some(one), _) | (None, Some(one)) => fit(one),
        (None, None) => fit(name.to_string()),
    }
}

/// A stranger's words as one line of text.
fn fit(text: impl AsRef<[u8]>) -> String {
    text::one_line(text.as_ref())
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::Ipv6Addr::from(bytes).to_string());
    four.or_else(|_| sixteen()).ok()
}
