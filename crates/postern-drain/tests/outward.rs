//! Mail for far domains: by the postern, by MX, and by the rule between them.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use postern_drain::{Closed, Doors, Drain, DrainOptions, OutboundOptions, PinnedDoor, Route, RouteTable, Speaker};
use postern_net::dns::{Binding, Mx};
use postern_net::door::{AltDoor, Purse};
use postern_net::mx::{MxFinder, Policies};
use postern_net::published::Roots;
use postern_net::sts::FetchOptions;
use postern_proto::door::{CloseCode, Mode as DoorMode};
use postern_proto::envelope::Via;
use postern_proto::mode::Mode;
use postern_spool::Lane;
use support::doors::{Door, Manners, TTL_S, Zone, key};
use support::hop::Hop;
use support::{Mail, Site, in_lane, mail, now_unix_ms, quick};

/// One of ours writes to somebody far away.
const LETTER: &str = "From: ann@us.example\r\nSubject: hello\r\n\r\nhello\r\n";
const FOREIGN: &str = "From: joe@elsewhere.example\r\nSubject: forwarded\r\n\r\nhello\r\n";
const BOB: &[&str] = &["bob@far.example"];

struct World {
    site: Site,
    /// Opened in the name of `us.example`.
    door: Door,
    /// The same for `second.example` and `eu.us.example`.
    other_door: Door,
    /// Every far domain's MX.
    hop: Hop,
    zone: Arc<Zone>,
    purse: Purse,
    pins: Arc<ArcSwap<HashMap<String, PinnedDoor>>>,
    _purse_dir: tempfile::TempDir,
}

impl World {
    async fn new(manners: Manners) -> Self {
        Self::with(manners, Zone::default(), |_| {}).await
    }

    async fn with(manners: Manners, zone: Zone, change: impl FnOnce(&mut RouteTable)) -> Self {
        Self::with_options(manners, zone, change, quick()).await
    }

    async fn with_options(
        manners: Manners,
        zone: Zone,
        change: impl FnOnce(&mut RouteTable),
        options: DrainOptions,
    ) -> Self {
        let (door, hop, zone) =
            (Door::new(manners.clone()), Hop::start(support::hop::Manners::default()).await, Arc::new(zone));
        let purse_dir = tempfile::tempdir().unwrap();
        let purse = Purse::open(purse_dir.path()).unwrap();
        let pins: Arc<ArcSwap<HashMap<String, PinnedDoor>>> = Arc::default();
        let speaker = |domain: &str, door: &Door| Speaker {
            domain: domain.into(),
            org: domain.into(),
            opener: Arc::new(door.clone()),
            purse: purse.clone(),
        };
        let other_door = Door::new(manners.clone());
        let speakers = vec![
            speaker("us.example", &door),
            speaker("second.example", &other_door),
            speaker("eu.us.example", &other_door),
        ];
        let doors = Doors { purse: purse.clone(), pins: pins.clone(), speakers };
        let mx = MxFinder { port: hop.port, loopback: true, ..MxFinder::new(zone.clone()) };
        let outbound = OutboundOptions {
            mx,
            roots: Roots::Mozilla,
            policies: Policies::new(FetchOptions::default()),
            doors: Some(doors),
        };
        let options = DrainOptions { outbound: Some(outbound), concurrency_max: 3, ..options };
        let mut table = RouteTable { relay: Some(Route::Mx), ..RouteTable::new(Route::parse(&hop.smtp()).unwrap()) };
        change(&mut table);
        let site = Site::at(tempfile::tempdir().unwrap(), table, Mode::Collect, options);
        Self { site, door, other_door, hop, zone, purse, pins, _purse_dir: purse_dir }
    }

    fn publish(&self, mode: DoorMode, secure: bool) {
        self.zone.publish("far.example", mode, secure);
    }

    async fn send(&self, to: &[&str], text: &str) -> postern_spool::ItemId {
        let letter = Mail { via: Via::Relay, from: Some("ann@us.example"), ..mail(to) };
        self.site.collect_as(&letter, 0, text).await
    }

    /// Another process on the same spool, `seconds` later as far as the purse knows of silences.
    async fn restart_later(&mut self, seconds: u64) {
        self.site.drain.stop().await;
        for domain in self.purse.domains() {
            let mut memory = self.purse.memory(&domain).unwrap();
            memory.silent_since_s = memory.silent_since_s.map(|since| since - seconds);
            self.purse.set_memory(&domain, Some(memory)).unwrap();
        }
        // Before the next process looks: what it has put off then stays put off. Those that are due need none.
        for item in self.site.spool.list(None, None, 100).await {
            let _ = self.site.spool.retry(item.id, now_unix_ms()).await;
        }
        let Site { spool, routes, modes, options, .. } = &self.site;
        let again = Drain::start(spool.clone(), routes.clone(), modes.clone(), options.clone());
        self.site.drain = again.unwrap();
    }

    async fn until_waits(&self) {
        self.site.until("waiting", |_| self.site.drain.stats().outbound.waits > 0).await;
        self.site.until("put off", |lanes| lanes.iter().any(|lane| lane.waiting > 0 && lane.leased == 0)).await;
    }
}

fn to(got: &[(Vec<String>, String)]) -> Vec<String> {
    let mut all: Vec<String> = got.iter().map(|(to, _)| to.join(",")).collect();
    all.sort();
    all
}

#[tokio::test]
async fn mail_for_a_domain_with_a_postern_goes_through_it_and_other_mail_by_mx() {
    let world = World::new(Manners::default()).await;
    world.publish(DoorMode::Prefer, false);
    world.send(BOB, LETTER).await;
    world.send(&["eve@other.example"], LETTER).await;
    world.site.until_empty().await;
    let got = world.door.got();
    assert_eq!(to(&got), ["bob@far.example"]);
    assert!(got[0].1.starts_with("Received: ") && got[0].1.ends_with(LETTER), "{}", got[0].1);
    let by_mx = world.hop.got();
    assert_eq!((by_mx.len(), by_mx[0].to.join(",")), (1, "eve@other.example".into()));
    let asked = &world.door.asked()[0];
    assert_eq!((asked.domain.as_str(), asked.addresses[0].port(), asked.keys.len()), ("far.example", 2526, 1));
    let stats = world.site.drain.stats().outbound;
    assert_eq!((stats.by_postern, stats.by_mx, stats.use_mx, stats.downgrades), (1, 1, 0, 0));
}

#[tokio::test]
async fn each_domain_of_ours_knocks_in_its_own_name_with_mail_of_its_authors() {
    let world = World::new(Manners::default()).await;
    world.publish(DoorMode::Prefer, false);
    let of = |author: &str| LETTER.replace("us.example", author);
    for author in ["second.example", "sub.second.example", "eu.us.example", "us.example", "asia.us.example"] {
        world.send(BOB, &of(author)).await;
    }
    world.site.until_empty().await;
    let authors = |door: &Door| {
        let domain = |text: String| text.split("From: ann@").nth(1).unwrap().lines().next().unwrap().to_owned();
        let mut domains: Vec<String> = door.got().into_iter().map(|(_, text)| domain(text)).collect();
        domains.sort();
        domains
    };
    assert_eq!(authors(&world.door), ["asia.us.example", "us.example"]);
    assert_eq!(authors(&world.other_door), ["eu.us.example", "second.example", "sub.second.example"]);
    // Two names behind that door, and one link each.
    assert_eq!((world.door.knocks(), world.other_door.knocks(), world.hop.got().len()), (1, 2, 0));
}

#[tokio::test]
async fn mail_of_foreign_authors_does_not_knock() {
    let world = World::new(Manners::default()).await;
    world.publish(DoorMode::Enforce, true);
    world.send(BOB, FOREIGN).await;
    world.send(BOB, "Subject: nobody's\r\n\r\nhello\r\n").await;
    world.site.until_empty().await;
    assert_eq!((world.door.knocks(), world.hop.got().len()), (0, 2));
}

#[tokio::test]
async fn use_mx_sends_the_same_message_by_port_25_at_once_and_is_remembered() {
    let rcpt = |to: &str| if to.starts_with("mx") { "550 5.7.1 USE-MX not here" } else { "250 2.1.5 ok" };
    let world = World::new(Manners { rcpt, ..Manners::default() }).await;
    world.publish(DoorMode::Enforce, true);
    world.send(&["bob@far.example", "mx1@far.example", "mx2@far.example"], LETTER).await;
    world.site.until_empty().await;
    assert_eq!(to(&world.door.got()), ["bob@far.example"]);
    assert_eq!(world.hop.got()[0].to, ["mx1@far.example", "mx2@far.example"]);
    world.send(BOB, LETTER).await;
    world.site.until_empty().await;
    assert_eq!((world.door.got().len(), world.hop.got().len()), (1, 2), "for an hour the door is not asked");
    let stats = world.site.drain.stats();
    assert_eq!((stats.outbound.use_mx, stats.outbound.by_postern, stats.outbound.by_mx), (2, 1, 3));
    assert_eq!((stats.reports, stats.dead_letters, stats.deferred), (0, 0, 0), "it was no attempt of its own");
}

#[tokio::test]
async fn use_mx_at_the_end_of_a_message_counts_the_same() {
    let world = World::new(Manners { end: |_| "550 5.7.1 USE-MX not your author", ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    world.send(BOB, LETTER).await;
    world.site.until_empty().await;
    assert_eq!((world.door.got().len(), world.hop.got().len(), world.site.drain.stats().reports), (0, 1, 0));
}

#[tokio::test]
async fn another_refusal_is_the_domain_s_word_and_not_tried_elsewhere() {
    let world = World::new(Manners { end: |_| "550 5.7.1 spam", ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    world.send(BOB, LETTER).await;
    world.site.until("reported", |_| world.site.drain.stats().reports == 1).await;
    assert!(world.hop.got().iter().all(|got| got.to != ["bob@far.example"]));
}

#[tokio::test]
async fn a_silent_door_keeps_mail_back_for_a_quarter_of_an_hour_and_loses_nothing() {
    let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    for _ in 0..5 {
        world.send(BOB, LETTER).await;
    }
    world.until_waits().await;
    assert!(world.purse.memory("far.example").unwrap().silent_since_s.is_some(), "the silence is on disk");
    assert_eq!((world.hop.got().len(), world.site.drain.stats().outbound.downgrades), (0, 0));
    world.restart_later(14 * 60).await;
    world.until_waits().await;
    assert_eq!(world.hop.got().len(), 0, "not yet");
    world.restart_later(60).await;
    world.site.until_empty().await;
    assert_eq!((world.hop.got().len(), world.door.got().len()), (5, 0));
    let stats = world.site.drain.stats().outbound;
    assert_eq!((stats.downgrades, stats.by_mx, stats.unproven), (5, 5, 0));
    assert_eq!(world.door.knocks(), 3, "once in each process, not once for each message");
}

#[tokio::test]
async fn a_door_that_answers_again_ends_the_silence() {
    let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    world.send(BOB, LETTER).await;
    world.until_waits().await;
    world.door.set(|manners| manners.closed = None);
    world.restart_later(20 * 60).await;
    world.site.until_empty().await;
    assert_eq!((world.door.got().len(), world.hop.got().len()), (1, 0));
    assert_eq!(world.purse.memory("far.example"), None);
}

#[tokio::test]
async fn what_is_enforced_does_not_go_to_a_server_that_proves_nothing() {
    let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
    world.publish(DoorMode::Enforce, true);
    world.send(BOB, LETTER).await;
    world.until_waits().await;
    world.restart_later(20 * 60).await;
    world.site.until("tried", |_| world.site.drain.stats().outbound.unproven > 0).await;
    assert_eq!(world.hop.got().len(), 0, "the server has no certificate");
    assert_eq!(world.site.drain.stats().dead_letters, 0);
    // Taking the signed record away, or putting an unsigned one there, changes nothing for as long as it binds.
    world.zone.doors.lock().unwrap().clear();
    world.restart_later(0).await;
    world.site.until("tried again", |_| world.site.drain.stats().outbound.unproven > 0).await;
    world.publish(DoorMode::Prefer, false);
    world.restart_later(0).await;
    world.site.until("tried again", |_| world.site.drain.stats().outbound.unproven > 0).await;
    assert_eq!(world.hop.got().len(), 0);
    // The door is back: with the key that is remembered.
    world.door.set(|manners| manners.closed = None);
    world.restart_later(0).await;
    world.site.until_empty().await;
    assert_eq!(world.door.got().len(), 1);
}

#[tokio::test]
async fn the_same_record_unsigned_is_preferred_only() {
    let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
    world.publish(DoorMode::Enforce, false);
    world.send(BOB, LETTER).await;
    world.until_waits().await;
    world.restart_later(20 * 60).await;
    world.site.until_empty().await;
    assert_eq!(world.hop.got().len(), 1);
}

#[tokio::test]
async fn a_door_without_time_for_us_means_port_25_at_once() {
    let at = now_unix_ms() / 1000 + 600;
    for closed in [Closed::Appointment(at), Closed::Parked(600), Closed::Refused(CloseCode::NoProof)] {
        let world = World::new(Manners { closed: Some(closed), ..Manners::default() }).await;
        world.publish(DoorMode::Prefer, false);
        world.send(BOB, LETTER).await;
        world.site.until_empty().await;
        assert_eq!((world.door.knocks(), world.hop.got().len()), (1, 1), "{closed:?}");
    }
}

#[tokio::test]
async fn a_door_that_puts_mail_off_again_and_again_keeps_it_back_for_a_quarter_of_an_hour_and_no_longer() {
    let at = now_unix_ms() / 1000 + 60;
    for closed in [Closed::Parked(60), Closed::Appointment(at), Closed::Refused(CloseCode::ShuttingDown)] {
        let mut world = World::new(Manners { closed: Some(closed), ..Manners::default() }).await;
        world.publish(DoorMode::Prefer, false);
        world.zone.publish("strict.example", DoorMode::Enforce, true);
        world.send(BOB, LETTER).await;
        world.send(&["x@strict.example"], LETTER).await;
        world.site.until("both wait", |_| world.site.drain.stats().outbound.waits > 1).await;
        world.restart_later(14 * 60).await;
        world.until_waits().await;
        assert_eq!(world.hop.got().len(), 0, "{closed:?}");
        world.restart_later(60).await;
        world.site.until("tried", |_| world.site.drain.stats().outbound.unproven > 0).await;
        assert_eq!(world.hop.until_got(1).await[0].to, ["bob@far.example"], "{closed:?}");
        assert_eq!(world.door.got().len(), 0);
    }
}

#[tokio::test]
async fn a_door_that_opens_and_carries_nothing_is_a_silent_one_in_the_end() {
    let mut world = World::new(Manners { refuses_streams: true, ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    world.send(BOB, LETTER).await;
    world.site.until("tried", |_| world.site.drain.stats().deferred > 1).await;
    assert_eq!(world.hop.got().len(), 0);
    world.restart_later(15 * 60).await;
    world.site.until_empty().await;
    assert_eq!((world.hop.got().len(), world.door.got().len()), (1, 0));
    assert_eq!(world.site.drain.stats().outbound.downgrades, 1);
    // It takes streams again: the silence is over.
    world.door.set(|manners| manners.refuses_streams = false);
    world.restart_later(0).await;
    world.send(BOB, LETTER).await;
    world.site.until_empty().await;
    assert_eq!(world.door.got().len(), 1);
    assert_eq!(world.purse.memory("far.example"), None);
}

/// A letter that does not fit into what is under way: its end is never written when the stream ends before.
fn large() -> String {
    format!("{LETTER}{}", "0123456789abcde\r\n".repeat(20_000))
}

fn bad_breaks(to: &str) -> &'static str {
    if to.starts_with("bad") { "" } else { "250 2.1.5 ok" }
}

#[tokio::test]
async fn a_message_that_breaks_its_stream_closes_the_door_for_no_other() {
    let hour = Duration::from_secs(3600);
    let slow = DrainOptions { backoff_first: hour, backoff_max: hour, ..quick() };
    let manners = Manners { rcpt: bad_breaks, ..Manners::default() };
    let world = World::with_options(manners, Zone::default(), |_| {}, slow).await;
    world.publish(DoorMode::Prefer, false);
    world.send(&["bad@far.example"], &large()).await;
    world.site.until("tried", |_| world.site.drain.stats().deferred > 0).await;
    world.send(BOB, LETTER).await;
    world.site.until("the other went", |_| !world.door.got().is_empty()).await;
    assert_eq!(to(&world.door.got()), ["bob@far.example"]);
}

#[tokio::test]
async fn a_message_that_breaks_its_stream_goes_by_port_25_in_the_end_while_others_use_the_door() {
    let world = World::new(Manners { rcpt: bad_breaks, ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    let since = Some(now_unix_ms() - 15 * 60 * 1000);
    let to_bad: &[&str] = &["bad@far.example"];
    let old = Mail { via: Via::Relay, from: Some("ann@us.example"), tried_since_unix_ms: since, ..mail(to_bad) };
    world.send(BOB, LETTER).await;
    world.site.collect_as(&old, 0, &large()).await;
    world.site.until_empty().await;
    assert_eq!((to(&world.door.got()), world.hop.got().len()), (vec!["bob@far.example".to_owned()], 1));
    assert_eq!(world.hop.got()[0].to, ["bad@far.example"]);
}

#[tokio::test]
async fn a_pinned_peer_needs_no_dns_and_dns_that_fails_takes_no_door_away() {
    let world = World::new(Manners::default()).await;
    world.zone.fails.lock().unwrap().extend(["far.example".to_owned(), "known.example".to_owned()]);
    let pin = PinnedDoor { host: "192.0.2.1".into(), port: 4000, keys: vec![key()], mode: DoorMode::Enforce };
    world.pins.store(Arc::new(HashMap::from([("far.example".to_owned(), pin)])));
    world.send(BOB, LETTER).await;
    world.site.until_empty().await;
    assert_eq!(world.door.asked()[0].addresses, ["192.0.2.1:4000".parse().unwrap()]);
    let memory = postern_net::door::DoorMemory {
        place: Some(AltDoor { host: "192.0.2.2".into(), port: 4001 }),
        keys: vec![key()],
        digests: Vec::new(),
        mode: DoorMode::Prefer,
        max_age_s: 3600,
        learned_s: now_unix_ms() / 1000,
        secure: false,
        silent_since_s: None,
    };
    world.purse.set_memory("known.example", Some(memory)).unwrap();
    world.send(&["eve@known.example"], LETTER).await;
    world.site.until_empty().await;
    assert_eq!(world.door.asked()[1].addresses, ["192.0.2.2:4001".parse().unwrap()]);
    assert_eq!((world.door.got().len(), world.hop.got().len()), (2, 0));
}

#[tokio::test]
async fn an_unsigned_record_is_held_on_to_for_its_ttl_and_a_signed_one_for_its_max_age() {
    for (secure, held_s) in [(false, TTL_S), (true, 86_400)] {
        let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
        world.publish(DoorMode::Prefer, secure);
        world.send(BOB, LETTER).await;
        world.until_waits().await;
        world.zone.fails.lock().unwrap().push("far.example".to_owned());
        let mut memory = world.purse.memory("far.example").unwrap();
        assert_eq!((memory.secure, memory.max_age_s), (secure, held_s));
        // DNS fails: within that time the door is still known, and the silence does not lengthen it.
        let learned_s = memory.learned_s - held_s + 60;
        memory.learned_s = learned_s;
        world.purse.set_memory("far.example", Some(memory.clone())).unwrap();
        world.restart_later(60).await;
        world.until_waits().await;
        assert_eq!((world.door.knocks(), world.hop.got().len()), (2, 0), "secure: {secure}");
        assert_eq!(world.purse.memory("far.example").unwrap().learned_s, learned_s);
        // After it nobody knows of one.
        memory.learned_s -= 60;
        world.purse.set_memory("far.example", Some(memory)).unwrap();
        world.restart_later(0).await;
        world.site.until_empty().await;
        assert_eq!((world.door.knocks(), world.hop.got().len()), (2, 1), "secure: {secure}");
    }
}

/// TLSA records at far.example's door: these digests, or no answer.
fn sign(world: &World, digests: Option<&[[u8; 32]]>) {
    let digests = digests.map(<[_]>::to_vec);
    world.zone.tlsa.lock().unwrap().insert("door.far.example".to_owned(), digests);
}

#[tokio::test]
async fn a_signed_tlsa_record_adds_a_key_to_a_signed_record_and_wins_over_an_unsigned_one() {
    for (secure, keys) in [(true, 1), (false, 0)] {
        let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
        world.publish(DoorMode::Prefer, secure);
        sign(&world, Some(&[[7; 32]]));
        world.send(BOB, LETTER).await;
        world.until_waits().await;
        // What is remembered has both, and the time of the shorter of two unsigned words, or of the signed one.
        let memory = world.purse.memory("far.example").unwrap();
        assert_eq!((memory.keys.len(), memory.digests), (keys, vec![[7; 32]]), "secure: {secure}");
        assert_eq!(memory.max_age_s, if secure { 86_400 } else { TTL_S / 2 });
        world.zone.fails.lock().unwrap().push("far.example".to_owned());
        world.door.set(|manners| manners.closed = None);
        world.restart_later(0).await;
        world.site.until_empty().await;
        for asked in world.door.asked() {
            assert_eq!((asked.keys.len(), asked.digests), (keys, vec![[7; 32]]), "secure: {secure}");
        }
        assert_eq!((world.door.knocks(), world.hop.got().len()), (2, 0));
    }
}

#[tokio::test]
async fn a_service_binding_has_the_place_and_the_record_the_keys() {
    let world = World::new(Manners::default()).await;
    world.publish(DoorMode::Prefer, true);
    let binding = Binding { host: "bound.far.example".into(), port: 4000 };
    world.zone.bindings.lock().unwrap().insert("far.example".to_owned(), binding);
    // TLSA records are asked for at that place.
    world.zone.tlsa.lock().unwrap().insert("bound.far.example".to_owned(), Some(vec![[7; 32]]));
    world.send(BOB, LETTER).await;
    world.site.until_empty().await;
    let asked = &world.door.asked()[0];
    assert_eq!((asked.addresses[0].port(), asked.keys.len(), asked.digests.len()), (4000, 1, 1));
    let place = world.purse.memory("far.example").unwrap().place;
    assert_eq!(place, Some(AltDoor { host: "bound.far.example".into(), port: 4000 }));
}

#[tokio::test]
async fn a_tlsa_question_that_fails_leaves_the_record_s_keys_and_what_is_remembered_and_is_not_asked_again_at_once() {
    let mut world = World::new(Manners::default()).await;
    world.publish(DoorMode::Prefer, false);
    sign(&world, None);
    for _ in 0..3 {
        world.send(BOB, LETTER).await;
        world.site.until_empty().await;
    }
    assert_eq!((world.door.asked()[0].keys.len(), world.door.asked()[0].digests.len()), (1, 0));
    assert_eq!(world.zone.tlsa_asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    // Learnt with a signed record, it is held on to by who cannot ask, and grows no younger by that; until the record is written
    // down again, whose memory must not run out.
    world.publish(DoorMode::Prefer, true);
    sign(&world, Some(&[[7; 32]]));
    world.restart_later(0).await;
    world.send(BOB, LETTER).await;
    world.site.until_empty().await;
    let mut memory = world.purse.memory("far.example").unwrap();
    memory.learned_s -= 20_000;
    world.purse.set_memory("far.example", Some(memory.clone())).unwrap();
    sign(&world, None);
    // Another process, with other links.
    for (older_s, digests) in [(0, vec![[7; 32]]), (1_600, Vec::new())] {
        memory.learned_s -= older_s;
        world.purse.set_memory("far.example", Some(memory.clone())).unwrap();
        world.restart_later(0).await;
        world.send(BOB, LETTER).await;
        world.site.until_empty().await;
        let asked = world.door.asked().pop().unwrap();
        assert_eq!((asked.keys.len(), asked.digests), (1, digests.clone()));
        let kept = world.purse.memory("far.example").unwrap();
        assert_eq!((kept.digests, kept.learned_s == memory.learned_s), (digests.clone(), !digests.is_empty()));
    }
}

#[tokio::test]
async fn a_pin_does_not_take_away_what_the_domain_enforces() {
    let mut world = World::new(Manners { closed: Some(Closed::Silent), ..Manners::default() }).await;
    let pin = PinnedDoor { host: "192.0.2.1".into(), port: 4000, keys: vec![key()], mode: DoorMode::Prefer };
    let domains = ["far.example", "unsigned.example"];
    world.pins.store(Arc::new(domains.iter().map(|domain| ((*domain).to_owned(), pin.clone())).collect()));
    world.publish(DoorMode::Enforce, true);
    world.zone.publish("unsigned.example", DoorMode::Enforce, false);
    world.send(BOB, LETTER).await;
    world.send(&["eve@unsigned.example"], LETTER).await;
    world.site.until("both wait", |_| world.site.drain.stats().outbound.waits > 1).await;
    world.restart_later(20 * 60).await;
    world.site.until("tried", |_| world.site.drain.stats().outbound.unproven > 0).await;
    assert_eq!(world.hop.until_got(1).await[0].to, ["eve@unsigned.example"], "an unsigned record binds nobody");
    // The signed record binds for as long as it may, though nothing is published any more.
    world.zone.doors.lock().unwrap().clear();
    world.restart_later(0).await;
    world.site.until("tried again", |_| world.site.drain.stats().outbound.unproven > 0).await;
    assert_eq!(world.hop.got().len(), 1);
    let asked = world.door.asked();
    assert!(asked.iter().all(|door| door.addresses == ["192.0.2.1:4000".parse().unwrap()] && door.keys == pin.keys));
}

#[tokio::test]
async fn a_link_that_breaks_loses_nothing_and_repeats_only_what_was_in_doubt() {
    let world = World::new(Manners { breaks_at: Some(7), ..Manners::default() }).await;
    world.publish(DoorMode::Prefer, false);
    for i in 0..20 {
        world.send(&[&format!("r{i}@far.example")], LETTER).await;
    }
    world.site.until_empty().await;
    let mut got = to(&world.door.got());
    got.dedup();
    assert_eq!((got.len(), world.hop.got().len()), (20, 0));
    assert_eq!(world.site.drain.stats().outbound.by_postern, 20);
}

#[tokio::test]
async fn a_dead_domain_closes_the_way_for_no_other() {
    let zone =
        Zone { addresses: HashMap::from([("mx.dead.example".into(), [127, 0, 0, 9].into())]), ..Zone::default() };
    let world = World::with(Manners::default(), zone, |_| {}).await;
    for _ in 0..5 {
        world.send(&["x@dead.example"], LETTER).await;
    }
    world.site.until("tried", |_| world.site.drain.stats().deferred > 1).await;
    for i in 0..5 {
        world.send(&["bob@far.example"], LETTER).await;
        world.hop.until_got(i + 1).await;
    }
    let lanes = world.site.spool.lanes().await;
    assert_eq!(in_lane(&lanes, "dead.example", 0), 5);
}

#[tokio::test]
async fn a_domain_that_takes_no_mail_is_reported_at_once() {
    let null = vec![Mx { preference: 0, host: String::new() }];
    let zone = Zone { mx: HashMap::from([("null.example".into(), null)]), ..Zone::default() };
    let local = |table: &mut RouteTable| table.local.extend(["us.example".to_owned()]);
    let world = World::with(Manners::default(), zone, local).await;
    world.send(&["x@null.example"], LETTER).await;
    let report = world.hop.until_got(1).await.remove(0);
    assert_eq!(report.to, ["ann@us.example"]);
    assert!(report.data.contains("Status: 5.1.10") && report.data.contains("556 5.1.10"), "{}", report.data);
    assert_eq!(world.site.dead("null.example").await.len(), 0);
}

#[tokio::test]
async fn doors_stand_before_a_fixed_hop_too() {
    let relay = Hop::start(support::hop::Manners::default()).await;
    let route = Route::parse(&relay.smtp()).unwrap();
    let fixed = |table: &mut RouteTable| (table.relay, table.doors) = (Some(route), true);
    let mut world = World::with(Manners::default(), Zone::default(), fixed).await;
    world.publish(DoorMode::Prefer, false);
    world.send(BOB, LETTER).await;
    world.send(&["eve@other.example"], LETTER).await;
    world.send(BOB, FOREIGN).await;
    world.site.until_empty().await;
    assert_eq!((world.door.got().len(), relay.got().len(), world.hop.got().len()), (1, 2, 0));
    // Mail for many domains shares the hop's places: all of it goes all the same.
    relay.pause();
    for i in 0..10 {
        world.send(&[&format!("x@{i}.example")], LETTER).await;
    }
    relay.until_at_the_dot().await;
    relay.resume();
    relay.until_got(12).await;
    world.site.until_empty().await;
    // What is enforced stays here: nobody knows what the hop would do with it.
    world.zone.publish("strict.example", DoorMode::Enforce, true);
    world.door.set(|manners| manners.closed = Some(Closed::Silent));
    world.send(&["x@strict.example"], LETTER).await;
    world.until_waits().await;
    world.restart_later(20 * 60).await;
    world.site.until("kept", |_| world.site.drain.stats().outbound.unproven > 0).await;
    assert_eq!(relay.got().len(), 12);
    assert_eq!(in_lane(&world.site.spool.lanes().await, "strict.example", Lane::DEAD_CLASS), 0);
}
