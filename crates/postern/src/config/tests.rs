//! What a file and flags make together.

use postern_proto::mode::Mode;

use super::*;

fn load(text: &str, flags: ServeArgs) -> Result<Config, Failure> {
    let (mut settings, source) = parse::parse("postern.toml", text)?;
    apply_flags(&mut settings, &flags);
    Config::resolve(&flags, settings, &source)
}

fn check_refused(text: &str, flags: ServeArgs, code: Code, expected: &[&str]) {
    let failure = load(text, flags).expect_err(text);
    assert_eq!(failure.code, code, "{failure}");
    for part in expected {
        assert!(failure.to_string().contains(part), "{failure}\nlacks {part}");
    }
}

#[test]
fn without_a_file_mail_for_localhost_and_example_com_goes_to_maildirs() {
    let config = load("", ServeArgs::default()).expect("default");
    assert_eq!(config.recipients.keys().collect::<Vec<_>>(), ["example.com", "localhost"]);
    assert_eq!(config.deliver, Route::Maildir("postern-data/mail".into()));
    assert_eq!(config.settings.smtp.listen.0, ["127.0.0.1:2525".parse().expect("address")]);
    assert_eq!(config.mode_of("example.com"), ModeSetting(None));
}

#[test]
fn a_flag_beats_the_file() {
    let flags = ServeArgs {
        data: Some("d".into()),
        domains: vec!["Other.Example".into()],
        mode: Some(ModeSetting(Some(Mode::Hold))),
        deliver: Some("none".into()),
        smtp: Some("127.0.0.1:0".parse().expect("address")),
        ..Default::default()
    };
    let text = "data = \"x\"\nmode = \"collect\"\ndeliver = \"lmtp:/run/l\"\n[recipients]\n\"a.example\" = \"any\"\n";
    let config = load(text, flags).expect("valid");
    assert_eq!(config.settings.general.data, Path::new("d"));
    assert_eq!(config.recipients.keys().collect::<Vec<_>>(), ["other.example"]);
    assert_eq!(config.mode_of("other.example"), ModeSetting(Some(Mode::Hold)));
    assert_eq!(config.deliver, Route::None);
    assert_eq!(config.settings.smtp.listen.0.len(), 1);
}

#[test]
fn a_domain_may_have_a_mode_and_a_target_of_its_own() {
    let text = "[domain.\"A.example\"]\nmode = \"collect\"\ndeliver = \"none\"\n";
    let config = load(text, ServeArgs::default()).expect("valid");
    assert_eq!(config.mode_of("a.example"), ModeSetting(Some(Mode::Collect)));
    assert_eq!(config.deliver_by_domain["a.example"], Route::None);
}

#[test]
fn what_contradicts_itself_is_refused_with_its_place_and_a_cure() {
    let plain = ServeArgs::default;
    check_refused("[relay]\nlisten = \"0.0.0.0:25\"\n", plain(), Code::Config, &["2:10", "relay.listen", "loopback"]);
    check_refused("[tls]\ncert = \"/c\"\n", plain(), Code::Config, &["2:8", "tls.cert", "add tls.key"]);
    check_refused("deliver = \"pigeon:x\"\n", plain(), Code::Config, &["1:11", "deliver", "maildir:DIR"]);
    check_refused("[spool]\nfree_low = \"2 GiB\"\n", plain(), Code::Config, &["2:12", "free_high"]);
    check_refused("detail = \"+-\"\n", plain(), Code::Config, &["one character"]);
    check_refused("[smtp]\nrecipients_max = 5\n", plain(), Code::Config, &["100"]);
    check_refused("[smtp]\nlisten = []\n", plain(), Code::Config, &["nothing to listen on"]);
    check_refused("hostname = \"a b\"\n", plain(), Code::Config, &["hostname", "a b"]);
    check_refused("[recipients]\n\"a b\" = \"any\"\n", plain(), Code::Config, &["recipients", "not a domain"]);
    let flags = ServeArgs { deliver: Some("pigeon:x".into()), ..Default::default() };
    check_refused("", flags, Code::Usage, &["--deliver", "maildir:DIR"]);
    let flags = ServeArgs { relay: Some("192.0.2.1:25".parse().expect("address")), ..Default::default() };
    check_refused("", flags, Code::Usage, &["--relay: 192.0.2.1:25 is not loopback", "127.0.0.1"]);
}

#[test]
fn what_would_not_run_or_would_refuse_all_mail_is_refused_with_its_place_and_a_cure() {
    let check = |table: &str, line: &str, cure: &str| {
        let key = line.split(' ').next().expect("a key");
        let place = [&format!("2:{}", key.len() + 4), &format!("{table}.{key}"), cure];
        check_refused(&format!("[{table}]\n{line}\n"), ServeArgs::default(), Code::Config, &place);
    };
    check("spool", "segment_bytes = 10", "16 KiB to 1 GiB");
    check("spool", "segment_bytes = 20000", "multiple of 4 KiB");
    check("spool", "segment_bytes = \"2 GiB\"", "16 KiB to 1 GiB");
    check("spool", "items_max = 0", "at least 1");
    check("spool", "bytes_max = \"1 MiB\"", "must fit");
    check("smtp", "connections_max = 0", "at least 1");
    check("smtp", "size_max = 0", "64 KiB");
    check("smtp", "command_timeout = \"0s\"", "at least \"1s\"");
    check("drain", "mailboxes_max = 0", "at least 1");
    check("drain", "concurrency = 0", "at least 1");
    check("drain", "expiry = \"0s\"", "at least \"1s\"");
    check("drain", "retry_first = \"0s\"", "at least \"1s\"");
    check("drain", "retry_max = \"5ms\"", "at least \"1s\"");
}

#[test]
fn a_filter_a_list_and_a_pin_are_read_and_a_wrong_one_is_named_with_its_place() {
    let text = "[filter.rspamd]\nuse = \"rspamd:127.0.0.1:11333\"\non_spam = \"quarantine\"\n\
                [filter.clamav]\nuse = \"milter:unix:/run/clamav.sock\"\ntimeout = \"5s\"\n\
                [dnsbl.\"list.example.org\"]\nweight = 20\ncodes = [\"127.0.0.2/31\"]\n[trust]\npinned = [\"192.0.2.7\", \"2001:db8::5/32\"]\n";
    let config = load(text, ServeArgs::default()).expect("valid");
    let names: Vec<&str> = config.filters.iter().map(|filter| filter.filter.name.as_str()).collect();
    assert_eq!(names, ["clamav", "rspamd"]);
    assert_eq!(config.filters[0].filter.timeout, Duration::from_secs(5));
    assert_eq!(config.filters[1].on_spam, values::OnSpam::Quarantine);
    assert_eq!(config.settings.dnsbl["list.example.org"].weight, 20);
    assert_eq!(config.settings.dnsbl["list.example.org"].codes, ["127.0.0.2/31".parse().expect("codes")]);
    let pinned: Vec<String> = config.settings.trust.pinned.iter().map(ToString::to_string).collect();
    assert_eq!(pinned, ["192.0.2.7", "2001:db8::/32"]);
    let check = |text: &str, expected: &[&str]| check_refused(text, ServeArgs::default(), Code::Config, expected);
    check("[filter.x]\n", &["filter.x", "which filter", "milter:inet:HOST:PORT"]);
    check("[filter.x]\nuse = \"pigeon:a\"\n", &["2:7", "filter.x.use", "rspamd:HOST:PORT"]);
    check("[filter.x]\nworker = 1\n", &["unknown key \"worker\" in [filter.x]", "\"workers\""]);
    check("[filter.x]\nuse = \"rspamd:h:1\"\nworkers = 0\n", &["3:11", "filter.x.workers"]);
    check("[filter.x]\nuse = \"rspamd:h:1\"\ntimeout = \"5ms\"\n", &["3:11", "filter.x.timeout"]);
    check("[dnsbl.\"a.example\"]\nweight = 0\n", &["2:10", "weight", "-100 to -1"]);
    check("[dnsbl.\"a.example\"]\ncodes = [\"10.0.0.2\"]\n", &["2:9", "codes", "10.0.0.2", "127.0.0.0/8"]);
    check("[trust]\npinned = [\"nowhere\"]\n", &["trust.pinned", "nowhere", "2001:db8::/32"]);
    check("[trust]\nproviders = [\"a b\"]\n", &["trust.providers", "not a domain"]);
    check("[quarantine]\nkeep = \"1h\"\n", &["quarantine.keep", "\"1d\""]);
}

#[test]
fn an_address_needs_no_brackets_and_one_domain_may_be_auto_while_all_others_are_not() {
    let text = "mode = \"hold\"\n[smtp]\nlisten = \"0.0.0.0:25\"\n[domain.\"a.example\"]\nmode = \"auto\"\n";
    let config = load(text, ServeArgs::default()).expect("valid");
    assert_eq!(config.settings.smtp.listen.0, ["0.0.0.0:25".parse().expect("address")]);
    assert_eq!(config.mode_of("x.example"), ModeSetting(Some(Mode::Hold)));
    assert_eq!(config.mode_of("a.example"), ModeSetting(None));
    check_refused(
        "[smtp]\nlisten = \"nowhere\"\n",
        ServeArgs::default(),
        Code::Config,
        &["2:10", "nowhere", "[::]:25"],
    );
}

/// Every block that a reader may copy, from the line of its fence on.
fn toml_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line.trim_start().starts_with("```toml") {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```"));
            blocks.push((at + 1, block.map(|line| format!("{line}\n")).collect()));
        }
    }
    blocks
}

#[test]
fn every_configuration_in_readme_and_docs_is_accepted() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let docs = std::fs::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("readable").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|ext| ext == "md")).chain([root.join("README.md")]);
    let mut seen = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("readable");
        for (line, block) in toml_blocks(&text) {
            seen += 1;
            if let Err(failure) = load(&block, ServeArgs::default()) {
                panic!("{}:{line}: {failure}", page.display());
            }
        }
    }
    assert!(seen > 2, "{seen} blocks found");
}

#[test]
fn a_callout_needs_a_next_hop_that_can_be_asked() {
    let text = "[recipients]\n\"a.example\" = { callout = true }\n";
    check_refused(text, ServeArgs::default(), Code::Config, &["2:", "nobody to ask", "lmtp:"]);
    let asked = format!("deliver = \"lmtp:/run/l\"\n{text}");
    assert!(load(&asked, ServeArgs::default()).is_ok());
}
