//! The documents of discovery (RFC 9728 §3, RFC 8414 §3, OpenID Connect Discovery 1.0 §4).

use serde_json::{Value, json};

use super::{Addresses, Place, Resource, State, path};
use crate::support::server::{Reply, Request};

impl State {
    /// The address of the resource's metadata.
    pub(super) fn prm_url(&self) -> String {
        format!("{}{}", self.at.mcp, self.settings.prm_path.as_deref().unwrap_or("/nowhere"))
    }

    fn prm(&self) -> Value {
        let mut document = json!({"resource": self.mcp_url(), "authorization_servers": [self.issuer()]});
        (self.settings.edit_prm)(&mut document, &self.at);
        document
    }

    fn metadata(&self) -> Value {
        let Addresses { authorization, .. } = &self.at;
        let mut document = json!({
            "issuer": self.issuer(),
            "authorization_endpoint": self.endpoint("authorize"),
            "token_endpoint": self.endpoint("token"),
            "registration_endpoint": self.endpoint("register"),
            "revocation_endpoint": self.endpoint("revoke"),
            "jwks_uri": format!("{authorization}/jwks"),
            "response_types_supported": ["code"],
            "grant_types_supported": [
                "authorization_code",
                "refresh_token",
                "client_credentials",
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
            ],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": [self.settings.client_method],
        });
        if self.settings.iss_announced {
            document["authorization_response_iss_parameter_supported"] = json!(true);
        }
        if self.settings.devices {
            document["device_authorization_endpoint"] = json!(self.endpoint("device"));
            if let Some(grants) = document["grant_types_supported"].as_array_mut() {
                grants.push(json!("urn:ietf:params:oauth:grant-type:device_code"));
            }
        }
        if self.settings.dpop {
            document["dpop_signing_alg_values_supported"] = json!(["ES256"]);
        }
        if self.settings.client_method == "private_key_jwt" {
            document["token_endpoint_auth_signing_alg_values_supported"] = json!(["ES256"]);
        }
        (self.settings.edit_metadata)(&mut document, &self.at);
        document
    }

    /// What has to be named as `resource`: what the metadata say, else the server's address.
    pub(super) fn expected_resource(&self) -> Option<String> {
        match (&self.settings.resource, &self.settings.prm_path) {
            (Some(Resource::Is(resource)), _) => Some(resource.clone()),
            (Some(Resource::Absent), _) => None,
            (None, Some(_)) => self.prm()["resource"].as_str().map(Into::into),
            (None, None) => Some(self.mcp_url()),
        }
    }

    /// The document at this path, if there is one.
    pub(super) fn document(&self, at: Place, request: &Request) -> Option<Reply> {
        let asked = Some(path(request));
        let holds_metadata = at == Place::Authorization || self.settings.one_origin;
        if at == Place::Mcp && asked == self.settings.prm_path.as_deref() {
            return Some(Reply::json(self.prm()));
        }
        // The origin's own document, where that is the resource (RFC 9728 §3.3).
        if at == Place::Mcp
            && asked == Some("/.well-known/oauth-protected-resource")
            && self.settings.prm_path.is_some()
        {
            let document = self.prm();
            let resource = document["resource"].as_str().unwrap_or_default().to_ascii_lowercase();
            if resource.trim_end_matches('/') == self.at.mcp {
                return Some(Reply::json(document));
            }
        }
        (holds_metadata && asked == self.settings.metadata_path.as_deref()).then(|| Reply::json(self.metadata()))
    }
}
