//! What holds for every datagram, token, ticket and frame of the postern, drawn at random.

use std::net::IpAddr;

use postern_proto::door::limits::{APPOINTMENT_S_MAX, CHALLENGE_BYTES, COOKIE_WINDOW_S, PROOF_SKEW_S};
use postern_proto::door::{
    Challenge, CookieFault, DoorRecord, Frame, FrameReader, Keyring, Kind, Master, PeerClass, Shape, Share, Terms,
    Ticket, TicketBody, TicketFault, Token, challenge, check_cid, check_cookie, check_ticket, hello, make_cid, mint,
    open_ticket, shape, token_of,
};
use proptest::prelude::*;

const DAY: u64 = 86_400;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_datagram_is_classified_without_a_panic(
        mut datagram in prop::collection::vec(any::<u8>(), 0..80),
        length in prop::sample::select(vec![0, 36, 37, 43, 44, 1199, 1200, 1500]),
        head in prop::sample::select(vec![&[][..], &[0x11, 1], &[0x40], &[0xc0, 0, 0, 0, 1, 16], &[0xe0, 0, 0, 0, 1, 16]]),
        now in any::<u32>(),
        source in any::<IpAddr>(),
    ) {
        datagram.splice(..head.len().min(datagram.len()), head.iter().copied());
        if length > 0 {
            datagram.resize(length, 0);
        }
        let keys = Keyring::new(&Master::new([1; 32]), now.into());
        match shape(&datagram) {
            Shape::Garbage => {}
            Shape::Hello { nonce } => prop_assert_eq!(&nonce, &datagram[4..12]),
            Shape::Established { cid } => prop_assert!(!check_cid(&keys, cid)),
            Shape::Initial { dcid, token } => {
                prop_assert!(datagram.len() >= 1200 && !check_cid(&keys, dcid));
                match token {
                    Token::Cookie(cookie) => prop_assert!(check_cookie(&keys, source, cookie, now).is_err()),
                    Token::Ticket(ticket) => {
                        prop_assert!(check_ticket(&keys, ticket, dcid, now).is_err());
                        prop_assert!(open_ticket(&keys, ticket.first_chunk().expect("54 of 66"), now).is_err());
                    }
                    Token::None | Token::Other => {}
                }
            }
        }
    }

    #[test]
    fn what_a_client_sends_is_classified_as_what_it_is(
        nonce in any::<[u8; 8]>(), dcid in any::<[u8; 16]>(), source_id in prop::collection::vec(any::<u8>(), 0..=20),
        ticket in made_ticket(), now in any::<u32>(), length in 1200usize..1500,
    ) {
        let mut packet = vec![0xaa; length];
        hello(nonce, &mut packet);
        prop_assert_eq!(shape(&packet), Shape::Hello { nonce });
        let token = token_of(&ticket.0.bytes, &ticket.0.key, &dcid, now);
        let packet = initial(&dcid, &source_id, &[&[0x40, 0x42][..], &token].concat(), length);
        prop_assert_eq!(shape(&packet), Shape::Initial { dcid: &dcid, token: Token::Ticket(&token) });
        let cookie = cookie_token(&Keyring::new(&Master::new([1; 32]), 0), "::1".parse().expect("::1"), nonce, 0, 0);
        let packet = initial(&dcid, &source_id, &[&[0x26][..], &cookie].concat(), length);
        prop_assert_eq!(shape(&packet), Shape::Initial { dcid: &dcid, token: Token::Cookie(&cookie) });
    }

    #[test]
    fn any_cookie_is_good_in_its_window_only_and_from_its_address_only(
        master in any::<[u8; 32]>(), source in any::<IpAddr>(), other in any::<IpAddr>(), nonce in any::<[u8; 8]>(),
        now in 0..u32::MAX / 2, wait in 0..=APPOINTMENT_S_MAX, at in 0..3000u32,
    ) {
        let mut keys = Keyring::new(&Master::new(master), now.into());
        let token = cookie_token(&keys, source, nonce, now, wait);
        let then = now + at;
        keys.roll(then.into());
        let said = check_cookie(&keys, source, &token, then);
        if at < wait {
            prop_assert_eq!(said, Err(CookieFault::Early { not_before: now + wait }));
        } else if at <= wait + COOKIE_WINDOW_S {
            prop_assert_eq!(said.map(|cookie| cookie.nonce), Ok(nonce));
        } else {
            prop_assert!(matches!(said, Err(CookieFault::Late | CookieFault::UnknownKey)));
        }
        let same = source.to_canonical() == other.to_canonical();
        prop_assert!(same || check_cookie(&keys, other, &token, then).is_err());
    }

    #[test]
    fn a_cookie_with_any_bit_flipped_is_refused(nonce in any::<[u8; 8]>(), source in any::<IpAddr>(), bit in 0usize..38 * 8) {
        let keys = Keyring::new(&Master::new([1; 32]), 1_790_000_000);
        let mut token = cookie_token(&keys, source, nonce, 1_790_000_000, 0);
        prop_assert!(check_cookie(&keys, source, &token, 1_790_000_000).is_ok());
        token[bit / 8] ^= 1 << (bit % 8);
        let said = check_cookie(&keys, source, &token, 1_790_000_000);
        prop_assert!(matches!(said, Err(CookieFault::Forged | CookieFault::UnknownKey)), "{said:?}");
    }

    #[test]
    fn any_ticket_passes_and_opens_for_its_connection_id_and_time_only(
        (ticket, kind, body, master, made) in made_ticket(),
        dcid in any::<[u8; 16]>(), other in any::<[u8; 16]>(),
        days in 0u64..40, skew in -700i64..700,
    ) {
        let now = made + days * DAY;
        let keys = Keyring::new(&Master::new(master), now);
        let time = u32::try_from(now as i64 + skew).expect("this side of 2106");
        let token = token_of(&ticket.bytes, &ticket.key, &dcid, time);
        let wanted = if days >= 35 {
            Err(TicketFault::UnknownKey)
        } else if skew.unsigned_abs() > PROOF_SKEW_S.into() {
            Err(TicketFault::Stale)
        } else {
            Ok(())
        };
        prop_assert_eq!(check_ticket(&keys, &token, &dcid, now as u32), wanted);
        prop_assert!(dcid == other || check_ticket(&keys, &token, &other, now as u32).is_err());
        let wanted = if days >= 35 {
            Err(TicketFault::UnknownKey)
        } else if now / 60 > body.expiry_min.into() {
            Err(TicketFault::Expired)
        } else {
            Ok((kind, body))
        };
        prop_assert_eq!(open_ticket(&keys, &ticket.bytes, now as u32), wanted);
    }

    #[test]
    fn a_ticket_with_any_bit_flipped_is_refused(
        (ticket, _, _, master, made) in made_ticket(), dcid in any::<[u8; 16]>(), bit in 0usize..66 * 8,
    ) {
        let keys = Keyring::new(&Master::new(master), made);
        let mut token = token_of(&ticket.bytes, &ticket.key, &dcid, made as u32);
        prop_assert_eq!(check_ticket(&keys, &token, &dcid, made as u32), Ok(()));
        token[bit / 8] ^= 1 << (bit % 8);
        let (checked, ticket) =
            (check_ticket(&keys, &token, &dcid, made as u32), *token.first_chunk().expect("54 of 66"));
        let opened = open_ticket(&keys, &ticket, made as u32);
        match bit / 8 {
            // Not under the proof: two hashes are not to read it. Opening finds it.
            14..54 => prop_assert!(checked.is_ok() && opened == Err(TicketFault::Forged)),
            0..14 => prop_assert!(checked.is_err() && opened.is_err()),
            _ => prop_assert!(checked.is_err()),
        }
    }

    #[test]
    fn what_was_issued_before_a_restart_is_good_after_it(
        master in any::<[u8; 32]>(), now in 40 * DAY..4_000_000_000, gone in 0u64..50 * DAY, worker in any::<u8>(),
        random in any::<[u8; 6]>(), nonce in any::<[u8; 12]>(),
    ) {
        let before = Keyring::new(&Master::new(master), now);
        let cid = make_cid(&before, worker, random);
        let ticket = mint(&before, Kind::Known, nonce, &BODY);
        let source = "192.0.2.1".parse().expect("an address");
        let cookie = cookie_token(&before, source, [1; 8], now as u32, 0);
        // Cookies do not care for a second's work: the window is checked elsewhere.
        let after = Keyring::new(&Master::new(master), now + gone);
        let token = token_of(&ticket.bytes, &ticket.key, &[9; 16], (now + gone) as u32);
        let passes = |unit: u64, epochs: u64| (now + gone) / unit - now / unit < epochs;
        prop_assert_eq!(check_cid(&after, &cid), passes(3600, 5));
        prop_assert_eq!(check_ticket(&after, &token, &[9; 16], (now + gone) as u32).is_ok(), passes(DAY, 35));
        prop_assert_eq!(open_ticket(&after, &ticket.bytes, now as u32).is_ok(), passes(DAY, 35));
        prop_assert_eq!(check_cookie(&after, source, &cookie, now as u32).is_ok(), passes(900, 4));
    }

    #[test]
    fn any_frame_reads_back_in_any_pieces(frames in prop::collection::vec(frame(), 1..6), size in 1usize..600) {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut stream));
        let mut reader = FrameReader::new();
        let mut read = Vec::new();
        for piece in stream.chunks(size) {
            reader.push(piece);
            while let Some(frame) = reader.next().expect("our own frames") {
                read.push(frame);
            }
        }
        prop_assert_eq!(read, frames);
        prop_assert!(reader.is_between_frames());
    }

    #[test]
    fn what_is_written_of_a_frame_is_what_another_reader_of_cbor_sees(frame in frame()) {
        let mut octets = Vec::new();
        frame.encode(&mut octets);
        prop_assert_eq!(usize::from(u16::from_be_bytes([octets[0], octets[1]])), octets.len() - 2);
        let value: cbor4ii::core::Value = cbor4ii::serde::from_slice(&octets[2..]).expect("CBOR");
        let cbor4ii::core::Value::Array(items) = &value else { panic!("{value:?}") };
        prop_assert!(matches!(&items[..], [cbor4ii::core::Value::Integer(_), cbor4ii::core::Value::Map(_)]));
        // And what that one would write is the same: the shortest form.
        prop_assert_eq!(cbor4ii::serde::to_vec(Vec::new(), &value).expect("room"), &octets[2..]);
    }

    #[test]
    fn any_stream_of_octets_is_read_without_a_panic_and_what_is_read_is_written_the_same(
        octets in prop::collection::vec(any::<u8>(), 0..200), frame in frame(), at in any::<prop::sample::Index>(),
    ) {
        let mut bent = Vec::new();
        frame.encode(&mut bent);
        let at = at.index(bent.len());
        bent[at] ^= octets.first().copied().unwrap_or(1);
        for stream in [&octets, &bent] {
            let mut reader = FrameReader::new();
            reader.push(stream);
            while let Ok(Some(frame)) = reader.next() {
                let mut again = Vec::new();
                frame.encode(&mut again);
                prop_assert_eq!(Frame::decode(&again[2..]), Ok(frame));
            }
        }
    }

    #[test]
    fn any_text_is_parsed_as_a_record_without_a_panic_and_what_is_one_prints_as_it_is_read(
        tail in "(; ?(host|port|key|mode|max_age|x)=[a-z0-9.=+/ ]{0,20}){0,5};?", noise in "\\PC{0,40}",
    ) {
        let key = "key=MCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for text in [format!("v=postern1; {key}{tail}"), format!("v=postern1; {noise}"), noise] {
            if let Ok(record) = DoorRecord::parse(&text) {
                prop_assert_eq!(DoorRecord::parse(&record.to_string()), Ok(record));
            }
        }
    }
}

const BODY: TicketBody = TicketBody {
    domain_tag: 1,
    prefix_tag: 2,
    expiry_min: u32::MAX,
    class: PeerClass::Known,
    share: Share::from_be_bytes([3, 0, 4]),
};

/// A ticket, with what it was made from: kind, body, master, time.
fn made_ticket() -> impl Strategy<Value = (Ticket, Kind, TicketBody, [u8; 32], u64)> {
    let kind = prop::sample::select(vec![Kind::Known, Kind::Introduction, Kind::Proven]);
    let class = prop::sample::select(PeerClass::ALL.to_vec());
    let body = (any::<u64>(), any::<u64>(), 0u32..43_200, class, any::<[u8; 3]>());
    (any::<[u8; 32]>(), 40 * DAY..4_000_000_000, any::<[u8; 12]>(), kind, body).prop_map(
        |(master, now, nonce, kind, (domain_tag, prefix_tag, life, class, share))| {
            let expiry_min = (now / 60) as u32 + life;
            let share = Share::from_be_bytes(share);
            let body = TicketBody { domain_tag, prefix_tag, expiry_min, class, share };
            (mint(&Keyring::new(&Master::new(master), now), kind, nonce, &body), kind, body, master, now)
        },
    )
}

fn cookie_token(keys: &Keyring, source: IpAddr, nonce: [u8; 8], now: u32, wait: u32) -> [u8; 38] {
    let not_before = now + wait;
    let terms = Terms { server_time: now, not_before, not_after: not_before + COOKIE_WINDOW_S, level: 1 };
    let mut out = [0; CHALLENGE_BYTES];
    challenge(keys, source, nonce, &terms, &mut out);
    Challenge::parse(&out, nonce).expect("our own challenge").token()
}

fn initial(dcid: &[u8; 16], source_id: &[u8], field: &[u8], length: usize) -> Vec<u8> {
    let mut packet = [&[0xc1, 0, 0, 0, 1, 16][..], dcid, &[source_id.len() as u8], source_id, field].concat();
    packet.resize(length, 0);
    packet
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9])?(\\.[a-z0-9_]([a-z0-9_-]{0,20}[a-z0-9])?){0,3}"
}

fn frame() -> impl Strategy<Value = Frame> {
    let grant = || {
        (prop::collection::vec(any::<u8>(), 54), any::<[u8; 16]>(), any::<u64>())
            .prop_map(|(ticket, key, expires_s)| (ticket.try_into().expect("54 octets"), key, expires_s))
    };
    let vouches = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=1024), 0..=8);
    let class = prop::sample::select(PeerClass::ALL.to_vec());
    prop_oneof![
        (name(), prop::option::of(name()), vouches).prop_map(|(domain, owner, vouches)| Frame::Ident {
            domain,
            owner,
            vouches
        }),
        (class, any::<u64>(), any::<u32>(), any::<u64>(), name()).prop_map(
            |(class, server_time, streams, message_bytes, hostname)| Frame::Accept {
                class,
                server_time,
                streams,
                message_bytes,
                hostname
            }
        ),
        any::<u32>().prop_map(|retry_after_s| Frame::Park { retry_after_s }),
        grant().prop_map(|(ticket, key, expires_s)| Frame::Ticket { ticket, key, expires_s }),
        grant().prop_map(|(ticket, key, expires_s)| Frame::IntroGrant { ticket, key, expires_s }),
        name().prop_map(|domain| Frame::IntroAsk { domain }),
        (name(), grant()).prop_map(|(domain, (ticket, key, expires_s))| Frame::Intro {
            domain,
            ticket,
            key,
            expires_s
        }),
        (name(), 1..=u16::MAX).prop_map(|(host, port)| Frame::AltDoor { host, port }),
        (9..u64::MAX).prop_map(Frame::Unknown),
    ]
}
