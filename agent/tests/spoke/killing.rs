//! The real binary, killed at random moments: whatever a runtime reads under `current` was verified, always.

use std::{
    fs::File,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nave_proto::v1::entry_report::Phase;

use crate::{
    hub::TOKEN,
    site::{Site, snapshot},
};

/// Killed and reaped when it goes out of scope.
struct Process(Child);

impl Process {
    fn start(site: &Site) -> Self {
        let log = File::options().create(true).append(true).open(site.dir.path().join("agent.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_nave-agent"))
            .args(["run", "--http-listen", "127.0.0.1:0", "--cluster", "bridge-a12"])
            .args(["--hub", &format!("127.0.0.1:{}", site.port)])
            .args(["--ca-hash", &site.hub.ca.hash.to_string()])
            .arg("--state-dir")
            .arg(site.state_dir())
            .env("NAVE_JOIN_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn terminate(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_never_shows_an_unverified_file_and_arrives() {
    let site = Site::new().await;
    let weights = |version: u8| vec![version; 3_000_000];
    let mut generation = 0;
    let mut told = 0;
    for round in 0..20_u64 {
        if round % 4 == 0 {
            generation += 1;
            told = u8::try_from(generation).unwrap();
            let entry = site.publish(&told.to_string(), &weights(told));
            site.hub.tell(snapshot(generation, &[entry])).await;
        }
        let process = Process::start(&site);
        // Different moments of start, join, pull, stage, switch and tidy.
        tokio::time::sleep(Duration::from_millis(20 + round * 37 % 400)).await;
        process.kill();
        if let Some(served) = site.served("defects") {
            let version = served[0];
            assert!(served == weights(version), "round {round}: a torn file is served");
            assert!(version <= told, "round {round}");
        }
    }
    let sessions = site.hub.sessions();
    let process = Process::start(&site);
    site.hub.until("the last session", |hub| (hub.sessions() > sessions).then_some(())).await;
    site.hub.until_phase("defects", &told.to_string(), Phase::Serving).await;
    assert_eq!(site.served("defects"), Some(weights(told)));
    let status = process.terminate();
    assert!(status.success(), "{status}");
}
