//! Two implementations of door/1, this one and `tests/door-second`, agree: on what that one wrote down, and on what this
//! one makes.

mod door_cases;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use door_cases::{answered, hex, says};
use postern_proto::door::cookie::hello;
use postern_proto::door::{Frame, PeerClass};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

#[test]
fn every_vector_of_the_second_implementation_holds() {
    let document: Map<String, Value> = serde_json::from_str(include_str!("../../../tests/door-second/vectors.json"))
        .expect("vectors.json is an object of lists");
    let (mut compared, mut differing) = (0, Vec::new());
    for (kind, cases) in &document {
        for case in cases.as_array().expect("a list of cases") {
            let Some(said) = says(kind, case) else { continue };
            compared += 1;
            for (name, value) in said.as_object().expect("an answer is an object") {
                if &case[name] != value {
                    differing.push(format!("{kind} ({}): {name} is {value}, not {}", case["name"], case[name]));
                }
            }
        }
    }
    assert!(differing.is_empty(), "{} of {compared} differ:\n{}", differing.len(), differing.join("\n"));
    // Only three tickets cannot be minted here: those of a kind or class that does not exist, which that one can.
    let all: usize = document.values().map(|cases| cases.as_array().map_or(0, Vec::len)).sum();
    assert!(compared >= 700 && compared + 4 >= all, "{compared} of {all} compared");
}

#[test]
fn the_vectors_are_those_that_the_second_implementation_writes_today() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("door-vectors-again.json");
    let Some(output) = python("vectors.py", &[path.to_str().expect("a path in UTF-8")]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let again = std::fs::read_to_string(&path).expect("it was written");
    assert!(
        again == include_str!("../../../tests/door-second/vectors.json"),
        "run vectors.py, and look at what changed"
    );
}

#[test]
fn the_second_implementation_accepts_what_this_one_makes() {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("door-made-here.json");
    let mut file = std::fs::File::create(&path).expect("a file");
    let made = made_here();
    let count: usize = made.values().map(|cases| cases.as_array().map_or(0, Vec::len)).sum();
    file.write_all(Value::Object(made).to_string().as_bytes()).expect("room for it");
    let Some(output) = python("door.py", &["check", path.to_str().expect("a path in UTF-8")]) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), format!("{count} cases, 0 differ"));
}

/// Runs a script of the second implementation; `None`, with a word, where there is no Python.
fn python(script: &str, arguments: &[&str]) -> Option<Output> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/door-second").join(script);
    match Command::new("python3").arg(script).args(arguments).output() {
        Ok(output) => Some(output),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no python3, so the second implementation was not asked");
            None
        }
        Err(why) => panic!("python3: {why}"),
    }
}

/// Artefacts drawn at random, and what this build says to them.
fn made_here() -> Map<String, Value> {
    let mut made = Made { runner: TestRunner::deterministic(), cases: Map::new() };
    for _ in 0..60 {
        made.cookies();
        made.tickets();
        made.cids();
        made.datagrams();
        made.frames();
    }
    made.cases
}

struct Made {
    runner: TestRunner,
    cases: Map<String, Value>,
}

impl Made {
    fn draw<T: Arbitrary>(&mut self) -> T {
        any::<T>().new_tree(&mut self.runner).expect("a value").current()
    }

    fn add(&mut self, kind: &str, case: Value) -> Value {
        let whole = answered(kind, case);
        let cases = self.cases.entry(kind).or_insert_with(|| Value::Array(Vec::new()));
        cases.as_array_mut().expect("a list").push(whole.clone());
        whole
    }

    fn cookies(&mut self) {
        let (master, now) = (hex(&self.draw::<[u8; 32]>()), self.draw::<u32>() / 2);
        let source =
            if self.draw() { self.draw::<std::net::Ipv4Addr>().into() } else { std::net::IpAddr::V6(self.draw()) };
        let (wait, level) = (self.draw::<u32>() % 2581, self.draw::<u8>() % 5);
        let case = json!({
            "master": master, "keys_at": now, "source": source, "nonce": hex(&self.draw::<[u8; 8]>()),
            "level": level, "server_time": now, "not_before": now + wait, "not_after": now + wait + 120,
        });
        let made = self.add("challenges", case);
        let token = made["token"].as_str().expect("hex").to_owned();
        for (later, token) in
            [(wait, token.clone()), (self.draw::<u32>() % 4000, token.clone()), (wait, self.bent(&token))]
        {
            let case = json!({
                "master": master, "keys_at": now + later, "source": source, "token": token, "now": now + later,
            });
            self.add("cookies", case);
        }
    }

    fn tickets(&mut self) {
        let (master, now) = (hex(&self.draw::<[u8; 32]>()), self.draw::<u32>() / 2);
        let case = json!({
            "master": master, "keys_at": now, "kind": 0x81 + self.draw::<u8>() % 3,
            "nonce": hex(&self.draw::<[u8; 12]>()), "domain_tag": self.draw::<u64>(), "prefix_tag": self.draw::<u64>(),
            "expiry": now / 60 + self.draw::<u32>() % 43_200, "class": self.draw::<u8>() % 4,
            "share": self.draw::<u32>() >> 8,
        });
        let ticket = self.add("tickets", case);
        let (octets, dcid) = (ticket["octets"].as_str().expect("hex").to_owned(), hex(&self.draw::<[u8; 16]>()));
        let days = self.draw::<u32>() % 40;
        let later = now + days * 86_400;
        let case = json!({ "ticket": octets, "key": ticket["key"], "dcid": dcid, "time": later });
        let token = self.add("tokens", case)["octets"].as_str().expect("hex").to_owned();
        for token in [token.clone(), self.bent(&token)] {
            let case = json!({
                "master": master, "keys_at": later, "token": token, "dcid": dcid,
                "now": later + self.draw::<u32>() % 1200,
            });
            self.add("proofs", case);
        }
        for ticket in [octets.clone(), self.bent(&octets)] {
            self.add("opens", json!({ "master": master, "keys_at": later, "ticket": ticket, "now": later }));
        }
    }

    fn cids(&mut self) {
        let (master, now) = (hex(&self.draw::<[u8; 32]>()), self.draw::<u32>());
        let random = hex(&self.draw::<[u8; 6]>());
        let case = json!({ "master": master, "keys_at": now, "worker": self.draw::<u8>(), "random": random });
        let cid = self.add("made_cids", case)["cid"].as_str().expect("hex").to_owned();
        let later = u64::from(now) + self.draw::<u64>() % 30_000;
        for cid in [cid.clone(), self.bent(&cid)] {
            self.add("cids", json!({ "master": master, "keys_at": later, "cid": cid }));
        }
        self.add("resets", json!({ "master": master, "keys_at": now }));
        let domain = format!("d{}.Example", self.draw::<u32>());
        self.add("tags", json!({ "master": master, "keys_at": now, "domain": domain }));
        let address = std::net::IpAddr::V6(self.draw());
        self.add("tags", json!({ "master": master, "keys_at": now, "address": address }));
        let (weight, owner) = (self.draw::<u8>() % 8, format!("D{}.co.Example", self.draw::<u32>()));
        let case =
            json!({ "master": master, "keys_at": now, "weight": weight, "suffix": "co.example", "owner": owner });
        self.add("shares", case);
    }

    fn datagrams(&mut self) {
        let mut head = self.draw::<[u8; 32]>().to_vec();
        head.extend(self.draw::<[u8; 32]>());
        let length = [1200, 64, 1199, 100][self.draw::<usize>() % 4];
        self.add("shapes", json!({ "head": hex(&head), "length": length }));
        // Something that is nearly an Initial.
        head[0] |= 0xc0;
        head[1..6].copy_from_slice(&[0, 0, 0, 1, 16]);
        head[22] = [8, 0, 20, 21][self.draw::<usize>() % 4];
        let token: &[u8] = [&[0x40, 0x42, 0x81][..], &[0x26, 1], &[0], &[0x40, 0x42, 0x7f]][self.draw::<usize>() % 4];
        let field = 23 + usize::from(head[22]);
        head[field..field + token.len()].copy_from_slice(token);
        self.add("shapes", json!({ "head": hex(&head), "length": 1200 }));
        let mut packet = [0; 1200];
        hello(self.draw(), &mut packet);
        self.add("shapes", json!({ "head": hex(&packet[..12]), "length": 1200 }));
    }

    fn frames(&mut self) {
        let (mut ticket, key, expires_s) = ([0x82; 54], self.draw(), self.draw());
        ticket[22..].copy_from_slice(&self.draw::<[u8; 32]>());
        let domain = format!("d{}.example", self.draw::<u32>());
        let frame = match self.draw::<u8>() % 9 {
            0 => Frame::Ident { domain, owner: None, vouches: self.draw::<[[u8; 32]; 3]>().map(Vec::from).into() },
            1 => Frame::Ident { owner: Some(format!("_smtp-client.{domain}")), domain, vouches: Vec::new() },
            2 => Frame::Accept {
                class: PeerClass::ALL[self.draw::<usize>() % 4],
                server_time: self.draw(),
                streams: self.draw(),
                message_bytes: self.draw(),
                hostname: domain,
            },
            3 => Frame::Park { retry_after_s: self.draw() },
            4 => Frame::Ticket { ticket, key, expires_s },
            5 => Frame::IntroGrant { ticket, key, expires_s },
            6 => Frame::IntroAsk { domain },
            7 => Frame::Intro { domain, ticket, key, expires_s },
            _ => Frame::AltDoor { host: domain, port: self.draw::<u16>().max(1) },
        };
        let mut octets = Vec::new();
        frame.encode(&mut octets);
        let bent = self.bent(&hex(&octets));
        self.add("frames", json!({ "octets": hex(&octets), "zeros": 0 }));
        self.add("frames", json!({ "octets": bent, "zeros": 0 }));
    }

    /// The same octets with one of them changed.
    fn bent(&mut self, octets: &str) -> String {
        let at = self.draw::<usize>() % (octets.len() / 2) * 2;
        let octet = u8::from_str_radix(&octets[at..at + 2], 16).expect("hex") ^ self.draw::<u8>().max(1);
        format!("{}{octet:02x}{}", &octets[..at], &octets[at + 2..])
    }
}
