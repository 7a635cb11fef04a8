//! The spoke's agent as a library: `session` talks to the hub, `execute` drives what was told, `pull` fills the `store`,
//! `peers` shares it with the
//! other spokes of the site, `import` fills it without a network, `activate` gives versions to runtimes. `app` wires them; `commands` is what people call by hand.

mod accelerators;
pub mod activate;
pub mod app;
pub mod args;
pub mod commands;
pub mod config;
pub mod execute;
pub mod facts;
pub mod identity;
pub mod import;
pub mod metrics;
pub mod observed;
pub mod peers;
pub mod pull;
pub mod session;
pub mod state;
pub mod store;
