//! What goes into an mbox comes out of it, byte for byte.

use proptest::prelude::*;

use super::*;

/// Through one mbox file and back.
fn round_trip(messages: &[Vec<u8>]) -> Vec<(Option<String>, Vec<u8>)> {
    let texts: Vec<Text> = messages.iter().map(|message| Text::of(message)).collect();
    let file: Vec<u8> = texts
        .iter()
        .enumerate()
        .flat_map(|(i, text)| entry("a@b Thu Jan  1 00:00:00 1970", &i.to_string(), text))
        .collect();
    let mut entries = Entries::new(file.as_slice());
    let mut back = Vec::new();
    while let Some(entry) = entries.next().expect("memory") {
        let text = &texts[back.len()];
        let body = message_of(text_of(&entry, true, text.final_newline), text.crlf);
        back.push((id_of(&entry), body));
    }
    back
}

fn check(messages: &[&[u8]]) {
    let messages: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec()).collect();
    let expected: Vec<_> = messages.iter().enumerate().map(|(i, body)| (Some(i.to_string()), body.clone())).collect();
    assert_eq!(round_trip(&messages), expected);
}

#[test]
fn lines_that_look_like_the_start_of_a_message_do_not_start_one() {
    check(&[b"Subject: a\r\n\r\nFrom me\r\n>From you\r\n>>From all\r\n", b"Subject: b\r\n\r\n\r\nFrom x\r\n\r\n"]);
    check(&[b"From the first line\r\n", b"", b"\r\n", b"\r\n\r\n", b"no end", b"From ", b">From \r"]);
    check(&[b"a bare \n line end\r\n", b"a bare \r return\r\n", b"X-Postern-Id: not ours\r\n\r\nx\r\n"]);
}

#[test]
fn a_field_that_a_tool_has_put_first_does_not_hide_the_id() {
    let text = Text::of(b"Subject: a\r\n\r\nX-Postern-Id: in the body\r\n");
    let mut file = entry("a@b Thu Jan  1 00:00:00 1970", "ID", &text);
    let at = file.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    file.splice(at..at, *b"X-Spam-Flag: YES\n");
    let entry = Entries::new(file.as_slice()).next().expect("memory").expect("one");
    assert_eq!(id_of(&entry).as_deref(), Some("ID"));
    let back = message_of(text_of(&entry, true, true), true);
    assert_eq!(back, b"X-Spam-Flag: YES\r\nSubject: a\r\n\r\nX-Postern-Id: in the body\r\n");
}

proptest! {
    #[test]
    fn every_mailbox_comes_back_byte_for_byte(
        messages in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![
            "From ", ">", ">From ", "\r\n", "\n", "\r", "X-Postern-Id: ", "a", ": b", "\u{fc}",
        ]), 0..24), 0..6)
    ) {
        let messages: Vec<Vec<u8>> = messages.into_iter().map(|parts| parts.concat().into_bytes()).collect();
        let expected: Vec<_> = messages.iter().enumerate().map(|(i, body)| (Some(i.to_string()), body.clone())).collect();
        prop_assert_eq!(round_trip(&messages), expected);
    }
}
