//! What is learnt from lines that real servers write.

use super::*;

fn site() -> Site {
    Site {
        domains: ["ours.example".to_owned()].into(),
        hosts: ["mx.ours.example".to_owned()].into(),
        now_s: 1_795_168_800,
    }
}

fn check(text: &str, expected: &[Seen]) {
    let site = site();
    let mut log = Log::new(&site);
    let mut seen = Vec::new();
    for line in text.lines() {
        log.line(line, &mut |seed| seen.push(seed.seen));
    }
    assert_eq!(seen, expected, "{text}");
}

fn wrote(to: &str) -> Seen {
    Seen::WroteTo(to.to_owned())
}

#[test]
fn a_letter_of_ours_in_a_log_of_postfix_names_a_correspondent() {
    check(
        "Nov 20 09:58:01 mx postfix/submission/smtpd[311]: 4TQx1k0vZ9z2: client=dsl.isp.example[198.51.100.9], sasl_method=PLAIN, sasl_username=ann\n\
         Nov 20 09:58:01 mx postfix/cleanup[312]: 4TQx1k0vZ9z2: message-id=<1@ours.example>\n\
         Nov 20 09:58:01 mx postfix/qmgr[99]: 4TQx1k0vZ9z2: from=<ann@ours.example>, size=1024, nrcpt=2 (queue active)\n\
         Nov 20 09:58:02 mx postfix/smtp[313]: 4TQx1k0vZ9z2: to=<Bob@Friend.example>, relay=mx.friend.example[192.0.2.7]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 OK)\n\
         Nov 20 09:58:02 mx postfix/smtp[313]: 4TQx1k0vZ9z2: to=<carl@away.example>, relay=none, delay=1, dsn=4.4.1, status=deferred (connect timed out)\n\
         Nov 20 09:58:03 mx postfix/qmgr[99]: 4TQx1k0vZ9z2: removed\n",
        &[wrote("bob@friend.example")],
    );
}

#[test]
fn bounces_machines_and_what_we_only_pass_on_are_no_correspondence() {
    let lines = |from: &str| {
        format!(
            "2026-11-20T09:58:01.0+00:00 mx postfix/smtpd[98]: ABCDEF1: client=office[10.0.0.7]\n\
             2026-11-20T09:58:01.1+00:00 mx postfix/qmgr[99]: ABCDEF1: from=<{from}>, size=1, nrcpt=1 (queue active)\n\
             2026-11-20T09:58:02.1+00:00 mx postfix/smtp[1]: ABCDEF1: to=<bob@friend.example>, relay=x[192.0.2.7]:25, status=sent (250 OK)\n"
        )
    };
    check(&lines(""), &[]);
    check(&lines("list-bounces@ours.example"), &[]);
    check(&lines("someone@else.example"), &[]);
    check(&lines("ann@ours.example"), &[wrote("bob@friend.example")]);
}

#[test]
fn a_client_whose_confirmed_name_lies_in_its_sender_s_domain_is_proven() {
    let lines = |client: &str| {
        format!(
            "Nov 20 09:58:01 mx postfix/smtpd[3]: ABCDEF1: client={client}\n\
             Nov 20 09:58:01 mx postfix/qmgr[9]: ABCDEF1: from=<bob@friend.example>, size=1, nrcpt=1 (queue active)\n\
             Nov 20 09:58:02 mx postfix/lmtp[1]: ABCDEF1: to=<ann@ours.example>, relay=d[private/dovecot], dsn=2.0.0, status=sent (250 2.0.0 Saved)\n"
        )
    };
    let proven = Seen::Authorised("192.0.2.7".parse().expect("address"), "friend.example".into());
    check(&lines("mx.friend.example[192.0.2.7]"), &[proven]);
    check(&lines("unknown[192.0.2.7]"), &[]);
    check(&lines("evilfriend.example[192.0.2.7]"), &[]);
    check(&lines("mx.friend.example[10.0.0.7]"), &[]);
}

#[test]
fn early_talkers_and_guesses_at_names_are_noted() {
    let ip = "192.0.2.66".parse().expect("address");
    check(
        "Nov 20 09:58:01 mx postfix/postscreen[3]: PREGREET 11 after 0.04 from [192.0.2.66]:4711: EHLO x\\r\\n\n\
         Nov 20 09:58:01 mx postfix/smtpd[3]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 550 5.1.1 <zz@ours.example>: Recipient address rejected: User unknown; from=<a@b.example> to=<zz@ours.example> proto=SMTP helo=<x>\n\
         Nov 20 09:58:01 mx postfix/smtpd[3]: NOQUEUE: reject: RCPT from unknown[192.0.2.66]: 454 4.7.1 <a@b.example>: Relay access denied\n\
         2026-11-20 09:58:01 H=(x) [192.0.2.66] F=<a@b.example> rejected RCPT <zz@ours.example>: Unrouteable address\n",
        &[Seen::EarlyTalker(ip), Seen::BadRecipients(ip, 1), Seen::BadRecipients(ip, 1)],
    );
}

#[test]
fn exim_s_own_log_says_the_same() {
    let proven = Seen::Authorised("192.0.2.7".parse().expect("address"), "friend.example".into());
    check(
        "2026-11-20 09:58:01 1tDkVz-00000001AbC-1xYz <= ann@ours.example H=(laptop) [198.51.100.9] P=esmtpsa A=plain:ann S=900\n\
         2026-11-20 09:58:02 1tDkVz-00000001AbC-1xYz => bob@friend.example R=dnslookup T=remote_smtp H=mx.friend.example [192.0.2.7] C=\"250 OK\"\n\
         2026-11-20 09:58:02 1tDkVz-00000001AbC-1xYz Completed\n\
         2026-11-20 10:00:01 1tDkXx-0000Ab-Cd <= bob@friend.example H=mx.friend.example [192.0.2.7] P=esmtps S=700\n\
         2026-11-20 10:00:02 1tDkXx-0000Ab-Cd => ann <ann@ours.example> R=local_user T=maildir_home\n\
         2026-11-20 10:00:02 1tDkXy-0000Ab-Cd <= <> R=1tDkXx-0000Ab-Cd U=Debian-exim P=local S=1\n\
         2026-11-20 10:00:02 1tDkXy-0000Ab-Cd => bob@friend.example R=dnslookup T=remote_smtp H=mx.friend.example [192.0.2.7]\n",
        &[wrote("bob@friend.example"), proven],
    );
}

#[test]
fn what_a_stranger_chooses_as_sender_or_helo_is_never_taken_for_the_client() {
    let lines = |arrived: &str| {
        format!(
            "2026-11-20 10:00:01 1tDkXx-0000Ab-Cd <= {arrived}\n\
             2026-11-20 10:00:02 1tDkXx-0000Ab-Cd => ann <ann@ours.example> R=local_user T=maildir_home\n"
        )
    };
    let proven = |ip: &str| Seen::Authorised(ip.parse().expect("address"), "friend.example".into());
    check(&lines("bob@friend.example H=mx.friend.example (x) [192.0.2.7]:4711 P=esmtp S=1"), &[proven("192.0.2.7")]);
    check(
        &lines("bob@friend.example H=mx.friend.example ([203.0.113.9]) [192.0.2.7] P=esmtp S=1"),
        &[proven("192.0.2.7")],
    );
    check(
        &lines("bob@friend.example H=mx.friend.example (a(b) [203.0.113.9]) [192.0.2.7] P=esmtp"),
        &[proven("192.0.2.7")],
    );
    check(&lines("bob@friend.example H=([203.0.113.9]) [192.0.2.66] P=esmtp"), &[]);
    check(
        &lines("\"x@friend.example H=mx.friend.example [192.0.2.7] y\"@evil.example H=(z) [192.0.2.66] P=esmtp"),
        &[],
    );
    check(&lines("bob@friend.example P=esmtp id=x H=mx.friend.example [192.0.2.7]"), &[]);
    let helo = "2026-11-20 09:58:01 H=([203.0.113.9]) [192.0.2.66] F=<a@b.example> rejected RCPT <z@ours.example>: Unrouteable address\n";
    check(helo, &[Seen::BadRecipients("192.0.2.66".parse().expect("address"), 1)]);
}

#[test]
fn only_a_letter_of_our_own_user_names_a_correspondent() {
    let exim = |facts: &str| {
        format!(
            "2026-11-20 10:00:01 1tDkXx-0000Ab-Cd <= ann@ours.example {facts}\n\
             2026-11-20 10:00:02 1tDkXx-0000Ab-Cd => bob@friend.example R=dnslookup T=remote_smtp\n"
        )
    };
    check(&exim("H=(laptop) [198.51.100.9] P=esmtpsa A=plain:ann S=900"), &[wrote("bob@friend.example")]);
    check(&exim("U=ann P=local S=900"), &[wrote("bob@friend.example")]);
    check(&exim("H=(office) [10.0.0.7] P=esmtp S=900"), &[wrote("bob@friend.example")]);
    check(&exim("H=(x) [192.0.2.66] P=esmtp S=900"), &[]);
    check(&exim("H=(x A=plain:ann) [192.0.2.66] P=esmtp S=900 T=\"A=plain:ann\""), &[]);
    let postfix = |client: &str| {
        format!(
            "Nov 20 09:58:01 mx postfix/smtpd[3]: ABCDEF1: client={client}\n\
             Nov 20 09:58:01 mx postfix/qmgr[9]: ABCDEF1: from=<ann@ours.example>, size=1, nrcpt=1 (queue active)\n\
             Nov 20 09:58:02 mx postfix/smtp[1]: ABCDEF1: to=<bob@friend.example>, relay=x[192.0.2.7]:25, dsn=2.0.0, status=sent (250 OK)\n"
        )
    };
    check(&postfix("x[192.0.2.66]"), &[]);
    check(&postfix("x[192.0.2.66], sasl_method=PLAIN, sasl_username=ann"), &[wrote("bob@friend.example")]);
}

#[test]
fn a_quoted_local_part_in_a_log_of_postfix_ends_nothing_too_early() {
    let lines = |from: &str, status: &str| {
        format!(
            "Nov 20 09:58:01 mx postfix/pickup[9]: ABCDEF1: uid=1000 from=<ann>\n\
             Nov 20 09:58:01 mx postfix/qmgr[9]: ABCDEF1: from=<{from}>, size=1, nrcpt=1 (queue active)\n\
             Nov 20 09:58:02 mx postfix/smtp[1]: ABCDEF1: to=<bob@friend.example>, relay=x[192.0.2.7]:25, dsn=2.0.0, {status}\n"
        )
    };
    check(&lines("ann@ours.example", "status=sent (250 OK)"), &[wrote("bob@friend.example")]);
    check(&lines("\"ann@ours.example>, \"@evil.example", "status=sent (250 OK)"), &[]);
    check(&lines("ann@ours.example", "status=bounced (host said: 550 , status=sent (x)"), &[]);
}

proptest::proptest! {
    #[test]
    fn no_line_that_a_stranger_can_have_written_ends_the_reading(
        parts in proptest::collection::vec(proptest::sample::select(vec![
            "Nov 20 09:58:01 ", "2026-11-20 09:58:01 ", "2026-11-20T09:58:01Z ", "mx ", "postfix/", "smtpd[1]: ", "qmgr[1]: ",
            "postscreen[1]: ", "ABCDEF1: ", "client=", "from=<", "to=", ">, ", "status=sent ", "[", "]", "H=", "(", " <= ",
            " => ", "1tDkVz-0000Ab-Cd", "+0000", "\u{fc}", " ", "PREGREET ", "NOQUEUE: reject: RCPT from ", "192.0.2.7", " from ",
        ]), 0..14)
    ) {
        let site = site();
        Log::new(&site).line(&parts.concat(), &mut |_| {});
    }
}
