//! The records as they are printed.

use super::*;

#[test]
fn a_text_of_two_keys_is_cut_into_strings_that_give_it_back() {
    let data = "x".repeat(STRING_BYTES_MAX) + "yz";
    let line = Record { name: "_postern.example.org.".into(), kind: "TXT", data: data.clone() }.line();
    let strings: Vec<&str> = line.trim_end().split('"').filter(|part| part.starts_with(['x', 'y'])).collect();
    assert_eq!(strings.iter().map(|string| string.len()).collect::<Vec<_>>(), [255, 2]);
    assert_eq!(strings.concat(), data);
}

#[test]
fn names_that_dns_cannot_have_are_left_out() {
    let check = |name: &str, expected: bool| assert_eq!(is_publishable(name), expected, "{name}");
    check("example.org", true);
    check("xn--bcher-kva.example", true);
    for not in
        ["localhost", "", ".", "192.0.2.1", "[192.0.2.1]", "a..b", "a b.example", "bücher.example", "x.localhost"]
    {
        check(not, false);
    }
}
