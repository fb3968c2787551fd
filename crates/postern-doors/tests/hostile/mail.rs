//! What peers bring: many messages at once, large ones, and those that are not theirs to bring.

use std::sync::Arc;

use postern_doors::Policy;
use postern_doors::postern::{Proof, Standing};
use postern_spool::BodySource;

use crate::client::flight;
use crate::stage::{Settings, Stage, run};

#[test]
fn several_messages_follow_each_other_on_several_streams_at_once() {
    let stage = Stage::new(Settings::default());
    run(async {
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let mut streams = Vec::new();
        for n in 0..8 {
            let mut mail = link.stream().await;
            let messages: String = (0..5).map(|m| flight("bob@peer.example", &format!("{n}.{m}"))).collect();
            mail.say(&format!("EHLO mta.peer.example\r\n{messages}")).await;
            streams.push(mail);
        }
        for mail in &mut streams {
            mail.reply().await;
            for _ in 0..5 {
                mail.reply().await;
                mail.reply().await;
                let reply = mail.reply().await;
                assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
            }
        }
        assert_eq!(stage.leases().await.len(), 40);
        assert_eq!(stage.stats().streams, 8);
        drop(streams);
        stage.until(|stats| stats.streams == 0).await;
    });
}

#[test]
fn a_large_message_comes_whole() {
    let stage = Stage::new(Settings::default());
    run(async {
        let link = stage.known("peer.example").enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        let body = "0123456789abcdef".repeat(60) + "\r\n";
        let body = body.repeat(2_000);
        mail.say("EHLO mta.peer.example\r\n").await;
        mail.say(&flight("bob@peer.example", &body)).await;
        for _ in 0..3 {
            mail.reply().await;
        }
        let reply = mail.reply().await;
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        let leases = stage.leases().await;
        let BodySource::File { len, .. } = leases[0].body else { panic!("a large body has a file") };
        assert_eq!(len, (body.len() + "From: bob@peer.example\r\nSubject: x\r\n\r\n\r\n".len()) as u64);
    });
}

#[test]
fn a_peer_brings_the_mail_of_its_organisation_and_no_other_however_large() {
    let stage = Stage::new(Settings::default());
    run(async {
        let above = vec!["corp.example".to_owned()];
        let standing = Standing { above, ..Standing::unsigned("corp.example") };
        let peer = stage.peer("mail.corp.example", Proof::Proven(standing));
        let link = peer.enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO mta.corp.example\r\n").await;
        mail.reply().await;
        let large = format!("{}\r\n", "x".repeat(900)).repeat(300);
        let message = format!("From: bank@bank.example\r\n\r\n{large}");
        for text in [
            flight("bank@bank.example", "Pay here"),
            // The envelope sender says what it likes.
            format!(
                "MAIL FROM:<bob@corp.example>\r\nRCPT TO:<ann@example.com>\r\nBDAT {} LAST\r\n{message}",
                message.len()
            ),
        ] {
            mail.say(&text).await;
            mail.reply().await;
            mail.reply().await;
            let reply = mail.reply().await;
            assert!(reply.starts_with("550 5.7.1 USE-MX"), "{reply}");
        }
        assert_eq!(stage.stored().await, 0);
        for from in ["a@mail.corp.example", "b@corp.example", "c@news.mail.corp.example"] {
            mail.say(&flight(from, "Hello")).await;
            mail.reply().await;
            mail.reply().await;
            let reply = mail.reply().await;
            assert!(reply.starts_with("250 2.0.0 Queued"), "{reply}");
        }
        assert_eq!(stage.stored().await, 3);
        assert_eq!(stage.postern().sessions().snapshot().use_mx, 2);
    });
}

#[test]
fn an_author_that_is_pinned_to_another_key_is_not_brought_by_his_own_organisation() {
    let stage = Stage::new(Settings::default());
    run(async {
        let link = stage.proven("corp.example").enter(stage.addr(), None).await.unwrap();
        assert!(link.deliver("ann@pay.corp.example").await.starts_with("250 2.0.0"));
        // Also when that is said while the connection is open.
        stage.bar("pay.corp.example");
        let reply = link.deliver("ann@pay.corp.example").await;
        assert!(reply.starts_with("550 5.7.1 USE-MX"), "{reply}");
        assert!(link.deliver("ann@corp.example").await.starts_with("250 2.0.0"));
    });
}

#[test]
fn a_domain_in_another_script_is_the_one_that_the_dns_has() {
    let stage = Stage::new(Settings::default());
    let mut policy = Policy::clone(&stage.policy.load());
    policy.offers.smtputf8 = true;
    stage.policy.store(Arc::new(policy));
    run(async {
        let link = stage.proven("xn--bcher-kva.example").enter(stage.addr(), None).await.unwrap();
        let mut mail = link.stream().await;
        mail.say("EHLO mta.xn--bcher-kva.example\r\n").await;
        mail.reply().await;
        for (from, expected) in [
            ("bob@b\u{fc}cher.example", "250 2.0.0 Queued"),
            ("bob@xn--bcher-kva.example", "250 2.0.0 Queued"),
            ("bob@b\u{f6}cher.example", "550 5.7.1 USE-MX"),
        ] {
            mail.say(&flight(from, "Hello").replacen('>', "> SMTPUTF8", 1)).await;
            mail.reply().await;
            mail.reply().await;
            let reply = mail.reply().await;
            assert!(reply.starts_with(expected), "{from}: {reply}");
        }
        assert_eq!(stage.stored().await, 2);
    });
}
