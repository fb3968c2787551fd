use super::*;

fn offers(eight_bit: bool, smtputf8: bool) -> Capabilities {
    Capabilities { eight_bit, smtputf8, ..Capabilities::default() }
}

fn check(known: &Known, table: &RouteTable, eight_bit: bool, smtputf8: bool) {
    assert_eq!(known.over(table), Carries { eight_bit, smtputf8 });
}

#[test]
fn the_doors_offer_what_every_route_carries() {
    let (mut known, hop) = (Known::default(), Route::parse("lmtp:127.0.0.1:24").unwrap());
    let mut table = RouteTable::new(Route::Maildir("mail".into()));
    check(&known, &table, true, true);
    table.domains.insert("a".into(), Route::None);
    check(&known, &table, true, false);
    table.domains.insert("a".into(), hop.clone());
    check(&known, &table, false, false);
    assert_eq!(known.to_ask(&table, 0), [&hop]);
    known.learn(&hop, &offers(true, true), 5);
    check(&known, &table, true, true);
    known.learn(&hop, &offers(true, false), 5);
    check(&known, &table, true, false);
    assert!(!known.lacks_any(&table));
    assert_eq!(known.to_ask(&table, 6), [&hop]);
    table.relay = Some(Route::parse("smtp:127.0.0.1:25").unwrap());
    check(&known, &table, false, false);
}

#[test]
fn a_hop_without_a_route_is_forgotten() {
    let (mut known, hop) = (Known::default(), Route::parse("lmtp:/run/x").unwrap());
    known.learn(&hop, &offers(true, true), 1);
    known.keep_only(&RouteTable::new(Route::None));
    assert!(known.lacks_any(&RouteTable::new(hop)));
}
