//! Millions of strangers, several readers, and how long a look takes. The whole size by `POSTERN_CROWD=100000000`
//! (events) and `--release`; the figures are printed with `--nocapture`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test measures time, reads its size from outside and needs threads"
)]

use std::hint::black_box;
use std::net::Ipv6Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;

fn events() -> u64 {
    std::env::var("POSTERN_CROWD").ok().and_then(|text| text.parse().ok()).unwrap_or(400_000)
}

fn stranger(number: u64) -> IpAddr {
    // Two thirds IPv6 /64s spread over 2^16 /48s, one third IPv4.
    if number.is_multiple_of(3) {
        IpAddr::from((0x0a00_0000 + number as u32 % 0x00ff_ffff).to_be_bytes())
    } else {
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(number) << 64 | 1))
    }
}

/// Resident memory of this process, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = std::io::read_to_string(std::fs::File::open("/proc/self/status").ok()?).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

/// Time that this thread spent on a core, so that others on the machine do not count.
fn worked_ns() -> Option<u64> {
    let text = std::io::read_to_string(std::fs::File::open("/proc/thread-self/schedstat").ok()?).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn flood(world: &mut World, events: u64, sources: u64) {
    for n in 0..events {
        let ip = stranger(n.wrapping_mul(0x9e37_79b9) % sources);
        let evidence = match n % 7 {
            0 => Evidence::EarlyTalker { ip },
            1 => Evidence::Abuse { ip },
            2 => Evidence::BadRecipients { ip, n: 3 },
            3 => Evidence::Authorised { ip, domain: format!("d{}.example", n % sources).into(), by: Authority::Spf },
            4 => Evidence::Ham { ip, domain: Some(format!("d{}.example", (n - 1) % sources).into()), n: 1 },
            5 => Evidence::Spam { ip, domain: Some("forged.example".into()), n: 1 },
            _ => Evidence::Connected { ip },
        };
        world.writer.apply(&evidence, world.now_s + n / 5_000);
    }
    world.now_s += events / 5_000;
}

#[test]
fn a_crowd_changes_neither_the_size_of_the_book_nor_the_friends_in_it() {
    let events = events();
    let mut world = World::with(BookOptions::default());
    for friend in 0..500 {
        world.corresponds(&format!("192.0.{}.{}", friend / 250, friend % 250), &format!("ann@friend{friend}.example"));
    }
    let friends = |world: &World| {
        (0..500).filter(|f| world.class(&format!("192.0.{}.{}", f / 250, f % 250)) == Class::Known).count()
    };
    assert_eq!(friends(&world), 500);
    flood(&mut world, events / 10, events / 10);
    let (bytes, resident) = (world.book.stats().table_bytes, resident_kib());
    assert!(bytes <= 16 << 20, "{bytes}");
    let start = Instant::now();
    flood(&mut world, events, events / 10);
    let each = start.elapsed().as_nanos() as u64 / events;
    let stats = world.book.stats();
    println!("{events} events from {} sources, {each} ns each; tables {} KiB; {stats:?}", events / 10, bytes >> 10);
    assert_eq!(stats.table_bytes, bytes);
    assert_eq!(friends(&world), 500);
    if let (Some(before), Some(after)) = (resident, resident_kib()) {
        println!("resident {before} KiB before, {after} KiB after");
        assert!(after < before + 1_024 || events < 10_000_000, "grew from {before} to {after} KiB");
    }
    let strangers = 10_000;
    let fresh =
        (0..strangers).filter(|n| world.class(&format!("172.16.{}.{}", n / 250, n % 250)) == Class::New).count();
    assert_eq!(fresh, strangers, "nobody is accused by a collision");
}

#[test]
fn heavy_abusers_are_remembered_among_many_light_ones() {
    let mut world = World::with(BookOptions { bad_entries: 1 << 10, ..small() });
    for round in 0..50_u64 {
        for bot in 1..=20 {
            world.tell(Evidence::Abuse { ip: ip(&format!("203.0.113.{bot}")) });
        }
        for n in 0..2_000 {
            world.tell(Evidence::BadHelo { ip: stranger(round * 2_000 + n) });
        }
    }
    let held = (1..=20).filter(|bot| world.class(&format!("203.0.113.{bot}")) == Class::Suspect).count();
    assert!(held >= 18, "{held} of 20 in a table of 1,024 after 100,000 others");
}

#[test]
fn readers_beside_the_writer_see_no_torn_class() {
    let mut world = World::with(BookOptions { good_entries: 1 << 10, bad_entries: 1 << 10, ..small() });
    for friend in 1..=60 {
        world.corresponds(&format!("192.0.2.{friend}"), &format!("ann@friend{friend}.example"));
    }
    let held: Vec<IpAddr> = (1..=60)
        .map(|f| ip(&format!("192.0.2.{f}")))
        .filter(|ip| world.book.class_of(*ip, world.now_s) == Class::Known)
        .collect();
    assert!(held.len() >= 50);
    let (book, now_s, stop) = (Arc::clone(&world.book), world.now_s, AtomicBool::new(false));
    let looks = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2_u64)
            .map(|reader| {
                let (book, held, stop) = (&book, &held, &stop);
                scope.spawn(move || {
                    let mut looks = 0_u64;
                    while !stop.load(Ordering::Relaxed) || looks < 10_000 {
                        let friend = held[looks as usize % held.len()];
                        assert_eq!(book.class_of(friend, now_s), Class::Known, "{friend}");
                        // Strangers come and go in the same buckets; none of them is ever anything good.
                        let other = stranger(looks.wrapping_mul(7 + reader) % 50_000);
                        let class = book.class_of(other, now_s);
                        assert!(class >= Class::New, "{other} seems {class}");
                        looks += 1;
                    }
                    looks
                })
            })
            .collect();
        for n in 0..300_000_u64 {
            let (from, domain) = (stranger(n % 50_000), Box::<str>::from(format!("d{}.example", n % 50_000)));
            world.writer.apply(&Evidence::Authorised { ip: from, domain: domain.clone(), by: Authority::Spf }, now_s);
            world.writer.apply(&Evidence::Ham { ip: from, domain: Some(domain), n: 1 }, now_s);
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("a reader")).sum::<u64>()
    });
    assert!(looks >= 20_000);
}

#[test]
#[ignore = "a measurement: run with --release --ignored --nocapture"]
fn how_long_a_look_takes() {
    let mut world = World::with(BookOptions::default());
    world.networks("gmail.com", &["209.85.128.0/17", "64.233.160.0/19", "2a00:1450:4000::/36"]);
    for friend in 0..5_000 {
        world.corresponds(&format!("192.{}.{}.1", friend / 250, friend % 250), &format!("ann@friend{friend}.example"));
    }
    flood(&mut world, 2_000_000, 1_000_000);
    let book = Arc::clone(&world.book);
    let measure = |what: &str, look: &mut dyn FnMut(u64)| {
        let (rounds, wall, worked) = (2_000_000, Instant::now(), worked_ns());
        (0..rounds).for_each(look);
        let worked = worked_ns().zip(worked).map(|(after, before)| (after - before) / rounds);
        println!("{what}: {} ns by the clock, {worked:?} ns of work", wall.elapsed().as_nanos() as u64 / rounds);
    };
    let now_s = world.now_s;
    let class = |ip: IpAddr| {
        black_box(book.class_of(ip, now_s));
    };
    let spread = |n: u64| n.wrapping_mul(0x9e37_79b9) % 1_000_000;
    let four = |n: u64| IpAddr::from((0x0a00_0000 + spread(n) as u32).to_be_bytes());
    let friend = |n: u64| IpAddr::from([192, (n % 5_000 / 250) as u8, (n % 250) as u8, 1]);
    measure("class_of, IPv4 and IPv6 strangers", &mut |n| class(stranger(spread(n))));
    measure("class_of, IPv4 strangers", &mut |n| class(four(n)));
    measure("class_of, friends", &mut |n| class(friend(n)));
    measure("class_of_message, IPv4 strangers", &mut |n| {
        black_box(book.class_of_message(four(n), Some("someone@d7.example"), false, now_s));
    });
    let (sender, mut receiver) = crate::evidence::channel(1 << 16);
    let mut kept = Vec::with_capacity(1 << 16);
    measure("send and drain", &mut |n| {
        sender.send(Evidence::EarlyTalker { ip: four(n) });
        if n % 10_000 == 0 {
            kept.clear();
            receiver.drain(&mut kept, 1 << 16);
        }
    });
    let start = Instant::now();
    let bytes = world.book.snapshot();
    println!("snapshot of {} KiB in {} ms", bytes.len() >> 10, start.elapsed().as_millis());
    let start = Instant::now();
    drop(black_box(Book::restore(BookOptions::default(), &bytes).expect("sound")));
    println!("restored in {} ms", start.elapsed().as_millis());
}
