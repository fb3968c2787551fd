//! Log lines: to standard error, UTC, text or JSON, at most so many of a kind each second.
//!
//! A flood must not become a flood of log lines: each call site may write twenty lines a second;
//! the rest are counted, and the count is written when the second is over. Lines go through a
//! bounded queue to a thread of their own, so that a slow terminal or journal never stops a door.

mod limit;
mod queue;

use std::time::Duration;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::settings::Log;
use crate::config::values::{LogFormat, LogLevel};
use limit::RateLimit;
pub(crate) use queue::LogThread;

/// Starts logging. Lines are written until the returned value is dropped.
pub(crate) fn start(settings: &Log) -> LogThread {
    let (queue, thread) = queue::start();
    let limit = RateLimit::new(LINES_PER_SECOND_MAX, queue.clone());
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt::layer().with_timer(Utc).with_writer(queue);
    let lines = match settings.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // The limit is a filter of the level's layer: what the level drops is not counted.
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(limit).with_filter(level));
    // Fails only when a subscriber is set already, and then lines go there.
    let _ = tracing::subscriber::set_global_default(subscriber);
    thread
}

/// RFC 3339 with milliseconds.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        writer.write_str(&rfc3339(now))
    }
}

/// A time since 1970 as `2026-11-21T18:00:00.000Z`.
pub(crate) fn rfc3339(since_1970: Duration) -> String {
    let (days, second) = (since_1970.as_secs() / 86_400, since_1970.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let millis = since_1970.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Days since 1970 to a date of the Gregorian calendar: years are counted from 1 March 0000, so
/// that the leap day is the last of its year; 146,097 days are 400 years.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Lines of one call site in one second; enough to see what happens, and at 200 octets each 4 kB/s.
const LINES_PER_SECOND_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: u64, expected: &str) {
        assert_eq!(rfc3339(Duration::from_secs(seconds)), expected);
    }

    #[test]
    fn times_are_written_as_rfc_3339_in_utc() {
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199, "2024-02-29T23:59:59.000Z");
        check(1_735_689_599, "2024-12-31T23:59:59.000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000Z");
    }
}
