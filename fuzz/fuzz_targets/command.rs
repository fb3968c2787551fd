//! A command line of any octets: parsed or refused, and an address that was taken reads back as itself.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postern_proto::address::Address;
use postern_proto::command::{Command, parse};

fuzz_target!(|line: &[u8]| {
    for (utf8, transaction_utf8) in [(false, false), (true, false), (true, true)] {
        match parse(line, utf8, transaction_utf8) {
            Ok(Command::Mail(mail)) => mail.sender.iter().for_each(check),
            Ok(Command::Rcpt(rcpt)) if !rcpt.address.domain.is_empty() => check(&rcpt.address),
            Ok(Command::Helo(name) | Command::Ehlo(name)) => {
                assert!(!name.is_empty() && !name.contains(['\r', '\n', '\0', ' ', '(', ')']), "{name:?} in Received");
            }
            Ok(Command::Xclient(arguments)) => drop(postern_proto::xclient::Xclient::parse(arguments)),
            _ => {}
        }
    }
    if let Ok(Some((used, _))) = postern_proto::proxy::parse(line) {
        assert!(used <= line.len(), "a PROXY header longer than what came");
        // Whether more octets have come already is no matter.
        assert_eq!(postern_proto::proxy::parse(&line[..used]), postern_proto::proxy::parse(line));
    }
});

/// What goes out to the next hop must be the address that came in.
fn check(address: &Address) {
    let written = address.to_string();
    assert!(!written.contains(['\r', '\n', '\0']), "{written:?} breaks the line");
    // Quotes may make the written form longer than what was read, and then it need not be read again.
    match Address::parse(written.as_bytes(), true) {
        Ok(again) => assert_eq!(&again, address),
        Err(error) => assert_eq!(error, postern_proto::address::AddressError::TooLong, "{written:?}"),
    }
}
