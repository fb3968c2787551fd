use std::time::Duration;

use postern_net::filter::{Filter, Kind};

use super::*;
use crate::filters::OnSpam;

fn table(workers: &[usize]) -> Arc<FilterTable> {
    let filter = |(i, workers): (usize, &usize)| FilterOptions {
        filter: Filter {
            name: format!("f{i}"),
            kind: Kind::parse("rspamd:127.0.0.1:1").unwrap(),
            timeout: Duration::from_secs(1),
        },
        workers: *workers,
        on_spam: OnSpam::Mark,
    };
    Arc::new(FilterTable::new(workers.iter().enumerate().map(filter).collect()))
}

fn gates(workers: &[usize]) -> Gates {
    let mut gates = Gates::default();
    assert!(gates.set_table(&table(workers), &DrainOptions::default()));
    gates
}

#[test]
fn a_message_takes_a_place_at_every_filter_or_at_none() {
    let mut gates = gates(&[3, 2]);
    assert_eq!(gates.free_at(0), 2);
    assert!(gates.try_start_at(0) && gates.try_start_at(0) && !gates.try_start_at(0));
    assert_eq!((gates.state_at("f0", 0), gates.state_at("f1", 0)), ((None, 2), (None, 2)));
    gates.give_back_at("f0", Sign::Answered, 0, 1, 0);
    assert!(!gates.try_start_at(1), "the other one's places are taken");
    gates.give_back_at("f1", Sign::Answered, 0, 1, 0);
    assert!(gates.try_start_at(1));
}

#[test]
fn a_filter_that_is_away_stops_all_and_one_message_finds_out_whether_it_is_back() {
    let mut gates = gates(&[3, 3]);
    assert!(gates.try_start_at(0));
    gates.give_back_at("f0", Sign::Nothing, 0, 5, 0);
    gates.give_back_at("f1", Sign::Away, 0, 5, 0);
    let wait = gates.keeps_waiting_at(5).unwrap();
    assert!((800..=1200).contains(&wait) && gates.free_at(5) == 0, "{wait}");
    let later = 5 + wait;
    assert_eq!((gates.keeps_waiting_at(later), gates.free_at(later)), (None, 1));
    assert!(gates.try_start_at(later) && gates.keeps_waiting_at(later).is_some(), "nobody waits for the probe");
    gates.give_back_at("f0", Sign::Answered, later, later + 1, 0);
    gates.give_back_at("f1", Sign::Answered, later, later + 1, 0);
    assert_eq!(gates.free_at(later + 1), 3);
}

#[test]
fn nothing_is_shut_for_certain_while_an_answer_is_awaited_that_may_open_it() {
    let mut gates = gates(&[3]);
    assert_eq!(gates.shut_for_at(0), 0);
    assert!(gates.try_start_at(0) && gates.try_start_at(0));
    gates.give_back_at("f0", Sign::Away, 0, 5, 0);
    assert!(gates.keeps_waiting_at(5).is_some());
    assert_eq!(gates.shut_for_at(5), 0, "the other one may still be judged");
    gates.give_back_at("f0", Sign::Away, 0, 6, 0);
    let shut = gates.shut_for_at(6);
    assert!(shut > 0 && Some(shut) == gates.keeps_waiting_at(6));
    let later = 6 + shut;
    assert!(gates.try_start_at(later));
    assert!(gates.keeps_waiting_at(later).is_some());
    assert_eq!(gates.shut_for_at(later), 0, "one finds out");
}

#[test]
fn silence_over_one_message_counts_only_when_no_other_was_judged_meanwhile() {
    let mut gates = gates(&[3]);
    assert!(gates.try_start_at(0) && gates.try_start_at(10));
    gates.give_back_at("f0", Sign::Answered, 10, 20, 0);
    gates.give_back_at("f0", Sign::Silent, 0, 1000, 0);
    assert_eq!(gates.free_at(1000), 3, "the other one was judged while this one was not");
    assert!(gates.try_start_at(1000));
    gates.give_back_at("f0", Sign::Silent, 1000, 2000, 0);
    assert_eq!(gates.free_at(2000), 0);
}

#[test]
fn another_table_keeps_the_gates_of_filters_that_stay() {
    let mut gates = gates(&[3, 2]);
    assert!(gates.try_start_at(0));
    gates.give_back_at("f0", Sign::Away, 0, 5, 0);
    let same = gates.table.clone();
    assert!(!gates.set_table(&same, &DrainOptions::default()));
    assert!(gates.set_table(&table(&[3, 9]), &DrainOptions::default()));
    assert!(gates.state_at("f0", 5).0.is_some(), "still away");
    assert_eq!(gates.state_at("f1", 5), (None, 0), "as new");
    gates.give_back_at("f1", Sign::Answered, 0, 6, 0);
    assert!(gates.set_table(&table(&[]), &DrainOptions::default()));
    assert_eq!((gates.free_at(6), gates.keeps_waiting_at(6)), (usize::MAX, None));
}
