use std::time::Duration;

use clap::Parser;
use postern_flood::Behaviour;
use postern_flood::door::Attack;

use super::{FloodArgs, plan, span};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: FloodArgs,
}

fn parse(flags: &str) -> FloodArgs {
    Line::try_parse_from(flags.split(' ')).map_err(|error| error.to_string()).unwrap().args
}

#[test]
fn the_flags_of_the_manual_make_their_plan() {
    let args = parse(
        "flood --target 127.0.0.1:2525 --hold 18000 --churn 20000 --friends 50 --friend-rate 10 --strangers 2 --retry 60s --rtt 100ms --for 30s --seed 9",
    );
    let plan = plan(&args);
    plan.check().unwrap();
    assert_eq!((plan.seed, plan.offer_ms), (9, 30_000));
    let [hold, churn] = &plan.crowds[..] else { panic!("two crowds") };
    assert_eq!((hold.behaviour, hold.size, hold.rate), (Behaviour::Hold, 18_000, 0));
    assert_eq!((churn.behaviour, churn.size, churn.rate), (Behaviour::Churn, 256, 20_000));
    let [known, new] = &plan.friends[..] else { panic!("two groups") };
    assert_eq!((known.count, known.rate, known.fresh, known.rtt_ms), (50, 10.0, false, 100));
    assert_eq!((new.rate, new.fresh, new.retry_ms), (2.0, true, 60_000));
    assert_ne!(known.from, new.from);
}

#[test]
fn an_ipv6_target_is_reached_from_ipv6() {
    let plan = plan(&parse("flood --target [::1]:2525 --hold 3 --friends 2 --strangers 1"));
    plan.check().unwrap();
}

#[test]
fn a_foreign_target_is_refused() {
    assert!(plan(&parse("flood --target 224.0.0.1:25 --hold 3")).check().is_err());
}

#[test]
fn the_flags_of_a_door_make_their_plan() {
    let args = parse(
        "flood --door 127.0.0.1:2526 --attack hello,ticket --rate 9000 --packets 50 --sources 300 --for 2s --seed 4",
    );
    let plan = super::door::plan(&args, args.door.door.unwrap(), Vec::new());
    plan.check().unwrap();
    assert_eq!(plan.attacks, [Attack::Hello, Attack::Ticket]);
    assert_eq!((plan.rate, plan.packets_max, plan.sources), (Some(9_000), Some(50), 300));
    assert_eq!((plan.duration_ms, plan.seed), (2_000, 4));
}

#[test]
fn a_flood_has_one_target_of_one_kind() {
    for flags in ["flood", "flood --door 127.0.0.1:1 --target 127.0.0.1:1", "flood --target 127.0.0.1:1 --attack hello"]
    {
        assert!(Line::try_parse_from(flags.split(' ')).is_err(), "{flags}");
    }
}

#[test]
fn captured_datagrams_are_read_line_by_line() {
    assert_eq!(super::door::datagrams("4001\n\n c0FF \n").unwrap(), [vec![0x40, 1], vec![0xc0, 0xff]]);
    for text in ["4", "4g", "\u{e9}"] {
        assert!(super::door::datagrams(text).is_err(), "{text}");
    }
}

#[test]
fn times_have_units() {
    for (text, expected) in [
        ("500ms", Some(500)),
        ("30s", Some(30_000)),
        ("30", Some(30_000)),
        ("5m", Some(300_000)),
        ("2h", None),
        ("s", None),
        ("1d", None),
        ("-1s", None),
    ] {
        assert_eq!(span(text).ok(), expected.map(Duration::from_millis), "{text}");
    }
}
