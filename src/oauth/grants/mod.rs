//! The grants, each in its file: what is sent, and what comes of it. And the two ends of what they give: refresh and
//! revocation.

pub mod authorization_code;
pub mod client_credentials;
pub mod device_code;
pub mod id_jag;
pub mod refresh;
pub mod revocation;
pub mod workload_identity;
