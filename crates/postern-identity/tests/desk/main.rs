//! The desk against a name server of the test's own: what it finds, and what it does not spend.

mod budgets;
mod keys;
mod responder;
mod sources;
mod spf;

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use postern_identity::{Budgets, Findings, IdentityDesk, IdentityOptions, Question, Zone};
use postern_trust::pressure::Level;
use postern_trust::{Class, Evidence, EvidenceReceiver, channel};

/// More than a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Budgets that no test reaches by being slow.
fn generous() -> Budgets {
    Budgets {
        question: Duration::from_secs(40),
        lookup: Duration::from_secs(20),
        per_second: 100_000,
        ..Budgets::default()
    }
}

fn options(server: SocketAddr) -> IdentityOptions {
    IdentityOptions { resolver: Some(server), budgets: generous(), ..IdentityOptions::new("mail.example.com") }
}

fn start(options: IdentityOptions) -> (IdentityDesk, EvidenceReceiver) {
    let (sender, receiver) = channel(1024);
    (IdentityDesk::start(options, sender).expect("the desk starts"), receiver)
}

fn zone(name: &str, weight: i8) -> Zone {
    Zone { name: name.to_owned(), weight, codes: Vec::new() }
}

/// A new client in the calm.
fn question(ip: &str, mail_from: Option<&str>) -> Question {
    Question {
        ip: ip.parse().expect("an address"),
        helo: Some("helo.example".into()),
        mail_from: mail_from.map(Into::into),
        class: Class::New,
        level: Level::Calm,
    }
}

/// Asks and waits as no door does.
fn ask(desk: &IdentityDesk, question: Question) -> Findings {
    let (sender, receiver) = mpsc::channel();
    let answer = move |findings| sender.send(findings).unwrap_or_default();
    assert!(desk.ask(question, Box::new(answer)), "there is room");
    receiver.recv_timeout(PATIENCE).expect("an answer")
}

/// Until it is so.
fn wait(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn evidence(receiver: &mut EvidenceReceiver) -> Vec<Evidence> {
    let mut all = Vec::new();
    receiver.drain(&mut all, 1000);
    all
}
