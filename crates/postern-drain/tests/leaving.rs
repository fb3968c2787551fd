//! Mail leaves a real spool for Maildirs and for next hops on loopback.

mod support;

use std::time::Duration;

use postern_drain::{Carries, DestinationState, DrainOptions, Health, RELEASED_CLASS, Released, Route, revive};
use postern_net::client::ClientAddress;
use postern_proto::envelope::{Notify, Via};
use postern_proto::mode::Mode;
use postern_spool::{Body, EventKind, Fate, Lane, When};
use support::hop::{HANG_UP, Hop, Manners};
use support::{BODY, Mail, Site, count, heard, in_lane, mail, now_unix_ms, quick};
use tokio::time::timeout;

const ANN: &[&str] = &["ann@example.com"];
const FIVE_DAYS_MS: u64 = 5 * 24 * 3600 * 1000;

fn lmtp() -> Manners {
    Manners { lmtp: true, ..Manners::default() }
}

fn quota(to: &str) -> &'static str {
    if to.starts_with("full") { "552 5.2.2 over quota" } else { "250 2.0.0 ok" }
}

#[tokio::test]
async fn in_through_the_sender_hears_delivered_when_the_letter_is_in_the_maildir() {
    let site = Site::new(Mode::Through, "maildir:DIR/mail");
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered);
    let letters = site.letters("ann@example.com");
    let (head, body) = letters[0].split_at(letters[0].len() - BODY.len());
    assert_eq!(body.as_bytes(), BODY, "bytes are kept");
    assert!(head.starts_with("Return-Path: <ann@sender.example>\r\nDelivered-To: ann@example.com\r\nReceived: from "));
    assert!(head.ends_with("\r\n") && head.contains("\r\n\tfor <ann@example.com>"), "{head}");
    site.until_empty().await;
}

#[tokio::test]
async fn in_collect_mail_leaves_after_its_receipt() {
    let site = Site::new(Mode::Collect, "maildir:DIR/mail");
    for _ in 0..20 {
        site.collect(&mail(ANN)).await;
    }
    site.until_empty().await;
    assert_eq!(site.letters("ann@example.com").len(), 20);
    assert_eq!(site.drain.stats().delivered, 20);
}

#[tokio::test]
async fn in_hold_mail_leaves_by_drain_only_and_what_comes_later_stays() {
    let hop = Hop::start(lmtp()).await;
    let site = Site::new(Mode::Hold, &hop.lmtp());
    for _ in 0..5 {
        site.collect(&mail(ANN)).await;
    }
    site.collect(&mail(&["ben@other.example"])).await;
    assert!(site.until("held", |lanes| lanes.iter().map(count).sum::<usize>() == 6).await.len() == 2);
    hop.pause();
    assert_eq!(site.drain.drain_now(Some("example.com".into()), None).await, 5);
    hop.until_at_the_dot().await;
    site.collect(&mail(ANN)).await;
    hop.resume();
    hop.until_got(5).await;
    let lanes = site.until("drained", |lanes| in_lane(lanes, "example.com", 0) == 1).await;
    assert_eq!(in_lane(&lanes, "other.example", 0), 1, "the other domain was not drained");
    assert_eq!(hop.got().len(), 5);
    assert_eq!(site.drain.drain_now(None, Some(1000)).await, 2);
    site.until_empty().await;
}

#[tokio::test]
async fn a_change_of_mode_lets_held_mail_go() {
    let site = Site::new(Mode::Hold, "maildir:DIR/mail");
    site.collect(&mail(ANN)).await;
    site.set_mode("example.com", Mode::Collect);
    site.until_empty().await;
    assert_eq!(site.letters("ann@example.com").len(), 1);
}

#[tokio::test]
async fn a_drained_message_that_is_deferred_is_tried_again_though_its_domain_is_held() {
    let hop = Hop::start(lmtp()).await;
    let site = Site::with(Mode::Hold, &hop.lmtp(), DrainOptions { retry_first: Duration::from_secs(60), ..quick() });
    hop.set_busy(1);
    site.collect(&mail(ANN)).await;
    site.drain.drain_now(None, None).await;
    site.until("released", |lanes| in_lane(lanes, "example.com", RELEASED_CLASS) == 1).await;
    assert_eq!(site.drain.drain_now(None, None).await, 1, "a drain brings its retry forward");
    hop.until_got(1).await;
    site.until_empty().await;
}

#[tokio::test]
async fn the_rate_of_a_drain_spreads_the_retries_of_what_nobody_holds() {
    let hop = Hop::start(lmtp()).await;
    hop.set_busy(6);
    let slow = Duration::from_secs(3600);
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { retry_first: slow, retry_max: slow, ..quick() });
    for _ in 0..6 {
        site.collect(&mail(ANN)).await;
    }
    site.until("deferred", |lanes| lanes.iter().map(|lane| lane.waiting).sum::<usize>() == 6).await;
    let before = now_unix_ms();
    assert_eq!(site.drain.release(None, Some(0)).await, Released { covered_by_rate: 6, leaving_anyway: 0 });
    assert_eq!(site.drain.release(None, Some(20)).await, Released { covered_by_rate: 6, leaving_anyway: 0 });
    hop.until_got(6).await;
    assert!(now_unix_ms() - before >= 250, "six at twenty a second");
    site.until_empty().await;
}

#[tokio::test]
async fn a_sender_does_not_wait_for_a_domain_without_a_route() {
    let site = Site::new(Mode::Through, "none");
    let id = site.append(&mail(ANN), When::Tentative);
    assert!(matches!(site.event(id).await, EventKind::Fate(Fate::Unsettled)));
    site.commit(id);
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    let mail_dir = site.mail_dir();
    site.set_routes(|table| table.default = Route::Maildir(mail_dir));
    site.until_empty().await;
    assert_eq!(site.letters("ann@example.com").len(), 1);
}

#[tokio::test]
async fn a_route_of_none_keeps_everything_until_there_is_another() {
    let site = Site::new(Mode::Collect, "none");
    site.collect(&mail(ANN)).await;
    let mut carries = site.drain.carries();
    let eight_bit = Carries { eight_bit: true, smtputf8: false };
    timeout(support::PATIENCE, carries.wait_for(|carries| *carries == eight_bit)).await.unwrap().unwrap();
    let mail_dir = site.mail_dir();
    site.set_routes(|table| table.default = Route::Maildir(mail_dir));
    site.until_empty().await;
    assert_eq!(site.letters("ann@example.com").len(), 1);
}

#[tokio::test]
async fn a_refusal_of_the_next_hop_is_heard_in_the_session_in_its_words() {
    let hop = Hop::start(Manners {
        end: quota,
        rcpt: |to| if to.starts_with("no") { "550 5.1.1 no such user" } else { "250 ok" },
        ..lmtp()
    })
    .await;
    let site = Site::new(Mode::Through, &hop.lmtp());
    assert_eq!(heard(&site.through(&mail(&["full@example.com"])).await), "552 5.2.2 over quota");
    assert_eq!(heard(&site.through(&mail(&["nobody@example.com"])).await), "550 5.1.1 no such user");
    hop.set_busy(1);
    assert_eq!(heard(&site.through(&mail(ANN)).await), "451 4.3.0 busy");
    assert_eq!(heard(&site.through(&mail(ANN)).await), "delivered");
    site.until_empty().await;
}

#[tokio::test]
async fn one_recipient_over_quota_does_not_stop_the_others() {
    let hop = Hop::start(Manners { end: quota, ..lmtp() }).await;
    let site = Site::new(Mode::Through, &hop.lmtp());
    let fate = site.through(&mail(&["ann@example.com", "full@example.com", "ben@example.com"])).await;
    assert_eq!(fate, Fate::Delivered);
    assert_eq!(hop.got()[0].to, ["ann@example.com", "ben@example.com"]);
    site.until("dead", |lanes| in_lane(lanes, "example.com", Lane::DEAD_CLASS) == 1).await;
    let dead = site.dead("example.com").await;
    assert_eq!(dead[0].recipients[0].address, support::address("full@example.com"));
    assert_eq!(dead[0].note.as_deref(), Some("552 5.2.2 over quota"));
    assert_eq!(site.drain.stats().dead_letters, 1);
}

#[tokio::test]
async fn a_deferred_message_is_tried_again_until_it_is_taken() {
    let hop = Hop::start(lmtp()).await;
    hop.set_busy(3);
    let site = Site::new(Mode::Collect, &hop.lmtp());
    site.collect(&mail(ANN)).await;
    hop.until_got(1).await;
    site.until_empty().await;
    assert_eq!(site.drain.stats().deferred, 3);
}

#[tokio::test]
async fn an_expired_public_message_is_a_dead_letter_and_a_relayed_one_is_reported() {
    let hop = Hop::start(Manners::default()).await;
    hop.set_busy(usize::MAX);
    let site = Site::new(Mode::Collect, "maildir:DIR/mail");
    site.set_routes(|table| {
        table.domains.insert("far.example".into(), Route::parse(&hop.smtp()).unwrap().with_trust_loopback(true));
        table.local.insert("sender.example".into());
    });
    let old = Mail { tried_since_unix_ms: Some(now_unix_ms() - FIVE_DAYS_MS), ..mail(&["bob@far.example"]) };
    site.collect(&old).await;
    site.until("dead", |lanes| in_lane(lanes, "far.example", Lane::DEAD_CLASS) == 1).await;
    let note = site.dead("far.example").await[0].note.clone().unwrap();
    assert_eq!(note, "554 5.4.7 delivery time expired; the last attempt said: 451 4.3.0 busy");
    site.collect(&Mail { via: Via::Relay, ..old }).await;
    site.until("reported", |_| site.letters("ann@sender.example").len() == 1).await;
    let report = &site.letters("ann@sender.example")[0];
    assert!(report.starts_with("Return-Path: <>\r\n"), "{report}");
    assert!(report.contains("Final-Recipient: rfc822; bob@far.example\r\nAction: failed\r\nStatus: 5.4.7\r\n"));
    assert!(report.contains("\r\nSubject: hello\r\n") && !report.contains("The body."));
    assert_eq!(site.drain.stats().reports, 1);
}

#[tokio::test]
async fn mail_expires_while_its_destination_is_away() {
    let hop = Hop::start(lmtp()).await;
    hop.set_down(true);
    let away = Duration::from_secs(600);
    let backoff = DrainOptions { backoff_first: away, backoff_max: away, ..quick() };
    let options = DrainOptions { expire_after: Duration::from_millis(1), concurrency_max: 1, ..backoff };
    let site = Site::with(Mode::Hold, &hop.lmtp(), options);
    for _ in 0..5 {
        site.collect(&Mail { tried_since_unix_ms: Some(now_unix_ms()), ..mail(ANN) }).await;
    }
    site.set_mode("example.com", Mode::Collect);
    site.until("expired", |lanes| in_lane(lanes, "example.com", Lane::DEAD_CLASS) == 5).await;
}

#[tokio::test]
async fn what_was_held_for_six_days_does_not_expire_at_the_first_failure() {
    let hop = Hop::start(lmtp()).await;
    let options = DrainOptions { expire_after: Duration::from_secs(600), ..quick() };
    let site = Site::with(Mode::Hold, &hop.lmtp(), options);
    let held = Mail { arrived_unix_ms: now_unix_ms() - FIVE_DAYS_MS - FIVE_DAYS_MS / 5, ..mail(ANN) };
    // One that was tried before its domain was held.
    let tried = Mail { tried_since_unix_ms: Some(now_unix_ms() - FIVE_DAYS_MS), ..held };
    site.collect(&tried).await;
    for _ in 0..4 {
        site.collect(&held).await;
    }
    hop.set_busy(3);
    assert_eq!(site.drain.drain_now(None, None).await, 5);
    hop.until_got(5).await;
    site.until_empty().await;
    hop.set_down(true);
    for _ in 0..5 {
        site.collect(&held).await;
    }
    site.set_mode("example.com", Mode::Collect);
    site.until("tried", |_| site.drain.stats().deferred > 3).await;
    hop.set_down(false);
    hop.until_got(10).await;
    site.until_empty().await;
    assert_eq!(site.drain.stats().dead_letters, 0);
}

#[tokio::test]
async fn a_report_that_cannot_be_delivered_is_a_dead_letter() {
    let refusing = Hop::start(Manners { rcpt: |_| "550 5.1.1 no such user", ..lmtp() }).await;
    let site = Site::new(Mode::Collect, &refusing.lmtp());
    site.set_routes(|table| table.relay = Some(table.default.clone()));
    site.collect(&Mail { via: Via::Relay, ..mail(&["bob@far.example"]) }).await;
    site.until("dead", |lanes| in_lane(lanes, "sender.example", Lane::DEAD_CLASS) == 1).await;
    assert_eq!(site.dead("far.example").await.len(), 0, "its sender was to be told");
    assert_eq!(site.drain.stats().reports, 1, "and no report on the report");
}

#[tokio::test]
async fn success_is_reported_when_the_local_mta_asks() {
    let site = Site::new(Mode::Collect, "maildir:DIR/mail");
    site.set_routes(|table| table.local.extend(["example.com".to_owned(), "sender.example".to_owned()]));
    let notify = Notify { success: true, failure: true, delay: false, given: true };
    site.collect(&Mail { via: Via::Relay, notify, ..mail(ANN) }).await;
    site.until("reported", |_| site.letters("ann@sender.example").len() == 1).await;
    assert!(site.letters("ann@sender.example")[0].contains("Action: delivered\r\nStatus: 2.0.0\r\n"));
}

#[tokio::test]
async fn recipients_of_one_message_go_their_own_ways() {
    let hop = Hop::start(lmtp()).await;
    let site = Site::new(Mode::Collect, "maildir:DIR/mail");
    site.set_routes(|table| {
        table.domains.insert("b.example".into(), Route::parse(&hop.lmtp()).unwrap());
        table.domains.insert("c.example".into(), Route::None);
    });
    site.set_mode("d.example", Mode::Hold);
    site.collect(&mail(&["x@a.example", "y@b.example", "z@c.example", "w@d.example", "v@a.example"])).await;
    hop.until_got(1).await;
    let lanes = site.until("split", |lanes| {
        in_lane(lanes, "a.example", 0) == 0
            && in_lane(lanes, "c.example", 0) == 1
            && in_lane(lanes, "d.example", 0) == 1
    });
    lanes.await;
    assert_eq!((site.letters("x@a.example").len(), site.letters("v@a.example").len()), (1, 1));
    assert_eq!(hop.got()[0].to, ["y@b.example"]);
    site.drain.drain_now(Some("d.example".into()), None).await;
    site.until("drained", |lanes| in_lane(lanes, "d.example", 0) == 0).await;
    assert_eq!(site.letters("w@d.example").len(), 1);
    assert_eq!(site.letters("x@a.example").len(), 1, "nobody gets it twice");
}

#[tokio::test]
async fn relayed_mail_goes_to_the_relay_route_as_local_mail() {
    let hop = Hop::start(Manners { offers: &["XCLIENT NAME ADDR"], ..Manners::default() }).await;
    let site = Site::new(Mode::Through, "maildir:DIR/mail");
    let relayed = Mail { via: Via::Relay, ..mail(&["bob@far.example"]) };
    assert_eq!(heard(&site.through(&relayed).await), "550 5.4.4 No route to far.example");
    site.set_routes(|table| table.relay = Some(Route::parse(&hop.smtp()).unwrap()));
    assert_eq!(site.through(&relayed).await, Fate::Delivered);
    assert_eq!(hop.got()[0].xclient, None);
}

#[tokio::test]
async fn connections_are_used_again() {
    let hop = Hop::start(lmtp()).await;
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { concurrency_max: 1, ..quick() });
    for _ in 0..30 {
        site.append(&mail(ANN), When::Commit);
    }
    hop.until_got(30).await;
    assert_eq!(hop.connections(), 1);
}

#[tokio::test]
async fn the_next_hop_is_told_the_real_client_by_xclient() {
    let hop =
        Hop::start(Manners { offers: &["PIPELINING", "XCLIENT NAME ADDR PORT HELO"], ..Manners::default() }).await;
    let site = Site::new(Mode::Through, &hop.smtp());
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered);
    let told = hop.got()[0].xclient.clone().unwrap();
    assert!(told.contains("ADDR=192.0.2.7"), "{told}");
}

#[tokio::test]
async fn without_xclient_nothing_is_delivered_unless_loopback_is_trusted() {
    let hop = Hop::start(Manners::default()).await;
    let site = Site::new(Mode::Through, &hop.smtp());
    assert_eq!(site.through(&mail(ANN)).await, Fate::Unsettled);
    assert_eq!(hop.got().len(), 0);
    let stats = site.drain.stats();
    let error = stats.destinations[0].last_error.as_deref().unwrap();
    assert!(error.contains("XCLIENT") && error.contains("trust_loopback = true"), "{error}");
    assert!(matches!(stats.destinations[0].state, DestinationState::BackingOff { .. }));
    site.set_routes(|table| table.default = table.default.clone().with_trust_loopback(true));
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered);
    // The first may have been at the drain again before it was withdrawn.
    assert!((1..=2).contains(&hop.got().len()));
}

#[tokio::test]
async fn the_next_hop_is_told_the_real_client_by_proxy() {
    let hop = Hop::start(Manners { proxy: true, ..Manners::default() }).await;
    let site = Site::new(Mode::Through, "none");
    let route = Route::parse(&hop.smtp()).unwrap().with_client_address(ClientAddress::ProxyV2);
    site.set_routes(|table| {
        table.default = route.clone();
        table.relay = Some(route);
    });
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered);
    assert_eq!(site.through(&Mail { via: Via::Relay, ..mail(ANN) }).await, Fate::Delivered);
    let proxies: Vec<_> = hop.got().into_iter().map(|got| got.proxy.unwrap()).collect();
    assert_eq!(proxies, ["192.0.2.7", "LOCAL"]);
}

/// A site that backs off for ten minutes from a hop which wants to know the client.
async fn told_by_proxy(manners: Manners) -> (Hop, Site) {
    let hop = Hop::start(Manners { proxy: true, ..manners }).await;
    let away = Duration::from_secs(600);
    let site = Site::with(
        Mode::Through,
        "none",
        DrainOptions { concurrency_max: 1, backoff_first: away, backoff_max: away, ..quick() },
    );
    let route = Route::parse(&hop.smtp()).unwrap().with_client_address(ClientAddress::ProxyV2);
    site.set_routes(|table| table.default = route);
    (hop, site)
}

#[tokio::test]
async fn a_client_that_the_hop_refuses_hears_it_and_closes_the_route_for_nobody() {
    let greeting = |client: Option<&str>| match client {
        Some("127.0.0.66") => "554 5.7.1 you are listed",
        Some("127.0.0.67") => "421 4.7.0 too many connections from you",
        _ => "220 hop.example ready",
    };
    let (hop, site) = told_by_proxy(Manners { greeting, ..Manners::default() }).await;
    for _ in 0..3 {
        let refused = site.through(&Mail { peer: "127.0.0.66", ..mail(ANN) }).await;
        assert_eq!(heard(&refused), "554 5.7.1 you are listed");
        let deferred = site.through(&Mail { peer: "127.0.0.67", ..mail(ANN) }).await;
        assert_eq!(heard(&deferred), "421 4.7.0 too many connections from you");
        assert_eq!(heard(&site.through(&mail(ANN)).await), "delivered");
    }
    assert_eq!(hop.got().len(), 3);
    assert_eq!(site.drain.stats().destinations[0].state, DestinationState::Up);
}

#[tokio::test]
async fn a_refusal_of_everybody_is_an_outage_when_no_client_was_told() {
    let hop = Hop::start(Manners { greeting: |_| "554 5.3.2 no service here", ..lmtp() }).await;
    let site = Site::new(Mode::Through, &hop.lmtp());
    assert_eq!(site.through(&mail(ANN)).await, Fate::Unsettled);
    assert!(matches!(site.drain.stats().destinations[0].state, DestinationState::BackingOff { .. }));
}

#[tokio::test]
async fn a_message_that_ends_the_session_closes_the_route_for_nobody() {
    let end = |to: &str| if to.starts_with("poison") { HANG_UP } else { "250 2.0.0 ok" };
    let (_hop, site) = told_by_proxy(Manners { end, ..Manners::default() }).await;
    assert_eq!(site.through(&mail(&["poison@example.com"])).await, Fate::Unsettled);
    assert_eq!(heard(&site.through(&mail(ANN)).await), "delivered");
}

#[tokio::test]
async fn a_client_with_an_underscore_in_its_name_is_introduced_by_ours() {
    let hello = |name: &str| name.contains('_').then_some("501 5.5.4 invalid name");
    let (hop, site) = told_by_proxy(Manners { hello, ..Manners::default() }).await;
    assert_eq!(heard(&site.through(&Mail { helo: "my_host.example", ..mail(ANN) }).await), "delivered");
    assert_eq!(hop.got()[0].proxy.as_deref(), Some("192.0.2.7"));
}

#[tokio::test]
async fn a_dead_next_hop_leaves_the_sender_to_the_receipt_and_is_tried_until_it_is_back() {
    let hop = Hop::start(lmtp()).await;
    hop.set_down(true);
    let options =
        DrainOptions { backoff_first: Duration::from_secs(600), backoff_max: Duration::from_secs(600), ..quick() };
    let site = Site::with(Mode::Through, &hop.lmtp(), options);
    let id = site.append(&mail(ANN), When::Tentative);
    assert!(matches!(site.event(id).await, EventKind::Fate(Fate::Unsettled)));
    site.commit(id);
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    // It backs off for ten minutes now: the next sender is answered at once all the same.
    assert_eq!(site.through(&mail(ANN)).await, Fate::Unsettled);
    let DestinationState::BackingOff { retry_in_ms } = site.drain.stats().destinations[0].state else { panic!() };
    assert!(retry_in_ms > 400_000);
}

#[tokio::test]
async fn mail_waits_for_a_hop_that_comes_back() {
    let hop = Hop::start(lmtp()).await;
    hop.set_down(true);
    let site = Site::new(Mode::Collect, &hop.lmtp());
    for _ in 0..10 {
        site.collect(&mail(ANN)).await;
    }
    site.until("tried", |_| site.drain.stats().deferred > 0).await;
    let away = site.drain.health("example.com").hop.unwrap();
    assert_eq!(away.name, hop.lmtp());
    assert!(now_unix_ms() - away.since_unix_ms < 60_000);
    hop.set_down(false);
    hop.until_got(10).await;
    site.until_empty().await;
    assert_eq!(site.drain.health("example.com"), Health::default());
    let stats = &site.drain.stats().destinations[0];
    assert_eq!((stats.state, stats.last_error.as_deref()), (DestinationState::Up, None));
}

#[tokio::test]
async fn a_refusal_that_comes_after_the_receipt_becomes_a_dead_letter() {
    let hop = Hop::start(Manners { end: quota, ..lmtp() }).await;
    hop.pause();
    let site = Site::new(Mode::Through, &hop.lmtp());
    let id = site.append(&mail(&["full@example.com"]), When::Tentative);
    hop.until_at_the_dot().await;
    site.commit(id);
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    hop.resume();
    site.until("dead", |lanes| in_lane(lanes, "example.com", Lane::DEAD_CLASS) == 1).await;
    assert_eq!(site.dead("example.com").await[0].note.as_deref(), Some("552 5.2.2 over quota"));
}

#[tokio::test]
async fn a_dead_letter_leaves_when_the_operator_says_retry() {
    let hop = Hop::start(Manners { end: quota, ..lmtp() }).await;
    let site = Site::new(Mode::Collect, &hop.lmtp());
    site.append(&mail(&["full@example.com"]), When::Commit);
    site.append(&mail(&["full@example.com"]), When::Commit);
    site.until("dead", |lanes| in_lane(lanes, "example.com", Lane::DEAD_CLASS) == 2).await;
    let dead = site.spool.list(Some("example.com".to_owned()), None, 10).await;
    site.set_routes(|table| table.default = Route::Maildir(site.mail_dir()));
    site.spool.hold(dead[1].id, true).await.unwrap();
    assert!(revive(&site.spool, dead[1].id, now_unix_ms()).await.unwrap());
    site.until("one dead", |lanes| in_lane(lanes, "example.com", Lane::DEAD_CLASS) == 1).await;
    site.until("delivered", |lanes| in_lane(lanes, "example.com", 0) == 0).await;
    assert_eq!(std::fs::read_dir(site.mail_dir().join("full@example.com/new")).unwrap().count(), 1);
    assert_eq!(site.spool.list(None, None, 10).await[0].id, dead[0].id);
}

#[tokio::test]
async fn of_too_many_dead_letters_the_oldest_go() {
    let hop = Hop::start(Manners { rcpt: |_| "550 5.1.1 no such user", ..lmtp() }).await;
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { dead_letters_max: 2, ..quick() });
    for n in 1..=4 {
        let to = [["a", "b", "c", "d"][n - 1], "@", ["x.example", "y.example"][n % 2]].concat();
        site.collect(&mail(&[&to])).await;
        site.until("dead", |_| site.drain.stats().dead_letters == n as u64 && site.drain.stats().running == 0).await;
    }
    let mut left = site.dead("x.example").await;
    left.extend(site.dead("y.example").await);
    let names: Vec<String> = left.iter().map(|meta| meta.recipients[0].address.to_string()).collect();
    assert_eq!(names, ["d@x.example", "c@y.example"]);
    assert_eq!(site.drain.stats().dead_letters_dropped, 2);
}

#[tokio::test]
async fn a_recipient_s_name_cannot_leave_the_directory() {
    let site = Site::new(Mode::Through, "maildir:DIR/mail");
    for to in ["\"../../x\"@example.com", "\"a/b\"@example.com", "postmaster", "Ann+d@example.com"] {
        assert_eq!(site.through(&mail(&[to])).await, Fate::Delivered);
    }
    let mut names: Vec<String> = std::fs::read_dir(site.mail_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["%2E.%2F..%2Fx@example.com", "a%2Fb@example.com", "ann@example.com", "postmaster@mx.example"]);
}

#[tokio::test]
async fn mailboxes_beyond_the_limit_are_deferred() {
    let site = Site::new(Mode::Through, "maildir:DIR/mail");
    site.set_routes(|table| table.mailboxes_max = 1);
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered);
    assert_eq!(heard(&site.through(&mail(&["ben@example.com"])).await), "452 4.3.1 No room for another mailbox");
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered);
}

#[tokio::test]
async fn a_large_body_is_streamed_to_maildir_and_hop() {
    let hop = Hop::start(lmtp()).await;
    let site = Site::new(Mode::Collect, "maildir:DIR/mail");
    site.set_routes(|table| {
        table.domains.insert("b.example".into(), Route::parse(&hop.lmtp()).unwrap());
    });
    let body = format!("Subject: large\r\n\r\n{}", ".0123456789 0123456789\r\n".repeat(40_000));
    let id = site.spool.new_id();
    site.write_body(id, body.as_bytes()).await;
    site.append_as(id, &mail(&["x@a.example", "y@b.example"]), Body::Streamed, When::Commit);
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    let got = hop.until_got(1).await;
    assert!(got[0].data.ends_with(&body) && got[0].data.starts_with("Received: from "));
    site.until_empty().await;
    assert!(site.letters("x@a.example")[0].ends_with(&body));
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_a_new_start_repeats_nothing() {
    let hop = Hop::start(lmtp()).await;
    hop.pause();
    let site = Site::new(Mode::Collect, &hop.lmtp());
    site.collect(&mail(ANN)).await;
    hop.until_at_the_dot().await;
    let stopping = site.drain.clone();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    hop.resume();
    timeout(support::PATIENCE, stopped).await.unwrap().unwrap();
    site.until_empty().await;
    site.collect(&mail(ANN)).await;
    let again =
        postern_drain::Drain::start(site.spool.clone(), site.routes.clone(), site.modes.clone(), site.options.clone());
    hop.until_got(2).await;
    site.until_empty().await;
    assert_eq!(hop.got().len(), 2);
    again.unwrap().stop().await;
}

#[tokio::test]
async fn the_doors_may_offer_what_all_hops_offer() {
    let hop = Hop::start(Manners { offers: &["8BITMIME", "SMTPUTF8"], ..lmtp() }).await;
    let site = Site::new(Mode::Through, &hop.lmtp());
    let mut carries = site.drain.carries();
    let all = Carries { eight_bit: true, smtputf8: true };
    timeout(support::PATIENCE, carries.wait_for(|carries| *carries == all)).await.unwrap().unwrap();
    site.set_routes(|table| {
        table.domains.insert("held.example".into(), Route::None);
    });
    let less = Carries { eight_bit: true, smtputf8: false };
    timeout(support::PATIENCE, carries.wait_for(|carries| *carries == less)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_international_message_is_refused_by_a_hop_that_cannot_take_it() {
    let hop = Hop::start(lmtp()).await;
    let site = Site::new(Mode::Through, &hop.lmtp());
    let message = Mail { smtputf8: true, ..mail(&["bøb@example.com"]) };
    assert!(heard(&site.through(&message).await).contains(" 5.6.7 "));
}

#[tokio::test]
async fn a_collect_rate_is_kept_and_waiting_senders_are_not_slowed() {
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", DrainOptions { collect_rate: Some(0), ..quick() });
    site.append(&mail(ANN), When::Commit);
    site.append(&mail(ANN), When::Commit);
    site.until("one gone", |lanes| in_lane(lanes, "example.com", 0) == 1).await;
    let id = site.append(&mail(&["ben@example.com"]), When::Tentative);
    let fate = loop {
        match site.next_event().await {
            event if event.id == id => break event.kind,
            _ => {}
        }
    };
    assert!(matches!(fate, EventKind::Fate(Fate::Delivered)));
    assert_eq!(site.drain.drain_now(None, None).await, 1);
    site.until_empty().await;
}

#[tokio::test]
async fn a_verdict_that_was_given_holds_though_the_connection_then_ends() {
    let end = |to: &str| if to.starts_with("last") { HANG_UP } else { "250 2.0.0 ok" };
    let hop = Hop::start(Manners { end, ..lmtp() }).await;
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { retry_first: Duration::from_secs(60), ..quick() });
    let id = site.collect(&mail(&["ann@example.com", "ben@example.com", "last@example.com"])).await;
    site.until("tried", |lanes| lanes.iter().any(|lane| lane.waiting == 1)).await;
    let item = site.spool.show(id).await.unwrap();
    let left = postern_proto::envelope::Meta::from_bytes(&item.meta).unwrap();
    let names: Vec<String> = left.recipients.iter().map(|to| to.address.to_string()).collect();
    assert_eq!((names, left.attempts), (vec!["last@example.com".to_owned()], 1));
}

#[tokio::test]
async fn a_letter_that_was_delivered_before_a_crash_is_not_delivered_again() {
    let site = Site::new(Mode::Collect, "maildir:DIR/mail");
    let (id, letter) = (site.spool.new_id(), mail(ANN));
    let append = || site.append_as(id, &letter, Body::Inline(BODY.to_vec()), When::Commit);
    append();
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    site.until_empty().await;
    site.drain.stop().await;
    // The reader has seen the letter, and the spool has the item as if it had never been settled.
    let (new, cur) = (site.mailbox("ann@example.com").join("new"), site.mailbox("ann@example.com").join("cur"));
    let name = std::fs::read_dir(&new).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    std::fs::rename(new.join(&name), cur.join(format!("{name}:2,S"))).unwrap();
    append();
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    let (spool, options) = (site.spool.clone(), site.options.clone());
    let again = postern_drain::Drain::start(spool, site.routes.clone(), site.modes.clone(), options).unwrap();
    site.until_empty().await;
    assert_eq!((site.letters("ann@example.com").len(), again.stats().delivered), (0, 1));
    again.stop().await;
}
