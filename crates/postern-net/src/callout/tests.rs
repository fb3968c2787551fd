//! Verdicts of next hops on this machine.

use super::*;
use crate::hop;

async fn check_verdict(script: &'static str, expected: impl Fn(&CalloutVerdict) -> bool) {
    let hop = hop::tcp(&[script]).await;
    let address = Address::parse(b"ann@y.org", false).expect("an address");
    let verdict = check(&Connector::new("us.example"), &hop.target, Protocol::Smtp, false, &address).await;
    assert!(expected(&verdict), "{verdict:?}");
    hop.heard().await;
}

macro_rules! asked {
    ($end:literal) => {
        concat!("S: 220 hop\nC: EHLO us.example\nS: 250 hop\nC: MAIL FROM:<>\n", $end)
    };
}

#[tokio::test]
async fn an_accepted_recipient_exists() {
    check_verdict(asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 250 ok\nC: RSET\nS: 250 ok\nC: QUIT"), |verdict| {
        *verdict == CalloutVerdict::Exists
    })
    .await;
}

#[tokio::test]
async fn only_550_with_5_1_1_says_unknown() {
    let unsure = |verdict: &CalloutVerdict| matches!(verdict, CalloutVerdict::Unsure(_));
    check_verdict(asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 550 5.1.1 who\nC: RSET\nS: 250 ok"), |verdict| {
        *verdict == CalloutVerdict::Unknown(Reply::new(550, Enhanced(5, 1, 1), "who"))
    })
    .await;
    for script in [
        asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 550 blocked\nC: RSET\nS: 250 ok"),
        asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 550 5.7.1 blocked\nC: RSET\nS: 250 ok"),
        asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 551 5.1.1 moved\nC: RSET\nS: 250 ok"),
        asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 451 4.1.1 later\nC: RSET\nS: 250 ok"),
        asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 421 4.3.2 down"),
        asked!("S: 550 5.1.1 no such sender"),
        asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>"),
        "S: 554 no",
    ] {
        check_verdict(script, unsure).await;
    }
}

#[tokio::test]
async fn an_answer_stands_when_the_next_hop_then_hangs_up() {
    check_verdict(asked!("S: 250 ok\nC: RCPT TO:<ann@y.org>\nS: 250 ok"), |verdict| *verdict == CalloutVerdict::Exists)
        .await;
}
