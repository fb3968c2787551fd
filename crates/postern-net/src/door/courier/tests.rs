//! The courier over a wire with a delay, in virtual time, against a responder that reads what RFC 3030 says.

use std::io::Write as _;
use std::sync::Mutex as StdMutex;

use postern_proto::envelope::Notify;
use tokio::io::DuplexStream;

use super::*;

mod quic;
mod responder;

use responder::{Responder, Rules, wire};

/// One way on the wire.
const DELAY: Duration = Duration::from_millis(50);
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A link that is made of wires in memory.
struct TestRoad {
    responder: Responder,
    streams_max: usize,
    rules: Rules,
}

impl Road for TestRoad {
    fn open(&self) -> Pending<Result<Box<dyn Octets>, String>> {
        let (ours, theirs) = wire(DELAY);
        let refused = self.responder.refuses_streams();
        if !refused {
            self.responder.serve(theirs, self.rules.clone());
        }
        Box::pin(async move {
            let octets: Box<dyn Octets> = Box::new(ours);
            if refused { Err("no more streams".to_owned()) } else { Ok(octets) }
        })
    }

    fn streams_max(&self) -> usize {
        self.streams_max
    }

    fn is_open(&self) -> bool {
        !self.responder.is_cut()
    }
}

/// A courier whose link leads to the responder; `dials` counts links.
fn courier(responder: &Responder, streams_max: usize, rules: &Rules) -> (Arc<Courier<String>>, Arc<AtomicUsize>) {
    let dials = Arc::new(AtomicUsize::new(0));
    let (responder, rules, count) = (responder.clone(), rules.clone(), dials.clone());
    let dial: Dial<String> = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        responder.mend();
        let road: Arc<dyn Road> =
            Arc::new(TestRoad { responder: responder.clone(), streams_max, rules: rules.clone() });
        Box::pin(async move { Ok(road) })
    });
    (Arc::new(Courier::new(dial, "us.example".to_owned(), Deadlines::default())), dials)
}

fn mail(to: &str, body: &str) -> Arc<Mail> {
    let recipient = |to: &str| Recipient {
        address: Address::parse(to.as_bytes(), false).expect(to),
        original: None,
        notify: Notify::default(),
    };
    Arc::new(Mail {
        sender: Address::parse(b"s@x.org", false).ok(),
        recipients: to.split(' ').map(recipient).collect(),
        eight_bit: false,
        smtputf8: false,
        dsn: DsnRequest::default(),
        prefix: b"Received: by us\r\n".to_vec(),
        body: MailBody::Bytes(Bytes::from(body.to_owned())),
    })
}

fn words(result: &Result<Carried, CourierError<String>>) -> String {
    let word = |result: &RecipientResult| match result {
        RecipientResult::Delivered(_) => "delivered".to_owned(),
        RecipientResult::Refused(reply) => format!("refused {}", reply.code),
        RecipientResult::Deferred(reply) => format!("deferred {}", reply.code),
    };
    match result {
        Ok(carried) => carried.results.iter().map(word).collect::<Vec<_>>().join(", "),
        Err(CourierError::NoLink(why)) => format!("no link: {why}"),
        Err(CourierError::Stream(error)) if matches!(error.failure, Failure::AfterFinalDot(_)) => "in doubt".into(),
        Err(CourierError::Stream(error)) => format!("failed: {}", error.failure),
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_on_a_fresh_stream_takes_one_round_trip() {
    let responder = Responder::default();
    let (courier, _) = courier(&responder, 4, &Rules::default());
    let begun = Instant::now();
    let result = courier.send(mail("a@y.org no@y.org", "hello\r\n")).await;
    assert_eq!((words(&result), begun.elapsed()), ("delivered, refused 550".into(), ROUND_TRIP));
    assert_eq!(responder.taken(), ["a@y.org: Received: by us\r\nhello\r\n"]);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_messages_at_once_take_two_round_trips_on_four_streams() {
    let responder = Responder::default();
    let (courier, dials) = courier(&responder, 32, &Rules::default());
    let begun = Instant::now();
    let mut sent = tokio::task::JoinSet::new();
    for i in 0..200 {
        let courier = courier.clone();
        sent.spawn(async move { words(&courier.send(mail(&format!("r{i}@y.org"), "x\r\n")).await) });
    }
    let results = sent.join_all().await;
    assert!(results.iter().all(|words| words == "delivered"), "{results:?}");
    // The first message of a stream is begun with EHLO; nobody waits for its answer.
    assert_eq!(begun.elapsed(), ROUND_TRIP);
    assert_eq!((responder.taken().len(), responder.streams(), dials.load(Ordering::Relaxed)), (200, 4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_large_message_does_not_stand_before_small_ones() {
    let responder = Responder::default();
    let rules = Rules { bytes_per_second: Some(100_000), ..Rules::default() };
    let (courier, _) = courier(&responder, 2, &rules);
    let large = mail("large@y.org", &"0123456789abcde\r\n".repeat(60_000));
    let begun = Instant::now();
    let slow = tokio::spawn({
        let courier = courier.clone();
        async move { words(&courier.send(large).await) }
    });
    tokio::time::sleep(ROUND_TRIP).await;
    for i in 0..10 {
        assert_eq!(words(&courier.send(mail(&format!("r{i}@y.org"), "x\r\n")).await), "delivered");
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(!slow.is_finished());
    assert_eq!(slow.await.expect("it ends"), "delivered");
    assert!(begun.elapsed() > Duration::from_secs(9), "the large one is 1 MB at 100 kB/s");
    assert_eq!(responder.streams(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_class_with_one_stream_gets_one_stream() {
    let responder = Responder::default();
    let (courier, _) = courier(&responder, 1, &Rules::default());
    let (first, second) = tokio::join!(courier.send(mail("a@y.org", "")), courier.send(mail("b@y.org", "")));
    assert_eq!((words(&first), words(&second), responder.streams()), ("delivered".into(), "delivered".into(), 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_before_a_cut_stays_so_and_the_rest_is_in_doubt_or_goes_again() {
    for cut_after in 0..40 {
        let responder = Responder::default();
        let rules = Rules { cut_after_messages: Some(cut_after), ..Rules::default() };
        let (courier, _) = courier(&responder, 2, &rules);
        let mut sent = tokio::task::JoinSet::new();
        for i in 0..30 {
            let courier = courier.clone();
            sent.spawn(async move {
                let to = format!("r{i}@y.org");
                let result = courier.send(mail(&to, "x\r\n")).await;
                (to, words(&result))
            });
        }
        let taken_of = |taken: &[String], to: &str| taken.iter().filter(|item| item.starts_with(to)).count();
        let results = sent.join_all().await;
        let taken = responder.taken();
        let delivered = results.iter().filter(|(_, words)| words == "delivered").count();
        for (to, words) in results {
            match (words.as_str(), taken_of(&taken, &format!("{to}:"))) {
                ("delivered", 1) | ("in doubt", 0 | 1) => {}
                (words, 0) if words.starts_with("failed") => {}
                (words, times) => panic!("cut after {cut_after}: {to} was taken {times} times: {words}"),
            }
        }
        assert!(delivered >= cut_after.min(30), "cut after {cut_after}: {delivered} were delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_died_while_it_was_idle_is_replaced_unnoticed() {
    let responder = Responder::default();
    let (courier, dials) = courier(&responder, 4, &Rules::default());
    assert_eq!(words(&courier.send(mail("a@y.org", "")).await), "delivered");
    responder.cut();
    assert_eq!(words(&courier.send(mail("b@y.org", "")).await), "delivered");
    assert_eq!(dials.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_link_hear_of_one_failure() {
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    let dial: Dial<String> = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Err("silent".to_owned())
        })
    });
    let courier = Arc::new(Courier::new(dial, "us.example".to_owned(), Deadlines::default()));
    let begun = Instant::now();
    let mut sent = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let courier = courier.clone();
        sent.spawn(async move { words(&courier.send(mail("a@y.org", "")).await) });
    }
    assert!(sent.join_all().await.iter().all(|words| words == "no link: silent"));
    assert_eq!((dials.load(Ordering::Relaxed), begun.elapsed()), (1, Duration::from_secs(5)));
    assert_eq!(words(&courier.send(mail("a@y.org", "")).await), "no link: silent");
    assert_eq!(dials.load(Ordering::Relaxed), 2, "who comes later tries again");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_waits_for_is_not_begun_and_one_half_written_is_withdrawn() {
    let responder = Responder::default();
    let rules = Rules { bytes_per_second: Some(100_000), ..Rules::default() };
    let (courier, _) = courier(&responder, 1, &rules);
    let large = mail("large@y.org", &"0123456789abcde\r\n".repeat(250_000));
    let small = mail("never@y.org", "");
    let limit = Duration::from_millis(500);
    let (first, second) = tokio::join!(timeout(limit, courier.send(large)), timeout(limit, courier.send(small)));
    assert!(first.is_err() && second.is_err(), "neither was answered in half a second");
    assert_eq!(words(&courier.send(mail("b@y.org", "")).await), "delivered");
    let taken = responder.taken();
    let taken: Vec<&str> = taken.iter().map(|item| item.split(':').next().unwrap_or_default()).collect();
    assert_eq!((taken, courier.under_way()), (vec!["b@y.org"], 0));
}

#[tokio::test(start_paused = true)]
async fn eight_bit_mail_waits_for_ehlo_once_on_a_link() {
    let responder = Responder::default();
    let (courier, _) = courier(&responder, 4, &Rules::default());
    let eight = |to| Arc::new(Mail { eight_bit: true, ..Arc::unwrap_or_clone(mail(to, "\u{e9}\r\n")) });
    let begun = Instant::now();
    assert_eq!(words(&courier.send(eight("a@y.org")).await), "delivered");
    assert_eq!(begun.elapsed(), 2 * ROUND_TRIP);
    let begun = Instant::now();
    let (first, second) = tokio::join!(courier.send(eight("b@y.org")), courier.send(eight("c@y.org")));
    assert_eq!((words(&first), words(&second), begun.elapsed()), ("delivered".into(), "delivered".into(), ROUND_TRIP));
    assert_eq!(responder.streams(), 2);
    assert_eq!(responder.said("BODY=8BITMIME"), 3);
}

#[tokio::test]
async fn a_body_in_a_file_arrives_whole_and_one_that_cannot_be_read_fails_alone() {
    let responder = Responder::default();
    let (courier, _) = courier(&responder, 1, &Rules::default());
    let body = "0123456789abcde\r\n".repeat(20_000);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(format!("left out\r\n{body}").as_bytes()).expect("room");
    let len = body.len() as u64 + 10;
    let file = Arc::new(file);
    let of_file = |to, len| {
        let body = MailBody::File { file: file.clone(), from: 10, len };
        Arc::new(Mail { body, ..Arc::unwrap_or_clone(mail(to, "")) })
    };
    let (whole, short) =
        tokio::join!(courier.send(of_file("a@y.org", len)), courier.send(of_file("b@y.org", len + 1)),);
    assert_eq!(words(&whole), "delivered");
    assert!(words(&short).starts_with("failed: the message could not be read"), "{}", words(&short));
    assert_eq!(words(&courier.send(of_file("c@y.org", len)).await), "delivered");
    let expected = |to| format!("{to}: Received: by us\r\n{body}");
    assert_eq!(responder.taken(), [expected("a@y.org"), expected("c@y.org")]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_with_nothing_to_do_says_goodbye_and_the_next_message_opens_another() {
    let responder = Responder::default();
    let (courier, dials) = courier(&responder, 1, &Rules::default());
    assert_eq!(words(&courier.send(mail("a@y.org", "")).await), "delivered");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(responder.said("QUIT"), 1);
    assert_eq!(words(&courier.send(mail("b@y.org", "")).await), "delivered");
    assert_eq!((responder.streams(), dials.load(Ordering::Relaxed)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_link_without_streams_is_given_up() {
    let responder = Responder::default();
    responder.refuse_streams();
    let (courier, _) = courier(&responder, 1, &Rules::default());
    let result = words(&courier.send(mail("a@y.org", "")).await);
    assert!(result.contains("no mail stream was granted"), "{result}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_for_which_there_is_no_room_leaves_its_message_to_the_others() {
    let responder = Responder::default();
    let rules = Rules { streams_served: Some(2), ..Rules::default() };
    let (courier, dials) = courier(&responder, 4, &rules);
    let (a, b, c) = (mail("a@y.org", "A"), mail("b@y.org", "B"), mail("c@y.org", "C"));
    let (a, b, c) = tokio::join!(courier.send(a), courier.send(b), courier.send(c));
    assert_eq!([words(&a), words(&b), words(&c)], ["delivered"; 3]);
    // Once, in all the life of the link.
    let more = ["d@y.org", "e@y.org", "f@y.org"].map(|to| courier.send(mail(to, "")));
    for sent in more {
        assert_eq!(words(&sent.await), "delivered");
    }
    assert_eq!((responder.streams(), dials.load(Ordering::Relaxed)), (3, 1));
    assert_eq!(responder.taken().len(), 6, "and each once");
}

#[tokio::test(start_paused = true)]
async fn without_room_for_any_stream_the_message_waits_with_the_words_of_the_other_side() {
    let responder = Responder::default();
    let rules = Rules { streams_served: Some(0), ..Rules::default() };
    let (courier, _) = courier(&responder, 4, &rules);
    let result = courier.send(mail("a@y.org", "")).await;
    let failure = match &result {
        Err(CourierError::Stream(error)) => &error.failure,
        other => panic!("{other:?}"),
    };
    assert!(matches!(failure, Failure::Refused(Phase::Hello, reply) if reply.code == 421), "{failure:?}");
    assert_eq!((responder.streams(), responder.taken().len()), (1, 0), "it is not asked again at once");
}
