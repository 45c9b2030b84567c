//! What a server's certificate says (RFC 5280), trusted or not.
//!
//! # Invariants
//!
//! - This module only reads: nothing here trusts a certificate.

use std::net::Ipv4Addr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use memchr::{memchr, memmem};
use rustls::{
    CertificateError,
    pki_types::{
        CertificateDer, UnixTime,
        pem::{self, PemObject as _},
    },
};
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

/// Returns the certificates of a file in PEM form (RFC 7468), in their order.
///
/// # Errors
/// The first thing that is damaged, of whatever kind.
pub(crate) fn in_pem(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    match plain_certificates(text) {
        Some(certificates) => Ok(certificates),
        None => CertificateDer::pem_slice_iter(text).collect(),
    }
}

/// The same in a fourth of the time for a file without anything unusual, because operating systems have 150 certificates in
/// one file, and reading that is the longest part of a start.
fn plain_certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const LABEL: &[u8] = b"CERTIFICATE-----";
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let begins_line = |at: usize| at.checked_sub(1).is_none_or(|before| text[before] == b'\n');
    let (begin, end) = (memmem::Finder::new(BEGIN), memmem::Finder::new(END));
    let (mut certificates, mut base64, mut from) = (Vec::new(), Vec::new(), 0);
    while let Some(at) = begin.find(&text[from..]) {
        let at = from + at;
        let body = at + BEGIN.len() + LABEL.len();
        let behind = body + end.find(text.get(body..)?)?;
        if !begins_line(at) || !begins_line(behind) || text[at + BEGIN.len()..body] != *LABEL {
            return None;
        }
        base64.clear();
        let mut lines = &text[body..behind];
        while let Some(newline) = memchr(b'\n', lines) {
            let line = &lines[..newline];
            base64.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            lines = &lines[newline + 1..];
        }
        certificates.push(STANDARD.decode(&base64).ok()?.into());
        from = behind + END.len();
    }
    Some(certificates)
}

/// Checks that a certificate's dates include now (RFC 5280 §4.1.2.5).
///
/// # Errors
/// Which of them does not, or that they cannot be read.
pub(crate) fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Err(CertificateError::BadEncoding) };
    let now = i64::try_from(now.as_secs()).ok().and_then(|now| ASN1Time::from_timestamp(now).ok());
    let now = now.ok_or(CertificateError::BadEncoding)?;
    if now < parsed.validity().not_before {
        Err(CertificateError::NotValidYet)
    } else if now > parsed.validity().not_after {
        Err(CertificateError::Expired)
    } else {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// A section with this label, of these bytes.
    fn section(label: &str, bytes: &[u8], newline: &str) -> String {
        let base64 = STANDARD.encode(bytes);
        let lines: Vec<&str> = base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        [&format!("-----BEGIN {label}-----"), &*lines.join(newline), &format!("-----END {label}-----"), ""]
            .join(newline)
    }

    #[test]
    fn dates_say_which_side_of_them_now_is() {
        let mut params = CertificateParams::new([]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let check =
            |seconds: u64| check_dates(certificate.der(), UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        assert_eq!(check(1_577_836_799), Err(CertificateError::NotValidYet)); // 2019-12-31, 23:59:59
        assert_eq!(check(1_577_836_800), Ok(()));
        assert_eq!(check(1_893_456_000), Ok(())); // 2030-01-01
        assert_eq!(check(1_893_456_001), Err(CertificateError::Expired));
        let broken = check_dates(&CertificateDer::from(vec![0]), UnixTime::now());
        assert_eq!(broken, Err(CertificateError::BadEncoding));
    }

    #[test]
    fn pem_is_read_as_by_its_library() {
        let [one, other] = [&[1; 1000][..], &[2; 999]].map(|bytes| section("CERTIFICATE", bytes, "\n"));
        let windows = section("CERTIFICATE", &[3; 998], "\r\n");
        let key = section("PRIVATE KEY", &[4; 100], "\n");
        let texts = [
            String::new(),
            "only words\n".to_owned(),
            one.clone(),
            format!("# A root\n{one}\n# Another\n{other}{windows}# The end"),
            format!("{windows}{key}{one}"),
            format!("{one}{}", section("UNKNOWN", b"a", "\n")),
            format!("a word before {one}"),
            one.replace("\n-----END", "-----END"),
            one.replace("-----END CERTIFICATE", "-----END RSA PRIVATE KEY"),
            one.replace("AQ", "A Q"),
            one.replace("AQ", "A-"),
            one.replace("=", ""),
            one.trim_end().to_owned(),
            one[..200].to_owned(),
            format!("{one}-----BEGIN CERTIFICATE-----"),
        ];
        for text in &texts {
            let expected: Option<Vec<_>> =
                CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().ok();
            assert_eq!(in_pem(text.as_bytes()).ok(), expected, "{text}");
        }
        assert!([0, 1, 2, 3, 12].iter().all(|text| plain_certificates(texts[*text].as_bytes()).is_some()));
    }
}
