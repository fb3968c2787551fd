use super::*;

fn check(text: &str, expected: &str) {
    match Route::parse(text) {
        Ok(route) => assert_eq!(route.to_string(), expected, "{text}"),
        Err(error) => assert!(error.to_string().contains(expected), "{text}: {error}"),
    }
}

#[test]
fn a_route_is_read_as_it_is_written() {
    for text in ["maildir:./mail", "lmtp:127.0.0.1:24", "lmtp:/run/lmtp", "smtp:mx.example:25", "smtp:[::1]:25", "none"]
    {
        check(text, text);
    }
}

#[test]
fn a_wrong_route_names_the_cure() {
    check("maildir:", "write `maildir:/var");
    check("lmtp", "`lmtp:HOST:PORT`");
    check("lmtp:localhost", "a port is missing; write for example `lmtp:127.0.0.1:24`");
    check("smtp:localhost:0", "1 to 65535");
    check("smtp:localhost:smtp", "1 to 65535");
    check("smtp::25", "a host is missing");
    check("smtp:::1:25", "needs brackets");
    check("smtp:[x]:25", "no IPv6 address");
    check("smtp:/run/socket", "`lmtp:PATH` for a socket");
    check("none:x", "write `none`");
    check("mbox:/var", "unknown kind of route");
    check("", "unknown kind of route");
}

#[test]
fn an_smtp_hop_is_told_the_client_unless_configured_otherwise() {
    let Ok(Route::Smtp { client_address, trust_loopback, .. }) = Route::parse("smtp:127.0.0.1:25") else { panic!() };
    assert_eq!((client_address, trust_loopback), (ClientAddress::Xclient, false));
}

#[test]
fn relayed_mail_leaves_by_the_relay_route_unless_its_domain_is_local() {
    let mut table = RouteTable::new(Route::Maildir("mail".into()));
    table.local.insert("example.com".to_owned());
    table.domains.insert("own.example".to_owned(), Route::None);
    let default = Some(Route::Maildir("mail".into()));
    assert_eq!(table.resolve(Via::Relay, "far.example"), None);
    let relay = Route::Lmtp(Target::Tcp { host: "hop".to_owned(), port: 25 });
    table.relay = Some(relay.clone());
    assert_eq!(table.resolve(Via::Relay, "far.example").cloned(), Some(relay.clone()));
    assert_eq!(table.resolve(Via::Local, "far.example").cloned(), Some(relay));
    assert_eq!(table.resolve(Via::Relay, "example.com").cloned(), default);
    assert_eq!(table.resolve(Via::Relay, "own.example"), Some(&Route::None));
    assert_eq!(table.resolve(Via::Public, "far.example").cloned(), default);
    assert_eq!(table.resolve(Via::Postern, "far.example").cloned(), default);
    assert_eq!(table.resolve(Via::Local, "").cloned(), default);
}
