//! A hub, an S3 server, and a site that reaches them over its uplink only.

use std::time::Duration;

use nave_tests::{
    HubSettings, Spoke, SpokeSettings, Stack, StackSettings,
    net::{self, DelayRelay, Lab, OUTSIDE_ADDRESS, Uplink},
};

/// Links are slow here, and compilers may run beside.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The parts, in the order in which they end.
pub(crate) struct Site {
    hub: DelayRelay,
    pub(crate) objects: DelayRelay,
    pub(crate) stack: Stack,
    pub(crate) lab: Lab,
}

/// The lab, or `None` with a line that says what is missing; in CI nothing may be missing.
pub(crate) fn start_lab(nodes: usize, uplink: Uplink) -> Option<Lab> {
    if let Some(missing) = net::missing() {
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    Some(Lab::start(nodes, uplink).unwrap())
}

impl Site {
    /// `delay` is that of one direction.
    pub(crate) async fn start(lab: Lab, delay: Duration, heartbeat: &'static str) -> Self {
        let server_name = Some(OUTSIDE_ADDRESS);
        let hub = HubSettings { heartbeat, grace_period: "60s", server_name, ..HubSettings::default() };
        let mut stack = Stack::start_with(StackSettings { hub, ..StackSettings::default() }).await.unwrap();
        let hub = DelayRelay::start(stack.hub.address().parse().unwrap(), delay).await.unwrap();
        let objects = stack.s3.endpoint().trim_start_matches("http://").parse().unwrap();
        let objects = DelayRelay::start(objects, delay).await.unwrap();
        stack.use_endpoint(&format!("http://{}", objects.address()));
        Self { hub, objects, stack, lab }
    }

    /// An agent on a node, connected; labelled with the site and with its own name.
    pub(crate) async fn spoke(&self, node: usize, shares: bool) -> Spoke {
        let join = self.stack.join_instructions().await.unwrap();
        let name = format!("node-{node}");
        let settings = SpokeSettings::joining(&name, &self.hub.address().to_string(), &join);
        let mut settings = settings.label("site", "a12").label("node", &name);
        settings.namespace = Some(Lab::namespace(node));
        if shares {
            settings.extra = format!("peer: {{listen: \"{}:7445\"}}\n", Lab::address(node));
        }
        self.stack.spoke_with(&settings).await.unwrap()
    }
}
