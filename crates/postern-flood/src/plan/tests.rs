use super::{Behaviour, Crowd, FloodError, Friends, Plan};

fn plan() -> Plan {
    Plan::new("127.0.0.1:2525".parse().unwrap())
}

#[test]
fn a_plain_plan_may_run() {
    let mut plan = plan();
    plan.crowds = Behaviour::ALL.map(|behaviour| Crowd::new(behaviour, 10)).into();
    plan.friends.push(Friends::new("known", 50, 10.0));
    plan.check().unwrap();
}

#[test]
fn each_number_beyond_its_limit_is_refused() {
    type Change = fn(&mut Plan);
    let wrong: [(&str, Change); 8] = [
        ("for ever", |plan| plan.offer_ms = u64::MAX),
        ("a million bots", |plan| plan.crowds.push(Crowd::new(Behaviour::Hold, 1_000_000))),
        ("a long way", |plan| plan.crowds.push(Crowd { rtt_ms: 251, ..Crowd::new(Behaviour::Hold, 1) })),
        ("from outside", |plan| {
            plan.crowds.push(Crowd { from: "10.0.0.0/8".parse().unwrap(), ..Crowd::new(Behaviour::Hold, 1) });
        }),
        ("the other family", |plan| {
            plan.crowds.push(Crowd { from: "::1/128".parse().unwrap(), ..Crowd::new(Behaviour::Hold, 1) });
        }),
        ("a line break", |plan| {
            plan.crowds.push(Crowd { recipient: "a@b\r\nQUIT".into(), ..Crowd::new(Behaviour::Hold, 1) });
        }),
        ("no patience", |plan| plan.friends.push(Friends { patience_ms: 0, ..Friends::new("x", 1, 1.0) })),
        ("no rate", |plan| plan.friends.push(Friends::new("x", 1, f64::NAN))),
    ];
    for (name, change) in wrong {
        let mut plan = plan();
        change(&mut plan);
        assert!(matches!(plan.check(), Err(FloodError::Plan(_))), "{name}");
    }
}

#[test]
fn behaviours_keep_their_names() {
    for behaviour in Behaviour::ALL {
        assert_eq!(behaviour.as_str().parse(), Ok(behaviour));
        assert_eq!(serde_json::to_string(&behaviour).unwrap(), format!("\"{behaviour}\""));
    }
}
