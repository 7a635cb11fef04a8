//! Tests of `table`: statuses give way to assignments. What is sent to the API server is what the client's service is given.

use std::convert::Infallible;

use kube::{Client, client::Body, runtime::watcher::Event};
use nave_crds::EdgeClusterSpec;
use nave_names::Digest;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::*;
use crate::watch::testing::{self, Asked, Writers, refusal};

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

fn opening() -> Opening {
    let (not_after, key) = (Timestamp::UNIX_EPOCH, Digest::of(b"key"));
    Opening { agent_version: "1".into(), generation: 0, not_after, key }
}

fn table(world: World) -> Table {
    let grace_period = Duration::from_secs(30);
    Table::new(world, "hub-0".into(), grace_period, Precedence::default(), GatewayMetrics::default())
}

#[tokio::test]
async fn a_spoke_is_lost_after_the_grace_period_and_not_before() {
    let table = table(testing::world().0);
    let name = ClusterName::new("a").unwrap();
    table.open(&name, 1, opening());
    let link = || table.current(&name).map(|observed| observed.link);
    assert_eq!(link(), Some(Link::Up));
    table.close(&name, 1);
    assert_eq!(link(), Some(Link::Down));
    let down_for = |seconds| {
        let since = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        table.state().spokes.get_mut(&name).unwrap().down_since = Some(since);
    };
    down_for(29);
    assert_eq!(link(), Some(Link::Down));
    assert!(table.state().schedule.next().is_some(), "it is looked at again");
    down_for(30);
    assert_eq!(link(), Some(Link::Lost));
    table.open(&name, 2, opening());
    assert_eq!(link(), Some(Link::Up));
}

#[tokio::test]
async fn the_end_of_a_session_that_a_newer_one_replaced_is_no_news() {
    let table = table(testing::world().0);
    let name = ClusterName::new("a").unwrap();
    table.open(&name, 1, opening());
    table.open(&name, 2, opening());
    table.close(&name, 1);
    assert_eq!(table.current(&name).unwrap().link, Link::Up);
}

/// The store was behind: when it has caught up, there may be nothing to write, or something else.
#[tokio::test]
async fn a_status_that_another_was_faster_with_is_looked_at_again() {
    for code in [409, 422, 500] {
        let (mut world, mut stores) = testing::world();
        world.client = testing::server(&Asked::default(), move |_, _| refusal(code));
        stores.clusters.apply_watcher_event(&Event::Apply(cluster()));
        let table = table(world);
        let name = ClusterName::new("a").unwrap();
        table.open(&name, 1, opening());
        assert_eq!(table.look(&name).await, Ended::Failed, "{code}");
    }
}
