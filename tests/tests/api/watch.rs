//! `kubectl nave rollout status --watch`, while the hub's part is played: what it shows, and what ends it.

use std::{
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use nave_crds::PlacementPolicy;
use nave_tests::{Progress, eventually};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    cli::{make_new_policy, make_policy, run_in, set_status},
    server::{Server, nave},
};

/// Longer than anything here takes, but for the wait after several failed attempts to connect.
const PATIENCE: Duration = Duration::from_secs(40);

struct Watching {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    complaints: Lines<BufReader<ChildStderr>>,
}

impl Watching {
    fn start(server: &Server, kubeconfig: &Path) -> Self {
        let mut command = Command::from(nave());
        command.args(["rollout", "status", "bridges", "-n", &server.namespace, "-w"]);
        command.env("KUBECONFIG", kubeconfig).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let complaints = BufReader::new(process.stderr.take().unwrap()).lines();
        Self { process, lines, complaints }
    }

    /// Reads on until a line says this; those before it and itself.
    async fn shows(&mut self, text: &str) -> Vec<String> {
        let mut read = Vec::new();
        while !read.last().is_some_and(|line: &String| line.contains(text)) {
            let line = timeout(PATIENCE, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("nothing says {text} after {read:?}")).unwrap();
            read.push(line.unwrap_or_else(|| panic!("it ended, and nothing says {text}: {read:?}")));
        }
        read
    }

    async fn complains(&mut self) -> String {
        timeout(PATIENCE, self.complaints.next_line()).await.unwrap().unwrap().unwrap()
    }

    /// How it ends, and what it complains of on the way.
    async fn end(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap();
        let mut said = String::new();
        self.complaints.into_inner().read_to_string(&mut said).await.unwrap();
        (status, said)
    }
}

#[tokio::test]
async fn api_a_rollout_is_watched_to_its_end_or_for_a_time() {
    let server = Server::start().await;
    let mut status = run_in("Rolling", "AwaitingApproval");
    status["waitingOn"] = json!([{"rule": "Approval", "clusters": ["a", "b"], "count": 12}]);
    let policies = make_policy(&server, status).await;
    let named = format!("PlacementPolicy {}/bridges", server.namespace);
    let arguments = ["rollout", "status", "bridges", "-n", &server.namespace, "--watch", "--timeout", "1s"];
    let said = server.nave(&arguments).unwrap_err();
    let expected =
        format!("{named} is not complete after 1s: step 1 of 2: AwaitingApproval, Approval a, b and 10 more");
    assert!(said.contains(&expected), "{said}");

    for (phase, state, code, why) in [
        ("Complete", "Complete", 0, ""),
        ("RolledBack", "RolledBack", 1, "was rolled back"),
        ("Rolling", "FailureBudget", 1, "was stopped by its failure budget"),
    ] {
        set_status(&policies, run_in("Rolling", "Updating")).await;
        let mut watching = Watching::start(&server, &server.kubeconfig);
        watching.shows("step 1 of 2: Updating").await;
        set_status(&policies, run_in(phase, state)).await;
        watching.shows(&format!("step 1 of 2: {state}")).await;
        let (status, said) = watching.end().await;
        assert_eq!(status.code(), Some(code), "{state}: {said}");
        assert!(why.is_empty() || said.contains(&format!("{named} {why}")), "{said}");
    }

    set_status(&policies, run_in("Rolling", "Updating")).await;
    let mut watching = Watching::start(&server, &server.kubeconfig);
    watching.shows("Updating").await;
    policies.delete("bridges", &kube::api::DeleteParams::default()).await.unwrap();
    let (status, said) = watching.end().await;
    assert!(status.code() == Some(1) && said.contains(&format!("{named} was deleted")), "{said}");
}

#[tokio::test]
async fn api_a_watch_shows_at_once_what_there_is_and_then_what_changes() {
    let server = Server::start().await;
    let policies = make_new_policy(&server).await;
    let mut watching = Watching::start(&server, &server.kubeconfig);
    let first = watching.shows("the hub has not looked at it yet").await;
    assert_eq!(first, ["bridges: defects 2", "  the hub has not looked at it yet"]);

    set_status(&policies, run_in("Rolling", "Updating")).await;
    watching.shows("step 1 of 2: Updating").await;
    annotate(&policies, "anything").await;
    annotate(&policies, "else").await;
    set_status(&policies, run_in("Complete", "Complete")).await;
    let rest = watching.shows("Complete").await;
    let (status, said) = watching.end().await;
    assert!(status.success() && said.is_empty(), "{said}");
    let states: Vec<&String> = rest.iter().filter(|line| line.contains("step ")).collect();
    assert_eq!(states, ["  step 1 of 2: Complete"], "an annotation is no change of the rollout");
}

async fn annotate(policies: &Api<PlacementPolicy>, value: &str) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/note": value}}}));
    policies.patch("bridges", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn api_a_watch_outlives_its_connection_to_the_api_server() {
    let server = Server::start().await;
    let policies = make_policy(&server, run_in("Rolling", "Updating")).await;
    let line = Line::to(&server).await;
    let kubeconfig = server.kubeconfig_but(|config| {
        config["clusters"][0]["cluster"]["server"] = format!("https://{}", line.address).into();
    });
    let mut watching = Watching::start(&server, kubeconfig.path());
    set_status(&policies, run_in("Rolling", "Waiting")).await;
    watching.shows("step 1 of 2: Waiting").await;

    line.cut.send_replace(true);
    let lost = watching.complains().await;
    assert!(lost.starts_with("lost the connection (") && lost.ends_with("), trying again"), "{lost}");
    set_status(&policies, run_in("Rolling", "Soaking")).await;
    let refused = || async {
        let refused = line.refused.load(Ordering::SeqCst);
        Ok(Progress::when(refused >= 3, (), refused))
    };
    eventually("three attempts to connect", PATIENCE, refused).await.unwrap();
    line.cut.send_replace(false);
    watching.shows("step 1 of 2: Soaking").await;
    set_status(&policies, run_in("Complete", "Complete")).await;
    watching.shows("step 1 of 2: Complete").await;
    let (status, said) = watching.end().await;
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "what is lost is said once");
}

#[tokio::test]
async fn api_a_watch_that_is_not_allowed_ends() {
    let server = Server::start().await;
    make_policy(&server, run_in("Rolling", "Updating")).await;
    let rules = json!([{"apiGroups": ["nave.dev"], "resources": ["placementpolicies"], "verbs": ["get"]}]);
    let kubeconfig = server.kubeconfig_of("reader", rules).await;
    let mut watching = Watching::start(&server, kubeconfig.path());
    watching.shows("step 1 of 2: Updating").await;
    let (status, said) = watching.end().await;
    let expected = format!(
        "error: PlacementPolicy {}/bridges cannot be watched: placementpolicies.nave.dev \"bridges\" is forbidden: \
         User \"reader\" cannot list resource",
        server.namespace
    );
    assert!(status.code() == Some(1) && said.starts_with(&expected), "{said}");
}

/// A line to the API server that can be cut: what runs over it ends, and whoever connects is hung up on.
struct Line {
    address: String,
    cut: watch::Sender<bool>,
    refused: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Line {
    async fn to(server: &Server) -> Self {
        let mut upstream = String::new();
        server.kubeconfig_but(|config| {
            let url = config["clusters"][0]["cluster"]["server"].as_str().unwrap();
            url.strip_prefix("https://").unwrap().trim_end_matches('/').clone_into(&mut upstream);
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (cut, is_cut) = watch::channel(false);
        let refused = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(carry(listener, upstream, is_cut, Arc::clone(&refused)));
        Self { address, cut, refused, task }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    listener: TcpListener,
    upstream: String,
    mut is_cut: watch::Receiver<bool>,
    refused: Arc<AtomicUsize>,
) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        if *is_cut.borrow_and_update() {
            refused.fetch_add(1, Ordering::SeqCst);
            continue;
        }
        let (upstream, mut is_cut) = (upstream.clone(), is_cut.clone());
        tokio::spawn(async move {
            let mut far = TcpStream::connect(upstream).await.unwrap();
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = is_cut.wait_for(|cut| *cut) => {}
            }
        });
    }
}
