//! Crowds of strangers, played in a clock of their own: who waits how long.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use postern_proto::door::Challenge;

use super::super::GateOptions;
use super::{Site, v4};

/// Somebody who wants in, as often and as early as it is of use.
#[derive(Clone, Copy)]
struct Caller {
    source: SocketAddr,
    /// A bot comes again as soon as it was let in.
    bot: bool,
    since_ms: u64,
    cookie: Option<Challenge>,
}

/// Plays callers, each from its beginning on, for so many seconds. How long each of the honest waited; those still
/// outside at the end count with the time that they have waited so far.
fn play(site: &mut Site, callers: &mut [Caller], seconds: u64) -> Vec<u64> {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    let mut calls: BinaryHeap<_> =
        callers.iter().enumerate().map(|(i, caller)| Reverse((caller.since_ms, i))).collect();
    let mut waits = Vec::new();
    let mut ticked = site.ms;
    let end = site.ms + seconds * 1_000;
    while let Some(Reverse((at, i))) = calls.pop().filter(|Reverse((at, _))| *at < end) {
        while ticked + 1_000 <= at {
            ticked += 1_000;
            site.ms = ticked;
            site.tick(0.1);
        }
        site.ms = at;
        let caller = &mut callers[i];
        let cookie = match caller.cookie.take() {
            Some(cookie) if cookie.terms.not_after >= site.now().unix_s => Some(cookie),
            _ => site.hello(caller.source),
        };
        // What is not answered is asked again.
        let Some(cookie) = cookie else {
            calls.push(Reverse((at + 1_000, i)));
            continue;
        };
        let wait_s = cookie.terms.not_before.saturating_sub(site.now().unix_s);
        if wait_s > 0 {
            caller.cookie = Some(cookie);
            calls.push(Reverse((at + u64::from(wait_s) * 1_000, i)));
            continue;
        }
        match site.come(caller.source, &cookie) {
            Ok(()) if caller.bot => calls.push(Reverse((at + 1, i))),
            Ok(()) => {
                waits.push(at - caller.since_ms);
                caller.since_ms = u64::MAX;
            }
            Err(wait_s) => {
                let nonce = *cookie.token()[2..].first_chunk().expect("a nonce");
                caller.cookie = Challenge::parse(&site.answer, nonce);
                calls.push(Reverse((at + u64::from(wait_s.min(3_000)) * 1_000, i)));
            }
        }
    }
    site.ms = end;
    waits.extend(
        callers.iter().filter(|caller| !caller.bot && caller.since_ms < end).map(|caller| end - caller.since_ms),
    );
    waits.sort_unstable();
    waits
}

/// Of this many networks spread over the whole address space, all within ten seconds.
fn botnet(networks: u32) -> Vec<Caller> {
    let bot = |n: u32| Caller {
        source: v4(n.wrapping_mul(429_497)),
        bot: true,
        since_ms: u64::from(n.wrapping_mul(2_654_435_761) % 10_000),
        cookie: None,
    };
    (0..networks).map(bot).collect()
}

fn honest(source: SocketAddr, since_ms: u64) -> Caller {
    Caller { source, bot: false, since_ms, cookie: None }
}

#[test]
fn ten_thousand_attacking_networks_delay_a_fresh_one_by_no_more_than_their_fair_turn() {
    let mut site = Site::new(GateOptions::default());
    let fair_ms = u64::from(10_001_u32 / 50) * 1_000;
    let mut callers = botnet(10_000);
    // One honest stranger every five seconds, each from a network of its own.
    callers.extend((0..240).map(|n| honest(v4(0x0c00_abcd + n * 0x0101_0100), u64::from(n) * 5_000)));
    let waits = play(&mut site, &mut callers, 1_300);
    let (median, worst) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    let served = site.gate.stats().admitted_cookie;
    println!("{} honest: median {median} ms, worst {worst} ms (fair {fair_ms}), {served} served", waits.len());
    assert!(served > 1_300 * 50 * 7 / 10, "{served}: what can be served is served");
    assert!(worst <= fair_ms * 3 / 2, "worst {worst}");
    assert!(median <= 5_000, "median {median}");
}

/// How long honest strangers of one /16 wait, of which this many other /24s are of the botnet.
fn inside_a_slash_16(bots: u32) -> Vec<u64> {
    let mut site = Site::new(GateOptions::default());
    let mut callers = botnet(10_000);
    callers.extend((1..=bots).map(|n| Caller {
        source: v4(0x5000_0000 + n * 256 + 1),
        bot: true,
        since_ms: u64::from(n) * 30,
        cookie: None,
    }));
    callers.extend((0..8).map(|n| honest(v4(0x5000_0010 + n), 60_000 + u64::from(n) * 300_000)));
    let waits = play(&mut site, &mut callers, 3_600);
    println!("{bots} /24s of this /16 attack: {:?} s", waits.iter().map(|ms| ms / 1_000).collect::<Vec<_>>());
    waits
}

#[test]
fn inside_an_attacked_slash_16_an_honest_stranger_waits_for_one_turn_of_each_attacker() {
    // A turn of a /16 is 10,000 / 50 * 1.25 / 16 s: 15.6.
    for (bots, turns) in [(15, 16), (100, 101)] {
        let waits = inside_a_slash_16(bots);
        assert_eq!(waits.len(), 8);
        // And then, like everybody, for a place among all: 200 s at most.
        assert!(waits[7] <= turns * 15_625 + 200_000, "{bots}: {waits:?}");
    }
}

#[test]
fn all_networks_of_one_slash_32_delay_a_stranger_elsewhere_by_seconds() {
    let mut site = Site::new(GateOptions::default());
    let bot = |n: u32| {
        let bits = 0x2001_0db8_u128 << 96 | u128::from(n % 65_536) << 80 | 1;
        SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), 9)
    };
    let mut callers: Vec<Caller> =
        (0..65_536).map(|n| Caller { source: bot(n), bot: true, since_ms: u64::from(n) / 4, cookie: None }).collect();
    let fresh = |n: u16| SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2a00, n, 1, 0, 0, 0, 0, 1)), 9);
    callers.extend((0..20).map(|n| honest(fresh(n), 30_000 + u64::from(n) * 4_000)));
    let waits = play(&mut site, &mut callers, 120);
    let served = site.gate.stats().admitted_cookie;
    println!("65,536 networks of one /32: honest strangers waited {waits:?} ms; {served} served");
    assert!(served > 120 * 4, "{served}: their /32 has its turns");
    // Twice what one attacking network would cost: a turn.
    assert!(waits[19] <= 10_000 && waits[10] <= 3_000, "{waits:?}");
}
