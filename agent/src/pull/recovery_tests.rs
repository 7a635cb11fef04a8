//! Tests of `recovery`: what is done about each kind of trouble, and when it is the end.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::{FutureExt as _, future::BoxFuture, poll};
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use tokio::{sync::watch, time::Instant};

use super::*;
use crate::pull::{Limits, Priority, Progress, SignedUrl, UrlError, UrlSource, Window};

/// Gives URLs that are good for an hour, and counts how often it was asked.
#[derive(Debug, Default)]
struct Source(AtomicU32);

impl UrlSource for Source {
    fn urls<'a>(&'a self, paths: &'a [RelativePath]) -> BoxFuture<'a, Result<Vec<SignedUrl>, UrlError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let valid_for = Duration::from_secs(3_600);
        let url = |path: &RelativePath| SignedUrl {
            path: path.clone(),
            url: format!("http://s3/{path}").parse().unwrap(),
            valid_for,
        };
        let urls = paths.iter().map(url).collect();
        Box::pin(async move { Ok(urls) })
    }
}

fn recovery(patience: Duration) -> (Recovery, Arc<Source>) {
    rustls::crypto::ring::default_provider().install_default().ok();
    let source = Arc::new(Source::default());
    let recovery = Recovery {
        clients: Clients::new(None).unwrap(),
        limiter: Arc::new(Limiter::new(8)),
        urls: Urls::new(Arc::clone(&source) as Arc<dyn UrlSource>),
        meter: Meter::new(watch::channel(Progress::default()).0),
        rank: Rank { priority: Priority::Serve, size: 1 },
        patience,
        stall: Duration::from_secs(15),
    };
    (recovery, source)
}

fn path() -> RelativePath {
    RelativePath::new("model.bin").unwrap()
}

fn refused() -> Trouble {
    Trouble::Refused { status: 403, message: "AccessDenied: Request has expired".to_owned() }
}

/// A window that is closed for two days at least.
pub(in crate::pull) fn closed() -> Limits {
    let day = (Timestamp::now() + SignedDuration::from_hours(48)).to_zoned(TimeZone::UTC).weekday();
    let (start, end) = (civil::time(12, 0, 0, 0), civil::time(12, 30, 0, 0));
    let window = Window { days: vec![day], start, end, time_zone: TimeZone::UTC };
    Limits { max_bytes_per_second: None, windows: vec![window] }
}

#[tokio::test]
async fn after_a_refusal_the_next_url_is_a_new_one() {
    let (recovery, source) = recovery(Duration::from_secs(60));
    let asked = || source.0.load(Ordering::Relaxed);
    for _ in 0..2 {
        recovery.urls.get(&path()).await.unwrap();
    }
    assert_eq!(asked(), 1);
    let mut streak = Streak::default();
    recovery.recover(&path(), refused().into(), &mut streak).await.unwrap();
    recovery.urls.get(&path()).await.unwrap();
    assert_eq!(asked(), 2);
    assert_eq!(recovery.meter.now().retries, 1);
    assert!(recovery.meter.now().trouble.contains("model.bin: S3 refuses the URL with status 403"));
}

#[tokio::test]
async fn a_server_in_trouble_is_not_asked_again_at_once_and_one_that_is_overloaded_is_asked_for_less() {
    let (recovery, _) = recovery(Duration::from_secs(60));
    let rank = recovery.rank;
    let mut slots = Vec::new();
    for _ in 0..4 {
        slots.push(recovery.limiter.slot(rank).await);
    }
    for (trouble, has_room) in [
        (Trouble::Server(500), true),
        (Trouble::Connection("reset".to_owned()), true),
        (Trouble::Throttled { status: 503, retry_after: None }, false),
    ] {
        let words = trouble.to_string();
        let mut streak = Streak::default();
        let recovered = recovery.recover(&path(), trouble.into(), &mut streak).now_or_never();
        assert!(recovered.is_none(), "not at once: {words}");
        assert_eq!(recovery.limiter.has_room(), has_room, "{words}");
    }
}

#[tokio::test]
async fn who_waited_long_enough_is_told_what_it_was() {
    let (recovery, _) = recovery(Duration::ZERO);
    for (trouble, reason, words) in [
        (Trouble::Server(500), "SourceUnavailable", "model.bin: S3 failed with status 500"),
        (refused(), "AccessDenied", "Request has expired"),
    ] {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let ended = recovery.recover(&path(), trouble.into(), &mut Streak::default()).now_or_never();
        let error = ended.expect("there is nothing to wait for any more").unwrap_err();
        assert_eq!(error.reason(), reason);
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_closed_window_is_waited_out_and_is_no_trouble() {
    let (recovery, _) = recovery(Duration::from_secs(60));
    recovery.limiter.set_limits(&closed());
    let mut waiting = Box::pin(recovery.wait_for_window());
    assert!(poll!(&mut waiting).is_pending());
    assert_eq!(recovery.meter.now().stage, Stage::WaitingForWindow);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let opened = Instant::now();
    recovery.limiter.set_limits(&Limits::default());
    assert!(poll!(&mut waiting).is_ready(), "it opened");
    let (quiet, since_opened) = (recovery.meter.quiet_for(), opened.elapsed());
    assert!(quiet <= since_opened, "the time in which nothing may come is no time without a byte");
    assert_eq!(recovery.meter.now().stage, Stage::Fetching);

    let (path, mut streak) = (path(), Streak::default());
    let closed = recovery.recover(&path, Trouble::WindowClosed.into(), &mut streak);
    closed.now_or_never().expect("whoever waits does so for the window").unwrap();
    let now = recovery.meter.now();
    assert_eq!((now.retries, now.trouble.as_str()), (0, ""));
}
