//! Windows: times of the week in a named time zone. An instant is converted to local time and compared, so a local time
//! that a clock change skips or repeats never needs an answer of its own.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime, Time, Weekday},
    tz::TimeZone,
};
use nave_crds::Window as WindowSpec;

/// A set of windows; an empty one is always open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows(Vec<Window>);

#[derive(Clone, Debug)]
struct Window {
    /// Empty = every day.
    days: Vec<Weekday>,
    start: Time,
    end: Time,
    zone: TimeZone,
}

/// A window that says nothing sensible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WindowError {
    #[error("window: day {0:?}: expected Mon, Tue, Wed, Thu, Fri, Sat or Sun")]
    Day(String),
    #[error("window: time of day {0:?}: expected HH:MM, such as 22:00")]
    Time(String),
    #[error("window: time zone {0:?} is not in the time zone database: expected a name such as Europe/Paris")]
    Zone(String),
}

/// How far the next edge is looked for. A weekly window can be skipped by a clock change once; no zone does that two
/// weeks in a row.
const HORIZON_DAYS: i32 = 22;

impl Windows {
    /// Checks windows.
    pub(crate) fn parse(specs: &[WindowSpec]) -> Result<Self, WindowError> {
        specs.iter().map(Window::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether any window is open at an instant.
    pub(crate) fn open_at(&self, at: Timestamp) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.contains(at))
    }

    /// The next instant after `now` at which this is open where it was closed, or closed where it was open.
    pub(crate) fn next_edge(&self, now: Timestamp) -> Option<Timestamp> {
        let open = self.open_at(now);
        let mut candidates: Vec<Timestamp> =
            self.0.iter().flat_map(|window| window.candidates(now)).filter(|at| *at > now).collect();
        candidates.sort_unstable();
        candidates.into_iter().find(|at| self.open_at(*at) != open)
    }
}

impl Window {
    fn parse(spec: &WindowSpec) -> Result<Self, WindowError> {
        Ok(Self {
            days: spec.days.iter().map(|day| parse_day(day)).collect::<Result<_, _>>()?,
            start: parse_time(&spec.start)?,
            end: parse_time(&spec.end)?,
            zone: TimeZone::get(&spec.time_zone).map_err(|_| WindowError::Zone(spec.time_zone.clone()))?,
        })
    }

    fn on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }

    fn contains(&self, at: Timestamp) -> bool {
        let local = self.zone.to_datetime(at);
        let (day, time) = (local.weekday(), local.time());
        if self.start == self.end {
            return self.on(day);
        }
        if self.start < self.end {
            return self.on(day) && self.start <= time && time < self.end;
        }
        (self.on(day) && time >= self.start) || (self.on(day.previous()) && time < self.end)
    }

    /// Every instant of the horizon at which `contains` may change: local starts, ends and midnights, and clock changes.
    fn candidates(&self, now: Timestamp) -> Vec<Timestamp> {
        let mut candidates = Vec::new();
        let today = self.zone.to_datetime(now).date();
        let horizon = SignedDuration::from_hours(24 * i64::from(HORIZON_DAYS));
        for offset in -1..=HORIZON_DAYS {
            let Ok(day) = today.checked_add(SignedDuration::from_hours(24 * i64::from(offset))) else {
                continue;
            };
            for time in [self.start, self.end, Time::midnight()] {
                candidates.extend(self.instants(day, time));
            }
        }
        let end = now.saturating_add(horizon).unwrap_or(Timestamp::MAX);
        let changes = self.zone.following(now).map(|change| change.timestamp());
        candidates.extend(changes.take_while(|change| *change <= end));
        candidates
    }

    /// The instants at which clocks show this local time: two where it is repeated; where it is skipped, the clock
    /// change itself is a candidate already.
    fn instants(&self, day: Date, time: Time) -> Vec<Timestamp> {
        let local = DateTime::from_parts(day, time);
        let ambiguous = self.zone.to_ambiguous_zoned(local);
        if !ambiguous.is_ambiguous() {
            return ambiguous.compatible().map(|zoned| zoned.timestamp()).into_iter().collect();
        }
        let earlier = ambiguous.clone().earlier().map(|zoned| zoned.timestamp());
        let later = ambiguous.later().map(|zoned| zoned.timestamp());
        earlier.into_iter().chain(later).collect()
    }
}

fn parse_day(text: &str) -> Result<Weekday, WindowError> {
    Ok(match text {
        "Mon" => Weekday::Monday,
        "Tue" => Weekday::Tuesday,
        "Wed" => Weekday::Wednesday,
        "Thu" => Weekday::Thursday,
        "Fri" => Weekday::Friday,
        "Sat" => Weekday::Saturday,
        "Sun" => Weekday::Sunday,
        _ => return Err(WindowError::Day(text.to_owned())),
    })
}

fn parse_time(text: &str) -> Result<Time, WindowError> {
    let fail = || WindowError::Time(text.to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(fail)?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return Err(fail());
    }
    let hour = hour.parse().map_err(|_| fail())?;
    let minute = minute.parse().map_err(|_| fail())?;
    Time::new(hour, minute, 0, 0).map_err(|_| fail())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(days: &[&str], start: &str, end: &str, zone: &str) -> Windows {
        Windows::parse(&[WindowSpec {
            days: days.iter().map(|day| (*day).to_owned()).collect(),
            start: start.into(),
            end: end.into(),
            time_zone: zone.into(),
        }])
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn over_midnight_belongs_to_the_day_it_starts() {
        // 2026-11-27 is a Friday.
        let windows = windows(&["Fri"], "22:00", "06:00", "UTC");
        for (instant, open) in [
            ("2026-11-27T05:00:00Z", false),
            ("2026-11-27T21:59:59Z", false),
            ("2026-11-27T22:00:00Z", true),
            ("2026-11-28T05:59:59Z", true),
            ("2026-11-28T06:00:00Z", false),
            ("2026-11-28T22:00:00Z", false),
        ] {
            assert_eq!(windows.open_at(at(instant)), open, "{instant}");
        }
        assert_eq!(windows.next_edge(at("2026-11-24T12:00:00Z")), Some(at("2026-11-27T22:00:00Z")));
        assert_eq!(windows.next_edge(at("2026-11-27T23:00:00Z")), Some(at("2026-11-28T06:00:00Z")));
    }

    #[test]
    fn equal_ends_are_the_whole_day() {
        let windows = windows(&["Tue"], "08:00", "08:00", "Asia/Tokyo");
        // Tuesday 00:00 in Tokyo is Monday 15:00 UTC.
        assert!(!windows.open_at(at("2026-11-23T14:59:59Z")));
        assert!(windows.open_at(at("2026-11-23T15:00:00Z")));
        assert!(windows.open_at(at("2026-11-24T14:59:59Z")));
        assert!(!windows.open_at(at("2026-11-24T15:00:00Z")));
        assert_eq!(windows.next_edge(at("2026-11-23T16:00:00Z")), Some(at("2026-11-24T15:00:00Z")));
    }

    #[test]
    fn a_skipped_hour_opens_nothing_and_a_repeated_one_opens_twice() {
        // Paris skips 02:00 to 03:00 on 2027-03-28, and repeats it on 2026-10-25.
        let skipped = windows(&[], "02:15", "02:45", "Europe/Paris");
        assert_eq!(skipped.next_edge(at("2027-03-27T12:00:00Z")), Some(at("2027-03-29T00:15:00Z")));
        let half = windows(&[], "02:30", "04:00", "Europe/Paris");
        assert_eq!(half.next_edge(at("2027-03-27T12:00:00Z")), Some(at("2027-03-28T01:00:00Z")));
        let repeated = windows(&[], "02:15", "02:45", "Europe/Paris");
        let mut edges = Vec::new();
        let mut now = at("2026-10-24T12:00:00Z");
        for _ in 0..4 {
            now = repeated.next_edge(now).unwrap();
            edges.push(now);
        }
        let expected =
            ["2026-10-25T00:15:00Z", "2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z", "2026-10-25T01:45:00Z"];
        assert_eq!(edges, expected.map(at));
    }

    #[test]
    fn what_is_always_open_has_no_edge() {
        assert!(Windows::default().open_at(at("2026-11-24T12:00:00Z")));
        assert_eq!(Windows::default().next_edge(at("2026-11-24T12:00:00Z")), None);
        assert_eq!(windows(&[], "00:00", "00:00", "UTC").next_edge(at("2026-11-24T12:00:00Z")), None);
    }

    #[test]
    fn malformed_ones_are_named() {
        let spec = |day: &str, start: &str, zone: &str| WindowSpec {
            days: vec![day.into()],
            start: start.into(),
            end: "05:00".into(),
            time_zone: zone.into(),
        };
        for (bad, error) in [
            (spec("Monday", "01:00", "UTC"), WindowError::Day("Monday".into())),
            (spec("Mon", "1:00", "UTC"), WindowError::Time("1:00".into())),
            (spec("Mon", "24:00", "UTC"), WindowError::Time("24:00".into())),
            (spec("Mon", "01:00", "Mars/Olympus"), WindowError::Zone("Mars/Olympus".into())),
        ] {
            assert_eq!(Windows::parse(&[bad]).unwrap_err(), error);
        }
    }
}
