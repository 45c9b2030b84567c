//! Providers that differ from the standards: a table of what is known, and what is done about it.

pub(crate) mod remedies;
pub(crate) mod table;
