use std::time::Duration;

use clap::Parser;
use postern_flood::Behaviour;

use postern_flood::Plan;
use postern_flood::door::{Attack, Entry};

use super::{FloodArgs, door, span};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: FloodArgs,
}

fn parse(flags: &str) -> FloodArgs {
    Line::try_parse_from(flags.split(' ')).map_err(|error| error.to_string()).unwrap().args
}

fn plan(args: &FloodArgs) -> Plan {
    super::plan(args, args.target.unwrap())
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
fn the_flags_of_a_flood_at_the_door_make_their_plan() {
    let args = parse(
        "flood --door 127.0.0.1:2526 --attack naive,abandon --rate 600000 --sources 10000 --prefixes 10000 --friends 4 --friend-rate 100 --new-links 20 --strangers 1 --domain friend.example --patience 3s --for 5s",
    );
    let plan = door::plan(&args, args.at_door.door.unwrap());
    plan.check().unwrap();
    let [naive, abandon] = &plan.attacks[..] else { panic!("two attacks") };
    assert_eq!((naive.attack, naive.rate, naive.sources), (Attack::Naive, 600_000, 10_000));
    assert_eq!((abandon.attack, abandon.prefixes), (Attack::Abandon, 10_000));
    let friends = plan.friends.unwrap();
    assert_eq!((friends.links, friends.rate, friends.fresh_rate, friends.strangers_rate), (4, 100.0, 20.0, 1.0));
    assert_eq!((friends.domain.as_str(), friends.patience_ms, friends.entry), ("friend.example", 3_000, Entry::Door));
}

#[test]
fn a_flood_has_one_target_and_its_flags_are_of_one_kind() {
    for flags in [
        "flood --hold 3",
        "flood --target 127.0.0.1:2525 --door 127.0.0.1:2526",
        "flood --target 127.0.0.1:2525 --attack naive",
        "flood --door 127.0.0.1:2526 --attack nothing",
    ] {
        assert!(Line::try_parse_from(flags.split(' ')).is_err(), "{flags}");
    }
    let ipv6 = parse("flood --door [::1]:2526 --attack aware --friends 1");
    door::plan(&ipv6, ipv6.at_door.door.unwrap()).check().unwrap();
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
