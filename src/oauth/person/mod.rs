//! The user's side of a sign-in: the browser, the redirect that comes back from it, and the page that it shows.

pub(crate) mod browser;
pub(crate) mod page;
pub(crate) mod port_holder;
pub(crate) mod redirect;
pub(crate) mod stay;
pub(crate) mod tabs;
