//! A connection in a world of the test's making.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_proto::envelope::{Meta, Via};
use postern_proto::limits::{OUTCOME_TIMEOUT, RECEIPT_TIMEOUT};
use postern_proto::reply::{Enhanced, Reply};
use postern_proto::session::SessionOptions;

use super::*;

/// Accepts every recipient at once, and writes down what it is asked to do.
#[derive(Default)]
struct Notebook {
    mode: Option<Mode>,
    /// Instead of accepting.
    verdict: Option<RecipientVerdict>,
    ids: u64,
    appended: Vec<(NewItem, When)>,
    committed: Vec<ItemId>,
    abandoned: Vec<ItemId>,
    forgotten: Vec<ItemId>,
    stored: Vec<(ItemId, usize)>,
}

impl Surroundings for Notebook {
    fn recipient(&mut self, _: &Address, _: &Client<'_>) -> Option<RecipientVerdict> {
        Some(self.verdict.clone().unwrap_or(RecipientVerdict::Accept(self.mode.unwrap_or(Mode::Through))))
    }
    fn checks(&mut self, _: &Client<'_>) -> Checks {
        Checks { class: 1, ..Checks::default() }
    }
    fn may_bring(&mut self, author: Option<&Result<Author, AuthorFault>>, _: &Client<'_>) -> Result<(), Reply> {
        match author {
            Some(Ok(author)) if &*author.domain == "b.example" => Ok(()),
            Some(_) => Err(Reply::new(550, Enhanced(5, 7, 1), "USE-MX")),
            None => Ok(()),
        }
    }
    fn new_id(&mut self) -> ItemId {
        self.ids += 1;
        ItemId(self.ids)
    }
    fn write_body(&mut self, id: ItemId, piece: Vec<u8>) {
        self.stored.push((id, piece.len()));
    }
    fn append(&mut self, item: NewItem, when: When) {
        self.appended.push((item, when));
    }
    fn commit(&mut self, id: ItemId) {
        self.committed.push(id);
    }
    fn abandon(&mut self, id: ItemId) {
        self.abandoned.push(id);
    }
    fn forget(&mut self, id: ItemId) {
        self.forgotten.push(id);
    }
    fn unix_ms(&mut self) -> u64 {
        1_000
    }
}

const ENVELOPE: &str = "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.com>\r\n";

struct Test {
    conn: Conn,
    world: Notebook,
    out: Vec<u8>,
    now: Instant,
}

impl Test {
    fn new(mode: Mode) -> Self {
        let options = Arc::new(SessionOptions::new("mx.example.com".into(), Via::Public));
        let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let session = Session::new(options, addr, addr, false, Instant(0));
        let world = Notebook { mode: Some(mode), ..Notebook::default() };
        Self { conn: Conn::new(session), world, out: Vec::new(), now: Instant(0) }
    }

    /// Says `text`; expects that all of it is taken; returns what is needed and the last reply.
    fn say(&mut self, text: &str) -> (Need, String) {
        self.out.clear();
        let (consumed, need) = self.conn.handle_bytes(self.now, text.as_bytes(), &mut self.out, &mut self.world);
        assert_eq!(consumed, text.len());
        (need, self.last_reply())
    }

    /// An event about the item under way.
    fn hear(&mut self, kind: EventKind) -> String {
        let id = self.conn.item().unwrap();
        self.hear_of(id, kind)
    }

    fn hear_of(&mut self, id: ItemId, kind: EventKind) -> String {
        self.out.clear();
        self.conn.handle_event(self.now, (id, kind), &mut self.out, &mut self.world);
        self.last_reply()
    }

    fn last_reply(&self) -> String {
        String::from_utf8_lossy(&self.out).lines().last().unwrap_or_default().to_owned()
    }
}

fn refusal() -> Fate {
    Fate::Refused(Refusal(Reply::new(552, Enhanced(5, 2, 2), "Over quota")).to_bytes().into_boxed_slice())
}

#[test]
fn through_waits_for_the_fate_and_gives_the_next_hops_words() {
    let mut test = Test::new(Mode::Through);
    let (need, _) = test.say(&format!("{ENVELOPE}DATA\r\nSubject: x\r\n\r\n.\r\n"));
    assert_eq!(need, Need::Answer);
    let (item, when) = &test.world.appended[0];
    assert_eq!((item.lane.key.as_ref(), *when), ("example.com", When::Tentative));
    assert_eq!(Meta::from_bytes(&item.meta).unwrap().arrival.at_unix_ms, 1_000);
    assert_eq!(test.hear(EventKind::Fate(refusal())), "552 5.2.2 Over quota");
    let (need, _) = test.say("MAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\nx\r\n.\r\n");
    assert_eq!(need, Need::Answer);
    assert_eq!(test.hear(EventKind::Fate(Fate::Delivered)), "250 2.0.0 Delivered as 0000000000002");
}

#[test]
fn a_fate_that_does_not_come_is_not_waited_for_beyond_the_deadline() {
    let mut test = Test::new(Mode::Through);
    test.say(&format!("{ENVELOPE}DATA\r\nx\r\n.\r\n"));
    test.now = test.now.after(OUTCOME_TIMEOUT + Duration::from_millis(1));
    let need = test.conn.handle_timeout(test.now, &mut test.out, &mut test.world);
    assert_eq!((need, test.world.committed.len()), (Need::Answer, 1));
    // The fate came first after all.
    assert_eq!(test.hear(EventKind::Fate(Fate::Delivered)), "250 2.0.0 Delivered as 0000000000001");
}

#[test]
fn a_message_that_the_peer_may_not_bring_is_never_handed_over_and_its_pieces_are_given_back() {
    for large in [false, true] {
        let mut test = Test::new(Mode::Collect);
        let options = SessionOptions { author: true, ..SessionOptions::new("mx.example.com".into(), Via::Public) };
        let addr: SocketAddr = "192.0.2.1:1".parse().unwrap();
        test.conn = Conn::new(Session::new(Arc::new(options), addr, addr, false, Instant(0)));
        let filling = if large { format!("{}\r\n", "x".repeat(998)).repeat(150) } else { String::new() };
        let body = format!("{ENVELOPE}DATA\r\nFrom: bank@bank.example\r\n\r\n{filling}.\r\n");
        let mut rest = body.as_bytes();
        while !rest.is_empty() {
            test.out.clear();
            let (consumed, need) = test.conn.handle_bytes(test.now, rest, &mut test.out, &mut test.world);
            rest = &rest[consumed..];
            if need == Need::Answer {
                test.hear(EventKind::Stored);
            }
        }
        test.conn.handle_bytes(test.now, b"", &mut test.out, &mut test.world);
        assert_eq!(test.last_reply(), "550 5.7.1 USE-MX");
        assert_eq!((test.world.appended.len(), test.world.abandoned.len()), (0, usize::from(large)));
        assert_eq!(!test.world.stored.is_empty(), large);
        // The same conversation goes on with an author of its own.
        test.say("MAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\nFrom: a@b.example\r\n\r\n.\r\n");
        assert_eq!(test.world.appended.len(), 1);
    }
}

#[test]
fn an_unsettled_fate_and_a_shutdown_ask_for_the_receipt() {
    for shutdown in [false, true] {
        let mut test = Test::new(Mode::Through);
        test.say(&format!("{ENVELOPE}DATA\r\nx\r\n.\r\n"));
        if shutdown {
            assert_eq!(test.conn.handle_shutdown(test.now, &mut test.out, &mut test.world), Some(Need::Answer));
        } else {
            assert_eq!(test.hear(EventKind::Fate(Fate::Unsettled)), "");
        }
        assert_eq!(test.world.committed, [ItemId(1)]);
        let full = EventKind::Refused(SpoolRefusal::Full { free_bytes: 0 });
        assert!(test.hear(full).starts_with("452 4.3.1"));
    }
}

#[test]
fn a_large_body_goes_to_the_spool_in_pieces_and_is_given_back_when_the_client_goes() {
    let mut test = Test::new(Mode::Collect);
    test.say(&format!("{ENVELOPE}DATA\r\n"));
    let block = format!("{}\r\n", "x".repeat(998)).repeat(60);
    let mut pieces = 0;
    for _ in 0..20 {
        let mut rest = block.as_bytes();
        while !rest.is_empty() {
            let (consumed, need) = test.conn.handle_bytes(test.now, rest, &mut test.out, &mut test.world);
            rest = &rest[consumed..];
            if need == Need::Answer {
                pieces += 1;
                test.conn.handle_event(test.now, (ItemId(1), EventKind::Stored), &mut test.out, &mut test.world);
            }
        }
    }
    assert_eq!(test.world.stored.len(), pieces);
    assert!(test.world.stored.iter().all(|(id, size)| *id == ItemId(1) && *size <= 192 * 1024));
    test.conn.handle_eof(&mut test.world);
    assert_eq!((test.world.abandoned.as_slice(), test.world.appended.len()), ([ItemId(1)].as_slice(), 0));
}

#[test]
fn collect_commits_at_once_and_a_failed_disk_is_told_as_451() {
    let mut test = Test::new(Mode::Collect);
    test.say(&format!("{ENVELOPE}DATA\r\nx\r\n.\r\n"));
    assert_eq!(test.world.appended[0].1, When::Commit);
    assert!(test.hear(EventKind::Refused(SpoolRefusal::Failed)).starts_with("451 4.3.0"));
    assert_eq!(test.say("QUIT\r\n").0, Need::Close);
}

#[test]
fn a_late_answer_to_one_message_is_never_taken_for_that_to_the_next() {
    let mut test = Test::new(Mode::Through);
    test.say(&format!("{ENVELOPE}DATA\r\nfirst\r\n.\r\n"));
    // Neither outcome nor receipt come in time: 451, and the client brings another message.
    test.now = test.now.after(OUTCOME_TIMEOUT);
    test.conn.handle_timeout(test.now, &mut test.out, &mut test.world);
    test.now = test.now.after(RECEIPT_TIMEOUT);
    test.out.clear();
    assert_eq!(test.conn.handle_timeout(test.now, &mut test.out, &mut test.world), Need::Input);
    assert!(test.last_reply().starts_with("451 4.3.0"));
    assert_eq!(test.world.forgotten, [ItemId(1)]);
    let (need, _) = test.say("MAIL FROM:<>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\nsecond\r\n.\r\n");
    assert_eq!(need, Need::Answer);
    assert_eq!(test.hear_of(ItemId(1), EventKind::Fate(Fate::Delivered)), "");
    assert_eq!(test.hear_of(ItemId(2), EventKind::Fate(refusal())), "552 5.2.2 Over quota");
}

#[test]
fn a_shutdown_between_messages_says_goodbye_at_once() {
    let mut test = Test::new(Mode::Collect);
    test.say("EHLO c.example\r\n");
    test.out.clear();
    assert_eq!(test.conn.handle_shutdown(test.now, &mut test.out, &mut test.world), Some(Need::Close));
    assert!(test.last_reply().starts_with("421 4.3.2"));
}

#[test]
fn a_client_that_pipelines_and_is_deferred_has_broken_no_rule() {
    use postern_proto::session::Deferral;
    let mut test = Test::new(Mode::Collect);
    test.say("EHLO mta.example\r\n");
    test.world.verdict = Some(RecipientVerdict::Defer(Deferral::Busy));
    for _ in 0..60 {
        // RFC 2920 section 3.1: DATA is sent before the answer to RCPT is read.
        let (need, reply) = test.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\nRSET\r\n");
        assert_eq!((need, reply.as_str()), (Need::Input, "250 2.0.0 Reset"));
    }
    assert!(!test.conn.session().broke_the_rules());
    test.world.verdict = None;
    let (_, reply) = test.say("MAIL FROM:<a@b.example>\r\nRCPT TO:<ann@example.com>\r\nDATA\r\n");
    assert!(reply.starts_with("354 "), "{reply}");
}

#[test]
fn an_eviction_gives_back_what_was_stored_and_never_comes_between_dot_and_reply() {
    let mut test = Test::new(Mode::Collect);
    test.say(&format!("{ENVELOPE}DATA\r\n"));
    let line = format!("{}\r\n", "x".repeat(998));
    let body = line.repeat(150);
    test.out.clear();
    test.conn.handle_bytes(test.now, body.as_bytes(), &mut test.out, &mut test.world);
    let id = test.conn.item().expect("a piece is with the spool");
    test.out.clear();
    assert!(test.conn.handle_eviction(test.now, Eviction::Place, &mut test.out, &mut test.world));
    assert!(test.out.starts_with(b"421 4.3.2 "));
    assert_eq!(test.world.abandoned, [id]);

    let mut test = Test::new(Mode::Collect);
    test.say(&format!("{ENVELOPE}DATA\r\n"));
    test.say("x\r\n.\r\n");
    assert!(!test.conn.handle_eviction(test.now, Eviction::Place, &mut test.out, &mut test.world));
    assert!(test.world.abandoned.is_empty());
}
