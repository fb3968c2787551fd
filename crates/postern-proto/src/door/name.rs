//! Names of domains and hosts as door/1 writes them: A-labels in lower case, without a final dot.

use alloc::string::String;

use super::limits::NAME_BYTES_MAX;

/// The name in lower case; `None` when it is none: 1 to 255 octets, labels of 1 to 63 letters, digits, hyphens (not at
/// their ends) and underscores, parted by single dots.
pub(super) fn canonical(name: &str) -> Option<String> {
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= NAME_BYTES_MAX && name.split('.').all(good)).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn a_name_is_taken_in_lower_case_and_what_is_none_is_refused() {
        for (name, expected) in [
            ("Example.ORG", Some("example.org")),
            ("xn--bcher-kva.example", Some("xn--bcher-kva.example")),
            ("_smtp-client.example", Some("_smtp-client.example")),
            ("a", Some("a")),
            ("", None),
            (".", None),
            ("a.", None),
            (".a", None),
            ("a..b", None),
            ("-a.b", None),
            ("a-.b", None),
            ("bücher.example", None),
            ("a b", None),
            ("a\r\n", None),
            ("[127.0.0.1]", None),
        ] {
            assert_eq!(canonical(name).as_deref(), expected, "{name:?}");
        }
        assert_eq!(canonical(&"a".repeat(64)), None);
        assert!(canonical(&["a"; 128].join(".")).is_some());
        assert_eq!(canonical(&["a"; 129].join(".")), None);
    }
}
