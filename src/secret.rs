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
    /// Wraps a value.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value itself: from here on the caller answers for it.
    pub(crate) const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_in_debug_output_is_hidden() {
        #[derive(Debug)]
        struct Held {
            _token: Secret<&'static str>,
        }
        let held = Held { _token: Secret::new("hunter2") };
        assert_eq!(format!("{held:?}"), "Held { _token: [secret] }");
    }
}
