//! The authenticated door.

pub(crate) mod authority;
