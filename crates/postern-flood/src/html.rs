//! The report as one HTML page that needs nothing else: styles and plots (inline SVG) are in it, no script, no font, no
//! request goes out when it is opened.

use std::fmt::Write;

use crate::report::{Percentiles, Report};

mod plot;

use plot::{Line, Plot};

/// The page.
pub fn page(report: &Report) -> String {
    let target = report.target.map(|target| target.to_string()).unwrap_or_default();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Flood of {target}</title>\n<style>{STYLE}</style>\n\
         <h1>Flood of {target}</h1>\n<p>{:.1} s, seed {}{}. {}.</p>\n",
        report.seconds,
        report.seed,
        if report.stopped_early { ", stopped early" } else { "" },
        escape(&report.generator.to_string()),
    );
    friends_table(&mut page, report);
    crowds_table(&mut page, report);
    for plot in plots(report) {
        plot.write(&mut page);
    }
    codes(&mut page, report);
    page.push_str("</html>\n");
    page
}

fn friends_table(page: &mut String, report: &Report) {
    if report.friends.is_empty() {
        return;
    }
    page.push_str("<h2>Friends</h2><table><tr><th>who<th>offered<th>taken<th>in time<th>attempts<th>greeting p50 / p90 / p99 / max, ms<th>final reply, ms\n");
    for friends in &report.friends {
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{:.1} %<td>{:.1} %<td>{}<td>{}<td>{}",
            escape(&friends.name),
            friends.offered,
            friends.success_percent,
            friends.in_time_percent,
            friends.attempts,
            friends.greeting,
            friends.final_reply
        );
    }
    page.push_str("</table>\n");
}

fn crowds_table(page: &mut String, report: &Report) {
    if report.crowds.is_empty() {
        return;
    }
    page.push_str("<h2>Crowds</h2><table><tr><th>who<th>at once<th>connects<th>greeted<th>taken<th>refused<th>closed by server<th>no reply in time<th>failed to connect\n");
    for crowd in &report.crowds {
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}",
            escape(&crowd.name),
            crowd.open_max,
            crowd.attempts,
            crowd.greeted,
            crowd.accepted,
            crowd.refused.values().sum::<u64>(),
            crowd.evicted,
            crowd.timeouts,
            crowd.connect_errors.values().sum::<u64>()
        );
    }
    page.push_str("</table>\n");
}

fn plots(report: &Report) -> Vec<Plot> {
    let series = &report.series;
    let times: Vec<f64> = series.iter().map(|second| f64::from(second.at_s)).collect();
    let of_friends = |what: &str, value: &dyn Fn(usize, usize) -> Option<f64>| -> Vec<Line> {
        let line = |(n, friends): (usize, &crate::report::FriendsReport)| Line {
            name: format!("{}{what}", friends.name),
            values: (0..series.len()).map(|second| value(second, n)).collect(),
        };
        report.friends.iter().enumerate().map(line).collect()
    };
    let of_crowds = |value: &dyn Fn(usize, usize) -> f64| -> Vec<Line> {
        let line = |(n, crowd): (usize, &crate::report::CrowdReport)| Line {
            name: crowd.name.clone(),
            values: (0..series.len()).map(|second| Some(value(second, n))).collect(),
        };
        report.crowds.iter().enumerate().map(line).collect()
    };
    // A second without a sample is a gap, not a zero: nothing arrived in no time.
    let seen = |p: Percentiles, value: f64| (p.samples > 0).then_some(value);
    let greeting = |s: usize, n: usize| series[s].friends[n].greeting;
    let reply = |s: usize, n: usize| series[s].friends[n].final_reply;
    let both = |p50: Vec<Line>, p99: Vec<Line>| p50.into_iter().chain(p99).collect();
    let greetings = both(
        of_friends(", p50", &|s, n| seen(greeting(s, n), greeting(s, n).p50_ms)),
        of_friends(", p99", &|s, n| seen(greeting(s, n), greeting(s, n).p99_ms)),
    );
    let replies = both(
        of_friends(", p50", &|s, n| seen(reply(s, n), reply(s, n).p50_ms)),
        of_friends(", p99", &|s, n| seen(reply(s, n), reply(s, n).p99_ms)),
    );
    let mut accepted = of_crowds(&|s, n| series[s].crowds[n].accepted as f64);
    accepted.extend(of_friends("", &|s, n| Some(series[s].friends[n].accepted as f64)));
    let plot = |title: &str, unit: &str, logarithmic: bool, lines: Vec<Line>| Plot {
        title: title.to_owned(),
        unit: unit.to_owned(),
        logarithmic,
        times: times.clone(),
        lines,
    };
    let all = vec![
        plot("Friends: time to greeting", "ms", true, greetings),
        plot("Friends: time to final reply, from when the message was due", "ms", true, replies),
        plot("Messages taken each second", "messages", false, accepted),
        plot(
            "Friends: messages given up each second",
            "messages",
            false,
            of_friends("", &|s, n| Some(series[s].friends[n].failed as f64)),
        ),
        plot("Connections open", "connections", false, of_crowds(&|s, n| series[s].crowds[n].open as f64)),
        plot("Connects each second", "connects", false, of_crowds(&|s, n| series[s].crowds[n].attempts as f64)),
        plot(
            "Closed by the server each second",
            "connections",
            false,
            of_crowds(&|s, n| series[s].crowds[n].evicted as f64),
        ),
    ];
    all.into_iter().filter(|plot| !plot.lines.is_empty()).collect()
}

/// Replies by code, as bars.
fn codes(page: &mut String, report: &Report) {
    let mut rows: Vec<(String, u64)> = Vec::new();
    for crowd in &report.crowds {
        rows.push((format!("{}: 250 to a message", crowd.name), crowd.accepted));
        rows.extend(crowd.refused.iter().map(|(code, n)| (format!("{}: {code}", crowd.name), *n)));
    }
    for friends in &report.friends {
        rows.push((format!("{}: 250 to a message", friends.name), friends.accepted));
        rows.extend(friends.refused.iter().map(|(code, n)| (format!("{}: {code}", friends.name), *n)));
    }
    rows.retain(|(_, n)| *n > 0);
    let most = rows.iter().map(|(_, n)| *n).max().unwrap_or(1);
    page.push_str("<h2>Replies</h2><table class=\"bars\">\n");
    for (what, n) in rows {
        let width = (n as f64 * 400.0 / most as f64).max(1.0);
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{n}<td><svg width=\"400\" height=\"10\"><rect width=\"{width:.0}\" height=\"10\"/></svg>",
            escape(&what)
        );
    }
    page.push_str("</table>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #ddd}\
svg text{font:11px system-ui,sans-serif;fill:#555}svg .axis{stroke:#bbb}svg .grid{stroke:#eee}svg polyline{fill:none;stroke-width:1.6}\
.bars rect{fill:#4477aa}h2{margin-top:2rem;font-size:1.1rem}";

#[cfg(test)]
mod tests;
