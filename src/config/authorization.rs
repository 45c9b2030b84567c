//! How to obtain authorization, and with which grant.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;

use crate::{secret::Secret, surroundings::Surroundings};

/// How to obtain authorization where the server asks for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authorization {
    /// Port of the redirect, if the user named one.
    pub callback_port: Option<u16>,
    /// Host name in the redirect URI.
    pub callback_host: String,
    /// Path of the redirect URI.
    pub callback_path: String,
    /// How long a host's request waits for a person.
    pub timeout: Duration,
    /// Where the browser goes after success.
    pub success_url: Option<Url>,
    /// The resource indicator (RFC 8707).
    pub resource: Resource,
    /// Added to the authorization request.
    pub authorize_params: Vec<(String, String)>,
    /// Merged into the registration (RFC 7591 §2).
    pub client_metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// A registration made elsewhere: `client_id` and perhaps `client_secret`.
    pub client_info: Option<Secret<serde_json::Map<String, serde_json::Value>>>,
    /// A client id metadata document.
    pub client_metadata_url: Option<Url>,
    /// Send the id token in place of the access token.
    pub use_id_token: bool,
    /// Go on where the authorization server does not say that it knows S256 (`--assume-pkce`).
    pub assume_pkce: bool,
    /// The authorization server that this client and its secrets belong to (`--issuer`).
    pub issuer: Option<String>,
    /// Hosts of sign-in pages that may be of another site than their authorization server (`--sign-in-host`).
    pub sign_in_hosts: Vec<String>,
    /// Whether the server's metadata may name addresses nearer than the server is
    /// (`--allow-private-addresses`).
    pub private_addresses: bool,
    /// Whether tokens are bound to a key (RFC 9449).
    pub dpop: Dpop,
    /// Print the address and open no browser.
    pub no_browser: bool,
    /// What a sign-in would be for.
    pub occasion: Occasion,
    /// Endpoints that the user has given, so that nothing is looked up.
    pub endpoints: Option<Endpoints>,
    /// Where we run, as far as a browser cares.
    pub surroundings: Surroundings,
    /// Which grant.
    pub grant: Grant,
}

/// What a sign-in is for, from the least to the most of a user's own wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Occasion {
    /// A host's requests: a refresh that fails leads to a sign-in only if another one would fail, too.
    #[default]
    Host,
    /// A user watches the outcome (`mcp-remote-client`): any refresh that fails leads to a sign-in.
    Watched,
    /// A user has asked the host for the sign-in: so it is, and what failed before is tried again.
    Asked,
    /// A user has asked for this very sign-in at a terminal (`mcp-remote login`): it begins anew, whatever is stored,
    /// and nothing else waits for it.
    Login,
}

/// Endpoints of an authorization server that publishes no metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// For the browser.
    pub authorization: Url,
    /// For grants.
    pub token: Url,
}

/// The resource indicator to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Resource {
    /// What the server publishes.
    #[default]
    Published,
    /// What the user says.
    Named(String),
    /// None.
    Omitted,
}

impl Resource {
    /// Returns what the user says.
    pub(crate) fn named(&self) -> Option<&str> {
        match self {
            Self::Named(named) => Some(named),
            Self::Published | Self::Omitted => None,
        }
    }
}

/// Whether tokens are bound to a key of ours (RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dpop {
    /// If the server or the authorization server asks for it
    #[default]
    Auto,
    /// Always
    Require,
    /// Never
    Off,
}

/// The OAuth grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Grant {
    /// RFC 6749 §4.1, in a browser.
    #[default]
    AuthorizationCode,
    /// RFC 8628.
    DeviceCode,
    /// RFC 6749 §4.4.
    ClientCredentials {
        /// Where, if the server's metadata are not to be asked.
        token_endpoint: Option<Url>,
        /// File with the private key (PEM) that signs the client's assertions (RFC 7523 §2.2),
        /// in place of a client secret.
        key: Option<PathBuf>,
    },
    /// Enterprise-managed authorization (MCP extension): an identity provider's ID-JAG is the grant.
    IdJag {
        /// File with the identity token of the person, read afresh each time.
        token: PathBuf,
        /// Token endpoint of the identity provider.
        token_endpoint: Url,
        /// Who we are to the identity provider.
        client_id: String,
    },
    /// Workload identity (SEP-1933, a proposal): the platform's assertion is the grant (RFC 7523 §2.1).
    WorkloadIdentity(AssertionSource),
}

/// What a grant implies outside its own file.
#[derive(Clone, Copy, Debug)]
struct Implied<'a> {
    name: &'static str,
    token_files: &'static str,
    needs_person: bool,
    has_redirect: bool,
    takes_assertions: bool,
    signs_assertions: bool,
    token_endpoint: Option<&'a Url>,
    identity_provider: Option<&'a Url>,
}

impl<'a> Implied<'a> {
    /// A grant that asks nobody, and whose tokens are in files that begin with this.
    const fn unattended(name: &'static str, token_files: &'static str) -> Self {
        Self {
            name,
            token_files,
            needs_person: false,
            has_redirect: false,
            takes_assertions: false,
            signs_assertions: false,
            token_endpoint: None,
            identity_provider: None,
        }
    }

    const fn of_person(name: &'static str) -> Self {
        Self { needs_person: true, ..Self::unattended(name, "") }
    }
}

impl Grant {
    /// What the names of token files begin with, for each grant without a person.
    pub(crate) const TOKEN_FILES: [&'static str; 3] = ["client_credentials_", "enterprise_", "workload_"];

    /// The only place that tells grants apart, apart from their own files.
    fn implied(&self) -> Implied<'_> {
        let [client_credentials, enterprise, workload] = Self::TOKEN_FILES;
        match self {
            Self::AuthorizationCode => Implied { has_redirect: true, ..Implied::of_person("authorization_code") },
            Self::DeviceCode => Implied::of_person("device_code"),
            Self::ClientCredentials { token_endpoint, key } => Implied {
                token_endpoint: token_endpoint.as_ref(),
                signs_assertions: key.is_some(),
                ..Implied::unattended("client_credentials", client_credentials)
            },
            Self::IdJag { token_endpoint, .. } => Implied {
                takes_assertions: true,
                identity_provider: Some(token_endpoint),
                ..Implied::unattended("enterprise", enterprise)
            },
            Self::WorkloadIdentity(_) => {
                Implied { takes_assertions: true, ..Implied::unattended("workload_identity", workload) }
            }
        }
    }

    /// Returns its name, in files and for people.
    pub(crate) fn name(&self) -> &'static str {
        self.implied().name
    }

    /// Returns what the names of its token files begin with.
    pub(crate) fn token_files(&self) -> &'static str {
        self.implied().token_files
    }

    /// Whether a person signs in.
    pub(crate) fn needs_person(&self) -> bool {
        self.implied().needs_person
    }

    /// Whether a browser is redirected to this machine.
    pub(crate) fn has_redirect(&self) -> bool {
        self.implied().has_redirect
    }

    /// Whether it sends an assertion from outside, which may name another account the next time.
    pub(crate) fn takes_assertions(&self) -> bool {
        self.implied().takes_assertions
    }

    /// Whether the client proves who it is by assertions that it signs (RFC 7523 §2.2).
    pub(crate) fn signs_assertions(&self) -> bool {
        self.implied().signs_assertions
    }

    /// Returns the token endpoint that is used instead of the one in the server's metadata.
    pub(crate) fn token_endpoint(&self) -> Option<&Url> {
        self.implied().token_endpoint
    }

    /// Returns the endpoints that the user has named, which may be anywhere.
    pub(crate) fn named_endpoints(&self) -> Vec<&Url> {
        let implied = self.implied();
        implied.token_endpoint.into_iter().chain(implied.identity_provider).collect()
    }
}

/// Where a platform's assertion comes from, read afresh each time since platforms rotate them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AssertionSource {
    /// A file.
    File(PathBuf),
    /// What a program prints; started without a shell.
    Command {
        /// Which.
        program: String,
        /// With these.
        arguments: Vec<String>,
    },
}
