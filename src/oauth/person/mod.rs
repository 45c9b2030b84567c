//! The person who signs in: their browser, the redirect that brings it back, the page they see.

pub(crate) mod browser;
pub(crate) mod page;
pub(crate) mod port_holder;
pub(crate) mod redirect;
pub(crate) mod stay;
pub(crate) mod tabs;
