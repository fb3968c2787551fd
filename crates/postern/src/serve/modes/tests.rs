//! Which mode is in force after which commands.

use super::*;

fn configured() -> Configured {
    Configured {
        all: Some(Mode::Through),
        domains: [("c.example".to_owned(), Some(Mode::Collect))].into(),
        kept: Default::default(),
    }
}

/// After these commands, `expected` holds for a.example and c.example.
fn check(commands: &[(Option<&str>, Option<Mode>)], expected: (Mode, Mode)) {
    let mut state = Commands::default();
    for (domain, mode) in commands {
        apply(&mut state, domain.map(str::to_owned), *mode).expect("few domains");
    }
    let modes = effective(&state, &configured(), &Forecast::default());
    assert_eq!((modes.of("a.example"), modes.of("c.example")), expected, "{commands:?}");
}

#[test]
fn a_command_beats_the_configuration_and_one_domain_beats_all() {
    check(&[], (Mode::Through, Mode::Collect));
    check(&[(None, Some(Mode::Hold))], (Mode::Hold, Mode::Hold));
    check(&[(Some("a.example"), Some(Mode::Hold))], (Mode::Hold, Mode::Collect));
    check(&[(None, Some(Mode::Hold)), (Some("a.example"), Some(Mode::Collect))], (Mode::Collect, Mode::Hold));
}

#[test]
fn a_command_for_all_replaces_those_for_single_domains() {
    check(&[(Some("a.example"), Some(Mode::Collect)), (None, Some(Mode::Hold))], (Mode::Hold, Mode::Hold));
    check(&[(Some("a.example"), Some(Mode::Hold)), (None, None)], (Mode::Through, Mode::Collect));
}

#[test]
fn auto_lets_the_configuration_speak_for_one_domain_while_all_others_are_held() {
    check(&[(None, Some(Mode::Hold)), (Some("c.example"), None)], (Mode::Hold, Mode::Collect));
    check(&[(None, Some(Mode::Hold)), (Some("a.example"), None)], (Mode::Through, Mode::Hold));
    check(&[(Some("a.example"), Some(Mode::Hold)), (Some("a.example"), None)], (Mode::Through, Mode::Collect));
}

#[test]
fn commands_survive_on_disk_and_a_later_release_s_file_is_not_guessed_at() {
    let mut state = Commands::default();
    apply(&mut state, Some("a.example".into()), Some(Mode::Hold)).expect("few");
    let text = serde_json::to_vec(&Commands { version: FORMAT_VERSION, ..state.clone() }).expect("serializes");
    assert_eq!(parse(&text).expect("reads").domains, state.domains);
    assert!(parse(br#"{"version":9,"all":null,"domains":{}}"#).is_err());
    assert!(parse(b"hold").is_err());
}

#[test]
fn the_number_of_domains_with_a_command_is_bounded() {
    let mut state = Commands::default();
    for n in 0..DOMAINS_MAX {
        apply(&mut state, Some(format!("{n}.example")), Some(Mode::Hold)).expect("below");
    }
    assert!(apply(&mut state, Some("one.more".into()), Some(Mode::Hold)).is_err());
    apply(&mut state, Some("1.example".into()), Some(Mode::Collect)).expect("known");
}

#[test]
fn where_mail_has_nowhere_to_go_through_answers_at_the_receipt() {
    let check = |kept: (bool, &[(&str, bool)]), expected: (Mode, Mode)| {
        let by_domain = kept.1.iter().map(|(domain, kept)| ((*domain).to_owned(), *kept)).collect();
        let configured = Configured { all: None, domains: BTreeMap::new(), kept: (kept.0, by_domain) };
        let modes = in_force(&Commands::default(), &configured, &Forecast::default());
        assert_eq!((modes.of("a.example"), modes.of("b.example")), expected);
    };
    check((false, &[]), (Mode::Through, Mode::Through));
    check((true, &[]), (Mode::Collect, Mode::Collect));
    check((true, &[("b.example", false)]), (Mode::Collect, Mode::Through));
    check((false, &[("b.example", true)]), (Mode::Through, Mode::Collect));
}

#[test]
fn the_weather_speaks_where_neither_command_nor_configuration_does() {
    let stormy = (Answer::Collect, Reason::HopDown(40));
    let check =
        |all: Option<Mode>, commands: &[(Option<&str>, Option<Mode>)], forecast: &Forecast, expected: [Mode; 2]| {
            let configured = Configured {
                all,
                ..Configured { domains: [("c.example".to_owned(), Some(Mode::Through))].into(), ..configured() }
            };
            let mut state = Commands::default();
            for (domain, mode) in commands {
                apply(&mut state, domain.map(str::to_owned), *mode).expect("few domains");
            }
            let modes = effective(&state, &configured, forecast);
            assert_eq!([modes.of("a.example"), modes.of("c.example")], expected, "{all:?} {commands:?} {forecast:?}");
        };
    let one = Forecast {
        domains: [("a.example".to_owned(), stormy), ("c.example".to_owned(), stormy)].into(),
        ..Forecast::default()
    };
    let all = Forecast { all: stormy, ..Forecast::default() };
    check(None, &[], &Forecast::default(), [Mode::Through; 2]);
    check(None, &[], &one, [Mode::Collect, Mode::Through]);
    check(None, &[], &all, [Mode::Collect, Mode::Through]);
    check(Some(Mode::Through), &[], &all, [Mode::Through; 2]);
    check(None, &[(None, Some(Mode::Hold))], &all, [Mode::Hold; 2]);
    check(None, &[(None, Some(Mode::Hold)), (Some("a.example"), None)], &one, [Mode::Collect, Mode::Hold]);
    check(None, &[(Some("a.example"), Some(Mode::Through))], &one, [Mode::Through; 2]);
}
