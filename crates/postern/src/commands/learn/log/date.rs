//! Times of log lines, to the second; the zone of those that name none is taken to be UTC: an error
//! of hours is nothing to what is weighed in months.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// `2026-11-20T10:00:00.123456+01:00 rest` or `Nov 20 10:00:00 rest`; the time and the rest. The
/// old form has no year: the last one in which it is not in the future.
pub(super) fn syslog(line: &str, now_s: u64) -> Option<(u64, &str)> {
    let (first, rest) = line.split_once(' ')?;
    if let Ok(at) = first.parse::<Timestamp>() {
        return Some((u64::try_from(at.as_second()).ok()?, rest));
    }
    let month = i8::try_from(MONTHS.iter().position(|month| *month == first)? + 1).ok()?;
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (time, rest) = rest.split_once(' ')?;
    let mut numbers = time.splitn(3, ':').map(str::parse::<i8>);
    let (hour, minute, second) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
    let now = Timestamp::from_second(i64::try_from(now_s).ok()?).ok()?.to_zoned(TimeZone::UTC);
    let of = |year: i16| DateTime::new(year, month, day.parse().ok()?, hour, minute, second, 0).ok();
    let in_year = |year: i16| of(year).and_then(seconds);
    // A day of tolerance for zones east of here.
    let this_year = in_year(now.year()).filter(|at| *at <= now_s + 86_400);
    Some((this_year.or_else(|| in_year(now.year() - 1))?, rest))
}

/// `2026-11-20 10:00:00[.123] [+0100] rest`.
pub(super) fn exim(line: &str) -> Option<(u64, &str)> {
    let (date, rest) = line.split_once(' ')?;
    let (time, rest) = rest.split_once(' ')?;
    let at = seconds(format!("{date}T{time}").parse::<DateTime>().ok()?)?;
    let zoned = rest.starts_with(['+', '-']) && rest.as_bytes().get(5) == Some(&b' ');
    Some((at, if zoned { &rest[6..] } else { rest }))
}

fn seconds(date: DateTime) -> Option<u64> {
    u64::try_from(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-20 10:00:00 UTC.
    const AT: u64 = 1_795_168_800;

    #[test]
    fn both_forms_of_syslog_and_exim_s_own_give_the_second() {
        assert_eq!(syslog("2026-11-20T11:00:00.123456+01:00 mx a", AT), Some((AT, "mx a")));
        assert_eq!(syslog("Nov 20 10:00:00 mx a", AT), Some((AT, "mx a")));
        assert_eq!(syslog("Nov  2 10:00:00 mx a", AT), Some((AT - 18 * 86_400, "mx a")));
        assert_eq!(exim("2026-11-20 10:00:00 1abc <= x"), Some((AT, "1abc <= x")));
        assert_eq!(exim("2026-11-20 10:00:00.123 +0000 1abc <= x"), Some((AT, "1abc <= x")));
        assert_eq!((syslog("no date", AT), exim("no date at all")), (None, None));
    }

    #[test]
    fn a_date_without_a_year_is_of_the_last_year_in_which_it_was_past() {
        assert_eq!(syslog("Dec 20 10:00:00 mx a", AT), Some((AT - 335 * 86_400, "mx a")));
    }
}
