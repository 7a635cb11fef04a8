//! What every node test starts from: a node, or a clear line why there is none.

use std::{io::Write, path::PathBuf};

use nave_tests::node::{self, Node, Parts};

/// Starts a node; `None` = this machine cannot be one, which has been said. In CI that is a failure.
pub(crate) fn start() -> Option<Node> {
    if let Some(why) = node::missing() {
        assert!(std::env::var_os("CI").is_none(), "{why}");
        writeln!(std::io::stderr(), "skipped: {why}").unwrap();
        return None;
    }
    let tool =
        |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set")));
    Some(
        Node::start(Parts {
            controlplane: tool("NAVE_CONTROLPLANE"),
            node: tool("NAVE_NODE"),
            kubectl: tool("NAVE_KUBECTL"),
            pause: PathBuf::from(env!("CARGO_BIN_EXE_node_tool")),
            cache: tool("NAVE_CACHE"),
        })
        .unwrap(),
    )
}

/// kubectl.
pub(crate) fn kubectl_program() -> PathBuf {
    PathBuf::from(std::env::var_os("NAVE_KUBECTL").unwrap())
}
