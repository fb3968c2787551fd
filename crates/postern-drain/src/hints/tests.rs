use postern_proto::checks::Spf;

use super::*;
use crate::testing::meta;

#[test]
fn only_a_sender_that_spf_confirmed_is_credited() {
    let mut meta = meta(&["a@x.example"]);
    let spf = |domain: &str, result, of_helo| Some(Spf { result, domain: domain.into(), of_helo });
    assert_eq!(authorised_sender(&meta), None);
    meta.checks.spf = spf("sender.example", SpfResult::Pass, false);
    assert_eq!(authorised_sender(&meta).as_deref(), Some("ann@sender.example"));
    for other in [
        spf("sender.example", SpfResult::SoftFail, false),
        spf("sender.example", SpfResult::Pass, true),
        spf("other.example", SpfResult::Pass, false),
    ] {
        meta.checks.spf = other;
        assert_eq!(authorised_sender(&meta), None);
    }
}

#[test]
fn only_an_unknown_mailbox_is_a_bad_recipient() {
    let unknown = |enhanced| is_unknown(&Reply::new(550, enhanced, "no"));
    assert!(unknown(Enhanced(5, 1, 1)) && unknown(Enhanced(5, 1, 10)));
    assert!(!unknown(Enhanced(5, 2, 2)) && !unknown(Enhanced(5, 7, 1)) && !unknown(Enhanced(4, 1, 1)));
    assert!(!is_unknown(&Reply::plain(550, "no")));
}

#[test]
fn what_a_machine_wrote_is_no_correspondence() {
    for (header, automatic) in [
        ("Subject: x\r\n\r\nAuto-Submitted: auto-replied\r\n", false),
        ("Auto-Submitted: no\r\n\r\n", false),
        ("AUTO-Submitted: auto-generated\r\n\r\n", true),
        ("Precedence: bulk\r\n\r\n", true),
        ("Precedence: first-class\r\n\r\n", false),
        ("List-Id: <x.example>\r\n\r\n", true),
    ] {
        assert_eq!(is_automatic(header.as_bytes()), automatic, "{header}");
    }
}
