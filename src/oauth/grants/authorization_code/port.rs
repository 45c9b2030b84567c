//! Which port the redirect comes to (RFC 8252 §7.3), and the wait for another instance that has it.

use std::{collections::HashSet, io, sync::Arc, time::Duration};

use log::{info, warn};
use reqwest::Url;

use crate::oauth::{
    attempt::AuthorizationAttempt,
    client,
    context::Context,
    credential::Credential,
    error::Error,
    person::{
        port_holder,
        redirect::{Listener, Place, sibling},
    },
};

/// Ports tried from the derived one on, as npm does.
const PORTS: u16 = 8;
/// Ports tried after one that the user named and another program holds.
const NEXT_PORTS: u16 = 16;
/// Ports that browsers do not go to, of those from 3335 on (WHATWG Fetch §2.9, port blocking).
const BLOCKED: [u16; 15] = [3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080];
/// Pause between checks whether another instance has finished its sign-in, as npm does.
const CHECK_PAUSE: Duration = Duration::from_millis(250);
/// How long another instance's sign-in is waited for before the next port is tried, where a user finds something to open.
const SHORT_FOLLOWING: Duration = Duration::from_secs(1);
/// The same where no other port is left: as long as in the npm package.
const LONG_FOLLOWING: Duration = Duration::from_secs(180);

/// Returns where the redirect comes to, apart from the port.
pub(super) fn place(context: &Context, path: &str) -> Place {
    Place {
        host: context.settings.callback_host.clone(),
        path: path.to_owned(),
        server_hash: context.store.server_hash().to_owned(),
    }
}

/// What came of binding a port.
pub(super) enum Bound {
    /// It is this process's.
    Alone(Listener),
    /// The same, and another instance of mcp-remote signs in at this other port meanwhile.
    Beside(Listener, u16),
    /// The other one has signed in.
    SignedIn,
}

/// Binds the callback port. Where another instance signs in at it, as one of the npm package does, its sign-in is waited
/// for, in all for a moment, and then the next port is taken.
pub(super) async fn bind(context: &Context, attempt: &AuthorizationAttempt) -> Result<Bound, Error> {
    let server = &attempt.discovered.server;
    let fixed = client::fixed(&context.settings, server).is_some();
    let path = client::redirect_path(&context.settings, &context.store, server);
    let place = place(context, &path);
    if let Some(named) = context.settings.callback_port.filter(|named| BLOCKED.contains(named)) {
        warn!("browsers block connections to callback port {named}");
    }
    let stored = client::stored_redirect_uris(&context.store, server, &path);
    let stored: Vec<u16> = stored.iter().filter_map(Url::port).collect();
    let ports = ports(context.settings.callback_port, fixed, &stored, context.store.derived_port());
    let mut first = None;
    let mut followed = None;
    for port in &ports {
        match Listener::bind(&place, *port) {
            Ok(listener) => {
                if let (Some(named), true) = (context.settings.callback_port, first.is_some()) {
                    let holder = port_holder::of(named).map(|holder| format!(" by {holder}")).unwrap_or_default();
                    warn!("callback port {named} is in use{holder}; using {port} and registering again");
                }
                return Ok(match followed {
                    Some(other) => Bound::Beside(listener, other),
                    None => Bound::Alone(listener),
                });
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::AddrInUse
                    && followed.is_none()
                    && port_holder::may_be_ours(*port)
                    && sibling(*port, context.store.server_hash()).await
                {
                    followed = Some(*port);
                    let longest = if ports.len() == 1 { LONG_FOLLOWING } else { SHORT_FOLLOWING };
                    match follow(context, attempt, &place, *port, longest).await {
                        Followed::SignedIn => return Ok(Bound::SignedIn),
                        Followed::Gone(listener) => return Ok(Bound::Alone(listener)),
                        Followed::StillThere => {}
                    }
                }
                first.get_or_insert_with(|| Error::Port {
                    port: *port,
                    source: Arc::new(error),
                    holder: port_holder::of(*port),
                });
            }
        }
    }
    Err(first.unwrap_or_else(|| Error::Local("there is no callback port to try".to_owned())))
}

/// Returns the ports to try, in order.
fn ports(named: Option<u16>, fixed: bool, stored: &[u16], derived: u16) -> Vec<u16> {
    let ports: Vec<u16> = match (named, fixed) {
        // A client made elsewhere names its redirect URI: another port is another URI.
        (Some(named), true) => return vec![named],
        (None, true) => return vec![derived],
        (Some(named), false) => (0..=NEXT_PORTS).filter_map(|step| named.checked_add(step)).collect(),
        (None, false) => stored.iter().copied().chain((0..PORTS).map(|step| derived + step)).collect(),
    };
    let mut seen = HashSet::new();
    ports.into_iter().filter(|port| !BLOCKED.contains(port) && seen.insert(*port)).collect()
}

/// The result of another instance's sign-in.
enum Followed {
    SignedIn,
    /// It is gone, and its port is bound now.
    Gone(Listener),
    /// It holds its port.
    StillThere,
}

/// Waits for an npm mcp-remote that signs in on this port: its tokens are used, or its port once it is gone.
async fn follow(
    context: &Context,
    attempt: &AuthorizationAttempt,
    place: &Place,
    port: u16,
    longest: Duration,
) -> Followed {
    info!("another mcp-remote process is signing in on callback port {port}; waiting for it");
    attempt.progress.another_asks(None);
    let ended = tokio::time::timeout(longest, async {
        loop {
            if attempt.newer(context).is_some() {
                return Followed::SignedIn;
            }
            if let Ok(listener) = Listener::bind(place, port) {
                return Followed::Gone(listener);
            }
            tokio::time::sleep(CHECK_PAUSE).await;
        }
    });
    ended.await.unwrap_or(Followed::StillThere)
}

/// Waits until another instance has left its port: then it no longer asks anybody.
pub(super) async fn left(context: &Context, port: u16) {
    let place = place(context, &context.settings.callback_path);
    while Listener::bind(&place, port).is_err() {
        tokio::time::sleep(CHECK_PAUSE).await;
    }
}

/// Returns the credential that another instance has obtained, once it has.
pub(super) async fn signed_in_elsewhere(context: &Context, attempt: &AuthorizationAttempt) -> Credential {
    loop {
        if let Some(newer) = attempt.newer(context) {
            return newer;
        }
        tokio::time::sleep(CHECK_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_registration_then_derivation_without_blocked_ones() {
        assert_eq!(
            ports(None, false, &[4000, 4000, 3336], 3335),
            [4000, 3336, 3335, 3337, 3338, 3339, 3340, 3341, 3342]
        );
        assert_eq!(ports(None, false, &[6667], 6664), [6664, 6670, 6671]);
    }

    #[test]
    fn named_port_is_only_one_for_client() {
        assert_eq!(ports(Some(9000), true, &[4000], 3335), [9000]);
        assert_eq!(ports(None, true, &[4000], 3335), [3335]);
        let next = ports(Some(65530), false, &[4000], 3335);
        assert_eq!(next, [65530, 65531, 65532, 65533, 65534, 65535]);
    }
}
