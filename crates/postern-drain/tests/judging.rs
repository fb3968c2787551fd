//! Mail is judged before it leaves, by a filter that speaks rspamd's protocol on loopback.

mod support;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_drain::{
    DestinationState, DrainOptions, FilterOptions, FilterTable, OnSpam, QUARANTINE_CLASS, RELEASED_CLASS, ReleaseAs,
    Route, release_quarantined,
};
use postern_proto::envelope::{Meta, Via};
use postern_proto::mode::Mode;
use postern_spool::{Body, EventKind, Fate, Lane, When};
use postern_trust::{Evidence, channel};
use support::hop::{Hop, Manners};
use support::milter::Milter;
use support::rspamd::{ACCEPT, LATER, MARK, QUARANTINE, REJECT, Rspamd};
use support::{BODY, Mail, PATIENCE, Site, count, heard, in_lane, mail, quick};
use tokio::time::timeout;

const ANN: &[&str] = &["ann@example.com"];
const BOX: &str = "ann@example.com";

fn lmtp() -> Manners {
    Manners { lmtp: true, ..Manners::default() }
}

fn filtered(filter: FilterOptions) -> DrainOptions {
    DrainOptions { filters: Arc::new(ArcSwap::from_pointee(FilterTable::new(vec![filter]))), ..quick() }
}

fn judged_by(rspamd: &Rspamd) -> DrainOptions {
    filtered(rspamd.options(OnSpam::Mark))
}

/// Judgements of the one filter that failed; the drain may not have looked at its table yet.
fn failed(site: &Site) -> u64 {
    site.drain.stats().filters.first().map_or(0, |filter| filter.failed)
}

fn count_of(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[tokio::test]
async fn a_rejection_in_the_calm_is_the_sender_s_reply_and_nothing_is_left() {
    let rspamd = Rspamd::start(|_| REJECT).await;
    let site = Site::with(Mode::Through, "maildir:DIR/mail", judged_by(&rspamd));
    assert_eq!(heard(&site.through(&mail(ANN)).await), "554 5.7.1 We do not want this");
    site.until_empty().await;
    assert!(site.letters(BOX).is_empty());
    let stats = site.drain.stats();
    assert_eq!((stats.dead_letters, stats.reports, stats.filters[0].rejected), (0, 0, 1));
}

#[tokio::test]
async fn a_rejection_after_the_250_is_delivered_marked() {
    let rspamd = Rspamd::start(|_| REJECT).await;
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", judged_by(&rspamd));
    site.collect(&mail(ANN)).await;
    site.until_empty().await;
    let letters = site.letters(BOX);
    assert_eq!(letters.len(), 1);
    assert_eq!(count_of(&letters[0], "\r\nX-Spam-Flag: YES\r\nX-Spam-Score: 20.00\r\n"), 1, "{}", letters[0]);
    assert_eq!(count_of(&letters[0], "\r\nX-Postern-Filter: mark; by=fake; reject 20.00/15.00\r\n"), 1);
    assert!(letters[0].as_bytes().ends_with(BODY));
}

#[tokio::test]
async fn a_rejection_at_the_moment_of_the_receipt_is_delivered_marked() {
    let rspamd = Rspamd::start(|_| REJECT).await;
    rspamd.set_frozen(true);
    let site = Site::with(Mode::Through, "maildir:DIR/mail", judged_by(&rspamd));
    let id = site.append(&mail(ANN), When::Tentative);
    rspamd.until_asked(1).await;
    site.commit(id);
    assert!(matches!(site.event(id).await, EventKind::Committed(_)));
    rspamd.set_frozen(false);
    site.until_empty().await;
    assert_eq!(count_of(&site.letters(BOX)[0], "X-Spam-Flag: YES"), 1);
    assert_eq!(rspamd.judged().len(), 1);
}

#[tokio::test]
async fn not_now_is_heard_in_the_session_and_tried_again_after_the_250() {
    let rspamd = Rspamd::start(|_| LATER).await;
    let site = Site::with(Mode::Through, "maildir:DIR/mail", judged_by(&rspamd));
    assert!(heard(&site.through(&mail(ANN)).await).starts_with("451 4.7.1 "));
    site.until_empty().await;
    site.collect(&mail(ANN)).await;
    site.until("tried again", |_| site.drain.stats().filters[0].tempfailed >= 4).await;
    assert!(site.letters(BOX).is_empty());
    let willing = Rspamd::start(|_| ACCEPT).await;
    site.set_filters(FilterTable::new(vec![willing.options(OnSpam::Mark)]));
    site.until_empty().await;
    assert_eq!(site.letters(BOX).len(), 1);
}

#[tokio::test]
async fn a_frozen_filter_moves_the_sender_to_the_receipt_and_the_mail_is_judged_later_exactly_once() {
    let rspamd = Rspamd::start(|_| ACCEPT).await;
    rspamd.set_frozen(true);
    let mut filter = rspamd.options(OnSpam::Mark);
    filter.filter.timeout = Duration::from_millis(100);
    let away = Duration::from_secs(600);
    let site = Site::with(
        Mode::Through,
        "maildir:DIR/mail",
        DrainOptions { backoff_first: away, backoff_max: away, ..filtered(filter.clone()) },
    );
    let first = site.append(&mail(ANN), When::Tentative);
    assert!(matches!(site.event(first).await, EventKind::Fate(Fate::Unsettled)));
    site.commit(first);
    assert!(matches!(site.event(first).await, EventKind::Committed(_)));
    // It is left alone for ten minutes now: the next sender is answered at once.
    let second = site.append(&mail(&["ben@example.com"]), When::Tentative);
    assert!(matches!(site.event(second).await, EventKind::Fate(Fate::Unsettled)));
    site.commit(second);
    assert!(matches!(site.event(second).await, EventKind::Committed(_)));
    let stats = site.drain.stats();
    assert!(matches!(stats.filters[0].state, DestinationState::BackingOff { .. }));
    assert_eq!(stats.filters[0].last_error.as_deref(), Some("the filter did not answer in time"));
    assert_eq!(site.drain.health("example.com").filter.unwrap().name, "fake");
    assert!(site.letters(BOX).is_empty() && site.letters("ben@example.com").is_empty());
    rspamd.set_frozen(false);
    // Another limit makes it another filter to the drain, with a gate of its own.
    filter.filter.timeout = PATIENCE;
    site.set_filters(FilterTable::new(vec![filter]));
    // Those asked while it was frozen hung up; their answers reached nobody.
    site.drain.drain_now(None, None).await;
    site.until_empty().await;
    assert_eq!((site.letters(BOX).len(), site.letters("ben@example.com").len()), (1, 1));
    assert_eq!(site.drain.stats().filters[0].judged, 2);
    assert_eq!(site.drain.health("example.com").filter, None);
}

#[tokio::test]
async fn nothing_unjudged_leaves_while_the_filter_is_down() {
    let rspamd = Rspamd::start(|_| ACCEPT).await;
    rspamd.set_down(true);
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", judged_by(&rspamd));
    site.set_routes(|table| table.local.extend(["example.com".to_owned()]));
    for _ in 0..20 {
        site.collect(&mail(ANN)).await;
    }
    // What needs no judgement leaves from among them.
    site.collect(&Mail { via: Via::Relay, ..mail(&["ben@example.com"]) }).await;
    site.until("asked", |_| failed(&site) > 2).await;
    site.until("relayed", |lanes| in_lane(lanes, "example.com", 0) == 20).await;
    assert_eq!(site.letters("ben@example.com").len(), 1);
    assert!(site.letters(BOX).is_empty());
    rspamd.set_down(false);
    site.until_empty().await;
    assert_eq!((site.letters(BOX).len(), rspamd.judged().len()), (20, 20));
}

#[tokio::test]
async fn when_a_slow_filter_is_back_the_best_leave_first_though_they_were_looked_at_meanwhile() {
    let rspamd = Rspamd::start(|_| ACCEPT).await;
    rspamd.set_down(true);
    rspamd.set_frozen(true);
    let mut filter = rspamd.options(OnSpam::Mark);
    (filter.workers, filter.filter.timeout) = (1, PATIENCE);
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", filtered(filter));
    site.set_routes(|table| table.local.extend(["example.com".to_owned()]));
    let body = "Subject: x\r\n\r\n";
    site.collect_as(&mail(&["probe@example.com"]), 1, body).await;
    site.until("away", |_| failed(&site) > 0).await;
    // From now on one message asks whether it is back, and is kept waiting for the answer.
    rspamd.set_down(false);
    rspamd.until_asked(1).await;
    for (class, name) in [(3, "last"), (1, "best")] {
        for _ in 0..5 {
            site.collect_as(&mail(&[&format!("{name}@example.com")]), class, body).await;
        }
    }
    // What needs no judgement leaves: then all in its lane have been looked at.
    site.collect_as(&Mail { via: Via::Relay, ..mail(&["ben@example.com"]) }, 1, body).await;
    site.until("looked at", |lanes| {
        let best = lanes.iter().find(|lane| lane.lane.class == 1).expect("they wait");
        site.letters("ben@example.com").len() == 1 && best.leased == 1 && count(best) == 6
    })
    .await;
    rspamd.set_frozen(false);
    site.until_empty().await;
    let judged = rspamd.judged();
    let who = |seen: &String| ["probe", "best", "last"].into_iter().find(|name| seen.contains(&format!("<{name}@")));
    let order: Vec<&str> = judged.iter().filter_map(who).collect();
    assert_eq!(order, [&["probe"][..], &["best"; 5], &["last"; 5]].concat());
}

#[tokio::test]
async fn forged_marks_are_removed_and_the_filter_s_changes_are_made_on_every_route() {
    const CHANGES: &str = r#"{"action":"no action","score":-1.5,"required_score":15,"milter":{
        "add_headers":{"Authentication-Results":"mx.example; spf=pass"},"remove_headers":{"X-Old":0}}}"#;
    let rspamd = Rspamd::start(|_| CHANGES).await;
    let hops = [Hop::start(lmtp()).await, Hop::start(Manners::default()).await];
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", judged_by(&rspamd));
    site.set_routes(|table| {
        table.domains.insert("lmtp.example".into(), Route::parse(&hops[0].lmtp()).unwrap());
        let smtp = Route::parse(&hops[1].smtp()).unwrap().with_trust_loopback(true);
        table.domains.insert("smtp.example".into(), smtp);
    });
    let head = "X-Spam-Flag: NO\r\nx-spam-SCORE : -100\r\nSubject: hello\r\nX-Postern-Filter: accept\r\nX-Old: x\r\n";
    let to: &[&str] = &["ann@example.com", "ben@lmtp.example", "cid@smtp.example"];
    for lines in [1, 20_000] {
        let body = format!("\r\n{}", "A line of the body.\r\n".repeat(lines));
        let (id, whole) = (site.spool.new_id(), [head, &body].concat());
        if lines == 1 {
            site.append_as(id, &mail(to), Body::Inline(whole.into_bytes()), When::Commit);
        } else {
            site.write_body(id, whole.as_bytes()).await;
            site.append_as(id, &mail(to), Body::Streamed, When::Commit);
        }
        assert!(matches!(site.event(id).await, EventKind::Committed(_)));
        site.until_empty().await;
        let expected = ["Subject: hello\r\nAuthentication-Results: mx.example; spf=pass\r\n", &body].concat();
        let letters = [site.letters(BOX), hops.iter().map(|hop| hop.got().pop().unwrap().data).collect()].concat();
        for letter in letters.iter().filter(|letter| letter.len() > expected.len()) {
            assert!(letter.ends_with(&expected), "{letter:.2000}");
            let marks = "X-Spam-Score: -1.50\r\nX-Postern-Filter: accept; by=fake; no action -1.50/15.00\r\nReceived: ";
            assert!(letter.contains(marks), "{letter:.2000}");
            assert_eq!((count_of(letter, "X-Spam-Flag"), count_of(letter, "X-Old")), (0, 0));
        }
        assert!(letters.iter().filter(|letter| letter.ends_with(&expected)).count() >= 3);
    }
}

#[tokio::test]
async fn what_was_judged_is_not_judged_again_and_its_changes_survive_the_retry() {
    let rspamd = Rspamd::start(|_| MARK).await;
    let hop = Hop::start(lmtp()).await;
    hop.set_busy(3);
    let site = Site::with(Mode::Collect, &hop.lmtp(), judged_by(&rspamd));
    let id = site.collect(&mail(ANN)).await;
    let got = hop.until_got(1).await;
    assert_eq!(count_of(&got[0].data, "X-Spam-Flag: YES\r\nX-Spam-Score: 7.25\r\n"), 1);
    assert!(got[0].data.contains(&id.to_string()), "it was the same item all the time");
    site.until_empty().await;
    assert_eq!((rspamd.judged().len(), site.drain.stats().deferred), (1, 3));
}

#[tokio::test]
async fn the_filter_sees_what_was_known_at_arrival() {
    let rspamd = Rspamd::start(|_| ACCEPT).await;
    let site = Site::with(Mode::Through, "maildir:DIR/mail", judged_by(&rspamd));
    assert_eq!(site.through(&Mail { peer: "198.51.100.99", ..mail(ANN) }).await, Fate::Delivered);
    let seen = rspamd.judged().remove(0).to_ascii_lowercase();
    assert!(seen.contains("\r\nip: 198.51.100.99\r\n") && seen.contains("\r\nhelo: client.example\r\n"), "{seen}");
    assert!(seen.contains("\r\n\r\nreceived: from client.example"), "{seen}");
}

#[tokio::test]
async fn mail_of_our_own_and_of_domains_without_filters_is_not_judged() {
    let rspamd = Rspamd::start(|_| MARK).await;
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", judged_by(&rspamd));
    let table = FilterTable::new(vec![rspamd.options(OnSpam::Mark)]).without(["plain.example".to_owned()]);
    site.set_filters(table);
    site.set_routes(|table| table.local.extend(["example.com".to_owned()]));
    site.collect(&Mail { via: Via::Relay, ..mail(ANN) }).await;
    site.until_empty().await;
    assert_eq!(rspamd.judged().len(), 0);
    for to in [["x@plain.example", "y@example.com"], ["y@example.com", "x@plain.example"]] {
        site.collect(&mail(&to)).await;
    }
    site.until_empty().await;
    let (plain, marked) = (site.letters("x@plain.example"), site.letters("y@example.com"));
    assert_eq!((plain.len(), marked.len(), rspamd.judged().len()), (2, 2, 2));
    assert!(plain.iter().all(|letter| !letter.contains("X-")), "{plain:?}");
    assert!(marked.iter().all(|letter| letter.contains("X-Spam-Flag: YES")), "{marked:?}");
}

#[tokio::test]
async fn the_quarantine_keeps_shows_and_releases() {
    let rspamd = Rspamd::start(|_| QUARANTINE).await;
    let site = Site::with(Mode::Through, "maildir:DIR/mail", judged_by(&rspamd));
    assert_eq!(site.through(&mail(ANN)).await, Fate::Delivered, "its sender hears 250");
    site.collect(&mail(&["ann@example.com", "ben@other.example"])).await;
    let kept = |lanes: &[postern_spool::LaneStats]| {
        in_lane(lanes, "example.com", QUARANTINE_CLASS) == 2 && in_lane(lanes, "other.example", QUARANTINE_CLASS) == 1
    };
    site.until("kept", kept).await;
    assert!(site.letters(BOX).is_empty());
    let shown = site.spool.list(Some("example.com".into()), None, 10).await;
    assert_eq!(shown.iter().map(|item| item.lane.class).collect::<Vec<_>>(), [QUARANTINE_CLASS; 2]);
    let meta = Meta::from_bytes(&site.spool.show(shown[0].id).await.unwrap().meta).unwrap();
    assert!(meta.judged && meta.judgement.unwrap().reason.unwrap().contains("quarantine 12.00"));
    // Released though the domain is held by now.
    site.set_mode("example.com", Mode::Hold);
    let now = support::now_unix_ms();
    assert!(release_quarantined(&site.spool, shown[1].id, ReleaseAs::Accepted, now).await.unwrap());
    site.until("released", |_| site.letters(BOX).len() == 1).await;
    assert!(!site.letters(BOX)[0].contains("X-Spam-Flag"));
    assert!(release_quarantined(&site.spool, shown[0].id, ReleaseAs::Marked, now).await.unwrap());
    site.until("released", |_| site.letters(BOX).len() == 2).await;
    assert!(site.letters(BOX).iter().any(|letter| letter.contains("X-Spam-Flag: YES")));
    site.until("gone", |lanes| in_lane(lanes, "example.com", RELEASED_CLASS) == 0).await;
    let other = site.spool.list(Some("other.example".into()), None, 10).await;
    assert_eq!(other.len(), 1, "what was not released stays");
    assert_eq!(rspamd.judged().len(), 2);
}

#[tokio::test]
async fn the_quarantine_drops_what_is_too_old_or_too_much_and_counts_it() {
    let rspamd = Rspamd::start(|_| QUARANTINE).await;
    let options = DrainOptions { quarantine_max: 3, ..judged_by(&rspamd) };
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", options);
    for n in 1..=5 {
        site.collect(&mail(ANN)).await;
        site.until("judged", |_| rspamd.judged().len() == n && site.drain.stats().running == 0).await;
    }
    let first = site.spool.list(None, None, 10).await[0].id;
    site.until("bounded", |lanes| in_lane(lanes, "example.com", QUARANTINE_CLASS) == 3).await;
    site.until("counted", |_| site.drain.stats().quarantine_dropped == 2).await;
    assert_eq!(site.spool.list(None, None, 10).await.iter().filter(|item| item.id < first).count(), 0);
    site.drain.stop().await;
    let short = DrainOptions { quarantine_keep: Duration::from_millis(1), ..site.options.clone() };
    let again =
        postern_drain::Drain::start(site.spool.clone(), site.routes.clone(), site.modes.clone(), short).unwrap();
    site.until("dropped", |_| again.stats().quarantine_dropped == 3).await;
    site.until_empty().await;
    assert_eq!(again.stats().dead_letters, 0);
    again.stop().await;
}

#[tokio::test]
async fn the_best_class_leaves_first_and_the_last_one_still_moves() {
    let hop = Hop::start(lmtp()).await;
    hop.pause();
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { concurrency_max: 1, ..quick() });
    site.collect(&mail(&["first@example.com"])).await;
    hop.until_at_the_dot().await;
    let body = "Subject: x\r\n\r\n";
    for (class, n) in [(4, 3), (3, 3), (1, 40)] {
        for _ in 0..n {
            site.collect_as(&mail(&[&format!("class{class}@example.com")]), class, body).await;
        }
    }
    let backlog = |class: usize| site.drain.stats().classes[class].backlog;
    site.until("seen", |_| backlog(1) > 0 && backlog(4) > 0).await;
    hop.resume();
    let got = hop.until_got(47).await;
    let order: String = got[1..].iter().map(|got| got.to[0].as_bytes()[5] as char).collect();
    let first_low = order.find(['3', '4']).unwrap();
    assert!((12..=16).contains(&first_low), "{order}");
    assert_eq!(order[..40].matches(['3', '4']).count(), 2, "{order}");
    assert!(order.ends_with("44"), "{order}");
    site.until_empty().await;
    site.until("counted", |_| site.drain.stats().classes.map(|class| class.left) == [1, 40, 0, 3, 3]).await;
}

#[tokio::test]
async fn a_drain_that_ends_between_judging_and_delivery_loses_nothing_and_the_mail_is_judged_again() {
    let rspamd = Rspamd::start(|_| ACCEPT).await;
    let hop = Hop::start(lmtp()).await;
    hop.pause();
    let site = Site::with(Mode::Collect, &hop.lmtp(), judged_by(&rspamd));
    site.collect(&mail(ANN)).await;
    hop.until_at_the_dot().await;
    let table = (**site.routes.load()).clone();
    let Site { dir, spool, drain, options, .. } = site;
    drain.stop().await;
    assert_eq!(rspamd.judged().len(), 1);
    spool.shutdown().await;
    drop((spool, drain));
    let again = Site::at(dir, table, Mode::Collect, options);
    hop.resume();
    hop.until_got(1).await;
    again.until_empty().await;
    assert_eq!(rspamd.judged().len(), 2);
}

#[tokio::test]
async fn one_message_that_silences_the_filter_closes_it_for_nobody() {
    let rspamd = Rspamd::start(|message| if message.contains("poison") { "no JSON" } else { ACCEPT }).await;
    let away = Duration::from_secs(600);
    let options = DrainOptions { retry_first: away, retry_max: away, ..judged_by(&rspamd) };
    let site = Site::with(Mode::Collect, "maildir:DIR/mail", options);
    let poison = site.collect_as(&mail(&["poison@example.com"]), 0, "Subject: poison\r\n\r\n").await;
    site.until("put off", |lanes| lanes.iter().any(|lane| lane.waiting == 1)).await;
    for _ in 0..5 {
        site.collect(&mail(ANN)).await;
    }
    site.until("delivered", |_| site.letters(BOX).len() == 5).await;
    let meta = Meta::from_bytes(&site.spool.show(poison).await.unwrap().meta).unwrap();
    assert_eq!((meta.judged, meta.attempts), (false, 1));
    assert!(meta.last_error.unwrap().starts_with("filter fake: "));
    assert_eq!(site.drain.stats().filters[0].state, DestinationState::Up);
}

#[tokio::test]
async fn a_milter_s_new_body_and_recipients_are_delivered_and_a_retry_asks_it_again() {
    const CHANGES: &[(u8, &[u8])] = &[
        (b'b', b"Another body.\r\n"),
        (b'+', b"<new@example.com>\0"),
        (b'+', b"<far@elsewhere.example>\0"),
        (b'-', b"<ben@example.com>\0"),
        (b'h', b"X-Checked\0yes\0"),
    ];
    let milter = Milter::start(CHANGES).await;
    let hop = Hop::start(lmtp()).await;
    hop.set_busy(1);
    let site = Site::with(Mode::Collect, &hop.lmtp(), filtered(milter.options()));
    site.collect(&mail(&["ann@example.com", "ben@example.com"])).await;
    let got = hop.until_got(1).await;
    assert_eq!(got[0].to, ["ann@example.com", "new@example.com"], "and nobody elsewhere");
    let expected = "\r\nSubject: hello\r\nX-Checked: yes\r\n\r\nAnother body.\r\n";
    assert!(got[0].data.ends_with(expected), "{}", got[0].data);
    site.until_empty().await;
    assert_eq!((hop.got().len(), milter.judged()), (1, 2), "the new body is not kept");
}

#[tokio::test]
async fn filters_are_asked_in_order_and_a_place_at_all_of_them_is_needed() {
    let (first, second) = (Rspamd::start(|_| MARK).await, Rspamd::start(|_| REJECT).await);
    let away = Duration::from_secs(600);
    let options = DrainOptions { backoff_first: away, backoff_max: away, ..quick() };
    let site = Site::with(Mode::Through, "maildir:DIR/mail", options);
    let mut options = [first.options(OnSpam::Mark), second.options(OnSpam::Mark)];
    options[0].filter.name = "first".into();
    site.set_filters(FilterTable::new(options.to_vec()));
    assert_eq!(heard(&site.through(&mail(ANN)).await), "554 5.7.1 We do not want this");
    second.set_down(true);
    assert_eq!(heard(&site.through(&mail(ANN)).await), "unsettled");
    let away = site.drain.health("example.com").filter.map(|away| away.name);
    assert_eq!(away.as_deref(), Some("fake"));
    let names: Vec<String> = site.drain.stats().filters.into_iter().map(|filter| filter.name).collect();
    assert_eq!(names, ["first", "fake"]);
    second.set_down(false);
    // Another limit makes it another filter to the drain, without the back-off of this one.
    options[1].filter.timeout = PATIENCE;
    options.reverse();
    site.set_filters(FilterTable::new(options.to_vec()));
    let seen_by_first = |to: &str| first.judged().iter().filter(|seen| seen.contains(to)).count();
    assert_eq!(heard(&site.through(&mail(&["ben@example.com"])).await), "554 5.7.1 We do not want this");
    assert_eq!((seen_by_first("rcpt: <ann@"), seen_by_first("rcpt: <ben@")), (2, 0), "the first refusal ends it");
}

#[tokio::test]
async fn the_trust_book_hears_what_was_found() {
    let rspamd = Rspamd::start(|message| if message.contains("spam") { REJECT } else { ACCEPT }).await;
    let (sender, mut evidence) = channel(64);
    let unknown = |to: &str| if to.starts_with("no") { "550 5.1.1 no such user" } else { "250 ok" };
    let hop = Hop::start(Manners { rcpt: unknown, ..lmtp() }).await;
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { evidence: Some(sender), ..judged_by(&rspamd) });
    site.set_routes(|table| table.relay = Some(table.default.clone()));
    site.set_routes(|table| table.local.extend(["example.com".to_owned()]));
    site.collect(&mail(ANN)).await;
    site.collect_as(&mail(ANN), 0, "Subject: spam\r\n\r\n").await;
    site.collect(&mail(&["nobody@example.com"])).await;
    let ours = |from, to| Mail { from: Some(from), via: Via::Relay, ..mail(to) };
    site.collect(&ours("ann@example.com", &["bob@far.example"])).await;
    // A web form, and a forwarder.
    site.collect(&ours("noreply@example.com", &["eve@far.example"])).await;
    site.collect(&ours("ann@elsewhere.example", &["eve@far.example"])).await;
    let automatic = "Subject: I am away\r\nAuto-Submitted: auto-replied\r\n\r\n";
    site.collect_as(&ours("ann@example.com", &["eve@far.example"]), 0, automatic).await;
    site.until("left", |lanes| {
        lanes.iter().filter(|lane| lane.lane.class != Lane::DEAD_CLASS).map(count).sum::<usize>() == 0
    })
    .await;
    let mut got = Vec::new();
    let all = async {
        while got.len() < 5 {
            evidence.drain(&mut got, 64);
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, all).await.is_ok());
    let ip = "192.0.2.7".parse().unwrap();
    let count = |wanted: &Evidence| got.iter().filter(|one| *one == wanted).count();
    // The book knows by itself which address is authorised for which domain.
    let domain: Option<Box<str>> = Some("ann@sender.example".into());
    assert_eq!(count(&Evidence::Ham { ip, domain: domain.clone(), n: 1 }), 2);
    assert_eq!(count(&Evidence::Spam { ip, domain, n: 1 }), 1);
    assert_eq!(count(&Evidence::BadRecipients { ip, n: 1 }), 1);
    let wrote = Evidence::WroteTo { domain: "far.example".into(), address: Some("bob@far.example".into()) };
    assert_eq!((count(&wrote), got.len()), (1, 5), "{got:?}");
}

#[tokio::test]
async fn what_came_by_the_postern_is_told_of_the_domain_whose_key_was_shown() {
    let rspamd = Rspamd::start(|message| if message.contains("spam") { REJECT } else { ACCEPT }).await;
    let (sender, mut evidence) = channel(64);
    let hop = Hop::start(lmtp()).await;
    let site = Site::with(Mode::Collect, &hop.lmtp(), DrainOptions { evidence: Some(sender), ..judged_by(&rspamd) });
    let by_key = || Mail { via: Via::Postern, ..mail(ANN) };
    site.collect(&by_key()).await;
    site.collect_as(&by_key(), 0, "Subject: spam\r\n\r\n").await;
    let mut got = Vec::new();
    let all = async {
        while got.len() < 2 {
            evidence.drain(&mut got, 64);
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, all).await.is_ok());
    let ip = "192.0.2.7".parse().unwrap();
    let of = |spam| Evidence::OfKeyHolder { ip, domain: "ann@sender.example".into(), n: 1, spam };
    assert!(got.contains(&of(false)) && got.contains(&of(true)) && got.len() == 2, "{got:?}");
}
