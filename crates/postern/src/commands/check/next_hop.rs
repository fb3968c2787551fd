//! Would the next hop take mail, and would it see who the client really is?
//!
//! A next hop that sees every message come from loopback trusts it: `permit_mynetworks` applies,
//! SPF is skipped, and a signing milter signs forged mail as our own. Hence the refusal.

use std::path::Path;
use std::time::Duration;

use postern_drain::Route;
use postern_net::client::{ClientAddress, Connection, Connector, Failure, Protocol, Target};

use super::Findings;
use super::place::writable;
use crate::config::Config;

/// Looks at one route.
pub(super) async fn check(config: &Config, key: &str, route: &Route, findings: &mut Findings) {
    match route {
        Route::None => findings.note(format!("{key} = none: everything stays in the spool"), ""),
        Route::Mx => findings.note(format!("{key} = mx: each domain's own servers, looked up when mail leaves"), ""),
        Route::Maildir(dir) => maildir(key, dir, findings),
        Route::Lmtp(target) => match connect(config, target, Protocol::Lmtp, ClientAddress::None).await {
            Ok(hop) => {
                findings.good(format!("{key}: {route} answers"));
                tell_limits(key, &hop, findings);
                hop.quit().await;
            }
            Err(failure) => unreachable_hop(key, route, &failure, findings),
        },
        Route::Smtp { target, client_address, trust_loopback } => {
            smtp(config, key, route, target, (*client_address, *trust_loopback), findings).await;
        }
    }
}

async fn smtp(
    config: &Config,
    key: &str,
    route: &Route,
    target: &Target,
    (client_address, trust_loopback): (ClientAddress, bool),
    findings: &mut Findings,
) {
    // XCLIENT is looked for in what the hop offers; the PROXY header has to be tried.
    let way = if client_address == ClientAddress::ProxyV2 { ClientAddress::ProxyV2 } else { ClientAddress::None };
    let hop = match connect(config, target, Protocol::Smtp, way).await {
        Ok(hop) => hop,
        Err(failure) if way == ClientAddress::ProxyV2 => {
            let plain = connect(config, target, Protocol::Smtp, ClientAddress::None).await;
            if plain.is_err() {
                return unreachable_hop(key, route, &failure, findings);
            }
            let what = format!("{key}: {route} does not take a PROXY header: {failure}");
            return findings.wrong(
                what,
                "Postfix: smtpd_upstream_proxy_protocol = haproxy on that port; or client_address = \"xclient\"",
            );
        }
        Err(failure) => return unreachable_hop(key, route, &failure, findings),
    };
    let offers_xclient = hop.capabilities().xclient.is_some();
    match client_address {
        ClientAddress::ProxyV2 => {
            findings.good(format!("{key}: {route} answers, and takes the client's address by PROXY"));
        }
        ClientAddress::Xclient if offers_xclient => {
            findings.good(format!("{key}: {route} answers, and takes the client's address by XCLIENT"));
        }
        ClientAddress::Xclient | ClientAddress::None if trust_loopback => {
            findings.note(format!("{key}: {route} answers, and sees every message come from us, as told"), "");
        }
        ClientAddress::Xclient => findings.wrong(
            format!("{key}: {route} offers no XCLIENT to us: it would see every message come from this machine"),
            XCLIENT_CURE,
        ),
        ClientAddress::None if offers_xclient => findings.wrong(
            format!("{key}: {route} would see every message come from this machine, but it offers XCLIENT"),
            "set client_address = \"xclient\"",
        ),
        ClientAddress::None => findings.wrong(
            format!(
                "{key}: {route} would see every message come from this machine, skip its checks and sign forged mail"
            ),
            XCLIENT_CURE,
        ),
    }
    tell_limits(key, &hop, findings);
    hop.quit().await;
}

async fn connect(
    config: &Config,
    target: &Target,
    protocol: Protocol,
    client_address: ClientAddress,
) -> Result<Connection, Failure> {
    let connector = Connector { connect_timeout: CONNECT_WAIT, ..Connector::new(config.hostname.clone()) };
    connector.connect(target, protocol, client_address, None).await
}

fn tell_limits(key: &str, hop: &Connection, findings: &mut Findings) {
    let offers = hop.capabilities();
    let missing: Vec<&str> = [("8BITMIME", offers.eight_bit), ("SMTPUTF8", offers.smtputf8)]
        .iter()
        .filter(|(_, is)| !is)
        .map(|(n, _)| *n)
        .collect();
    if !missing.is_empty() {
        findings.note(format!("{key}: without {}: not offered to senders either", missing.join(" and ")), "");
    }
}

fn unreachable_hop(key: &str, route: &Route, failure: &Failure, findings: &mut Findings) {
    findings.wrong(
        format!("{key}: {route} does not answer as it should: {failure}"),
        "mail would be kept in the spool and tried again; start it, or correct the target",
    );
}

fn maildir(key: &str, dir: &Path, findings: &mut Findings) {
    let here = Path::new(".");
    let existing =
        dir.ancestors().map(|dir| if dir.as_os_str().is_empty() { here } else { dir }).find(|dir| dir.is_dir());
    match existing {
        Some(dir) if writable(dir) => findings.good(format!("{key}: {} is writable", dir.display())),
        _ => {
            findings.wrong(format!("{key}: maildir:{} is not writable", dir.display()), "give it to the server's user");
        }
    }
}

const XCLIENT_CURE: &str = "Postfix: smtpd_authorized_xclient_hosts = 127.0.0.1 (or client_address = \"proxy\"); only if it may trust us blindly: trust_loopback = true";
/// A next hop is near; the drain itself has more patience.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
