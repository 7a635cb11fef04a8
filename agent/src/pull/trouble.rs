//! What can go wrong with one request, and what is done about it: a new URL, a new connection, patience, or the end.

use std::time::Duration;

use http::{
    HeaderMap, StatusCode,
    header::{DATE, RETRY_AFTER},
};
use jiff::Timestamp;

use super::{PullError, UrlError, backoff};

/// How often one object is asked for with new URLs, one after the other, before S3's no is taken for an answer.
const MAX_REFUSALS: u32 = 5;
/// How often one object may come with another length or range than asked for.
const MAX_WRONG: u32 = 5;
/// How often a certificate that does not prove anything is met, one time after the other, before it is believed: a login
/// page in between comes and goes, a wrong certificate authority stays.
const MAX_UNTRUSTED: u32 = 5;
/// Clocks that differ by more are named as the likely cause of a refusal: S3 tolerates a quarter of an hour.
const CLOCKS_APART: Duration = Duration::from_secs(5 * 60);
/// The longest `Retry-After` that is obeyed to the letter.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Something that another attempt may get past.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("connection failed: {0}")]
    Connection(String),
    #[error("cannot trust the server: {0}")]
    Untrusted(String),
    #[error("no byte for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("the body ended {missing} bytes early")]
    Short { missing: u64 },
    #[error("S3 is overloaded (status {status})")]
    Throttled { status: u16, retry_after: Option<Duration> },
    #[error("S3 failed with status {0}")]
    Server(u16),
    #[error("S3 refuses the URL with status {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("S3 answered something else: {0}")]
    Wrong(String),
    #[error("{0}")]
    NoUrl(String),
    #[error("wrong bytes arrived")]
    Corrupt,
    #[error("the site's transfer window closed")]
    WindowClosed,
}

/// How an attempt ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    Retry(Trouble),
    Stop(PullError),
}

impl From<PullError> for Failure {
    fn from(error: PullError) -> Self {
        Self::Stop(error)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Retry(trouble)
    }
}

impl From<UrlError> for Failure {
    fn from(error: UrlError) -> Self {
        match error {
            UrlError::Refused { reason, message } => Self::Stop(PullError::UrlsRefused { reason, message }),
            UrlError::Unavailable(_) => Self::Retry(Trouble::NoUrl(error.to_string())),
        }
    }
}

/// The trouble that one object or range has had in a row.
#[derive(Debug, Default)]
pub(super) struct Streak {
    attempts: u32,
    refusals: u32,
    wrong: u32,
    untrusted: u32,
}

impl Streak {
    /// Bytes came that were right.
    pub(super) fn broken(&mut self) {
        *self = Self::default();
    }

    /// How long to wait before the next attempt, or why there is none.
    pub(super) fn next(
        &mut self,
        object: &str,
        trouble: &Trouble,
        random: f64,
    ) -> Result<Duration, PullError> {
        let delay = backoff::delay(self.attempts, random);
        self.attempts = self.attempts.saturating_add(1);
        match trouble {
            Trouble::Refused { message, .. } => {
                self.refusals += 1;
                if self.refusals >= MAX_REFUSALS {
                    let (object, message) = (object.to_owned(), message.clone());
                    return Err(PullError::AccessDenied { object, message });
                }
                // The first refusal is almost always an expired URL, and a new one will do.
                Ok(if self.refusals == 1 { Duration::ZERO } else { delay })
            }
            Trouble::Wrong(what) => {
                self.wrong += 1;
                if self.wrong >= MAX_WRONG {
                    let what = format!("does not come as asked for: {what}");
                    return Err(PullError::VersionBroken { object: object.to_owned(), what });
                }
                Ok(delay)
            }
            Trouble::Untrusted(message) => {
                self.untrusted += 1;
                if self.untrusted >= MAX_UNTRUSTED {
                    let (object, message) = (object.to_owned(), message.clone());
                    return Err(PullError::Untrusted { object, message });
                }
                Ok(delay)
            }
            Trouble::Throttled { retry_after: Some(wait), .. } => {
                Ok(delay.max((*wait).min(LONGEST_RETRY_AFTER)))
            }
            Trouble::Corrupt | Trouble::WindowClosed => Ok(Duration::ZERO),
            Trouble::Connection(_)
            | Trouble::Stalled(_)
            | Trouble::Short { .. }
            | Trouble::Throttled { .. }
            | Trouble::Server(_)
            | Trouble::NoUrl(_) => Ok(delay),
        }
    }
}

/// What a status says that is neither 200 nor 206. `body` is the beginning of S3's XML.
pub(super) fn classify(
    object: &str,
    head: &HeaderMap,
    status: StatusCode,
    body: &str,
    now: Timestamp,
) -> Failure {
    let broken = |what: String| Failure::Stop(PullError::VersionBroken { object: object.to_owned(), what });
    let code = status.as_u16();
    match code {
        404 | 410 => {
            let (object, message) = (object.to_owned(), s3_code(body));
            Failure::Stop(PullError::Missing { object, status: code, message })
        }
        412 => broken("was changed while it was pulled (status 412)".to_owned()),
        416 => broken("is shorter than it should be (status 416)".to_owned()),
        429 | 503 => {
            let seconds = head.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Trouble::Throttled { status: code, retry_after: seconds.map(Duration::from_secs) }.into()
        }
        408 | 500..=599 => Trouble::Server(code).into(),
        400..=499 => {
            let mut message = s3_code(body);
            if let Some(clocks) = clocks_apart(head, now) {
                message = format!("{message}; {clocks}");
            }
            Trouble::Refused { status: code, message }.into()
        }
        // S3 says so without a place to go to when the bucket lies in another region.
        300..=399 => Trouble::Wrong(format!("status {code} {}", s3_code(body))).into(),
        _ => Trouble::Wrong(format!("status {code}")).into(),
    }
}

/// Says so if S3's clock and this machine's (`now`) are too far apart for what one of them signs to suit the other.
fn clocks_apart(head: &HeaderMap, now: Timestamp) -> Option<String> {
    let date = head.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let ahead = theirs.duration_since(now).as_secs();
    if ahead.unsigned_abs() < CLOCKS_APART.as_secs() {
        return None;
    }
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    Some(format!("S3's clock is {} min {direction} this machine's", ahead.unsigned_abs() / 60))
}

/// The code and message of S3's error document, which has no other words that help.
fn s3_code(body: &str) -> String {
    let part = |tag: &str| {
        let (_, rest) = body.split_once(&format!("<{tag}>"))?;
        rest.split_once("</").map(|(text, _)| text.trim())
    };
    match (part("Code"), part("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => "no reason given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_url_is_tried_at_once_and_not_for_ever() {
        let mut streak = Streak::default();
        let refused = Trouble::Refused { status: 403, message: "AccessDenied".into() };
        assert_eq!(streak.next("a", &refused, 0.0).unwrap(), Duration::ZERO);
        for _ in 0..3 {
            assert!(streak.next("a", &refused, 0.0).unwrap() > Duration::ZERO);
        }
        assert_eq!(streak.next("a", &refused, 0.0).unwrap_err().reason(), "AccessDenied");
    }

    #[test]
    fn retry_after_is_obeyed_within_reason() {
        let mut streak = Streak::default();
        let throttled =
            |seconds| Trouble::Throttled { status: 503, retry_after: Some(Duration::from_secs(seconds)) };
        assert_eq!(streak.next("a", &throttled(7), 0.0).unwrap(), Duration::from_secs(7));
        assert_eq!(streak.next("a", &throttled(86_400), 0.0).unwrap(), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn each_status_has_its_class() {
        let class = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            match classify("a", &HeaderMap::new(), status, "<Code>Why</Code>", Timestamp::UNIX_EPOCH) {
                Failure::Stop(error) => error.to_string(),
                Failure::Retry(trouble) => format!("again: {trouble}"),
            }
        };
        for (statuses, words) in [
            (&[404, 410][..], "version is broken: object a is not there"),
            (&[412], "version is broken: object a was changed while it was pulled"),
            (&[416], "version is broken: object a is shorter than it should be"),
            (&[429, 503], "again: S3 is overloaded"),
            (&[408, 500, 501, 502, 504, 599], "again: S3 failed with status"),
            (&[400, 401, 403, 409, 451], "again: S3 refuses the URL with status"),
            (&[204, 301, 307], "again: S3 answered something else: status"),
        ] {
            for status in statuses {
                assert!(class(*status).starts_with(words), "{status}: {}", class(*status));
            }
        }
        let head = [(RETRY_AFTER, "7".parse().unwrap())].into_iter().collect();
        let failure = classify("a", &head, StatusCode::SERVICE_UNAVAILABLE, "", Timestamp::UNIX_EPOCH);
        let Failure::Retry(Trouble::Throttled { retry_after, .. }) = failure else { panic!("{failure:?}") };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
    }

    #[test]
    fn who_signs_may_say_no_for_good_or_be_away() {
        let refused = UrlError::Refused { reason: "NotAssigned".into(), message: "it is not".into() };
        assert!(matches!(refused.into(), Failure::Stop(error) if error.reason() == "NotAssigned"));
        let away = UrlError::Unavailable("the session is away".into());
        assert!(matches!(away.into(), Failure::Retry(Trouble::NoUrl(_))));
    }

    #[test]
    fn a_streak_of_one_kind_ends_and_right_bytes_begin_a_new_one() {
        let short = || Trouble::Short { missing: 1 };
        let mut streak = Streak::default();
        let waits: Vec<_> = (0..4).map(|_| streak.next("a", &short(), 0.0).unwrap()).collect();
        assert!(waits.is_sorted_by(|before, after| *before * 2 == *after), "{waits:?}");
        streak.broken();
        assert_eq!(streak.next("a", &short(), 0.0).unwrap(), waits[0]);
        for (trouble, reason) in [
            (Trouble::Refused { status: 403, message: String::new() }, "AccessDenied"),
            (Trouble::Wrong("another range".into()), "VersionBroken"),
            (Trouble::Untrusted("it is self-signed".into()), "CertificateNotTrusted"),
        ] {
            let mut streak = Streak::default();
            for _ in 0..2 {
                assert!((0..4).all(|_| streak.next("a", &trouble, 0.0).is_ok()));
                streak.broken();
            }
            assert!((0..4).all(|_| streak.next("a", &trouble, 0.0).is_ok()));
            assert_eq!(streak.next("a", &trouble, 0.0).unwrap_err().reason(), reason);
        }
        let mut streak = Streak::default();
        for trouble in [Trouble::Corrupt, Trouble::WindowClosed] {
            assert_eq!(streak.next("a", &trouble, 0.0).unwrap(), Duration::ZERO, "{trouble}");
        }
    }

    #[test]
    fn a_clock_that_is_off_is_named_in_the_refusal() {
        let now: Timestamp = "2026-11-25T15:00:00Z".parse().unwrap();
        let refusal = |date: &str| {
            let head = [(DATE, date.parse().unwrap())].into_iter().collect();
            format!("{:?}", classify("a", &head, StatusCode::FORBIDDEN, "", now))
        };
        let ahead = refusal("Wed, 25 Nov 2026 16:00:05 GMT");
        assert!(ahead.contains("S3's clock is 60 min ahead of this machine's"), "{ahead}");
        let behind = refusal("Wed, 25 Nov 2026 13:59:00 GMT");
        assert!(behind.contains("S3's clock is 61 min behind this machine's"), "{behind}");
        assert!(!refusal("Wed, 25 Nov 2026 15:01:00 GMT").contains("clock"));
    }

    #[test]
    fn s3_errors_are_quoted_by_code_and_message() {
        let body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>";
        assert_eq!(s3_code(body), "AccessDenied: Request has expired");
        assert_eq!(s3_code("<html>"), "no reason given");
    }
}
