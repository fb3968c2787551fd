//! What this build says to the cases of `tests/door-second`, in the same words.

use std::net::IpAddr;

use postern_proto::door::limits::CHALLENGE_BYTES;
use postern_proto::door::{
    Challenge, CookieFault, DoorRecord, Frame, FrameReader, Keyring, Kind, Master, PeerClass, Shape, Share, Terms,
    Ticket, TicketBody, TicketFault, Token, challenge, check_cid, check_cookie, check_ticket, make_cid, mint,
    open_ticket, shape, sip, token_of,
};
use serde_json::{Map, Value, json};

/// The answer to one case; `None` when the case asks for what this build cannot express.
pub(crate) fn says(kind: &str, case: &Value) -> Option<Value> {
    Some(match kind {
        "siphash" => {
            let (key, message) = (fixed(case, "key"), octets(case, "message"));
            json!({ "h64": hex(&sip::sip64(&key, &message).to_le_bytes()), "h128": hex(&sip::sip128(&key, &message)) })
        }
        "shapes" => {
            let mut datagram = octets(case, "head");
            datagram.resize(datagram.len().max(number(case, "length") as usize), 0);
            shape_says(shape(&datagram))
        }
        "gate_keys" => {
            let keys = keys(case);
            let mut told: Vec<_> = keys.gate_keys().collect();
            // In the order of epochs: the ids go round at 256.
            let now = number(case, "keys_at") / 86_400;
            told.sort_by_key(|(id, _)| id.wrapping_sub((now.saturating_sub(34)) as u8));
            json!({ "keys": told.iter().map(|(id, key)| json!([id, hex(key)])).collect::<Vec<_>>() })
        }
        "resets" => json!({ "secret": hex(&Master::new(fixed(case, "master")).reset_secret()) }),
        "tags" => {
            let keys = keys(case);
            let tag = match case["domain"].as_str() {
                Some(domain) => keys.domain_tag(domain),
                None => keys.prefix_tag(address(case, "address")),
            };
            json!({ "tag": tag })
        }
        "shares" => {
            let text = |name: &str| case[name].as_str().expect("a name");
            let share = Share::new(&keys(case), number(case, "weight") as u8, text("suffix"), text("owner"));
            json!({ "share": share_number(share) })
        }
        "challenges" => {
            let terms = Terms {
                server_time: number(case, "server_time") as u32,
                not_before: number(case, "not_before") as u32,
                not_after: number(case, "not_after") as u32,
                level: number(case, "level") as u8,
            };
            let nonce = fixed(case, "nonce");
            let mut out = [0; CHALLENGE_BYTES];
            challenge(&keys(case), address(case, "source"), nonce, &terms, &mut out);
            let read = Challenge::parse(&out, nonce).expect("our own challenge");
            assert_eq!(read.terms, terms);
            json!({ "octets": hex(&out), "token": hex(&read.token()) })
        }
        "cookies" => {
            let now = number(case, "now") as u32;
            match check_cookie(&keys(case), address(case, "source"), &fixed(case, "token"), now) {
                Ok(cookie) => json!({
                    "result": "ok", "nonce": hex(&cookie.nonce),
                    "not_before": cookie.not_before, "not_after": cookie.not_after,
                }),
                Err(CookieFault::UnknownKey) => json!({ "result": "unknown key" }),
                Err(CookieFault::Forged) => json!({ "result": "forged" }),
                Err(CookieFault::Early { not_before }) => json!({ "result": "early", "not_before": not_before }),
                Err(CookieFault::Late) => json!({ "result": "late" }),
            }
        }
        "tickets" => {
            let kind = Kind::from_octet(number(case, "kind") as u8)?;
            let class = PeerClass::from_u8(number(case, "class") as u8)?;
            let body = TicketBody {
                domain_tag: number(case, "domain_tag"),
                prefix_tag: number(case, "prefix_tag"),
                expiry_min: number(case, "expiry") as u32,
                class,
                share: share(number(case, "share")),
            };
            let Ticket { bytes, key } = mint(&keys(case), kind, fixed(case, "nonce"), &body);
            json!({ "octets": hex(&bytes), "key": hex(&key) })
        }
        "tokens" => {
            let (ticket, key, dcid) = (fixed(case, "ticket"), fixed(case, "key"), fixed(case, "dcid"));
            json!({ "octets": hex(&token_of(&ticket, &key, &dcid, number(case, "time") as u32)) })
        }
        "proofs" => {
            let now = number(case, "now") as u32;
            let checked = check_ticket(&keys(case), &fixed(case, "token"), &fixed(case, "dcid"), now);
            json!({ "result": checked.map_or_else(fault, |()| "ok") })
        }
        "opens" => match open_ticket(&keys(case), &fixed(case, "ticket"), number(case, "now") as u32) {
            Ok((kind, body)) => json!({
                "result": "ok", "kind": kind.octet(), "domain_tag": body.domain_tag, "prefix_tag": body.prefix_tag,
                "expiry": body.expiry_min, "class": body.class as u8, "share": share_number(body.share),
            }),
            Err(why) => json!({ "result": fault(why) }),
        },
        "made_cids" => {
            json!({ "cid": hex(&make_cid(&keys(case), number(case, "worker") as u8, fixed(case, "random"))) })
        }
        "cids" => json!({ "ours": check_cid(&keys(case), &fixed(case, "cid")) }),
        "frames" => {
            let mut stream = octets(case, "octets");
            stream.resize(stream.len() + number(case, "zeros") as usize, 0);
            frames_say(&stream)
        }
        "records" => {
            let record = DoorRecord::parse(case["text"].as_str().expect("a text")).ok();
            let record = record.map(|record| {
                json!({
                    "host": record.host, "port": record.port, "mode": record.mode.as_str(),
                    "max_age": record.max_age_s, "keys": record.keys.iter().map(|key| hex(key)).collect::<Vec<_>>(),
                })
            });
            json!({ "record": record })
        }
        other => panic!("no such kind of case: {other}"),
    })
}

/// The case with the answers of this build in it.
pub(crate) fn answered(kind: &str, case: Value) -> Value {
    let said = says(kind, &case).expect("a case that this build can express");
    let mut whole = case.as_object().expect("a case is an object").clone();
    whole.extend(said.as_object().cloned().unwrap_or_default());
    Value::Object(whole)
}

fn shape_says(shape: Shape<'_>) -> Value {
    match shape {
        Shape::Garbage => json!({ "shape": "garbage" }),
        Shape::Hello { nonce } => json!({ "shape": "hello", "nonce": hex(&nonce) }),
        Shape::Established { cid } => json!({ "shape": "established", "cid": hex(cid) }),
        Shape::Initial { dcid, token } => {
            let mut said = Map::from_iter([("shape".into(), "initial".into()), ("dcid".into(), hex(dcid).into())]);
            let (token, octets) = match token {
                Token::None => ("none", None),
                Token::Cookie(cookie) => ("cookie", Some(hex(cookie))),
                Token::Ticket(ticket) => ("ticket", Some(hex(ticket))),
                Token::Other => ("other", None),
            };
            said.insert("token".into(), token.into());
            said.extend(octets.map(|octets| ("octets".into(), octets.into())));
            Value::Object(said)
        }
    }
}

fn frames_say(stream: &[u8]) -> Value {
    let mut reader = FrameReader::new();
    reader.push(stream);
    let mut frames = Vec::new();
    let end = loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push(frame_says(&frame)),
            Ok(None) if reader.is_between_frames() => break "between",
            Ok(None) => break "more",
            Err(_) => break "error",
        }
    };
    json!({ "frames": frames, "end": end })
}

fn frame_says(frame: &Frame) -> Value {
    match frame {
        Frame::Ident { domain, owner, vouches } => {
            let vouches: Vec<_> = vouches.iter().map(|vouch| hex(vouch)).collect();
            json!({ "type": 1, "domain": domain, "owner": owner, "vouches": vouches })
        }
        Frame::Accept { class, server_time, streams, message_bytes, hostname } => json!({
            "type": 2, "class": *class as u8, "server_time": server_time, "streams": streams,
            "message_bytes": message_bytes, "hostname": hostname,
        }),
        Frame::Park { retry_after_s } => json!({ "type": 3, "retry_after": retry_after_s }),
        Frame::Ticket { ticket, key, expires_s } => {
            json!({ "type": 4, "ticket": hex(ticket), "key": hex(key), "expires": expires_s })
        }
        Frame::IntroGrant { ticket, key, expires_s } => {
            json!({ "type": 5, "ticket": hex(ticket), "key": hex(key), "expires": expires_s })
        }
        Frame::IntroAsk { domain } => json!({ "type": 6, "domain": domain }),
        Frame::Intro { domain, ticket, key, expires_s } => {
            json!({ "type": 7, "domain": domain, "ticket": hex(ticket), "key": hex(key), "expires": expires_s })
        }
        Frame::AltDoor { host, port } => json!({ "type": 8, "host": host, "port": port }),
        Frame::Unknown(number) => json!({ "type": number }),
    }
}

fn fault(fault: TicketFault) -> &'static str {
    match fault {
        TicketFault::UnknownKey => "unknown key",
        TicketFault::Stale => "stale",
        TicketFault::Forged => "forged",
        TicketFault::Expired => "expired",
    }
}

fn keys(case: &Value) -> Keyring {
    Keyring::new(&Master::new(fixed(case, "master")), number(case, "keys_at"))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{name} is no number in {case}"))
}

fn address(case: &Value, name: &str) -> IpAddr {
    case[name].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} is no address in {case}"))
}

fn octets(case: &Value, name: &str) -> Vec<u8> {
    let text = case[name].as_str().unwrap_or_else(|| panic!("{name} is missing in {case}"));
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

fn fixed<const N: usize>(case: &Value, name: &str) -> [u8; N] {
    octets(case, name).try_into().unwrap_or_else(|_| panic!("{name} has not {N} octets in {case}"))
}

/// Three octets as the vectors write them: one number.
fn share(number: u64) -> Share {
    let [_, rest @ ..] = (number as u32).to_be_bytes();
    Share::from_be_bytes(rest)
}

fn share_number(share: Share) -> u32 {
    let [a, b, c] = share.to_be_bytes();
    u32::from_be_bytes([0, a, b, c])
}

/// Octets in hex, in lower case.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
