use proptest::prelude::*;

use super::*;

/// Pieces of records, right and wrong; the rest is noise.
fn record_text() -> impl Strategy<Value = String> {
    let term = prop_oneof![
        Just("a".to_owned()),
        Just("mx/24//64".to_owned()),
        Just("ptr".to_owned()),
        Just("-all".to_owned()),
        Just("ip4:192.0.2.0/33".to_owned()),
        Just("ip6:::/0".to_owned()),
        Just("exp=%{i}.example".to_owned()),
        "(include|exists|redirect=|a|mx|ptr):?(%\\{[slodipvhcrt][0-9]{0,3}r?[-.+,/_=]{0,3}\\}|[a-z.%_-]{0,9}){0,4}",
        "[+?~-]?[a-z0-9:=/%{}.]{0,20}",
        "\\PC{0,8}",
    ];
    prop::collection::vec(term, 0..12).prop_map(|terms| format!("v=spf1 {}", terms.join(" ")))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever strangers publish: every run ends, asks for one name more, and nothing panics.
    #[test]
    fn no_record_of_a_stranger_stops_the_evaluation(
        texts in prop::collection::vec(record_text(), 1..5),
        local in "\\PC{0,12}",
        six in any::<bool>(),
        found in any::<u16>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let evaluator = Evaluator::new("mx.example.com").expect("an evaluator");
        let ip: IpAddr = if six { "2001:db8::7" } else { "192.0.2.7" }.parse().expect("an address");
        let sender = format!("{local}@sender.example");
        let who = Who { helo: "helo.example", sender: Some(&sender) };
        let sheet = Sheet::default();
        for step in 0..limits::SPF_LOOKUPS_MAX {
            let Err(missed) = runtime.block_on(evaluator.evaluate(&sheet, ip, who)) else { return Ok(()) };
            prop_assert!(!sheet.known.borrow().contains_key(&missed), "{missed:?} is on the sheet");
            let there = step == 0 || found >> (step % 16) & 1 == 1;
            let records = match missed.kind {
                Kind::Txt => Records::Texts(vec![texts[step % texts.len()].as_bytes().into()]),
                Kind::A => Records::V4(vec![Ipv4Addr::new(203, 0, 113, 1)]),
                Kind::Aaaa => Records::V6(vec![Ipv6Addr::LOCALHOST]),
                Kind::Mx | Kind::Ptr => Records::Hosts(vec!["mx.sender.example".into(), "".into()]),
            };
            let answer = if there { Answer::Found(Rc::new(records)) } else { Answer::Void };
            sheet.known.borrow_mut().insert(missed, answer);
        }
    }
}

#[test]
fn a_name_is_read_from_what_it_hashes() {
    for name in ["mx.example.org.", "", "bücher.example."] {
        assert_eq!(name_of(name), name);
    }
}
