//! The real binary, killed at random moments: whatever a runtime reads under `current` was verified, always.

use std::time::Duration;

use nave_proto::v1::entry_report::Phase;

use crate::{
    process::Process,
    site::{Site, snapshot},
};

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
        let process = Process::start(&site, None);
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
    let process = Process::start(&site, None);
    site.hub.until("the last session", |hub| (hub.sessions() > sessions).then_some(())).await;
    site.hub.until_phase("defects", &told.to_string(), Phase::Serving).await;
    assert_eq!(site.served("defects"), Some(weights(told)));
    let status = process.terminate();
    assert!(status.success(), "{status}");
}
