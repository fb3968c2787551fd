//! The name of an address, confirmed (RFC 8601 section 2.7.3), and what it proves.
//!
//! A reverse zone says what its owner likes; only a name that leads back to the address is the address's.
//! And a name proves little: below a hoster's or an access provider's domain every customer has one. So
//! credit of a domain reaches an address by name only where [`speaks_for`] says so, and (in `worker.rs`)
//! where the domain's SPF record does not say otherwise.

use std::net::IpAddr;
use std::rc::Rc;

use crate::dns::{self, Answer, Key, Kind, Records};
use crate::gate;
use crate::limits;
use crate::lookups::{Lookups, Payer};
use crate::stats::Unaffordable;

/// The first of the address's names that leads back to it.
pub(crate) async fn confirmed(
    lookups: &Rc<Lookups>,
    payer: Payer<'_>,
    ip: IpAddr,
) -> Result<Option<String>, Unaffordable> {
    let reverse = lookups.get(Key::new(Kind::Ptr, &dns::reverse_name(ip)), payer).await?;
    let Answer::Found(records) = reverse.answer else { return Ok(None) };
    let Records::Hosts(hosts) = &*records else { return Ok(None) };
    let mut refused = None;
    for host in hosts.iter().take(limits::NAMES_MAX).filter_map(|host| dns::domain(host)) {
        let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
        match lookups.get(Key::new(kind, &host), payer).await.map(|told| told.answer) {
            Ok(Answer::Found(records)) if leads_to(&records, ip) => return Ok(Some(host.into())),
            Ok(_) => {}
            Err(why) => refused = Some(why),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn leads_to(records: &Records, ip: IpAddr) -> bool {
    match (records, ip) {
        (Records::V4(found), IpAddr::V4(ip)) => found.contains(&ip),
        (Records::V6(found), IpAddr::V6(ip)) => found.contains(&ip),
        _ => false,
    }
}

/// Whether a machine called `name` may be taken for one of `domain`'s own: the name is the domain or below
/// it, the domain is one that somebody registers, and the name was given to a machine, not made from the
/// address. `dsl-192-0-2-7.provider.example` is a customer; it must not profit from the mail of the
/// provider's staff.
pub(crate) fn speaks_for(name: &str, ip: IpAddr, domain: &str) -> bool {
    if gate::suffix_like(domain) {
        return false;
    }
    match name.strip_suffix(domain) {
        Some("") => true,
        Some(below) => below.ends_with('.') && !is_generic(below, ip),
        None => false,
    }
}

/// Made from the address, or says that it is one of many.
fn is_generic(labels: &str, ip: IpAddr) -> bool {
    let mut words = labels.split(|c: char| !c.is_ascii_alphanumeric()).flat_map(runs);
    if words.any(|word| CROWD.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit()))) {
        return true;
    }
    let solid: String = labels.chars().filter(char::is_ascii_alphanumeric).collect();
    match ip {
        IpAddr::V4(ip) => {
            let octets = ip.octets();
            let numbers: Vec<u8> =
                labels.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect();
            let there = |octet: &&u8| numbers.contains(octet);
            let last = [[octets[2], octets[3]], [octets[3], octets[2]]];
            let hex = octets.map(|octet| format!("{octet:02x}")).concat();
            let padded = octets.map(|octet| format!("{octet:03}")).concat();
            octets.iter().filter(there).count() >= 3
                || numbers.windows(2).any(|pair| last.iter().any(|last| last == pair))
                || solid.contains(&hex)
                || solid.contains(&padded)
        }
        IpAddr::V6(ip) => {
            let hex: String = ip.octets().iter().map(|octet| format!("{octet:02x}")).collect();
            let turned: String = hex.chars().rev().collect();
            let groups = ip.segments()[4..].iter().filter(|group| **group > 0xff).count();
            let named = |group: &&u16| **group > 0xff && solid.contains(&format!("{group:x}"));
            solid.contains(&hex[16..])
                || solid.contains(&turned[..16])
                || (groups >= 2 && ip.segments()[4..].iter().filter(named).count() >= 2)
        }
    }
}

/// `dsl12` is a word and a number.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
    let start = text.rfind(|c: char| c.is_ascii_digit()).map_or(0, |at| at + 1);
    [&text[..end], &text[start..]].into_iter().filter(|run| !run.is_empty())
}

/// Words in names of the many. Whoever names a mail server so gets his credit by SPF.
const CROWD: [&str; 27] = [
    "adsl",
    "broadband",
    "cable",
    "client",
    "clients",
    "cpe",
    "cust",
    "customer",
    "customers",
    "dhcp",
    "dial",
    "dialin",
    "dialup",
    "dsl",
    "dyn",
    "dynamic",
    "fiber",
    "ftth",
    "gprs",
    "mobile",
    "pool",
    "ppp",
    "pppoe",
    "user",
    "users",
    "vdsl",
    "wireless",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, ip: &str, domain: &str, expected: bool) {
        assert_eq!(speaks_for(name, ip.parse().expect("an address"), domain), expected, "{name} for {domain}");
    }

    #[test]
    fn a_named_machine_below_the_domain_speaks_for_it() {
        check("mx1.example.org", "192.0.2.7", "example.org", true);
        check("example.org", "192.0.2.7", "example.org", true);
        check("out-3.mail.example.co.uk", "192.0.2.7", "example.co.uk", true);
        check("mail7.eu.example.org", "2001:db8::7", "example.org", true);
    }

    #[test]
    fn a_name_beside_or_above_the_domain_does_not() {
        check("mx.notexample.org", "192.0.2.7", "example.org", false);
        check("mx.example.net", "192.0.2.7", "example.org", false);
        check("example.org", "192.0.2.7", "mail.example.org", false);
        check("shop.co.uk", "192.0.2.7", "co.uk", false);
        check("example.org", "192.0.2.7", "org", false);
    }

    #[test]
    fn a_name_made_from_the_address_is_a_customers() {
        for name in [
            "192-0-2-7.example.net",
            "7.2.0.192.example.net",
            "host192x0x2x7.example.net",
            "h2-7.example.net",
            "static-7-2.example.net",
            "c0000207.example.net",
            "ip192000002007.example.net",
            "dsl12.example.net",
            "a.dyn.example.net",
            "pool-17.example.net",
            "cust4711.example.net",
        ] {
            check(name, "192.0.2.7", "example.net", false);
        }
        let six = "2001:db8:1:2:3a4:5b6:7c8:9da";
        check("2001-db8-1-2-3a4-5b6-7c8-9da.example.net", six, "example.net", false);
        check("v6-03a405b607c809da.example.net", six, "example.net", false);
    }
}
