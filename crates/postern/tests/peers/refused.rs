//! In the calm a refusal of the next hop is given in the session, in its own words; nothing needs bouncing.

use crate::harness::dovecot::{self, Dovecot};
use crate::harness::postern::Postern;
use crate::harness::postfix::{self, Postfix, Setup};
use crate::harness::senders::{SWAKS, Talk, swaks};
use crate::harness::{Peers, maildir};
use crate::{awkward_message, postern};

const THROUGH: [&str; 4] = ["--domain", "example.com", "--mode", "through"];

fn send(peers: &Peers, server: &Postern, to: &[&str]) -> Talk {
    swaks(peers, server.port, "bob@example.org", to, &awkward_message(), &[])
}

/// A Postfix that knows `alice`, and refuses mail to `blocked` by a rule of its own.
fn postfix_with_a_rule(peers: &Peers) -> Postfix {
    let main = vec![
        "smtpd_authorized_xclient_hosts = 127.0.0.0/8".to_owned(),
        "smtpd_recipient_restrictions = check_recipient_access \
         inline:{ { blocked@example.com = 554 5.7.1 Closed on Sundays } }, reject_unauth_destination"
            .to_owned(),
    ];
    let mailboxes = &["alice", "blocked"];
    Postfix::start(peers, &Setup { hostname: "next.example.com", domain: "example.com", mailboxes, main, core: None })
}

fn in_front_of_dovecot(dovecot: &Dovecot) -> Postern {
    let deliver = format!("lmtp:127.0.0.1:{}", dovecot.port);
    Postern::start(postern(), &[&THROUGH[..], &["--deliver", &deliver]].concat())
}

/// The reply in swaks' conversation to the command that starts with `command`.
fn reply_to<'a>(talk: &'a Talk, command: &str) -> &'a str {
    let sent = talk.text.find(&format!("-> {command}")).unwrap_or_else(|| panic!("no {command} in\n{}", talk.text));
    let reply = talk.text[sent..].lines().find(|line| line.starts_with('<')).unwrap_or_default();
    reply.get(4..).unwrap_or_default()
}

#[test]
fn a_recipient_over_quota_at_dovecot_is_refused_in_the_session_with_dovecots_reason() {
    let Some(peers) = Peers::need(&[&[SWAKS], &dovecot::NEEDS[..]].concat()) else { return };
    let dovecot = Dovecot::start(&peers);
    let server = in_front_of_dovecot(&dovecot);
    let talk = send(&peers, &server, &["full@example.com"]);
    assert!(!talk.taken, "{}", talk.text);
    assert!(talk.text.contains("552 5.2.2") && talk.text.contains("Quota exceeded"), "{}", talk.text);
    assert_eq!(maildir::count(&dovecot.mailbox("full")), 0);
}

#[test]
fn a_recipient_unknown_to_dovecot_is_refused_in_the_session_with_dovecots_reason() {
    let Some(peers) = Peers::need(&[&[SWAKS], &dovecot::NEEDS[..]].concat()) else { return };
    let dovecot = Dovecot::start(&peers);
    let server = in_front_of_dovecot(&dovecot);
    let talk = send(&peers, &server, &["nobody@example.com"]);
    assert!(!talk.taken, "{}", talk.text);
    assert!(talk.text.contains("550 5.1.1") && talk.text.contains("User doesn't exist"), "{}", talk.text);
}

#[test]
fn a_recipient_refused_by_a_rule_of_postfix_is_refused_in_the_session_with_its_reason() {
    let Some(peers) = Peers::need(&[&[SWAKS], &postfix::NEEDS[..]].concat()) else { return };
    let next = postfix_with_a_rule(&peers);
    let deliver = format!("smtp:127.0.0.1:{}", next.port);
    let server = Postern::start(postern(), &[&THROUGH[..], &["--deliver", &deliver]].concat());
    let talk = send(&peers, &server, &["blocked@example.com"]);
    assert!(!talk.taken, "{}", talk.text);
    assert!(talk.text.contains("554 5.7.1") && talk.text.contains("Closed on Sundays"), "{}", talk.text);
    let talk = send(&peers, &server, &["alice@example.com"]);
    assert!(talk.taken, "{}", talk.text);
}

/// Asks the next hop at RCPT: `nobody` must get 550 5.1.1 there, `alice` must get through.
fn callout(peers: &Peers, deliver: &str) {
    let config =
        format!("deliver = \"{deliver}\"\nmode = \"collect\"\n[recipients]\n\"example.com\" = {{ callout = true }}\n");
    let server = Postern::start_with_config(postern(), &config, &[]);
    let talk = send(peers, &server, &["nobody@example.com"]);
    let reply = reply_to(&talk, "RCPT TO:<nobody@example.com>");
    assert!(!talk.taken && reply.contains("550 5.1.1"), "{reply}\n{}", talk.text);
    let talk = send(peers, &server, &["alice@example.com"]);
    assert!(talk.taken && reply_to(&talk, "RCPT TO:<alice@example.com>").contains("250"), "{}", talk.text);
}

#[test]
fn a_recipient_unknown_to_dovecot_gets_550_5_1_1_at_rcpt_when_callouts_are_on() {
    let Some(peers) = Peers::need(&[&[SWAKS], &dovecot::NEEDS[..]].concat()) else { return };
    let dovecot = Dovecot::start(&peers);
    callout(&peers, &format!("lmtp:127.0.0.1:{}", dovecot.port));
}

#[test]
fn a_recipient_unknown_to_postfix_gets_550_5_1_1_at_rcpt_when_callouts_are_on() {
    let Some(peers) = Peers::need(&[&[SWAKS], &postfix::NEEDS[..]].concat()) else { return };
    let next = postfix_with_a_rule(&peers);
    callout(&peers, &format!("smtp:127.0.0.1:{}", next.port));
}
