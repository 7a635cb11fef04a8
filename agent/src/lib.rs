//! The spoke's agent as a library: `store` keeps versions, `pull` fills it.

pub mod pull;
pub mod store;
