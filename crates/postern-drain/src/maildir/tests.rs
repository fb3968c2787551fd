use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn address(local: &str, domain: &str) -> Address {
    Address { local: local.into(), domain: domain.into() }
}

fn check(local: &str, domain: &str, expected: &str) {
    assert_eq!(mailbox_name(&address(local, domain), Some('+'), "mx.example"), expected);
}

#[test]
fn a_mailbox_is_named_by_its_address_and_nothing_escapes() {
    check("ann", "example.com", "ann@example.com");
    check("ann+lists", "example.com", "ann@example.com");
    check("Ann", "example.com", "ann@example.com");
    check("../../etc/passwd", "example.com", "%2E.%2F..%2Fetc%2Fpasswd@example.com");
    check("..", "example.com", "%2E.@example.com");
    check("a@b", "example.com", "a%40b@example.com");
    check("a%40b", "example.com", "a%2540b@example.com");
    check("a b\"", "[192.0.2.1]", "a%20b%22@%5B192.0.2.1%5D");
    check("é", "exämple.com", "%C3%A9@ex%C3%A4mple.com");
    check("PostMaster", "", "postmaster@mx.example");
    check("+x", "example.com", "+x@example.com");
}

#[test]
fn a_long_name_is_cut_and_stays_distinct() {
    let domain = format!("{}.example", "a".repeat(200));
    let name = |local: &str| mailbox_name(&address(local, &domain), None, "mx");
    assert_eq!(name("x").len(), MAILBOX_NAME_BYTES_MAX);
    assert_ne!(mailbox_name(&address("x", &format!("{domain}1")), None, "mx"), name("x"));
}

proptest! {
    #[test]
    fn names_are_safe_and_distinct(
        one in ("\\PC{1,64}", "[a-z.]{1,30}"), two in ("\\PC{1,64}", "[a-z.]{1,30}"),
    ) {
        let name = |(local, domain): &(String, String)| mailbox_name(&address(local, domain), None, "mx");
        let (first, second) = (name(&one), name(&two));
        prop_assert!(!first.contains('/') && !first.starts_with('.') && !first.contains('\0'));
        prop_assert!(!first.is_empty() && first.len() <= MAILBOX_NAME_BYTES_MAX);
        prop_assert!(first.bytes().all(|b| b.is_ascii_graphic()));
        let same = |text: &str| if text.eq_ignore_ascii_case("postmaster") { "postmaster".to_owned() } else { text.to_owned() };
        prop_assert_eq!(first == second, (same(&one.0), &one.1) == (same(&two.0), &two.1));
    }
}

struct Mailboxes {
    dir: tempfile::TempDir,
    maildirs: Maildirs,
}

impl Mailboxes {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), maildirs: Maildirs::default() }
    }

    fn deliver(&self, mailbox: &str, file_name: &str, maybe_repeat: bool) -> Result<(), MaildirError> {
        let body = BodySource::Inline(b"Subject: x\r\n\r\nbody\r\n".to_vec().into());
        self.maildirs.deliver(&Letter {
            root: &self.dir.path().join("mail"),
            mailbox,
            file_name,
            prefix: b"Return-Path: <>\r\n",
            head: b"",
            from: 0,
            body: &body,
            maybe_repeat,
            mailboxes_max: 2,
        })
    }

    fn files(&self, below: &str) -> HashSet<String> {
        let path = self.dir.path().join("mail").join(below);
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn a_letter_is_whole_in_new_and_nothing_is_left_in_tmp() {
    let mail = Mailboxes::new();
    mail.deliver("ann@x", "1.a", false).unwrap();
    assert_eq!(mail.files("ann@x"), ["tmp", "new", "cur"].map(str::to_owned).into());
    assert_eq!(mail.files("ann@x/new"), ["1.a".to_owned()].into());
    assert!(mail.files("ann@x/tmp").is_empty());
    let text = fs::read(mail.dir.path().join("mail/ann@x/new/1.a")).unwrap();
    assert_eq!(text, b"Return-Path: <>\r\nSubject: x\r\n\r\nbody\r\n");
}

#[test]
fn a_repeat_after_a_crash_adds_no_second_copy() {
    let mail = Mailboxes::new();
    mail.deliver("ann@x", "1.a", false).unwrap();
    mail.deliver("ann@x", "1.a", true).unwrap();
    assert_eq!(mail.files("ann@x/new").len(), 1);
    let at = |below: &str| mail.dir.path().join("mail/ann@x").join(below);
    fs::rename(at("new/1.a"), at("cur/1.a:2,S")).unwrap();
    mail.deliver("ann@x", "1.a", true).unwrap();
    assert!(mail.files("ann@x/new").is_empty());
    fs::write(at("tmp/1.b"), "torn").unwrap();
    mail.deliver("ann@x", "1.b", true).unwrap();
    assert_eq!(mail.files("ann@x/new").len(), 1);
    assert!(mail.files("ann@x/tmp").is_empty());
}

#[test]
fn mailboxes_are_bounded_and_those_that_exist_go_on() {
    let mail = Mailboxes::new();
    mail.deliver("ann@x", "1.a", false).unwrap();
    mail.deliver("ben@x", "1.a", false).unwrap();
    let error = mail.deliver("cid@x", "1.a", false).unwrap_err();
    assert_eq!(error.reply.to_string(), "452 4.3.1 No room for another mailbox");
    assert!(error.detail.contains("raise mailboxes_max"));
    mail.deliver("ann@x", "2.a", false).unwrap();
    let restarted = Maildirs::default();
    let mail = Mailboxes { maildirs: restarted, ..mail };
    mail.deliver("cid@x", "1.a", false).unwrap_err();
    mail.deliver("ben@x", "2.a", false).unwrap();
}

#[test]
fn a_mailbox_that_was_removed_is_made_again() {
    let mail = Mailboxes::new();
    mail.deliver("ann@x", "1.a", false).unwrap();
    fs::remove_dir_all(mail.dir.path().join("mail")).unwrap();
    mail.deliver("ann@x", "2.a", false).unwrap();
    assert_eq!(mail.files("ann@x/new").len(), 1);
}

#[test]
fn full_disks_and_quotas_are_named_as_such() {
    let reply = |errno| failed(Path::new("x"), &io::Error::from_raw_os_error(errno)).reply.to_string();
    assert!(reply(28).starts_with("452 4.3.1"), "ENOSPC");
    assert!(reply(122).starts_with("452 4.2.2"), "EDQUOT");
    assert!(reply(13).starts_with("451 4.3.0"), "EACCES");
}

#[test]
fn the_name_of_a_file_depends_on_item_and_recipient_only() {
    let name = |item, local| file_name(item, 1_700_000_000_123, &address(local, "x"), "mx/1:2", 9);
    assert_eq!(name("0ID", "ann"), "1700000000.M123000_0ID_".to_owned() + &name("0ID", "ann")[23..]);
    assert!(name("0ID", "ann").ends_with(".mx_1_2,S=9"));
    assert_ne!(name("0ID", "ann"), name("0ID", "ann+x"), "two addresses of one mailbox are two letters");
    assert_ne!(name("0ID", "ann"), name("0IE", "ann"));
}
