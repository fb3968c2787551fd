//! The relay listener: mail of the machine's own Postfix on its way out, and the report when it fails for good.

use crate::harness::postern::Postern;
use crate::harness::postfix::{self, Postfix, Setup};
use crate::harness::senders::{SWAKS, swaks};
use crate::harness::{Peers, maildir, wait_for};
use crate::{awkward_message, postern};

/// The machine's own Postfix, Postern's relay listener, and a Postfix elsewhere where `friend` has a mailbox.
struct Outbound {
    local: Postfix,
    server: Postern,
    elsewhere: Postfix,
}

fn outbound(peers: &Peers) -> Outbound {
    let elsewhere = Setup {
        hostname: "mx.elsewhere.example",
        domain: "elsewhere.example",
        mailboxes: &["friend"],
        main: vec!["smtpd_authorized_xclient_hosts = 127.0.0.0/8".to_owned()],
        core: None,
    };
    let elsewhere = Postfix::start(peers, &elsewhere);
    // Answered at the receipt: what the next hop refuses later can only be told in a report.
    let config = format!(
        "mode = \"collect\"\ndeliver = \"maildir:{{dir}}/mail\"\n[recipients]\n\"example.com\" = \"any\"\n\
         [relay]\nlisten = \"127.0.0.1:0\"\nnext_hop = \"smtp:127.0.0.1:{}\"\n",
        elsewhere.port
    );
    let server = Postern::start_with_config(postern(), &config, &[]);
    assert_ne!(server.relay_port, 0, "`ready` names the relay listener");
    let main = vec![format!("relayhost = [127.0.0.1]:{}", server.relay_port)];
    let local = Postfix::start(peers, &Setup { hostname: "local.example.com", main, ..Setup::default() });
    Outbound { local, server, elsewhere }
}

#[test]
fn mail_of_the_local_postfix_reaches_a_postfix_elsewhere_byte_for_byte() {
    let Some(peers) = Peers::need(&[&[SWAKS], &postfix::NEEDS[..]].concat()) else { return };
    let site = outbound(&peers);
    let message = awkward_message();
    let talk = swaks(&peers, site.local.port, "carol@example.com", &["friend@elsewhere.example"], &message, &[]);
    assert!(talk.taken, "{}", talk.text);
    let stored = wait_for("the mail elsewhere", || maildir::messages(&site.elsewhere.mailbox("friend")).pop());
    maildir::assert_same(&stored, &message);
}

#[test]
fn a_recipient_that_fails_for_good_after_the_receipt_gives_the_sender_a_report() {
    let Some(peers) = Peers::need(&[&[SWAKS], &postfix::NEEDS[..]].concat()) else { return };
    let site = outbound(&peers);
    let to = ["nobody@elsewhere.example"];
    let talk = swaks(&peers, site.local.port, "carol@example.com", &to, &awkward_message(), &[]);
    assert!(talk.taken, "{}", talk.text);
    let mail = site.server.scratch().join("mail");
    let stored = wait_for("a report to carol", || maildir::messages(&maildir::only_one_below(&mail)?).pop());
    let report = String::from_utf8_lossy(&stored).replace("\r\n", "\n");
    for needed in [
        "To: carol@example.com",
        "multipart/report",
        "report-type=delivery-status",
        "Content-Type: message/delivery-status",
        "Final-Recipient: rfc822; nobody@elsewhere.example",
        "Action: failed",
        "Status: 5.1.1",
        "User unknown in virtual mailbox table",
    ] {
        assert!(unfolded(&report).to_lowercase().contains(&needed.to_lowercase()), "no {needed:?} in\n{report}");
    }
}

/// Folded fields in one line, angle brackets and quotes dropped: how a report is wrapped is not the point here.
fn unfolded(text: &str) -> String {
    text.replace("\n ", " ").replace("\n\t", " ").replace(['<', '>', '"'], "").replace("rfc822;n", "rfc822; n")
}
