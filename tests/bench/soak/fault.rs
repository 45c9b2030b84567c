//! What the server does wrong.

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The GET stream ends between two events.
    StreamEnds,
    /// The connection of the GET stream closes within an event.
    StreamBreaks,
    /// All connections are closed, also those with a call.
    ConnectionsClosed,
    /// All connections are reset, also those with a call.
    ConnectionsReset,
    /// The server knows the session no longer.
    SessionLost,
    /// The server knows no access token any longer.
    TokensRevoked,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] = [
        Self::StreamEnds,
        Self::StreamBreaks,
        Self::ConnectionsClosed,
        Self::ConnectionsReset,
        Self::SessionLost,
        Self::TokensRevoked,
    ];

    /// Whether it ends all connections, and the calls on them.
    pub(crate) fn drops_connections(self) -> bool {
        matches!(self, Self::ConnectionsClosed | Self::ConnectionsReset)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::StreamEnds => "GET stream ended",
            Self::StreamBreaks => "GET stream broken within an event",
            Self::ConnectionsClosed => "all connections closed",
            Self::ConnectionsReset => "all connections reset",
            Self::SessionLost => "session lost",
            Self::TokensRevoked => "access tokens revoked",
        }
    }
}
