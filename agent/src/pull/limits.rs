//! What a site allows for weights: a bandwidth, and the hours of the week. Pure: the time is an argument.

use jiff::{Timestamp, civil, tz::TimeZone};

/// The limits of a site, as its EdgeCluster has them. The default is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Over all pulls together; `None` = as much as there is.
    pub max_bytes_per_second: Option<u64>,
    /// When weights may flow; empty = always.
    pub windows: Vec<Window>,
}

/// Hours of some days of the week in a time zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Days on which the window starts; empty = every day.
    pub days: Vec<civil::Weekday>,
    /// When it opens.
    pub start: civil::Time,
    /// When it closes; not after `start` = on the next day.
    pub end: civil::Time,
    /// Whose clock is meant.
    pub time_zone: TimeZone,
}

/// Why a window's text is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid transfer window: {0}")]
pub struct WindowError(String);

/// Whether weights may flow now, and until when that holds. `None` = for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// They may.
    Open(Option<Timestamp>),
    /// They may not.
    Closed(Option<Timestamp>),
}

impl Window {
    /// A window in the API's words: days `Mon` to `Sun`, times `22:00`, an IANA time zone.
    ///
    /// # Errors
    /// [`WindowError`] names the word that is not understood.
    pub fn parse(days: &[String], start: &str, end: &str, time_zone: &str) -> Result<Self, WindowError> {
        let time = |text: &str| {
            civil::Time::strptime("%H:%M", text)
                .map_err(|_| WindowError(format!("time of day {text:?}, expected HH:MM")))
        };
        let time_zone = TimeZone::get(time_zone).map_err(|_| {
            WindowError(format!("time zone {time_zone:?}, expected an IANA name such as Europe/Berlin"))
        })?;
        let days = days.iter().map(|day| parse_day(day)).collect::<Result<_, _>>()?;
        Ok(Self { days, start: time(start)?, end: time(end)?, time_zone })
    }

    /// The span that starts on this local day, if one does. Times that a clock change skips move with it.
    fn span_on(&self, date: civil::Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&date.weekday()) {
            return None;
        }
        let end_date = if self.end > self.start { date } else { date.tomorrow().ok()? };
        let at = |date: civil::Date, time| {
            self.time_zone.to_zoned(date.to_datetime(time)).map(|zoned| zoned.timestamp())
        };
        Some((at(date, self.start).ok()?, at(end_date, self.end).ok()?))
    }

    /// Spans around `now`: from yesterday's, which may still be open, to those of the whole week after it.
    fn spans(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = now.to_zoned(self.time_zone.clone()).date();
        (-1..=8).filter_map(move |days| self.span_on(today.checked_add(jiff::Span::new().days(days)).ok()?))
    }
}

fn parse_day(text: &str) -> Result<civil::Weekday, WindowError> {
    use civil::Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    Ok(match text {
        "Mon" => Monday,
        "Tue" => Tuesday,
        "Wed" => Wednesday,
        "Thu" => Thursday,
        "Fri" => Friday,
        "Sat" => Saturday,
        "Sun" => Sunday,
        other => return Err(WindowError(format!("day {other:?}, expected Mon to Sun"))),
    })
}

impl Limits {
    /// Whether weights may flow at `now`. Windows that touch or overlap count as one.
    pub fn gate(&self, now: Timestamp) -> Gate {
        if self.windows.is_empty() {
            return Gate::Open(None);
        }
        let mut spans: Vec<_> = self.windows.iter().flat_map(|window| window.spans(now)).collect();
        spans.sort_unstable();
        let mut open_until = None;
        for (start, end) in spans {
            match open_until {
                None if end > now && start <= now => open_until = Some(end),
                Some(until) if start <= until => open_until = Some(until.max(end)),
                None if start > now => return Gate::Closed(Some(start)),
                None | Some(_) => {}
            }
        }
        match open_until {
            Some(until) => Gate::Open(Some(until)),
            None => Gate::Closed(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(windows: &[(&[&str], &str, &str, &str)]) -> Limits {
        let windows = windows.iter().map(|(days, start, end, zone)| {
            let days: Vec<_> = days.iter().map(|&day| day.to_owned()).collect();
            Window::parse(&days, start, end, zone).unwrap()
        });
        Limits { max_bytes_per_second: None, windows: windows.collect() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_night_window_opens_and_closes_to_the_second() {
        let night = limits(&[(&[], "22:00", "05:00", "Europe/Berlin")]);
        assert_eq!(night.gate(at("2026-11-24T20:59:59Z")), Gate::Closed(Some(at("2026-11-24T21:00:00Z"))));
        assert_eq!(night.gate(at("2026-11-24T21:00:00Z")), Gate::Open(Some(at("2026-11-25T04:00:00Z"))));
        assert_eq!(night.gate(at("2026-11-25T03:59:59Z")), Gate::Open(Some(at("2026-11-25T04:00:00Z"))));
        assert_eq!(night.gate(at("2026-11-25T04:00:00Z")), Gate::Closed(Some(at("2026-11-25T21:00:00Z"))));
    }

    #[test]
    fn days_are_those_on_which_a_window_starts() {
        let friday = limits(&[(&["Fri"], "22:00", "05:00", "UTC")]);
        assert_eq!(friday.gate(at("2026-11-27T23:00:00Z")), Gate::Open(Some(at("2026-11-28T05:00:00Z"))));
        assert_eq!(friday.gate(at("2026-11-28T04:00:00Z")), Gate::Open(Some(at("2026-11-28T05:00:00Z"))));
        assert_eq!(friday.gate(at("2026-11-28T23:00:00Z")), Gate::Closed(Some(at("2026-12-04T22:00:00Z"))));
    }

    #[test]
    fn windows_that_touch_are_one_and_a_clock_change_is_followed() {
        let two = limits(&[(&[], "08:00", "12:00", "UTC"), (&[], "12:00", "13:00", "UTC")]);
        assert_eq!(two.gate(at("2026-11-24T09:00:00Z")), Gate::Open(Some(at("2026-11-24T13:00:00Z"))));
        let within = limits(&[(&[], "08:00", "12:00", "UTC"), (&[], "09:00", "10:00", "UTC")]);
        assert_eq!(within.gate(at("2026-11-24T09:30:00Z")), Gate::Open(Some(at("2026-11-24T12:00:00Z"))));
        let whole_days = limits(&[(&["Tue"], "08:00", "08:00", "UTC")]);
        assert_eq!(whole_days.gate(at("2026-11-25T07:59:59Z")), Gate::Open(Some(at("2026-11-25T08:00:00Z"))));
        assert_eq!(
            whole_days.gate(at("2026-11-25T08:00:00Z")),
            Gate::Closed(Some(at("2026-12-01T08:00:00Z")))
        );
        // Berlin goes from 02:00 to 03:00 on 2026-03-29.
        let spring = limits(&[(&[], "01:00", "04:00", "Europe/Berlin")]);
        assert_eq!(spring.gate(at("2026-03-29T00:30:00Z")), Gate::Open(Some(at("2026-03-29T02:00:00Z"))));
    }

    #[test]
    fn no_window_is_always_and_words_are_checked() {
        assert_eq!(Limits::default().gate(at("2026-11-24T09:00:00Z")), Gate::Open(None));
        assert!(Window::parse(&["Mo".into()], "1:00", "2:00", "UTC").is_err());
        assert!(Window::parse(&[], "25:00", "2:00", "UTC").is_err());
        assert!(Window::parse(&[], "01:00", "02:00", "Mars/Olympus").is_err());
    }
}
