//! What a milter changes reaches everybody whom it is meant for, once, and nobody gets the bytes that it replaced.

mod support;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_drain::{DrainOptions, FilterTable, OnSpam, QUARANTINE_CLASS, ReleaseAs, release_quarantined};
use postern_proto::envelope::Via;
use postern_proto::mode::Mode;
use postern_spool::ItemId;
use postern_trust::{Evidence, channel};
use support::hop::{Hop, Manners};
use support::milter::Milter;
use support::rspamd::{ACCEPT, Rspamd};
use support::{Mail, Site, in_lane, mail, now_unix_ms, quick};

const DISARMED: &[(u8, &[u8])] = &[(b'b', b"Disarmed.\r\n"), (b'h', b"X-Checked\0yes\0")];
const BOTH: &[&str] = &["ann@example.com", "nobody@example.com"];

fn filtered(milter: &Milter) -> DrainOptions {
    let table = FilterTable::new(vec![milter.options()]);
    DrainOptions { filters: Arc::new(ArcSwap::from_pointee(table)), ..quick() }
}

#[track_caller]
fn one_disarmed(letters: &[String]) {
    assert_eq!(letters.len(), 1);
    let expected = "\r\nSubject: hello\r\nX-Checked: yes\r\n\r\nDisarmed.\r\n";
    assert!(letters[0].ends_with(expected), "{}", letters[0]);
}

#[tokio::test]
async fn a_new_body_reaches_all_though_one_recipient_is_refused() {
    let milter = Milter::start(DISARMED).await;
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", filtered(&milter));
    site.collect(&mail(BOTH)).await;
    site.until_empty().await;
    let [taken, refused] = [site.letters(BOTH[0]), site.letters(BOTH[1])];
    one_disarmed(&taken);
    one_disarmed(&refused);
    assert!(!taken[0].contains("X-Spam-Flag") && refused[0].contains("X-Spam-Flag: YES"));
    assert_eq!(milter.judged(), 1);
}

#[tokio::test]
async fn a_new_body_is_what_the_quarantine_keeps_and_releases() {
    const CHANGES: &[(u8, &[u8])] = &[DISARMED[0], DISARMED[1], (b'q', b"worm\0")];
    let milter = Milter::start(CHANGES).await;
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", filtered(&milter));
    site.collect(&mail(&BOTH[..1])).await;
    site.until("kept", |lanes| in_lane(lanes, "example.com", QUARANTINE_CLASS) == 1).await;
    let id = site.spool.list(None, None, 1).await[0].id;
    assert!(release_quarantined(&site.spool, id, ReleaseAs::Accepted, now_unix_ms()).await.unwrap());
    site.until_empty().await;
    one_disarmed(&site.letters(BOTH[0]));
}

#[tokio::test]
async fn what_was_drained_from_hold_leaves_also_in_parts() {
    let milter = Milter::start(DISARMED).await;
    let site = Site::with(Mode::Hold, "maildir:DIR/mail", filtered(&milter));
    site.collect(&mail(BOTH)).await;
    site.drain.drain_now(None, None).await;
    site.until_empty().await;
    assert_eq!((site.letters(BOTH[0]).len(), site.letters(BOTH[1]).len()), (1, 1));
}

#[tokio::test]
async fn who_was_added_gets_one_copy_and_the_book_one_word_however_often_it_is_judged() {
    const CHANGES: &[(u8, &[u8])] = &[DISARMED[0], (b'+', b"<archive@example.com>\0")];
    let milter = Milter::start(CHANGES).await;
    let later = |to: &str| if to.starts_with("ann") { "451 4.2.0 later" } else { "250 ok" };
    let hop = Hop::start(Manners { lmtp: true, rcpt: later, ..Manners::default() }).await;
    let (sender, mut evidence) = channel(64);
    let options = DrainOptions { evidence: Some(sender), ..filtered(&milter) };
    let site = Site::with(Mode::Collect, &hop.lmtp(), options);
    site.collect(&mail(&BOTH[..1])).await;
    site.until("judged again", |_| milter.judged() >= 4).await;
    let to: Vec<_> = hop.got().into_iter().map(|got| got.to).collect();
    assert_eq!(to, [["archive@example.com"]]);
    let mut told = Vec::new();
    evidence.drain(&mut told, 64);
    assert!(matches!(told[..], [Evidence::Ham { .. }]), "{told:?}");
}

#[tokio::test]
async fn nothing_of_the_old_body_stays_in_front_of_the_new_one() {
    let milter = Milter::start(DISARMED).await;
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", filtered(&milter));
    for stored in ["Subject: hello\r\nno field\r\nworm\r\n", "Subject: hello", "Subject: hello\r\n"] {
        let to = format!("to{}@example.com", stored.len());
        site.collect_as(&mail(&[&to]), 0, stored).await;
        site.until_empty().await;
        one_disarmed(&site.letters(&to));
    }
}

async fn quarantined(site: &Site, n: usize) {
    for _ in 0..n {
        site.collect(&mail(&BOTH[..1])).await;
    }
    site.until("kept", |lanes| in_lane(lanes, "example.com", QUARANTINE_CLASS) == n).await;
}

#[tokio::test]
async fn what_is_held_in_quarantine_is_released_all_the_same() {
    let milter = Milter::start(&[(b'q', b"worm\0")]).await;
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", filtered(&milter));
    quarantined(&site, 3).await;
    let id = site.spool.list(None, None, 3).await[1].id;
    site.spool.hold(id, true).await.unwrap();
    assert!(release_quarantined(&site.spool, id, ReleaseAs::Accepted, now_unix_ms()).await.unwrap());
    site.until("released", |_| site.letters(BOTH[0]).len() == 1).await;
    site.until("kept", |lanes| in_lane(lanes, "example.com", QUARANTINE_CLASS) == 2).await;
}

#[tokio::test]
async fn what_is_held_past_its_time_keeps_nothing_else_in_quarantine() {
    let options = DrainOptions { quarantine_keep: Duration::from_secs(500), ..quick() };
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", options);
    let now = site.spool.new_id();
    let before = |seconds: u64| ItemId(now.0 - (now.0 / now.unix_ms()) * seconds * 1000);
    // Not too old yet, which the drain sees only when it has looked.
    let held = before(400);
    site.quarantine_as(held, &mail(&BOTH[..1])).await;
    site.spool.hold(held, true).await.unwrap();
    site.drain.stop().await;
    site.quarantine_as(before(10), &mail(&BOTH[..1])).await;
    site.quarantine_as(before(300), &mail(&["ben@other.example"])).await;
    let short = DrainOptions { quarantine_keep: Duration::from_secs(200), ..site.options.clone() };
    let again =
        postern_drain::Drain::start(site.spool.clone(), site.routes.clone(), site.modes.clone(), short).unwrap();
    site.until("dropped", |lanes| in_lane(lanes, "other.example", QUARANTINE_CLASS) == 0).await;
    // It is looked at again when something may be dropped, and not again and again until then.
    let lanes = site.until("at rest", |lanes| lanes.iter().all(|lane| lane.leased == 0)).await;
    assert_eq!(in_lane(&lanes, "example.com", QUARANTINE_CLASS), 2);
    site.until("counted", |_| again.stats().quarantine_dropped == 1).await;
    again.stop().await;
}

#[tokio::test]
async fn the_quarantine_is_bounded_by_bytes_too() {
    let milter = Milter::start(&[(b'q', b"worm\0")]).await;
    let max = 3 * support::BODY.len() as u64;
    let options = DrainOptions { quarantine_bytes_max: max, ..filtered(&milter) };
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", options);
    for _ in 0..5 {
        site.collect(&mail(&BOTH[..1])).await;
    }
    site.until("bounded", |lanes| {
        site.drain.stats().quarantine_dropped == 2 && in_lane(lanes, "example.com", QUARANTINE_CLASS) == 3
    })
    .await;
}

#[tokio::test]
async fn while_a_filter_is_away_what_needs_none_leaves_from_lower_classes_too() {
    let rspamd = Rspamd::start(|_| ACCEPT).await;
    rspamd.set_down(true);
    let table = FilterTable::new(vec![rspamd.options(OnSpam::Mark)]);
    let away = Duration::from_secs(600);
    let filters = Arc::new(ArcSwap::from_pointee(table));
    let options = DrainOptions { filters, backoff_first: away, backoff_max: away, ..quick() };
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", options);
    site.set_routes(|table| table.local.extend(["example.com".to_owned()]));
    // More than the turns of half a minute.
    for _ in 0..500 {
        site.collect_as(&mail(&BOTH[..1]), 1, "Subject: x\r\n\r\n").await;
    }
    let judged_by_nobody = Mail { via: Via::Relay, ..mail(&["ben@example.com"]) };
    site.collect_as(&judged_by_nobody, 4, "Subject: x\r\n\r\n").await;
    site.until("left", |_| site.letters("ben@example.com").len() == 1).await;
    assert!(site.letters(BOTH[0]).is_empty());
}
