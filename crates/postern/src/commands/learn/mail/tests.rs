//! Which words of a header are believed.

use super::*;

fn site() -> Site {
    Site {
        domains: ["ours.example".to_owned()].into(),
        hosts: ["mx.ours.example".to_owned(), "10.0.0.5".to_owned()].into(),
        now_s: 1_795_168_800,
    }
}

fn check(folder: Folder, header: &str, expected: Option<&[Seen]>) {
    let mut seen = Vec::new();
    let header = header.replace('\n', "\r\n");
    let believed = message(header.as_bytes(), folder, 1_000, &site(), &mut |seed| seen.push(seed.seen));
    assert_eq!((believed.then_some(seen)).as_deref(), expected, "{header}");
}

fn ip() -> IpAddr {
    "192.0.2.7".parse().expect("address")
}

const OURS: &str = "Received: from mail.friend.example (mail.friend.example [192.0.2.7])\n\
                    \tby mx.ours.example (Postfix) with ESMTPS id 4TQ for <ann@ours.example>; Fri, 20 Nov 2026 09:00:00 +0000\n";
const INNER: &str = "Received: from localhost (localhost [127.0.0.1])\n\
                     \tby mx.ours.example (Postfix) with ESMTP id 4TR; Fri, 20 Nov 2026 09:00:01 +0000\n";
const REST: &str =
    "From: Bob <bob@friend.example>\nTo: ann@ours.example\nDate: Fri, 20 Nov 2026 08:59:00 +0000\nSubject: x\n\n";

#[test]
fn the_topmost_hop_into_our_own_host_is_believed_and_nothing_below_it() {
    let path = "Return-Path: <bob@friend.example>\n";
    let authorised = Seen::Authorised(ip(), "friend.example".into());
    let ham = Seen::Ham(ip(), "bob@friend.example".into(), 1);
    let both = [authorised.clone(), ham.clone()];
    check(Folder::Kept, &format!("{path}{OURS}{REST}"), Some(&both));
    check(Folder::Kept, &format!("{path}{INNER}{OURS}{REST}"), Some(&both));
    let spam = Seen::Spam(ip(), "bob@friend.example".into(), 1);
    check(Folder::Junk, &format!("{path}{OURS}{REST}"), Some(&[authorised, spam]));
    let theirs = "Received: from a (a [198.51.100.1]) by relay.else.example; Fri, 20 Nov 2026 09:00:02 +0000\n";
    check(Folder::Kept, &format!("{path}{theirs}{OURS}{REST}"), None);
    check(Folder::Kept, &format!("{path}{REST}"), None);
}

#[test]
fn a_name_that_is_unknown_or_forged_proves_nothing_and_spf_counts_above_our_own_field_only() {
    let path = "Return-Path: <bob@friend.example>\n";
    let ham = Seen::Ham(ip(), "bob@friend.example".into(), 1);
    let unknown = OURS.replace("(mail.friend.example [", "(unknown [");
    check(Folder::Kept, &format!("{path}{unknown}{REST}"), Some(std::slice::from_ref(&ham)));
    let forged = OURS.replace("[192.0.2.7])", "[192.0.2.7] (may be forged))");
    check(Folder::Kept, &format!("{path}{forged}{REST}"), Some(std::slice::from_ref(&ham)));
    let spf = "Received-SPF: Pass (mailfrom) identity=mailfrom; client-ip=192.0.2.7\n";
    check(Folder::Kept, &format!("{path}{unknown}{spf}{REST}"), Some(std::slice::from_ref(&ham)));
    let authorised = Seen::Authorised(ip(), "friend.example".into());
    check(Folder::Kept, &format!("{path}{spf}{unknown}{REST}"), Some(&[authorised, ham]));
}

#[test]
fn a_sent_letter_names_its_recipients_and_a_machine_s_letter_none() {
    let wrote = |to: &str| Seen::WroteTo(to.to_owned());
    let header = "From: ann@ours.example\nTo: Bob <Bob@Friend.example>, \"C, D\" <c@d.example>\n\
                  Cc: boss@ours.example\nBcc: secret@e.example\nDate: Fri, 20 Nov 2026 08:59:00 +0000\n\n";
    let expected = [wrote("bob@friend.example"), wrote("c@d.example"), wrote("secret@e.example")];
    check(Folder::Sent, header, Some(&expected));
    check(Folder::Sent, &format!("Auto-Submitted: auto-replied\n{header}"), None);
    check(Folder::Sent, &format!("Precedence: bulk\n{header}"), None);
}

#[test]
fn a_date_of_the_future_is_not_believed() {
    let mut at = 0;
    let header = b"From: a@ours.example\r\nTo: b@c.example\r\nDate: Fri, 20 Nov 2099 08:59:00 +0000\r\n\r\n";
    message(header, Folder::Sent, 1_000, &site(), &mut |seed| at = seed.at);
    assert_eq!(at, 1_000);
}

#[test]
fn below_a_private_client_nothing_is_believed_unless_it_is_ourselves_or_named() {
    let path = "Return-Path: <bob@friend.example>\n";
    let from = |ip: &str| INNER.replace("127.0.0.1", ip);
    check(Folder::Kept, &format!("{path}{}{OURS}{REST}", from("10.0.0.7")), None);
    check(Folder::Kept, &format!("{path}{}{OURS}{REST}", from("192.168.1.9")), None);
    let both = [Seen::Authorised(ip(), "friend.example".into()), Seen::Ham(ip(), "bob@friend.example".into(), 1)];
    check(Folder::Kept, &format!("{path}{}{OURS}{REST}", from("10.0.0.5")), Some(&both));
}

#[test]
fn a_verdict_of_spf_is_of_the_hop_below_it_and_of_no_further_one() {
    let path = "Return-Path: <bob@friend.example>\n";
    let spf = "Received-SPF: Pass (mailfrom) identity=mailfrom; client-ip=127.0.0.1\n";
    let unknown = OURS.replace("(mail.friend.example [", "(unknown [");
    let ham = Seen::Ham(ip(), "bob@friend.example".into(), 1);
    check(Folder::Kept, &format!("{path}{spf}{INNER}{unknown}{REST}"), Some(&[ham]));
}

#[test]
fn a_stranger_s_letter_in_a_sent_folder_names_nobody() {
    let letter =
        |from: &str| format!("From: {from}\nTo: victim@bank.example\nDate: Fri, 20 Nov 2026 08:59:00 +0000\n\n");
    let wrote = [Seen::WroteTo("victim@bank.example".to_owned())];
    check(Folder::Sent, &letter("Ann <Ann@Ours.example>"), Some(&wrote));
    check(Folder::Sent, &letter("mallory@evil.example"), None);
    check(Folder::Sent, &letter("ann@ours.example, mallory@evil.example"), None);
    let theirs = "Received: from a (a [198.51.100.1]) by relay.else.example; Fri, 20 Nov 2026 09:00:02 +0000\n";
    check(Folder::Sent, &format!("{theirs}{}", letter("ann@ours.example")), None);
}
