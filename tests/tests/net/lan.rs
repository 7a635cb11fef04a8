//! Spokes of one site share: what goes over the uplink is about one copy.

use nave_tests::{Progress, eventually, net::Uplink, weights};

use crate::site::{LIMIT, Site, start_lab};

/// What the model has, bytes.
const SIZE: u64 = 200_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn net_five_spokes_that_start_at_once_pull_about_one_copy() {
    let Some(lab) = start_lab(5, Uplink { rate: "100mbit", loss: 0 }) else { return };
    let site = Site::start(lab, std::time::Duration::ZERO, "2s").await;
    let mut spokes = Vec::new();
    for node in 0..5 {
        spokes.push(site.spoke(node, true).await);
    }
    for spoke in &spokes {
        let what = format!("{} to say where it is reached", spoke.cluster());
        eventually(&what, LIMIT, || async {
            let object = site.stack.kubectl.json(&["get", "edgecluster", spoke.cluster()]).await?;
            Ok(Progress::when(object["status"]["peerAddress"].is_string(), (), &object["status"]))
        })
        .await
        .unwrap();
    }
    let folder = site.stack.folder().join("weights");
    weights::write_random(&folder.join("model.bin"), SIZE, 1).unwrap();
    let digest = site.stack.publish(&folder, "defects", "1").await.unwrap();
    let before = site.lab.downloaded().unwrap();
    site.stack.place("line", "defects", "1", &[("site", "a12")]).await.unwrap();
    for spoke in &spokes {
        site.stack.wait_serving(spoke.cluster(), "defects", &digest).await.unwrap();
    }
    let downloaded = site.lab.downloaded().unwrap() - before;
    println!(
        "{downloaded} bytes over the uplink for a model of {SIZE}: {:.3}",
        downloaded as f64 / SIZE as f64
    );
    assert!(downloaded <= SIZE * 11 / 10, "{downloaded} bytes over the uplink for a model of {SIZE}");
    assert!(downloaded >= SIZE, "what was not counted?");
}
