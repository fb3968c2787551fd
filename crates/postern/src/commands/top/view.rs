//! What `top` shows: from the last answers to lines, without a terminal.
//!
//! What wants a person comes first, then who is in and who is turned away, then what waits, then what takes it on.
//! A window of 80 x 24 holds all of a server with one domain; what has no room is counted, not dropped in silence.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::super::screen::{alarm, label, paint, spark};
use super::super::status::age;
use super::Top;
use super::history::{Course, class, doors, number, taken};
use crate::config::values::Size;

/// One frame.
pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let lines = if top.help { help() } else { lines(top, usize::from(above.width)) };
    paint(frame, above, lines);
    let paused = if top.paused { " PAUSED " } else { "" };
    let keys = Line::from(vec![paused.reversed(), label(" q quit   p pause   ? what is what")]);
    paint(frame, below, vec![keys]);
}

/// All that there is to say.
pub(super) fn lines(top: &Top, columns: usize) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    if let Some(why) = &top.away {
        out.push(alarm(format!("NO ANSWER: {why}; asking again")));
    }
    let Some(status) = top.history.status() else {
        out.push(Line::from("waiting for the server …"));
        return out;
    };
    out.push(title(status));
    out.extend(alarms(status));
    out.push(pressure(status));
    out.extend(who_is_in(top, status));
    out.extend(courses(top, columns));
    out.extend(modes(status));
    out.push(spool(top, status));
    out.extend(waiting(status));
    out.extend(leaving(top, status));
    out.extend(steering(status));
    out
}

/// All in one line, for logs and pipes.
pub(super) fn one_line(top: &Top) -> String {
    if let Some(why) = &top.away {
        return format!("no answer: {why}");
    }
    let Some(status) = top.history.status() else { return "waiting for the server".to_owned() };
    let rate = |count: &dyn Fn(&Value) -> u64| per_second(top.history.rate(count));
    let shed = |status: &Value| ["evicted", "deferred", "refused"].map(|name| all_classes(status, name)).iter().sum();
    format!(
        "open {} connects/s {} taken/s {} shed/s {} left/s {} pressure {} waiting {} modes {}",
        doors(status, "open"),
        rate(&|status| doors(status, "accepted")),
        rate(&taken),
        rate(&shed),
        rate(&|status| number(&status["drain"]["delivered"])),
        words(&status["weather"]["level"]),
        number(&status["weather"]["waiting"]),
        words(&status["modes"]["mode"]),
    )
}

fn help() -> Vec<Line<'static>> {
    HELP.lines().map(|line| Line::from(line.to_owned())).collect()
}

fn title(status: &Value) -> Line<'static> {
    let up = age(Duration::from_secs(number(&status["uptime_seconds"])));
    let name = format!("postern {}", words(&status["version"]));
    Line::from(vec![name.bold(), label(format!("  pid {}, up {up}", status["pid"]))])
}

fn alarms(status: &Value) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    if status["bypass"] == true {
        out.push(alarm("BYPASS IS ON: nobody is judged, no filter is asked; `postern bypass off` ends it"));
    }
    if status["trust"]["observe"] == true {
        out.push(alarm("OBSERVING ONLY: the log says what would have been done ([trust] observe)"));
    }
    let spool = &status["spool"];
    if let Some(failed) = spool["failed"].as_str() {
        out.push(alarm(format!("THE SPOOL'S DISK FAILED: {failed}")));
    }
    if spool["refusing"] == true {
        out.push(alarm("THE DISK IS NEARLY FULL: senders are told 452 and try again later"));
    }
    for (name, what) in
        [("dead", "DEAD LETTERS: postern queue ls --dead"), ("unreadable", "CANNOT BE READ: see the log")]
    {
        if number(&spool[name]) > 0 {
            out.push(alarm(format!("{} {what}", spool[name])));
        }
    }
    let panics = doors(status, "panics") + number(&status["drain"]["panics"]);
    if panics > 0 {
        out.push(alarm(format!("{panics} FAULTS OF THIS PROGRAM: please report the log")));
    }
    out
}

fn pressure(status: &Value) -> Line<'static> {
    let weather = &status["weather"];
    let level = words(&weather["level"]).to_owned();
    let colour = match level.as_str() {
        "calm" => Color::Green,
        "busy" => Color::Yellow,
        _ => Color::Red,
    };
    let cause = weather["cause"].as_str().map_or_else(String::new, |cause| format!(": {cause}"));
    Line::from(vec![head("pressure"), Span::styled(level + &cause, Style::new().fg(colour).bold())])
}

/// Each door in a line, and below them all who are in, by class.
fn who_is_in(top: &Top, status: &Value) -> Vec<Line<'static>> {
    let mut out = Vec::new();
    for (name, door) in status["doors"].as_object().into_iter().flatten() {
        let rate = |counter: &'static str| {
            per_second(top.history.rate(|status| number(&status["doors"][name.as_str()][counter])))
        };
        let taken = top.history.rate(|status| {
            let door = &status["doors"][name.as_str()];
            number(&door["queued"]) + number(&door["delivered"])
        });
        out.push(Line::from(vec![
            label(format!("{name}  ")),
            Span::from(format!(
                "{} open, {} connects/s, {} taken/s, {} turned away/s",
                number(&door["open"]),
                rate("accepted"),
                per_second(taken),
                rate("turned_away"),
            )),
        ]));
    }
    out.push(Line::from(label(format!(
        "{:<11}{:>7}{:>11}{:>11}{:>12}{:>11}{:>11}",
        "classes", "open", "in memory", "evicted/s", "deferred/s", "refused/s", "waiting"
    ))));
    for name in CLASSES {
        let rate = |counter: &'static str| per_second(top.history.rate(|status| class(status, name, counter)));
        let text = format!(
            "{:<11}{:>7}{:>11}{:>11}{:>12}{:>11}{:>11}",
            name,
            class(status, name, "open"),
            Size(class(status, name, "held_bytes")).to_string(),
            rate("evicted"),
            rate("deferred"),
            rate("refused"),
            number(&status["weather"]["waiting_by_class"][name]),
        );
        out.push(Line::from(text));
    }
    out
}

fn courses(top: &Top, columns: usize) -> Vec<Line<'static>> {
    let course = |course: Course| {
        let values = top.history.course(course);
        let highest = values.iter().copied().max().unwrap_or(0);
        let room = columns.saturating_sub(HEAD + 12).min(COURSE_COLUMNS);
        Line::from(vec![
            head(course.words()),
            Span::styled(format!("{:<room$}", spark(&values, room)), Style::new().fg(Color::Cyan)),
            label(format!(" max {highest}")),
        ])
    };
    Course::ALL.into_iter().map(course).collect()
}

fn modes(status: &Value) -> Vec<Line<'static>> {
    let one = |name: &str, mode: &Value| {
        let word = words(&mode["mode"]).to_owned();
        let colour = if word == "through" { Color::Green } else { Color::Yellow };
        let why = mode["why"].as_str().map_or_else(|| " (set)".to_owned(), |why| format!(" (auto: {why})"));
        Line::from(vec![
            head("mode"),
            format!("{name} ").into(),
            Span::styled(word, Style::new().fg(colour).bold()),
            why.into(),
        ])
    };
    let modes = &status["modes"];
    let domains = modes["domains"].as_object().into_iter().flatten();
    let mut out = vec![one("all domains", modes)];
    out.extend(domains.take(DOMAINS_MAX).map(|(name, mode)| one(name, mode)));
    out
}

fn spool(top: &Top, status: &Value) -> Line<'static> {
    let spool = &status["spool"];
    let commits = top.history.rate(|status| number(&status["spool"]["commits"]));
    let messages = top.history.rate(|status| number(&status["spool"]["messages_committed"]));
    let each = match (messages, commits) {
        (Some(messages), Some(commits)) if commits > 0 => tenths(messages * 1_000 / commits),
        _ => "-".to_owned(),
    };
    let text = format!(
        "{} messages, {} held, {}; {} commits/s of {each} each; {} free",
        number(&spool["items"]),
        number(&spool["held"]),
        Size(number(&spool["bytes"])),
        per_second(commits),
        Size(number(&spool["free_bytes"])),
    );
    Line::from(vec![head("spool"), text.into()])
}

/// What is to leave, and when it will have left.
fn waiting(status: &Value) -> Option<Line<'static>> {
    let weather = &status["weather"];
    let messages = number(&weather["waiting"]);
    if messages == 0 {
        return None;
    }
    let when = weather["drained_in_seconds"].as_u64().map_or_else(
        || "nothing leaves just now".to_owned(),
        |seconds| format!("drained in {}", age(Duration::from_secs(seconds))),
    );
    let rate = tenths(number(&weather["leaves_per_1000_seconds"]));
    let how = if weather["leaves_measured"] == true { "measured" } else { "assumed" };
    Some(Line::from(vec![head("waiting"), format!("{messages} messages, {when} at {rate} a second ({how})").yellow()]))
}

fn leaving(top: &Top, status: &Value) -> Vec<Line<'static>> {
    let drain = &status["drain"];
    let rate = |counter: &'static str| per_second(top.history.rate(move |status| number(&status["drain"][counter])));
    let mut out = vec![Line::from(vec![
        head("drain"),
        format!(
            "{} delivered/s, {} deferred/s, {} refused/s; {} under way",
            rate("delivered"),
            rate("deferred"),
            rate("refused"),
            number(&drain["running"]),
        )
        .into(),
    ])];
    for filter in drain["filters"].as_array().into_iter().flatten() {
        let state = state(filter["up"] == true, "up", "AWAY");
        let figures = format!(
            ", {} judged, {} marked, {} set aside, {} ms each",
            number(&filter["judged"]),
            number(&filter["marked"]),
            number(&filter["quarantined"]),
            number(&filter["latency_ms"]),
        );
        let name = format!("filter {} ", words(&filter["name"]));
        out.push(Line::from(vec![head(""), name.into(), state, figures.into()]));
        out.extend(last_error(filter));
    }
    for hop in drain["destinations"].as_array().into_iter().flatten() {
        let word = words(&hop["state"]);
        let retry = hop["retry_in_ms"]
            .as_u64()
            .map_or_else(String::new, |wait| format!(", next try in {}", age(Duration::from_millis(wait))));
        let figures = format!("{retry}, {} delivered", number(&hop["delivered"]));
        let name = format!("to {} ", words(&hop["name"]));
        out.push(Line::from(vec![head(""), name.into(), state(word == "up", "up", word), figures.into()]));
        out.extend(last_error(hop));
    }
    out
}

fn steering(status: &Value) -> Vec<Line<'static>> {
    let doors = status["steering"].as_array().into_iter().flatten();
    let one = |door: &Value| {
        let text = if door["active"] == true {
            format!("on at {}: {} known networks have queues of their own", words(&door["address"]), door["networks"])
        } else {
            format!("off at {}: {}", words(&door["address"]), words(&door["why"]))
        };
        Line::from(vec![head("steering"), text.into()])
    };
    doors.map(one).collect()
}

fn state(well: bool, word: &str, otherwise: &str) -> Span<'static> {
    if well { word.to_owned().green() } else { otherwise.to_owned().red().bold() }
}

fn last_error(of: &Value) -> Option<Line<'static>> {
    let error = of["last_error"].as_str()?;
    Some(Line::from(vec![head(""), format!("  {error}").red()]))
}

fn all_classes(status: &Value, name: &str) -> u64 {
    CLASSES.iter().map(|one| class(status, one, name)).sum()
}

fn head(text: &str) -> Span<'static> {
    label(format!("{text:<HEAD$}"))
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Thousandths a second as `12.3`; a bar before there are two answers.
fn per_second(thousandths: Option<u64>) -> String {
    thousandths.map_or_else(|| "-".to_owned(), tenths)
}

fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 1_000, thousandths % 1_000 / 100)
}

/// As `status` names them, the best first.
const CLASSES: [&str; 5] = ["pinned", "known", "provider", "new", "suspect"];
/// Columns of what stands before each line.
const HEAD: usize = 11;
/// Longest course.
const COURSE_COLUMNS: usize = 60;
/// Domains in lines of their own: as many as fit beside the rest.
const DOMAINS_MAX: usize = 8;

const HELP: &str = "\
open        connections; a class beyond its share makes room for a better one
in memory   octets of messages on their way in
evicted     idle connections ended to make room for a better class
deferred    messages told 4xx: for now there is no room for their class
refused     connections turned away before they began
waiting     messages that were answered 250 and have not left yet
mode        through: answered when the next hop has spoken; collect: when the
            message is safe on disk; hold: the same, and nothing leaves
pressure    calm, busy, or red: then all that is `auto` collects
steering    the known have accept queues of their own in the kernel
courses     the last five minutes at most, the newest at the right

`postern status` says more; `postern why ADDRESS` says who somebody is.
";
