//! When a site may pull weights. The instant itself is converted to the window's local time and compared, so times that
//! a clock change skips or repeats are never ambiguous.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// A clock change can open or shut a window between its own edges; looking again this often bounds the error.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(15);

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A time of the week in a named time zone, as the wire has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `Mon` to `Sun`; empty = every day. A window over midnight belongs to the day it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<String>,
    /// Time of day, `22:00`. Equal to `end` = the whole day.
    pub start: String,
    /// Time of day; earlier than `start` = the next day's.
    pub end: String,
    /// IANA name.
    pub time_zone: String,
}

/// A window that says nothing that can be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid transfer window: {0}")]
pub struct WindowError(String);

struct Parsed {
    days: Vec<usize>,
    start: civil::Time,
    end: civil::Time,
    zone: TimeZone,
}

impl Window {
    /// Checks that the window can be followed.
    ///
    /// # Errors
    /// [`WindowError`] names the part that cannot.
    pub fn check(&self) -> Result<(), WindowError> {
        self.parse().map(drop)
    }

    fn parse(&self) -> Result<Parsed, WindowError> {
        let zone = TimeZone::get(&self.time_zone)
            .map_err(|_| WindowError(format!("unknown time zone {:?}", self.time_zone)))?;
        let day = |name: &String| {
            let found = DAYS.iter().position(|day| day == name);
            found.ok_or_else(|| WindowError(format!("unknown day {name:?}, expected Mon to Sun")))
        };
        let days = self.days.iter().map(day).collect::<Result<_, _>>()?;
        Ok(Parsed { days, start: time_of_day(&self.start)?, end: time_of_day(&self.end)?, zone })
    }
}

fn time_of_day(text: &str) -> Result<civil::Time, WindowError> {
    let fail = || WindowError(format!("{text:?} is not a time of day such as 22:00"));
    let (hour, minute) = text.split_once(':').ok_or_else(fail)?;
    let (hour, minute) = (hour.parse().map_err(|_| fail())?, minute.parse().map_err(|_| fail())?);
    civil::Time::new(hour, minute, 0, 0).map_err(|_| fail())
}

impl Parsed {
    fn is_open(&self, now: Timestamp) -> bool {
        let local = now.to_zoned(self.zone.clone()).datetime();
        let today = local.date().weekday().to_monday_zero_offset() as usize;
        let yesterday = (today + 6) % 7;
        let on = |day: usize| self.days.is_empty() || self.days.contains(&day);
        let time = local.time();
        if self.start == self.end {
            on(today)
        } else if self.start < self.end {
            on(today) && self.start <= time && time < self.end
        } else {
            (on(today) && self.start <= time) || (on(yesterday) && time < self.end)
        }
    }

    /// The next instant at which it may open or shut.
    fn next_edge(&self, now: Timestamp) -> Option<Timestamp> {
        let date = now.to_zoned(self.zone.clone()).date();
        let tomorrow = date.tomorrow().ok();
        [Some(date), tomorrow]
            .into_iter()
            .flatten()
            .flat_map(|date| [date.to_datetime(self.start), date.to_datetime(self.end)])
            .filter_map(|edge| edge.to_zoned(self.zone.clone()).ok())
            .map(|edge| edge.timestamp())
            .filter(|edge| *edge > now)
            .min()
    }
}

/// Whether one of `windows` is open (none = always), and when to look again if that can change. A window that cannot be
/// read is shut: a limit that was asked for and not understood is not a licence.
pub fn gate_windows(windows: &[Window], now: Timestamp) -> (bool, Option<Timestamp>) {
    if windows.is_empty() {
        return (true, None);
    }
    let parsed: Vec<Parsed> = windows.iter().filter_map(|window| window.parse().ok()).collect();
    let open = parsed.iter().any(|window| window.is_open(now));
    let edge = parsed.iter().filter_map(|window| window.next_edge(now)).min();
    let again = now.checked_add(LOOK_AGAIN).ok();
    (open, edge.into_iter().chain(again).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[&str], start: &str, end: &str) -> Window {
        let days = days.iter().map(|day| (*day).to_owned()).collect();
        Window { days, start: start.into(), end: end.into(), time_zone: "Europe/Paris".into() }
    }

    fn open(window: &Window, at: &str) -> bool {
        gate_windows(std::slice::from_ref(window), at.parse().unwrap()).0
    }

    #[test]
    fn over_midnight_belongs_to_the_day_it_starts() {
        let night = window(&["Fri"], "22:00", "04:00");
        // 2026-11-20 is a Friday; Paris is one hour ahead of UTC.
        assert!(!open(&night, "2026-11-20T20:59:59Z"));
        assert!(open(&night, "2026-11-20T21:00:00Z"));
        assert!(open(&night, "2026-11-21T02:59:59Z"));
        assert!(!open(&night, "2026-11-21T03:00:00Z"));
        assert!(!open(&night, "2026-11-21T21:30:00Z"));
    }

    #[test]
    fn equal_edges_are_the_whole_day_and_an_unreadable_window_is_shut() {
        assert!(open(&window(&["Sun"], "00:00", "00:00"), "2026-11-22T12:00:00Z"));
        assert!(!open(&window(&["Sun"], "00:00", "00:00"), "2026-11-23T12:00:00Z"));
        let broken = window(&["Someday"], "00:00", "00:00");
        assert!(broken.check().unwrap_err().to_string().contains("Someday"));
        assert!(!open(&broken, "2026-11-22T12:00:00Z"));
    }

    #[test]
    fn looks_again_at_the_edge() {
        let window = window(&[], "22:00", "23:00");
        let (open, again) = gate_windows(&[window], "2026-11-20T20:50:00Z".parse().unwrap());
        assert!(!open);
        assert_eq!(again, Some("2026-11-20T21:00:00Z".parse().unwrap()));
    }
}
