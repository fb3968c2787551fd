//! The certificate of STARTTLS: readable, in date, with our name, and what our DNS says about it.

use postern_net::tls::{CertificateFiles, ReloadableCert};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Findings;
use crate::config::Config;
use crate::serve::now_unix_ms;

/// Looks at the certificate that would be used.
pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let tls = &config.settings.tls;
    let made = config.settings.general.data.join("tls");
    let (files, own) = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => (CertificateFiles { cert: cert.clone(), key: key.clone() }, true),
        _ => (CertificateFiles { cert: made.join("cert.pem"), key: made.join("key.pem") }, false),
    };
    if !own && !files.cert.exists() {
        findings.note("TLS: a self-signed certificate will be made at the first start", "");
        return super::published::check(config, &[], findings).await;
    }
    let chain = match ReloadableCert::load(files) {
        Ok(certificate) => certificate.chain(),
        Err(error) => return findings.wrong(format!("TLS: {error}"), "see [tls]"),
    };
    let Some(first) = chain.first() else { return };
    match X509Certificate::from_der(first) {
        Ok((_, parsed)) => look_at(config, &parsed, own, findings),
        Err(error) => findings.wrong(format!("TLS: the certificate cannot be read: {error}"), "see tls.cert"),
    }
    super::published::check(config, &chain, findings).await;
}

fn look_at(config: &Config, certificate: &X509Certificate<'_>, own: bool, findings: &mut Findings) {
    let now = i64::try_from(now_unix_ms() / 1000).unwrap_or(i64::MAX);
    let ends = certificate.validity().not_after.timestamp();
    let days = (ends - now) / 86_400;
    if ends < now {
        findings
            .wrong(format!("TLS: the certificate expired {} days ago", -days), "renew it, then `kill -HUP` the server");
    } else if certificate.validity().not_before.timestamp() > now {
        findings.wrong("TLS: the certificate is not valid yet", "is the clock right?");
    } else if days < EXPIRY_DAYS_SOON {
        findings.note(format!("TLS: the certificate expires in {days} days"), "renew it, then `kill -HUP` the server");
    } else {
        findings.good(format!("TLS: the certificate is good for {days} days"));
    }
    let names = names(certificate);
    if !names.iter().any(|name| covers(name, &config.hostname)) {
        let what = format!("TLS: the certificate is for {}, not for {}", names.join(", "), config.hostname);
        findings.note(what, "senders that insist on the name (DANE, MTA-STS) will not deliver; most do not look");
    }
    if !own {
        findings.note("TLS: the certificate is self-signed: it hides mail from listeners, it proves nothing", "");
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    names
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(name.to_lowercase()) } else { None })
        .collect()
}

/// A wildcard stands for one label (RFC 6125 section 6.4.3).
fn covers(name: &str, hostname: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => hostname.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent)),
        None => name.eq_ignore_ascii_case(hostname),
    }
}

/// Certificates of ninety days are renewed with thirty left; half of that is late.
const EXPIRY_DAYS_SOON: i64 = 14;

#[cfg(test)]
mod tests {
    #[test]
    fn a_wildcard_covers_one_label() {
        let check = |name, host, expected| assert_eq!(super::covers(name, host), expected, "{name} {host}");
        check("mail.example.com", "Mail.example.com", true);
        check("*.example.com", "mail.example.com", true);
        check("*.example.com", "a.mail.example.com", false);
        check("*.example.com", "example.com", false);
        check("other.example", "mail.example.com", false);
    }
}
