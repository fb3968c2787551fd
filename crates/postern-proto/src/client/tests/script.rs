//! Plays written conversations against the machine, cut at every octet.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::*;
use crate::xclient::Xclient;

/// What the test asks of the machine when it is at rest.
#[derive(Clone)]
pub(super) enum Order {
    Send(Letter),
    Probe(Letter),
    Xclient(&'static str),
    Reset,
    Quit,
}

#[derive(Clone, Default)]
pub(super) struct Letter {
    pub(super) to: &'static [&'static str],
    pub(super) body: &'static str,
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
    pub(super) full_dsn: bool,
    pub(super) size: u64,
}

pub(super) fn letter(to: &'static [&'static str], body: &'static str) -> Letter {
    Letter { to, body, size: body.len() as u64, ..Letter::default() }
}

pub(super) fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).expect(text)
}

pub(super) fn give(client: &mut Client, now: Instant, order: &Order) {
    match order {
        Order::Send(letter) | Order::Probe(letter) => {
            let notify = Notify { success: true, failure: true, delay: false, given: true };
            let recipients: Vec<Recipient> = letter
                .to
                .iter()
                .map(|to| Recipient {
                    address: address(to),
                    original: letter.full_dsn.then(|| format!("rfc822;{to}")),
                    notify: if letter.full_dsn { notify } else { Notify::default() },
                })
                .collect();
            let dsn = match letter.full_dsn {
                true => DsnRequest { full: Some(false), envelope_id: Some("a=b".into()) },
                false => DsnRequest::default(),
            };
            let sender = address("s@x.org");
            let probe = matches!(order, Order::Probe(_));
            let transaction = Transaction {
                sender: (!probe).then_some(&sender),
                recipients: &recipients,
                eight_bit: letter.eight_bit,
                smtputf8: letter.smtputf8,
                dsn: &dsn,
                size: letter.size,
                probe,
            };
            client.begin(now, &transaction);
        }
        Order::Xclient(words) => client.xclient(now, &Xclient::parse(words.as_bytes()).expect("attributes")),
        Order::Reset => client.reset(now),
        Order::Quit => client.quit(now),
    }
}

pub(super) fn word(result: &RecipientResult) -> String {
    match result {
        RecipientResult::Delivered(reply) => format!("delivered {}", reply.code),
        RecipientResult::Refused(reply) => format!("refused {reply}"),
        RecipientResult::Deferred(reply) => format!("deferred {reply}"),
    }
}

/// A conversation: the lines of each side in turn. `S!` closes the connection, `S?` lets the time
/// run out. `events` is what the machine tells its pump.
pub(super) struct Case {
    pub(super) protocol: Protocol,
    pub(super) starttls: bool,
    pub(super) orders: Vec<Order>,
    pub(super) dialogue: &'static str,
    pub(super) events: &'static [&'static str],
}

/// Plays `case` with the next hop's octets cut into pieces of `pieces` octets, the first one shorter
/// by `shift`: over all of them every split point is met.
pub(super) fn play(case: &Case, cut: Option<usize>) -> Vec<String> {
    let mut now = Instant(1_000_000);
    let options = ClientOptions {
        protocol: case.protocol,
        helo: "us.example".into(),
        starttls: case.starttls,
        deadlines: Deadlines::default(),
    };
    let mut client = Client::new(options, now);
    let mut orders: VecDeque<Order> = case.orders.clone().into();
    let mut last = "";
    let mut events = Vec::new();
    let mut fed = 0;
    let mut lines = case.dialogue.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    loop {
        let mut said = String::new();
        let over = run(&mut client, now, &mut orders, &mut last, &mut said, &mut events);
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("C:")) {
            expected.push_str(line.strip_prefix("C: ").unwrap_or_default());
            expected.push_str("\r\n");
        }
        assert_eq!(said, expected, "said by the client; cut {cut:?}; events so far {events:?}");
        let mut heard = String::new();
        match lines.peek() {
            None => return events,
            Some(line) => assert!(!over, "the session is over, but the dialogue goes on: {line}"),
        }
        while let Some(line) = lines.next_if(|line| line.starts_with("S: ")) {
            heard.push_str(&line[3..]);
            heard.push_str("\r\n");
        }
        let at = cut.and_then(|cut| cut.checked_sub(fed)).filter(|at| *at < heard.len()).unwrap_or(0);
        fed += heard.len();
        client.handle_bytes(now, &heard.as_bytes()[..at]);
        let mut nothing = Vec::new();
        if at > 0 && heard[..at].lines().count() <= 1 && !heard[..at].ends_with('\n') {
            assert!(!matches!(client.poll(&mut nothing), Step::Outcome(_)));
            assert_eq!(nothing, b"", "nothing is said upon half a line");
        }
        client.handle_bytes(now, &heard.as_bytes()[at..]);
        if lines.next_if_eq(&"S!").is_some() {
            client.handle_closed("");
        }
        if lines.next_if_eq(&"S?").is_some() {
            let due = client.next_timeout().expect("every wait has a deadline");
            events.push(format!("after {} s", due.since(now).as_secs()));
            now = due;
            client.handle_timeout(now);
        }
    }
}

/// Polls until the machine waits or is over; gives orders when it is at rest.
pub(super) fn run(
    client: &mut Client,
    now: Instant,
    orders: &mut VecDeque<Order>,
    body: &mut &'static str,
    said: &mut String,
    events: &mut Vec<String>,
) -> bool {
    let mut out = Vec::new();
    loop {
        let step = client.poll(&mut out);
        said.push_str(core::str::from_utf8(&out).expect("text"));
        out.clear();
        match step {
            Step::Read => return false,
            Step::StartTls => {
                events.push("tls".into());
                client.handle_bytes(now, b"250 injected\r\n");
                client.handle_tls(now);
            }
            Step::Body => {
                for byte in body.as_bytes() {
                    client.encode_body(now, core::slice::from_ref(byte), &mut out);
                }
                client.end_body(now, &mut out);
            }
            Step::Outcome(results) => events.push(results.iter().map(word).collect::<Vec<_>>().join(", ")),
            Step::Idle => match orders.pop_front() {
                Some(order) => {
                    if let Order::Send(letter) = &order {
                        *body = letter.body;
                    }
                    give(client, now, &order);
                }
                None => {
                    events.push("idle".into());
                    return false;
                }
            },
            Step::Closed => {
                events.push("closed".into());
                return true;
            }
            Step::Failed(failure) => {
                let decided = client.take_decided();
                events.push(format!("failed: {failure}"));
                if decided.iter().any(Option::is_some) {
                    let words = decided.iter().map(|result| result.as_ref().map_or("open".into(), word));
                    events.push(words.collect::<Vec<_>>().join(", "));
                }
                return true;
            }
        }
    }
}

pub(super) fn check(case: &Case) {
    let heard: usize =
        case.dialogue.lines().filter(|line| line.trim().starts_with("S: ")).map(|line| line.trim().len() - 1).sum();
    for cut in core::iter::once(None).chain((1..heard).map(Some)) {
        assert_eq!(play(case, cut), case.events, "cut {cut:?}");
    }
}

pub(super) fn smtp(orders: Vec<Order>, dialogue: &'static str, events: &'static [&'static str]) {
    check(&Case { protocol: Protocol::Smtp, starttls: true, orders, dialogue, events });
}

pub(super) fn lmtp(orders: Vec<Order>, dialogue: &'static str, events: &'static [&'static str]) {
    check(&Case { protocol: Protocol::Lmtp, starttls: true, orders, dialogue, events });
}
