//! What every node test starts from: a node, or a clear line why there is none.

use std::{io::Write, path::Path};

use nave_tests::{
    Tools,
    node::{self, Node},
};

/// The static binary of this crate that pods of the tests run.
pub(crate) fn node_tool() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_node_tool"))
}

/// Starts a node; `None` = this machine cannot be one, which has been said. In CI that is a failure.
pub(crate) async fn start() -> Option<Node> {
    if let Some(why) = node::missing() {
        assert!(std::env::var_os("CI").is_none(), "{why}");
        std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
        return None;
    }
    Some(Node::start(&Tools::load().unwrap(), node_tool()).await.unwrap())
}
