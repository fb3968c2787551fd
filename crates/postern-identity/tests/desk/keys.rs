//! Whose key it is: what proves it, what it costs, and what hostile DNS can do about it.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postern_identity::keys::{
    Asker, KeyDesk, KeyOptions, KeyProof, KeyQuestion, NotNow, PinWord, PinnedPeer, PinnedPeers, ProvenBy, Unproven,
};
use postern_net::dns::DnsTrust;
use postern_proto::door::PeerClass;

use crate::responder::{Manner, Responder};
use crate::{PATIENCE, wait};

/// An Ed25519 key as it stands in a certificate or in a record; no such private key is needed here.
fn key(of: u8) -> Vec<u8> {
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend([of; 32]);
    spki
}

fn record(domain: &str, of: u8) -> String {
    format!("_postern.{domain} TXT v=postern1; key={}\n", STANDARD.encode(key(of)))
}

fn question(domain: &str, of: u8) -> KeyQuestion {
    KeyQuestion { domain: domain.into(), owner: None, spki: key(of).into(), class: PeerClass::Stranger }
}

/// No test reaches these by being slow.
fn options(server: &Responder) -> KeyOptions {
    KeyOptions {
        resolver: Some(server.address),
        question: Duration::from_secs(40),
        lookup: Duration::from_secs(20),
        per_second: 100_000,
        ..KeyOptions::default()
    }
}

fn start(options: KeyOptions) -> KeyDesk {
    KeyDesk::start(options).expect("the desk starts")
}

fn ask(desk: &KeyDesk, question: KeyQuestion) -> KeyProof {
    let (sender, receiver) = mpsc::channel();
    desk.ask(question, Box::new(move |proof| sender.send(proof).unwrap_or_default()));
    receiver.recv_timeout(PATIENCE).expect("an answer")
}

fn proven(org: &str, by: ProvenBy, secure: bool) -> KeyProof {
    proven_also_for(&[], org, by, secure)
}

fn proven_also_for(above: &[&str], org: &str, by: ProvenBy, secure: bool) -> KeyProof {
    let above = above.iter().map(|name| Box::from(*name)).collect();
    KeyProof::Proven { org: org.into(), above, by, secure }
}

#[test]
fn a_key_in_the_domains_record_is_proven_and_another_is_not() {
    let server = Responder::start(&record("good.example", 1), &[]);
    let desk = start(options(&server));
    let by_txt = proven("good.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("good.example", 1)), by_txt);
    assert_eq!(ask(&desk, question("Good.Example.", 1)), by_txt);
    assert_eq!(ask(&desk, question("good.example", 2)), KeyProof::Unproven(Unproven::OtherKey));
    assert_eq!(ask(&desk, question("nowhere.example", 1)), KeyProof::Unproven(Unproven::NoKey));
    let stats = desk.stats();
    assert_eq!((stats.asked, stats.proven, stats.unproven, stats.not_now), (4, 2, 2, 0));
}

#[test]
fn the_organisation_is_found_up_the_tree_and_a_public_suffix_is_nobody() {
    let records = record("mail.cs.good.example", 1)
        + &record("hosts.example", 2)
        + &record("a.b.hosts.example", 3)
        + "_dmarc.good.example TXT v=DMARC1; p=reject\n_dmarc.hosts.example TXT v=DMARC1; p=none; psd=y";
    let server = Responder::start(&records, &[]);
    let desk = start(options(&server));
    let also = ["cs.good.example", "good.example"];
    let expected = proven_also_for(&also, "good.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("mail.cs.good.example", 1)), expected);
    assert_eq!(ask(&desk, question("hosts.example", 2)), KeyProof::Unproven(Unproven::PublicSuffix));
    let expected = proven_also_for(&["b.hosts.example"], "b.hosts.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("a.b.hosts.example", 3)), expected);
}

#[test]
fn records_that_are_several_or_broken_prove_nothing() {
    let records = record("twice.example", 1)
        + &record("twice.example", 2)
        + "_postern.broken.example TXT v=postern1; key=?\n_postern.other.example TXT v=spf1 -all";
    let server = Responder::start(&records, &[]);
    let desk = start(options(&server));
    assert_eq!(ask(&desk, question("twice.example", 1)), KeyProof::Unproven(Unproven::BadRecord));
    assert_eq!(ask(&desk, question("broken.example", 1)), KeyProof::Unproven(Unproven::BadRecord));
    assert_eq!(ask(&desk, question("other.example", 1)), KeyProof::Unproven(Unproven::NoKey));
}

#[test]
fn a_claim_that_cannot_be_true_costs_no_question() {
    let server = Responder::start("", &[]);
    let desk = start(options(&server));
    let owned = |owner: &str| KeyQuestion { owner: Some(owner.into()), ..question("good.example", 1) };
    let foreign = KeyProof::Unproven(Unproven::ForeignOwner);
    assert_eq!(ask(&desk, owned("_smtp-client.evil.example")), foreign);
    assert_eq!(ask(&desk, owned("_smtp-client.customer.good.example")), foreign);
    let no_key = KeyQuestion { spki: vec![0; 44].into(), ..question("good.example", 1) };
    assert_eq!(ask(&desk, no_key), KeyProof::Unproven(Unproven::UnknownKey));
    for none in ["", "com", "192.0.2.1", "a b.example", "[192.0.2.1]"] {
        assert_eq!(ask(&desk, question(none, 1)), KeyProof::Unproven(Unproven::NotADomain), "{none}");
    }
    assert_eq!((server.asked(""), desk.stats().lookups), (0, 0));
}

#[test]
fn a_tlsa_record_that_nothing_validates_is_not_even_asked_for() {
    let hash = "00".repeat(32);
    let server = Responder::start(&format!("_smtp-client.good.example TLSA {hash}"), &[]);
    let desk = start(options(&server));
    assert_eq!(ask(&desk, question("good.example", 1)), KeyProof::Unproven(Unproven::NoKey));
    assert_eq!(server.asked("_smtp-client.good.example"), 0);
}

#[test]
fn an_unsigned_answer_below_a_signed_root_proves_nothing_now() {
    let server = Responder::start(&record("good.example", 1), &[]);
    let desk = start(KeyOptions { trust: DnsTrust::BuiltIn, ..options(&server) });
    assert_eq!(ask(&desk, question("good.example", 1)), KeyProof::NotNow(NotNow::Dns));
}

#[test]
fn a_pinned_peer_is_answered_at_once_without_dns() {
    let server = Responder::start(&record("pinned.example", 9), &[]);
    let mut pinned = PinnedPeers::default();
    let keys = vec![key(1).into(), key(2).into()];
    assert!(pinned.insert("Pinned.Example", PinnedPeer { keys, org: None }));
    assert!(!pinned.insert("nonsense", PinnedPeer { keys: Vec::new(), org: None }));
    let desk = start(KeyOptions { pinned, ..options(&server) });
    for of in [1, 2] {
        assert_eq!(ask(&desk, question("pinned.example", of)), proven("pinned.example", ProvenBy::Pin, true));
    }
    // What DNS says does not matter any more.
    assert_eq!(ask(&desk, question("pinned.example", 9)), KeyProof::Unproven(Unproven::OtherPinned));
    assert_eq!(server.asked(""), 0);
    let changes = desk.pin_changes();
    desk.set_pinned(PinnedPeers::default());
    assert!(changes.has_changed().expect("the desk lives"));
    assert_eq!(ask(&desk, question("pinned.example", 9)), proven("pinned.example", ProvenBy::Txt, false));
}

#[test]
fn a_name_made_up_below_a_pinned_domain_is_not_proven_by_dns() {
    let records = record("r123.pinned.example", 1)
        + &record("a.b.pinned.example", 1)
        + &record("b.pinned.example", 1)
        + &record("customer.pinned.example", 1)
        + "_dmarc.pinned.example TXT v=DMARC1; p=reject\n_dmarc.customer.pinned.example TXT v=DMARC1; psd=n";
    let server = Responder::start(&records, &[]);
    let mut pinned = PinnedPeers::default();
    assert!(pinned.insert("pinned.example", PinnedPeer { keys: vec![key(7).into()], org: None }));
    let desk = start(KeyOptions { pinned: pinned.clone(), ..options(&server) });
    let barred = KeyProof::Unproven(Unproven::OtherPinned);
    assert_eq!(ask(&desk, question("r123.pinned.example", 1)), barred);
    assert_eq!(ask(&desk, question("a.b.pinned.example", 1)), barred);
    // It stands for itself only, as its own organisation.
    let own = proven("customer.pinned.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("customer.pinned.example", 1)), own);
    // Who holds the pinned key may say a name below.
    pinned.insert("pinned.example", PinnedPeer { keys: vec![key(7).into(), key(1).into()], org: None });
    desk.set_pinned(pinned.clone());
    let expected = proven_also_for(&["pinned.example"], "pinned.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("r123.pinned.example", 1)), expected);
    // A pin between the name and its organisation counts as well, and the nearest is the last word.
    pinned.insert("b.pinned.example", PinnedPeer { keys: vec![key(9).into()], org: None });
    desk.set_pinned(pinned);
    assert_eq!(ask(&desk, question("a.b.pinned.example", 1)), barred);
    assert_eq!(ask(&desk, question("b.pinned.example", 9)), proven("b.pinned.example", ProvenBy::Pin, true));
    assert_eq!(desk.pin_word("b.pinned.example", "pinned.example", &key(9)), PinWord::Pinned);
    assert_eq!(desk.pin_word("pinned.example", "pinned.example", &key(9)), PinWord::Barred);
    assert_eq!(desk.pin_word("customer.pinned.example", "customer.pinned.example", &key(9)), PinWord::Silent);
}

#[test]
fn answers_are_kept_and_equal_questions_share_them() {
    let server = Responder::start(&record("good.example", 1), &[("_postern.good.example", Manner::Held)]);
    let desk = start(options(&server));
    let (sender, answers) = mpsc::channel();
    for _ in 0..50 {
        let sender = sender.clone();
        desk.ask(question("good.example", 1), Box::new(move |proof| sender.send(proof).unwrap_or_default()));
    }
    wait("the server has the question", || server.asked("_postern.good.example") >= 1);
    server.release();
    let by_txt = proven("good.example", ProvenBy::Txt, false);
    for _ in 0..50 {
        assert_eq!(answers.recv_timeout(PATIENCE).expect("an answer to each"), by_txt);
    }
    assert_eq!(ask(&desk, question("good.example", 1)), by_txt);
    // The record, and two names of the walk.
    assert_eq!((desk.stats().lookups, server.asked("_dmarc.example")), (3, 1));
}

#[test]
fn dns_in_trouble_is_not_now_and_costs_a_bounded_time() {
    let records = record("broken.example", 1) + &record("silent.example", 1);
    let server = Responder::start(&records, &[("broken.example", Manner::Broken), ("silent.example", Manner::Silent)]);
    let times = (Duration::from_millis(600), Duration::from_millis(300));
    let patient = start(options(&server));
    assert_eq!(ask(&patient, question("broken.example", 1)), KeyProof::NotNow(NotNow::Dns));
    assert_eq!(patient.stats().not_now, 1);
    let desk = start(KeyOptions { question: times.0, lookup: times.1, ..options(&server) });
    let began = Instant::now();
    let silent = ask(&desk, question("silent.example", 1));
    assert!(matches!(silent, KeyProof::NotNow(NotNow::Dns | NotNow::Late)), "{silent:?}");
    assert!(began.elapsed() < PATIENCE / 2);
    assert_eq!(desk.stats().not_now, 1);
}

#[test]
fn whoever_was_proven_stays_so_while_dns_fails_and_not_when_it_says_otherwise() {
    // A server that forgets the walk's upper half on command: proven once, then in trouble.
    let trouble = std::sync::Arc::new(std::sync::atomic::AtomicU8::new(0));
    let seen = std::sync::Arc::clone(&trouble);
    let text = format!("v=postern1; key={}", STANDARD.encode(key(1)));
    let other = format!("v=postern1; key={}", STANDARD.encode(key(2)));
    // Records that are too many octets are a failure; it is not cached for long, and the proof does not need it.
    let table = move |name: &str, kind: &str| match (name, kind) {
        ("_postern.good.example", "TXT") => match seen.load(std::sync::atomic::Ordering::SeqCst) {
            0 => Some(vec![text.clone()]),
            1 => Some(vec!["x".repeat(4000), "y".repeat(4000)]),
            _ => Some(vec![other.clone()]),
        },
        _ => None,
    };
    let server = Responder::with(table, &[]);
    // Nothing is kept but proofs: what is asked again is asked again.
    let desk = start(KeyOptions { keep_answers: false, ..options(&server) });
    let by_txt = proven("good.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("good.example", 1)), by_txt);
    trouble.store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(ask(&desk, question("good.example", 1)), by_txt);
    assert_eq!(ask(&desk, question("good.example", 2)), KeyProof::NotNow(NotNow::Dns));
    assert_eq!(desk.stats().stale, 1);
    trouble.store(2, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(ask(&desk, question("good.example", 1)), KeyProof::Unproven(Unproven::OtherKey));
    trouble.store(1, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(ask(&desk, question("good.example", 1)), KeyProof::NotNow(NotNow::Dns), "what was refuted is forgotten");
}

#[test]
fn answers_without_end_and_aliases_without_end_prove_nothing() {
    let hundred: String = (0..100).map(|n| format!("_postern.many.example TXT {n}{}\n", "x".repeat(90))).collect();
    let round = "_postern.round.example CNAME a.round.example\na.round.example CNAME _postern.round.example\n";
    let chain: String = (0..40).map(|n| format!("n{n}.chain.example CNAME n{}.chain.example\n", n + 1)).collect();
    let records =
        hundred + round + &chain + "_postern.chain.example CNAME n0.chain.example\n" + &record("good.example", 1);
    let server = Responder::start(&records, &[]);
    let desk = start(options(&server));
    for hostile in ["many.example", "round.example", "chain.example"] {
        let answer = ask(&desk, question(hostile, 1));
        assert!(!matches!(answer, KeyProof::Proven { .. }), "{hostile}: {answer:?}");
    }
    assert!(server.asked("chain.example") <= 24, "{}", server.asked("chain.example"));
    assert_eq!(ask(&desk, question("good.example", 1)), proven("good.example", ProvenBy::Txt, false));
}

#[test]
fn a_record_behind_an_alias_is_the_domains() {
    let records = "_postern.good.example CNAME good.provider.example\n".to_owned()
        + &record("x", 1).replace("_postern.x", "good.provider.example");
    let server = Responder::start(&records, &[]);
    let desk = start(options(&server));
    assert_eq!(ask(&desk, question("good.example", 1)), proven("good.example", ProvenBy::Txt, false));
}

#[test]
fn strangers_with_slow_domains_leave_room_for_those_proven_before() {
    let server = Responder::start(&record("good.example", 1), &[("slow.example", Manner::Held)]);
    let desk = start(KeyOptions { keep_answers: false, ..options(&server) });
    let by_txt = proven("good.example", ProvenBy::Txt, false);
    assert_eq!(ask(&desk, question("good.example", 1)), by_txt);
    // One domain has four; a hundred domains below different names have what strangers have.
    let (sender, answers) = mpsc::channel();
    for n in 0..100 {
        let sender = sender.clone();
        let asked = question(&format!("x.n{n}-slow.example"), 1);
        desk.ask(asked, Box::new(move |proof| sender.send(proof).unwrap_or_default()));
    }
    wait("strangers are refused", || desk.stats().not_now > 0);
    assert!(desk.stats().in_flight < 64);
    // Whoever was proven has a ticket, and so a line of his own.
    let again = KeyQuestion { class: PeerClass::Proven, ..question("good.example", 1) };
    assert_eq!(ask(&desk, again), by_txt);
    server.release();
    for _ in 0..100 {
        assert!(!matches!(answers.recv_timeout(PATIENCE).expect("an answer to each"), KeyProof::Proven { .. }));
    }
}

#[test]
fn a_desk_that_is_full_says_not_now_at_once() {
    let server = Responder::start("", &[("", Manner::Silent)]);
    let desk = start(options(&server));
    let (sender, answers) = mpsc::channel();
    for n in 0..2000 {
        let sender = sender.clone();
        let asked = question(&format!("n{n}.example"), 1);
        desk.ask(asked, Box::new(move |proof| sender.send(proof).unwrap_or_default()));
    }
    let first = answers.recv_timeout(PATIENCE).expect("an answer");
    assert!(matches!(first, KeyProof::NotNow(NotNow::Full | NotNow::Budget)), "{first:?}");
    desk.stop();
    drop(sender);
    let rest: Vec<KeyProof> = answers.iter().collect();
    assert!(rest.iter().all(|proof| matches!(proof, KeyProof::NotNow(_))));
}

/// Leaves when it is told to.
struct Leaver(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Asker for Leaver {
    fn tell(self: Box<Self>, proof: KeyProof) {
        panic!("nobody wants {proof:?}");
    }

    fn has_left(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn poll_left(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        if self.has_left() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }
}

#[test]
fn strangers_with_slow_domains_do_not_hold_up_a_holder_of_a_ticket() {
    let server = Responder::start(&record("good.example", 1), &[("slow.example", Manner::Held)]);
    let desk = start(KeyOptions { in_flight: 100_000, per_domain: 100_000, ..options(&server) });
    let (sender, answers) = mpsc::channel();
    // More than can be worked on and more than can wait.
    for n in 0..400 {
        let sender = sender.clone();
        desk.ask(
            question(&format!("x.n{n}-slow.example"), 1),
            Box::new(move |proof| sender.send(proof).unwrap_or_default()),
        );
    }
    assert_eq!(answers.recv_timeout(PATIENCE).expect("no room"), KeyProof::NotNow(NotNow::Full));
    let friend = KeyQuestion { class: PeerClass::Known, ..question("good.example", 1) };
    assert_eq!(ask(&desk, friend), proven("good.example", ProvenBy::Txt, false));
    server.release();
}

#[test]
fn a_question_whose_asker_has_left_is_not_worked_on_and_gives_its_place_back() {
    let server = Responder::start(&record("good.example", 1), &[("slow.example", Manner::Held)]);
    let desk = start(KeyOptions { in_flight: 100_000, per_domain: 100_000, ..options(&server) });
    let (sender, answers) = mpsc::channel();
    for n in 0..60 {
        let sender = sender.clone();
        desk.ask(
            question(&format!("x.n{n}-slow.example"), 1),
            Box::new(move |proof| sender.send(proof).unwrap_or_default()),
        );
    }
    // 36 are worked on, the others wait; who comes now fills the line of 64, and leaves.
    wait("as many as may be are worked on", || desk.stats().in_flight == 36);
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..40 {
        desk.ask(question("never.example", 1), Box::new(Leaver(std::sync::Arc::clone(&gone))));
    }
    gone.store(true, std::sync::atomic::Ordering::SeqCst);
    let told = sender.clone();
    desk.ask(question("good.example", 1), Box::new(move |proof| told.send(proof).unwrap_or_default()));
    assert_eq!(desk.stats().left, 40);
    server.release();
    drop(sender);
    let proofs: Vec<KeyProof> = (0..61).map(|_| answers.recv_timeout(PATIENCE).expect("an answer to each")).collect();
    assert!(proofs.contains(&proven("good.example", ProvenBy::Txt, false)), "{proofs:?}");
    assert_eq!(server.asked("never.example"), 0);
}
