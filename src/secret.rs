//! A value that cannot be printed by accident.
//!
//! # Invariants
//!
//! - `Secret` implements neither `Display` nor `Serialize`; [`Secret::expose`] is the only way out, and marks the
//!   boundary in the code that calls it.

use std::fmt;

/// A token, a client secret, a header value.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret<T>(T);

impl<T> Secret<T> {
    /// Closes the lid.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself: from here on the caller answers for it.
    pub(crate) const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    /// ```
    /// let token = mcp_remote::secret::Secret::new("hunter2");
    /// assert_eq!(format!("{token:?}"), "[secret]");
    /// ```
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}
