//! Tests of `limiter`: the cap, the ranks and the windows that all pulls of a spoke share.

use std::sync::Arc;

use futures::{FutureExt as _, poll};
use jiff::SignedDuration;

use super::*;
use crate::pull::recovery::tests::closed;

const SERVE: Rank = Rank { priority: Priority::Serve, size: 10 };
const PREFETCH: Rank = Rank { priority: Priority::Prefetch, size: 1 };

fn capped(rate: u64) -> Arc<Limiter> {
    let limiter = Limiter::new(8);
    limiter.set_limits(&Limits { max_bytes_per_second: Some(rate), windows: vec![] });
    Arc::new(limiter)
}

#[tokio::test]
async fn the_cap_holds_over_all_who_spend() {
    let limiter = capped(10_000_000);
    let start = Instant::now();
    let spenders = (0..4).map(|_| {
        let limiter = Arc::clone(&limiter);
        tokio::spawn(async move {
            for _ in 0..25 {
                limiter.spend(SERVE, 40_000).await;
            }
        })
    });
    for spender in spenders.collect::<Vec<_>>() {
        spender.await.unwrap();
    }
    assert!(start.elapsed() >= Duration::from_millis(380), "{:?} for 0.4 s worth", start.elapsed());
}

#[tokio::test]
async fn what_is_to_be_served_goes_first() {
    let limiter = capped(1_000_000);
    limiter.spend(PREFETCH, 100_000).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let spend = |rank: Rank| {
        let (limiter, order) = (Arc::clone(&limiter), Arc::clone(&order));
        tokio::spawn(async move {
            limiter.spend(rank, 300_000).await;
            order.lock().unwrap().push(rank.priority);
        })
    };
    let (prefetch, serve) = (spend(PREFETCH), spend(SERVE));
    prefetch.await.unwrap();
    serve.await.unwrap();
    assert_eq!(*order.lock().unwrap(), [Priority::Serve, Priority::Prefetch]);
}

#[tokio::test]
async fn whoever_waits_longer_does_not_go_before_the_better_rank() {
    let limiter = capped(1 << 20);
    let (first, second) = (limiter.slot(SERVE).await, limiter.slot(SERVE).await);
    let (mut prefetch, mut serve) = (pin!(limiter.slot(PREFETCH)), pin!(limiter.slot(SERVE)));
    assert!(poll!(&mut prefetch).is_pending() && poll!(&mut serve).is_pending());
    drop(first);
    assert!(poll!(&mut prefetch).is_pending(), "a place is free, and not for this one");
    assert!(poll!(&mut serve).is_ready());
    drop(second);
    assert!(poll!(&mut prefetch).is_ready());
}

#[tokio::test]
async fn bytes_that_may_be_spent_are_the_better_ranks() {
    let limiter = capped(1_000_000);
    let (mut prefetch, mut serve) =
        (pin!(limiter.spend(PREFETCH, 500_000)), pin!(limiter.spend(SERVE, 500_000)));
    assert!(poll!(&mut prefetch).is_pending() && poll!(&mut serve).is_pending());
    sleep(Duration::from_millis(1_100)).await;
    assert!(poll!(&mut prefetch).is_pending(), "there is something to spend, and not for this one");
    assert!(poll!(&mut serve).is_ready());
    assert!(poll!(&mut prefetch).is_ready());
}

#[tokio::test]
async fn a_closed_window_is_closed_to_all_who_ask() {
    let limiter = Limiter::new(8);
    assert!(limiter.is_open() && limiter.has_room());
    assert!(limiter.open().now_or_never().is_some() && limiter.closed().now_or_never().is_none());
    limiter.set_limits(&closed());
    assert!(!limiter.is_open() && !limiter.has_room());
    assert!(limiter.open().now_or_never().is_none() && limiter.closed().now_or_never().is_some());
}

#[tokio::test]
async fn other_limits_are_heard_by_who_waits_already() {
    let limiter = Limiter::new(8);
    limiter.set_limits(&closed());
    let mut open = pin!(limiter.open());
    assert!(poll!(&mut open).is_pending());
    limiter.set_limits(&Limits::default());
    assert!(poll!(&mut open).is_ready());
    let mut ended = pin!(limiter.closed());
    assert!(poll!(&mut ended).is_pending());
    limiter.set_limits(&closed());
    assert!(poll!(&mut ended).is_ready());
}

#[tokio::test]
async fn a_window_ends_at_its_end_and_when_the_clock_is_set() {
    let limiter = Limiter::new(8);
    limiter.set_limits(&closed());
    let now = Instant::now();
    // As it was found a while ago, in the window that has just ended.
    let ended = Gate::Open(Some(Timestamp::now() - SignedDuration::from_millis(1)));
    limiter.lock().gate = Some((ended, now));
    assert!(!limiter.is_open());
    // As it was found before somebody set the clock.
    let later = Gate::Open(Some(Timestamp::now() + SignedDuration::from_hours(1)));
    limiter.lock().gate = Some((later, now - CLOCK_CHECK));
    assert!(!limiter.is_open());
    let days = |days: i64| Some(Timestamp::now() + SignedDuration::from_hours(24 * days));
    assert_eq!([clock_wait(days(2)), clock_wait(None)], [CLOCK_CHECK; 2], "the clock is looked at meanwhile");
    assert_eq!(clock_wait(days(-1)), Duration::ZERO);
}

#[tokio::test]
async fn after_a_pause_no_more_comes_at_once_than_a_tenth_of_a_seconds_worth() {
    let limiter = capped(1_000_000);
    let mut state = limiter.lock();
    let later = Instant::now() + Duration::from_secs(3_600);
    assert_eq!(state.wait(later), Duration::ZERO);
    state.tokens -= 1_100_000.0;
    assert_eq!(state.wait(later).as_millis(), 1_000);
}

#[tokio::test]
async fn a_cancelled_wait_blocks_nobody() {
    let limiter = capped(1 << 20);
    let first = limiter.slot(SERVE).await;
    let second = limiter.slot(SERVE).await;
    let waiting = tokio::time::timeout(Duration::from_millis(50), limiter.slot(SERVE)).await;
    assert!(waiting.is_err(), "two ranges at this rate");
    drop((first, second));
    assert_eq!(limiter.in_flight(), 0);
    let _third = limiter.slot(PREFETCH).await;
    assert_eq!(limiter.in_flight(), 1);
}
