//! Every kind of client, into every kind of mailbox, in both modes: each cell of the table is a test.

use std::path::PathBuf;

use crate::harness::dovecot::{self, Dovecot};
use crate::harness::postern::Postern;
use crate::harness::postfix::{self, Postfix, Setup};
use crate::harness::senders::{self, Load, SMTP_SOURCE, SWAKS};
use crate::harness::{Peers, Scratch, maildir, wait_for};
use crate::{awkward_message, postern};

/// Where Postern delivers to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    Maildir,
    DovecotOverTcp,
    DovecotOverUnixSocket,
    PostfixOverSmtp,
}

impl Behind {
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Maildir => &[],
            Self::DovecotOverTcp | Self::DovecotOverUnixSocket => &dovecot::NEEDS,
            Self::PostfixOverSmtp => &postfix::NEEDS,
        }
    }
}

/// Postern with one next hop behind it, and the Maildir where mail for `alice@example.com` ends.
struct Site {
    server: Postern,
    _behind: Option<Box<dyn std::any::Any>>,
    _mail: Scratch,
    mailbox: Box<dyn Fn() -> Option<PathBuf>>,
}

impl Site {
    fn start(peers: &Peers, behind: Behind, mode: &str) -> Self {
        let mail = Scratch::new("mail");
        let serve = |deliver: &str| {
            Postern::start(postern(), &["--domain", "example.com", "--mode", mode, "--deliver", deliver])
        };
        match behind {
            Behind::Maildir => {
                let dir = mail.path().to_path_buf();
                let server = serve(&format!("maildir:{}", dir.display()));
                Self { server, _behind: None, _mail: mail, mailbox: Box::new(move || maildir::only_one_below(&dir)) }
            }
            Behind::DovecotOverTcp | Behind::DovecotOverUnixSocket => {
                let dovecot = Dovecot::start(peers);
                let inbox = dovecot.mailbox("alice");
                let deliver = if behind == Behind::DovecotOverTcp {
                    format!("lmtp:127.0.0.1:{}", dovecot.port)
                } else {
                    format!("lmtp:{}", dovecot.socket().display())
                };
                let mailbox = Box::new(move || Some(inbox.clone()));
                Self { server: serve(&deliver), _behind: Some(Box::new(dovecot)), _mail: mail, mailbox }
            }
            Behind::PostfixOverSmtp => {
                let next = next_hop(peers);
                let inbox = next.mailbox("alice");
                let mailbox = Box::new(move || Some(inbox.clone()));
                let server = serve(&format!("smtp:127.0.0.1:{}", next.port));
                Self { server, _behind: Some(Box::new(next)), _mail: mail, mailbox }
            }
        }
    }

    fn wait_for_messages(&self, count: usize) -> Vec<Vec<u8>> {
        let mailbox = wait_for("the mailbox", || (self.mailbox)().filter(|dir| dir.exists()));
        let mut seen = 0;
        // Progress resets the patience: ten thousand deliveries through a real Postfix take their time.
        while seen < count {
            seen = wait_for(&format!("more than {seen} of {count} messages"), || {
                let now = maildir::count(&mailbox);
                (now > seen).then_some(now)
            });
        }
        maildir::messages(&mailbox)
    }
}

/// A Postfix with a mailbox for `alice`, that believes Postern's XCLIENT.
fn next_hop(peers: &Peers) -> Postfix {
    let main = vec!["smtpd_authorized_xclient_hosts = 127.0.0.0/8".to_owned()];
    let setup = Setup { hostname: "next.example.com", domain: "example.com", mailboxes: &["alice"], main, core: None };
    Postfix::start(peers, &setup)
}

fn swaks_mail(behind: Behind, mode: &str) {
    let Some(peers) = Peers::need(&[&[SWAKS], behind.needs()].concat()) else { return };
    let site = Site::start(&peers, behind, mode);
    let message = awkward_message();
    let talk = senders::swaks(&peers, site.server.port, "bob@example.org", &["alice@example.com"], &message, &[]);
    assert!(talk.taken, "{}", talk.text);
    let answer = if mode == "through" { "250 2.0.0 Delivered as " } else { "250 2.0.0 Queued as " };
    assert!(talk.text.contains(answer), "{}", talk.text);
    let stored = site.wait_for_messages(1);
    assert_eq!(stored.len(), 1);
    let trace = maildir::assert_same(&stored[0], &message);
    assert!(trace.contains("client.example.net") && trace.contains("127.0.0.1"), "{trace}");
}

fn postfix_mail_over_tls(behind: Behind, mode: &str) {
    let Some(peers) = Peers::need(&[&[SWAKS], &postfix::NEEDS[..], behind.needs()].concat()) else { return };
    let site = Site::start(&peers, behind, mode);
    let main = vec![
        format!("relayhost = [127.0.0.1]:{}", site.server.port),
        "smtp_tls_security_level = encrypt".to_owned(),
        "smtp_tls_loglevel = 1".to_owned(),
    ];
    let setup = Setup { hostname: "sender.example.org", main, ..Setup::default() };
    let sender = Postfix::start(&peers, &setup);
    let message = awkward_message();
    let talk = senders::swaks(&peers, sender.port, "bob@example.org", &["alice@example.com"], &message, &[]);
    assert!(talk.taken, "{}", talk.text);
    wait_for("the sending Postfix to be done", || sender.log().contains("status=").then_some(()));
    assert!(sender.log().contains("status=sent"), "{}", sender.log());
    let stored = site.wait_for_messages(1);
    assert_eq!(stored.len(), 1);
    let trace = maildir::assert_same(&stored[0], &message);
    let ours = trace.split("Received: ").find(|field| field.contains("(Postern)")).unwrap_or_default();
    assert!(
        ours.contains("sender.example.org") && ours.contains("with ESMTPS"),
        "the Received field does not tell of TLS: {trace}"
    );
}

fn ten_thousand_of_smtp_source(behind: Behind, mode: &str) {
    let Some(peers) = Peers::need(&[&[SMTP_SOURCE], behind.needs()].concat()) else { return };
    let site = Site::start(&peers, behind, mode);
    let load = Load { sessions: 100, messages: 10_000, bytes: 4096, to: "alice@example.com", stay: false, core: None };
    senders::smtp_source(&peers, site.server.port, &load).expect("every message is taken");
    let stored = site.wait_for_messages(load.messages);
    assert_eq!(stored.len(), load.messages, "none twice");
    let mut ids: Vec<String> = stored.iter().map(|message| message_of_smtp_source(message)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), load.messages, "each of the messages that were sent, once");
}

/// Checks every byte of the body of a message of `smtp-source`, and returns its Message-Id.
fn message_of_smtp_source(stored: &[u8]) -> String {
    let (_, rest) = maildir::split_trace(stored);
    let text = String::from_utf8(rest).expect("it is ASCII");
    let (header, body) = text.split_once("\n\n").expect("a header and a body");
    let names: Vec<&str> = header.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(names, ["From", "To", "Date", "Message-Id"], "{header}");
    assert_eq!(body, body_of_smtp_source(), "{header}");
    header.lines().find_map(|line| line.strip_prefix("Message-Id: ")).unwrap_or_default().to_owned()
}

/// 4096 bytes as `smtp-source -l 4096` makes them: lines of 80 bytes with CRLF, each with a digit in front, and the rest.
fn body_of_smtp_source() -> String {
    let lines = (1..=4096 / 80).map(|line| format!("{}{}\n", line % 10, "X".repeat(77)));
    lines.chain([format!("{}\n", "X".repeat(4096 % 80))]).collect()
}

macro_rules! cells {
    ($($place:ident $behind:ident),+) => {$(
        mod $place {
            mod in_through {
                crate::matrix::cells!(@mode $behind "through");
            }
            mod in_collect {
                crate::matrix::cells!(@mode $behind "collect");
            }
        }
    )+};
    (@mode $behind:ident $mode:literal) => {
        use crate::matrix::{self, Behind};

        #[test]
        fn a_message_of_swaks_arrives_byte_for_byte() {
            matrix::swaks_mail(Behind::$behind, $mode);
        }

        #[test]
        fn a_message_of_a_sending_postfix_arrives_byte_for_byte_and_its_received_field_tells_of_tls() {
            matrix::postfix_mail_over_tls(Behind::$behind, $mode);
        }

        #[test]
        fn ten_thousand_messages_of_smtp_source_arrive_once_each() {
            matrix::ten_thousand_of_smtp_source(Behind::$behind, $mode);
        }
    };
}
use cells;

cells!(
    into_a_maildir Maildir,
    into_a_dovecot_over_tcp DovecotOverTcp,
    into_a_dovecot_over_a_unix_socket DovecotOverUnixSocket,
    into_a_postfix_over_smtp PostfixOverSmtp
);
