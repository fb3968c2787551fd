//! What `demo` shows: one scene to lines, without a terminal. Left the server without, right the one with Postern.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders};

use super::super::screen::{label, paint, spark};
use super::board::{Half, Inside, PartyBoard, Scene, items, mode};
use super::night::{Night, Party, Phase};

/// One frame.
pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene) {
    let rows = [Constraint::Length(3), Constraint::Fill(1), Constraint::Length(1)];
    let [above, middle, below] = Layout::vertical(rows).areas(frame.area());
    paint(frame, above, head(scene, usize::from(above.width)));
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(middle);
    let border = Block::new().borders(Borders::LEFT).border_style(Style::new().fg(Color::DarkGray));
    let inner = border.inner(right);
    frame.render_widget(border, right);
    let columns = usize::from(left.width.min(inner.width));
    paint(frame, left, without(scene, columns));
    paint(frame, inner, with(scene, columns));
    paint(frame, below, vec![Line::from(label(" q ends the night"))]);
}

/// All in one line, for pipes.
pub(super) fn one_line(scene: &Scene) -> String {
    let friends = |half: &Half| {
        let known = half.party(Party::Known);
        format!("{} of {}", known.progress.friends_accepted, known.progress.friends_offered)
    };
    let status = &scene.inside.status;
    format!(
        "{} {:<6} friends' mail taken: without {}, with {}; hostile connects/s {}; mode {}, buffered {}, passed on {}",
        clock(scene.now_ms),
        phase_words(scene.night.phase_at(scene.now_ms)),
        friends(&scene.without),
        friends(&scene.with),
        connects_per_s(scene.with.party(Party::Hostile)),
        mode(status).unwrap_or("?"),
        items(status),
        scene.inside.passed_on,
    )
}

/// Minutes and seconds of the night.
pub(super) fn clock(ms: u64) -> String {
    format!("{}:{:02}", ms / 60_000, ms / 1_000 % 60)
}

fn head(scene: &Scene, columns: usize) -> Vec<Line<'static>> {
    let (night, now_ms) = (&scene.night, scene.now_ms);
    let phase = night.phase_at(now_ms);
    let colour = if phase == Phase::Flood { Color::Red } else { Color::Green };
    let title = vec![
        "The 2007 night ".bold(),
        label(format!("in {} s   {}  ", night.over_ms / 1_000, clock(now_ms))),
        Span::styled(phase_words(phase).to_uppercase(), Style::new().fg(colour).bold()),
        label(phase_meaning(phase)),
    ];
    vec![Line::from(title), time_line(night, now_ms, columns), Line::default()]
}

/// The night from left to right, the flood in red, what is past solid.
fn time_line(night: &Night, now_ms: u64, columns: usize) -> Line<'static> {
    let cells = columns as u64;
    let cell = |n: u64| {
        let at = night.over_ms * n / cells.max(1);
        let colour = if night.phase_at(at) == Phase::Flood { Color::Red } else { Color::Green };
        Span::styled(if at < now_ms { "━" } else { "╌" }, Style::new().fg(colour))
    };
    Line::from_iter((0..cells).map(cell))
}

fn without(scene: &Scene, columns: usize) -> Vec<Line<'static>> {
    let mut out = vec![Line::from("WITHOUT".bold()), Line::from(label(scene.against.clone()))];
    out.extend(people(&scene.without, columns));
    out.push(heading("the server"));
    if let Some((busy, of)) = scene.without.busy {
        let colour = if busy >= of { Color::Red } else { Color::Reset };
        out.push(Line::styled(format!("  {busy} of {of} processes taken"), Style::new().fg(colour)));
    }
    out
}

fn with(scene: &Scene, columns: usize) -> Vec<Line<'static>> {
    let mut out = vec![Line::from("WITH POSTERN".bold()), Line::from(label("in front of a server of the same kind"))];
    out.extend(people(&scene.with, columns));
    out.extend(inside(&scene.inside, columns));
    out
}

/// Friends, strangers, the flood.
fn people(half: &Half, columns: usize) -> Vec<Line<'static>> {
    let known = half.party(Party::Known);
    let mut out = vec![heading("known friends")];
    out.push(friendly(known));
    out.push(Line::from(format!("  answered after {}", times(known))));
    out.push(course(&known.course(taken), Color::Green, columns));
    out.push(heading("honest, never seen before"));
    out.push(friendly(half.party(Party::Strangers)));
    let hostile = half.party(Party::Hostile);
    out.push(heading("the flood"));
    out.push(Line::from(format!("  {} connects/s, {} open", connects_per_s(hostile), hostile.open())));
    out.push(Line::from(format!("  {} spam and backscatter taken", hostile.progress.hostile_accepted)));
    out.push(course(&hostile.course(attempts), Color::Red, columns));
    out
}

fn friendly(party: &PartyBoard) -> Line<'static> {
    let progress = &party.progress;
    let share = party.success_per_mille();
    let colour = match share {
        Some(990..) | None => Color::Green,
        Some(900..) => Color::Yellow,
        Some(_) => Color::Red,
    };
    let share = share.map_or_else(|| "-".to_owned(), |share| format!("{}.{} %", share / 10, share % 10));
    let waiting =
        progress.friends_offered - (progress.friends_accepted + progress.friends_failed).min(progress.friends_offered);
    Line::from(vec![
        Span::styled(format!("  {share}"), Style::new().fg(colour).bold()),
        format!(" taken; {} failed, {waiting} wait", progress.friends_failed).into(),
    ])
}

fn times(party: &PartyBoard) -> String {
    let second = if party.report.is_some() { None } else { party.seconds.last() };
    let reply = second.and_then(|second| second.friends.first()).map(|friends| friends.final_reply);
    match reply {
        Some(reply) if reply.samples > 0 => format!("{:.0} ms, at worst {:.0} ms", reply.p50_ms, reply.p99_ms),
        _ => "-".to_owned(),
    }
}

/// What Postern does about it.
fn inside(inside: &Inside, columns: usize) -> Vec<Line<'static>> {
    let status = &inside.status;
    let weather = &status["weather"];
    let cause = weather["cause"].as_str().map_or_else(String::new, |cause| format!(": {cause}"));
    let modes = inside.modes.iter().map(|(at, mode)| format!("{mode} {}", clock(*at)));
    let drained = match weather["drained_in_seconds"].as_u64() {
        Some(seconds) if items(status) > 0 => format!(", drained in {seconds} s"),
        _ => String::new(),
    };
    vec![
        heading("the server"),
        Line::from(vec!["  mode ".into(), mode(status).unwrap_or("?").to_owned().bold()]),
        Line::from(label(format!("  {}", modes.collect::<Vec<_>>().join(" → ")))),
        Line::from(format!("  pressure {}{cause}", weather["level"].as_str().unwrap_or("?"))),
        Line::from(format!("  {} buffered{drained}", items(status))),
        course(&inside.buffered, Color::Yellow, columns),
        Line::from(format!("  {} passed on to the server behind", inside.passed_on)),
    ]
}

fn course(values: &[u64], colour: Color, columns: usize) -> Line<'static> {
    let bars = spark(values, columns.saturating_sub(4));
    Line::from(vec!["  ".into(), Span::styled(bars, Style::new().fg(colour))])
}

fn heading(text: &str) -> Line<'static> {
    Line::from(text.to_owned().underlined())
}

fn taken(second: &postern_flood::Second) -> u64 {
    second.friends.iter().map(|friends| friends.accepted).sum()
}

fn attempts(second: &postern_flood::Second) -> u64 {
    second.crowds.iter().map(|crowd| crowd.attempts).sum()
}

fn connects_per_s(hostile: &PartyBoard) -> u64 {
    hostile.last(attempts)
}

fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Calm => "calm",
        Phase::Flood => "flood",
        Phase::After => "after",
        Phase::Reckoning => "end",
    }
}

fn phase_meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Calm => "  friends write; nobody else",
        Phase::Flood => "  bots take every connection they get",
        Phase::After => "  the bots have gone",
        Phase::Reckoning => "  the last senders, and the rest of the buffer",
    }
}
