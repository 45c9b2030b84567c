//! The person who signs in: their browser, the redirect that brings it back, the page they see.

pub mod browser;
pub mod page;
pub mod port_holder;
pub mod redirect;
pub mod stay;
