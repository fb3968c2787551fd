//! The task without its clock: what it gives the kernel, and what it says.

use postern_trust::{BookOptions, Pins};

use super::*;

fn pin(book: &Book, networks: &str) {
    let networks = networks.split_whitespace().map(|network| network.parse().expect("a network")).collect();
    book.set_pins(Pins { networks, ..Pins::default() });
}

#[test]
fn what_the_book_knows_is_steered_at_once_and_replaced_only_when_it_changes() {
    let book = Book::new(BookOptions::default(), [7; 16]);
    pin(&book, "127.9.0.0/16 2001:db8::/32");
    let mut groups = [Group::open("127.0.0.1:0".parse().expect("an address"), 2, true).expect("listeners")];
    let (mut task, handle) = SteeringTask::new(&mut groups, book.clone());
    let networks = |expected: u64| {
        let shown = handle.show();
        assert_eq!((&shown[0]["active"], &shown[0]["networks"]), (&Value::Bool(true), &expected.into()), "{shown}");
        shown[0]["replaced_unix_ms"].clone()
    };
    let first = networks(2);
    assert!(first.is_u64());
    task.refresh();
    assert_eq!(networks(2), first);
    pin(&book, "127.9.0.0/16");
    task.refresh();
    networks(1);
    pin(&book, "");
    task.refresh();
    networks(0);
}

#[test]
fn plain_listeners_are_shown_with_the_reason() {
    let mut groups = [Group::open("127.0.0.1:0".parse().expect("an address"), 1, false).expect("listeners")];
    let (_task, handle) = SteeringTask::new(&mut groups, Book::new(BookOptions::default(), [7; 16]));
    let shown = handle.show();
    assert_eq!((&shown[0]["active"], &shown[0]["networks"]), (&Value::Bool(false), &0.into()), "{shown}");
    assert_eq!(shown[0]["why"], "auto.steering is off");
}
