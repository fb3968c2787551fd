use super::{Dialog, Event, Next, Note, Paper, Role, Words};
use crate::plan::Behaviour;

/// Plays replies to a client that has just connected; what it said, without bodies, and how it ended.
fn play(role: Role, replies: &[u16]) -> (String, Next, Vec<Note>) {
    let paper = Paper::new("bot.example", "bot@bots.example", "ann@localhost", "x", 300, 1);
    let words = Words { paper: &paper, id: "7-0-1" };
    let mut dialog = Dialog::new(role, 5);
    let (mut said, mut notes) = (String::new(), Vec::new());
    let mut out = Vec::new();
    let (mut next, _) = dialog.handle(Event::Connected, &words, &mut out);
    for code in replies {
        said.push_str(&format!("{} <{code}> ", short(&out)));
        out.clear();
        let note;
        (next, note) = dialog.handle(Event::Reply(*code), &words, &mut out);
        notes.extend(note);
    }
    said.push_str(&short(&out));
    (said.trim().to_owned(), next, notes)
}

/// First words of what was said.
fn short(out: &[u8]) -> String {
    let text = String::from_utf8_lossy(out);
    text.lines().next().unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

fn check(behaviour: Behaviour, replies: &[u16], said: &str, next: Next) {
    let (found, ended, _) = play(Role::Hostile(behaviour), replies);
    assert_eq!((found.as_str(), ended), (said, next), "{behaviour}");
}

#[test]
fn each_crowd_behaves_as_it_is_named() {
    let patience = Next::ReplyWithin(crate::limits::BOT_PATIENCE_MS);
    check(Behaviour::Hold, &[220], "<220>", Next::Wait);
    check(Behaviour::Slow, &[], "", Next::Pause(1_000));
    check(Behaviour::Early, &[], "EHLO", patience);
    check(Behaviour::Early, &[220, 250], "EHLO <220>  <250> MAIL", patience);
    check(Behaviour::Churn, &[], "", Next::Reset);
    check(Behaviour::Pipeline, &[220], "<220> EHLO", Next::Room);
    check(Behaviour::HalfOpen, &[], "EHLO", Next::Room);
    check(
        Behaviour::Harvest,
        &[220, 250, 250, 550, 550],
        "<220> EHLO <250> MAIL <250> RCPT <550> RCPT <550> RCPT",
        patience,
    );
    check(Behaviour::Bdat, &[220, 250, 250, 250], "<220> EHLO <250> MAIL <250> RCPT <250> BDAT", Next::Wait);
    check(
        Behaviour::Size,
        &[220, 250, 250, 250, 354],
        "<220> EHLO <250> MAIL <250> RCPT <250> DATA <354> Subject:",
        Next::Wait,
    );
    check(
        Behaviour::HeaderBomb,
        &[220, 250, 250, 250, 354],
        "<220> EHLO <250> MAIL <250> RCPT <250> DATA <354> X-5-1:",
        Next::Room,
    );
    check(
        Behaviour::Hurried,
        &[220, 250, 250, 250, 354],
        "<220> EHLO <250> MAIL <250> RCPT <250> DATA <354> From:",
        Next::Room,
    );
    check(Behaviour::Spam, &[220, 250, 451], "<220> EHLO <250> MAIL <451>", Next::Close);
}

#[test]
fn a_friend_is_accepted_by_the_reply_to_the_dot_only() {
    let friend = Role::Friend { patience_ms: 9 };
    let (said, next, notes) = play(friend, &[220, 250, 250, 250, 354, 250]);
    assert_eq!(said, "<220> EHLO <250> MAIL <250> RCPT <250> DATA <354> From: <250> QUIT");
    assert_eq!(next, Next::ReplyWithin(super::BYE_MS));
    assert_eq!(notes, [Note::Greeted, Note::Accepted]);
    let (said, _, notes) = play(friend, &[220, 250, 250, 450, 221]);
    assert_eq!(
        (said.as_str(), notes),
        ("<220> EHLO <250> MAIL <250> RCPT <450> QUIT <221>", vec![Note::Greeted, Note::Refused(450)])
    );
}

#[test]
fn a_message_has_its_id_its_size_and_one_final_dot() {
    for bytes in [0, 100, 300, 4_096, 4_097] {
        let paper = Paper::new("h", "a@b", "c@d", "s", bytes, 1);
        let mut out = Vec::new();
        paper.write("7-0-1", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nX-Flood-Id: 7-0-1\r\n"), "{text}");
        assert!(text.ends_with("\r\n.\r\n") && text.matches("\r\n.").count() == 1, "{text}");
        assert!(bytes < 300 || text.len().abs_diff(bytes as usize) < 8, "{bytes}: {}", text.len());
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "bare line end at {bytes}");
    }
}
