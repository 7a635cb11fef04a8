//! A link of 2 Mbit/s that is 300 ms long, there and back, and loses 2% of its packets: what the site allows holds on it, pulls
//! complete, and the hub hears every spoke in time while they fill it.

use std::{net::IpAddr, time::Duration};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use nave_tests::{
    Stack,
    net::{Delivered, Lab, Uplink},
    weights,
};

use crate::site::{Site, start_lab};

/// What one spoke may fetch a second: below what the link carries.
const CAP: u64 = 160 << 10;
/// Windows open and close at full minutes. Until then, the capped pull is to be under way for some 20 s.
const LEAD: i64 = 25;
/// Until then buffers on the way fill, which the cap has no part in, s.
const SETTLED: i64 = 5;
/// What one spoke fetches without a cap, bytes; 10 s of the whole link.
const SMALL: u64 = 2_000_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "waits for full minutes and needs a calm machine: make net"]
async fn net_a_bad_link_is_enough_limits_hold_on_it_and_heartbeats_are_in_time() {
    let Some(lab) = start_lab(2, Uplink { rate: "2mbit", loss: 2 }) else { return };
    let site = Site::start(lab, Duration::from_millis(150), "3s").await;
    let (capped, waiting) = tokio::join!(site.spoke(0, false), site.spoke(1, false));
    let small = publish(&site.stack, "small", SMALL).await;

    // One window closes when the other opens.
    let minute = full_minute_after(Timestamp::now() + LEAD.seconds());
    limit(&site.stack, "node-0", Some(CAP), Some((minute - 2.minutes(), minute))).await;
    limit(&site.stack, "node-1", None, Some((minute, minute + 10.minutes()))).await;
    let seconds = u64::try_from(minute.duration_since(Timestamp::now()).as_secs()).unwrap();
    let large = publish(&site.stack, "large", CAP * (seconds + 3)).await;
    site.stack.place("large", "large", "1", &[("node", "node-0")]).await.unwrap();
    site.stack.place("small", "small", "1", &[("node", "node-1")]).await.unwrap();
    until(minute + 3.seconds()).await;

    let delivered = site.objects.delivered();
    let to = |node| Delivery::of(&delivered, node);
    let (settled, last) = (to(0).first() + SETTLED.seconds(), to(0).last());
    assert!(last < minute + 1.second(), "{last}, the window closed at {minute}");
    assert!(last > minute - 5.seconds(), "{last} was the last of it, the window closed at {minute} only");
    let (bytes, took) = (to(0).bytes_after(settled), last.duration_since(settled).as_secs_f64());
    let rate = bytes as f64 / took;
    let opened = to(1).first();
    println!(
        "{rate:.0} bytes a second of {CAP} for {took:.1} s; window closed at {minute}: last bytes {last}, first {opened}"
    );
    assert!(took > 6.0, "{took} s are too short to say anything of a rate");
    assert!(rate <= CAP as f64 * 1.05, "{bytes} bytes in {took} s: {rate} bytes a second");
    assert!(
        rate >= CAP as f64 * 0.85,
        "{bytes} bytes in {took} s: {rate} bytes a second, much less than allowed"
    );
    assert!(opened >= minute, "{opened}, the window opened at {minute}");
    assert!(opened < minute + 1.second(), "{opened}, the window opened at {minute}");

    limit(&site.stack, "node-0", None, None).await;
    site.stack.wait_serving(waiting.cluster(), "small", &small).await.unwrap();
    site.stack.wait_serving(capped.cluster(), "large", &large).await.unwrap();
    let (beats, in_time) = heartbeats(&site.stack).await;
    println!("{in_time} of {beats} heartbeats in time");
    assert!(beats >= 16.0, "{beats} heartbeats");
    assert!(beats == in_time, "{in_time} of {beats} heartbeats came within their period");
}

/// What went to one node.
struct Delivery(Vec<Delivered>);

impl Delivery {
    fn of(all: &[Delivered], node: usize) -> Self {
        let address: IpAddr = Lab::address(node).parse().unwrap();
        let ours: Vec<_> = all.iter().filter(|delivered| delivered.to == address).copied().collect();
        assert!(!ours.is_empty(), "nothing went to node {node}");
        Self(ours)
    }

    fn first(&self) -> Timestamp {
        self.0[0].at
    }

    fn last(&self) -> Timestamp {
        self.0[self.0.len() - 1].at
    }

    fn bytes_after(&self, time: Timestamp) -> u64 {
        self.0.iter().filter(|delivered| delivered.at > time).map(|delivered| delivered.bytes).sum()
    }
}

async fn publish(stack: &Stack, model: &str, size: u64) -> String {
    let folder = stack.folder().join(model);
    weights::write_random(&folder.join("model.bin"), size, size).unwrap();
    stack.publish(&folder, model, "1").await.unwrap()
}

/// Sets the limits of a site, by the clock of Greenwich.
async fn limit(stack: &Stack, cluster: &str, cap: Option<u64>, window: Option<(Timestamp, Timestamp)>) {
    let time = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    let window = window
        .map(|(start, end)| serde_json::json!({"start": time(start), "end": time(end), "timeZone": "UTC"}));
    let windows: Vec<_> = window.into_iter().collect();
    let cap = cap.map(|cap| cap.to_string());
    let patch = serde_json::json!({"spec": {"transfer": {"maxBandwidth": cap, "windows": windows}}});
    let patch = patch.to_string();
    stack.kubectl.run(&["patch", "edgecluster", cluster, "--type=merge", "-p", &patch]).await.unwrap();
}

fn full_minute_after(at: Timestamp) -> Timestamp {
    Timestamp::from_second((at.as_second() / 60 + 1) * 60).unwrap()
}

async fn until(at: Timestamp) {
    let left = at.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// How many heartbeats the hub had, and how many of them within their period.
async fn heartbeats(stack: &Stack) -> (f64, f64) {
    let metrics = reqwest::get(format!("http://{}/metrics", stack.hub.http())).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("a metric of the hub's");
        line.trim().parse::<f64>().unwrap()
    };
    let all = value("nave_gateway_heartbeat_gap_periods_count");
    (all, value("nave_gateway_heartbeat_gap_periods_bucket{le=\"1.0\"}"))
}
