//! Where the key of a client may be published. Pure.

/// The name whose TLSA records may speak for `domain`, lower case without a final dot: `_smtp-client.DOMAIN`, or a name
/// below that (one for each machine). `None`: the claimed name is another.
///
/// A name that is merely below the domain is not enough: `_smtp-client.customer.example` is in the hands of whoever was
/// given `customer.example`, and he is not `example`. Such a peer claims its own name, and its organisation is found.
pub(super) fn of(domain: &str, claimed: Option<&str>) -> Option<Box<str>> {
    let own = format!("_smtp-client.{domain}");
    let Some(claimed) = claimed else { return Some(own.into()) };
    let claimed = crate::dns::domain(claimed)?;
    let below = claimed.strip_suffix(own.as_str())?;
    (below.is_empty() || below.ends_with('.')).then_some(claimed)
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn an_owner_name_is_the_domains_own_and_not_a_customers() {
        let check = |claimed: Option<&str>, expected: Option<&str>| {
            assert_eq!(of("example.org", claimed).as_deref(), expected, "{claimed:?}");
        };
        check(None, Some("_smtp-client.example.org"));
        check(Some("_SMTP-Client.Example.ORG."), Some("_smtp-client.example.org"));
        check(Some("mx7._smtp-client.example.org"), Some("mx7._smtp-client.example.org"));
        for foreign in [
            "_smtp-client.customer.example.org",
            "x_smtp-client.example.org",
            "example.org",
            "_smtp-client.evil.example",
            "_smtp-client.org",
            "",
        ] {
            check(Some(foreign), None);
        }
    }
}
