use super::read_replies;

fn check(text: &str, expected: &[u16]) {
    for size in 1..=text.len() {
        let (mut partial, mut codes) = (Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            read_replies(&mut partial, piece, &mut codes);
        }
        assert_eq!(codes, expected, "{text:?} in pieces of {size}");
    }
}

#[test]
fn replies_are_read_whole_however_they_are_cut() {
    check("220 mx.example ESMTP\r\n", &[220]);
    check("250-mx.example\r\n250-SIZE 1\r\n250 OK\r\n354 go\r\n", &[250, 354]);
    check("250\r\n421 4.3.2 bye\r\n", &[250, 421]);
    check("hello\r\n", &[999]);
}
