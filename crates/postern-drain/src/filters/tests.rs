use std::time::Duration;

use postern_net::filter::Kind;
use postern_proto::envelope::Via;

use super::*;
use crate::testing::meta;

fn table() -> FilterTable {
    let kind = Kind::parse("spamd:127.0.0.1:783").unwrap();
    let filter = Filter { name: "sa".into(), kind, timeout: Duration::from_secs(1) };
    FilterTable::new(vec![FilterOptions { filter, workers: 1, on_spam: OnSpam::Mark }])
}

#[test]
fn strangers_mail_is_judged_once_and_only_where_filters_are() {
    let (table, public) = (table().without(["plain.example".to_owned()]), meta(&["ann@a.example"]));
    let judged = Meta { judged: true, ..public.clone() };
    let via = |via| {
        let mut meta = public.clone();
        meta.arrival.via = via;
        meta
    };
    assert!(table.must_judge(&public, "a.example") && !table.must_judge(&public, "plain.example"));
    assert!(!table.must_judge(&judged, "a.example"));
    assert!(table.must_judge(&via(Via::Postern), "a.example"), "a proven peer may still send spam");
    assert!(!table.must_judge(&via(Via::Relay), "a.example") && !table.must_judge(&via(Via::Local), "a.example"));
    assert!(!FilterTable::default().must_judge(&public, "a.example"), "no filter, no judgement");
}
