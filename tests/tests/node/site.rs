//! What every node test starts from: a node, or a clear line why there is none.

use std::io::Write;

use nave_tests::node::{self, Node, Parts};

/// Starts a node; `None` = this machine cannot be one, which has been said. In CI that is a failure.
pub(crate) fn start() -> Option<Node> {
    if let Some(why) = node::missing() {
        assert!(std::env::var_os("CI").is_none(), "{why}");
        std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes()).unwrap();
        return None;
    }
    let parts = Parts::find(env!("CARGO_BIN_EXE_node_tool")).unwrap();
    node::clean(&parts.cache).unwrap();
    Some(Node::start(parts).unwrap())
}
