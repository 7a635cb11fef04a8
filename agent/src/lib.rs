//! The spoke's agent as a library: `store` keeps versions, `pull` fills it, `commands` is what people call by hand.

pub mod commands;
pub mod pull;
pub mod store;
