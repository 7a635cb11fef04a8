//! Tests of `table`: statuses give way to assignments. What is sent to the API server is what the client's service is given.

use std::convert::Infallible;

use kube::{Client, client::Body, runtime::watcher::Event};
use nave_crds::EdgeClusterSpec;
use nave_names::Digest;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::watch::testing::{self, Writers};

/// After so long a test that waits for a write has failed.
const HUNG: Duration = Duration::from_secs(60);

/// A table that writes, and what it sent.
struct Writing {
    table: Table,
    sent: UnboundedReceiver<String>,
    _stores: Writers,
}

fn cluster() -> EdgeCluster {
    EdgeCluster::new("a", EdgeClusterSpec::default())
}

/// Starts a table of this precedence, with one cluster whose status is still empty.
fn start(precedence: Precedence) -> Writing {
    let (sender, sent) = mpsc::unbounded_channel();
    let store = move |request: http::Request<Body>| {
        sender.send(format!("{} {}", request.method(), request.uri().path())).unwrap();
        let stored = Body::from(serde_json::to_vec(&cluster()).unwrap());
        async { Ok::<_, Infallible>(http::Response::new(stored)) }
    };
    let (mut world, mut stores) = testing::world();
    world.client = Client::new(tower::service_fn(store), "default");
    stores.clusters.apply_watcher_event(&Event::Apply(cluster()));
    let grace_period = Duration::from_secs(30);
    let table = Table::new(world, "hub-0".into(), grace_period, precedence, GatewayMetrics::default());
    tokio::spawn(table.clone().run(CancellationToken::new()));
    Writing { table, sent, _stores: stores }
}

impl Writing {
    /// The cluster's spoke connects, and the writer has taken its status up.
    async fn connect(&self) {
        let cluster = ClusterName::new("a").unwrap();
        let (not_after, key) = (Timestamp::UNIX_EPOCH, Digest::of(b"key"));
        self.table.open(&cluster, 1, Opening { agent_version: "1".into(), generation: 0, not_after, key });
        while self.table.state().schedule.next().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // One thread runs all tasks: what can go on without waiting has gone on after this.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn next(&mut self) -> Option<String> {
        tokio::time::timeout(HUNG, self.sent.recv()).await.unwrap()
    }
}

const STATUS: &str = "PATCH /apis/nave.dev/v1alpha1/edgeclusters/a/status";

#[tokio::test]
async fn no_status_is_sent_while_assignments_are_written() {
    let precedence = Precedence::within(HUNG * 2);
    let mut writing = start(precedence.clone());
    let telling = precedence.tell();
    writing.connect().await;
    assert_eq!(writing.sent.try_recv().ok(), None);
    drop(telling);
    assert_eq!(writing.next().await.as_deref(), Some(STATUS));
}

#[tokio::test]
async fn a_status_does_not_give_way_for_ever() {
    let precedence = Precedence::within(Duration::from_millis(1));
    let mut writing = start(precedence.clone());
    let _for_ever = precedence.tell();
    writing.connect().await;
    assert_eq!(writing.next().await.as_deref(), Some(STATUS));
}

#[tokio::test]
async fn a_status_is_sent_at_once_where_nothing_is_being_written() {
    let mut writing = start(Precedence::within(HUNG * 2));
    writing.connect().await;
    assert_eq!(writing.sent.try_recv().ok().as_deref(), Some(STATUS));
}
