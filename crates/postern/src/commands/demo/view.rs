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
    let rows = [Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)];
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
    let friends = |half: &Half, party: Party| {
        let progress = &half.party(party).progress;
        format!("{} of {}", progress.friends_accepted, progress.friends_offered)
    };
    let status = &scene.inside.status;
    format!(
        "{} {:<6} friends' mail taken: without {}, with {}; from a site with a postern: without {}, by the postern {} of {}, \
         by port 25 {}; hostile connects/s {}; mode {}, buffered {}, passed on {}",
        clock(scene.now_ms),
        phase_words(scene.night.phase_at(scene.now_ms)),
        friends(&scene.without, Party::Known),
        friends(&scene.with, Party::Known),
        friends(&scene.without, Party::Peers),
        scene.way.by_postern,
        scene.with.party(Party::Peers).progress.friends_offered,
        scene.way.by_port_25,
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
    vec![Line::from(title), time_line(night, now_ms, columns)]
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
    let peers = scene.without.party(Party::Peers);
    let mut came = friendly(peers);
    came.push(Line::from("  by port 25, as everybody"));
    out.extend(people(&scene.without, came, columns));
    out.push(heading("the server"));
    if let Some((busy, of)) = scene.without.busy {
        let colour = if busy >= of { Color::Red } else { Color::Reset };
        out.push(Line::styled(format!("  {busy} of {of} processes taken"), Style::new().fg(colour)));
    }
    out
}

fn with(scene: &Scene, columns: usize) -> Vec<Line<'static>> {
    let mut out = vec![Line::from("WITH POSTERN".bold()), Line::from(label("in front of a server of the same kind"))];
    out.extend(people(&scene.with, through_the_postern(scene), columns));
    out.extend(inside(&scene.inside, columns));
    out
}

/// Friends, those with a postern, strangers, the flood.
fn people(half: &Half, peers: Vec<Line<'static>>, columns: usize) -> Vec<Line<'static>> {
    let known = half.party(Party::Known);
    let mut out = vec![heading("known friends")];
    out.extend(friendly(known));
    out.push(course(&known.course(taken), Color::Green, columns));
    out.push(heading("friends with a postern"));
    out.extend(peers);
    out.push(heading("honest, never seen before"));
    out.push(share_line(half.party(Party::Strangers)));
    let hostile = half.party(Party::Hostile);
    out.push(heading("the flood: bots, spam, backscatter"));
    let (connects, accepted) = (connects_per_s(hostile), hostile.progress.hostile_accepted);
    out.push(Line::from(format!("  {connects}/s connect, {} open; {accepted} taken", hostile.open())));
    out.push(course(&hostile.course(attempts), Color::Red, columns));
    out
}

fn friendly(party: &PartyBoard) -> Vec<Line<'static>> {
    vec![share_line(party), Line::from(format!("  answered in {}", times(party)))]
}

fn share_line(party: &PartyBoard) -> Line<'static> {
    let progress = &party.progress;
    let waiting =
        progress.friends_offered - (progress.friends_accepted + progress.friends_failed).min(progress.friends_offered);
    let words = format!(" taken; {} failed, {waiting} wait", progress.friends_failed);
    Line::from(vec![share(party.success_per_mille()), words.into()])
}

fn share(per_mille: Option<u64>) -> Span<'static> {
    let colour = match per_mille {
        Some(990..) | None => Color::Green,
        Some(900..) => Color::Yellow,
        Some(_) => Color::Red,
    };
    let words = per_mille.map_or_else(|| "-".to_owned(), |share| format!("{}.{} %", share / 10, share % 10));
    Span::styled(format!("  {words}"), Style::new().fg(colour).bold())
}

/// Their own site has answered them long ago: what counts is what went through the other side's postern.
fn through_the_postern(scene: &Scene) -> Vec<Line<'static>> {
    let (way, peers) = (&scene.way, scene.with.party(Party::Peers));
    let door = way.answered_at_outcome + way.answered_at_receipt;
    // A second before both sites were asked: what was on its way just then is not late.
    let due = peers.due_before(scene.asked_ms.saturating_sub(1_000));
    vec![
        Line::from(vec![share(way.per_mille_of(due)), format!(" came in; {} wait at their site", way.waiting).into()]),
        Line::from(format!("  {} by the postern, {} by port 25", way.by_postern, way.by_port_25)),
        Line::from(format!("  {door} answered 250 at the door")),
    ]
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
        heading(&format!("the server, pressure {}{cause}", weather["level"].as_str().unwrap_or("?"))),
        Line::from(vec!["  mode ".into(), mode(status).unwrap_or("?").to_owned().bold()]),
        Line::from(label(format!("  {}", modes.collect::<Vec<_>>().join(" → ")))),
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
