//! What became of every message: mailboxes, queue, quarantine and dead letters against the book of the clients.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::traffic::{Answer, Record};
use crate::harness::postern::Postern;
use crate::postern;

/// A copy in a mailbox.
#[derive(Clone, Debug)]
pub(super) struct Copy {
    /// Whose: `ann@example.com`, or `ann` at Postfix.
    pub(super) mailbox: String,
    /// When it was written.
    pub(super) at: SystemTime,
    /// Its header and the body's beginning.
    pub(super) text: String,
}

/// All copies below `root`, by the number of the message.
pub(super) fn copies(root: &Path) -> BTreeMap<u32, Vec<Copy>> {
    let mut found: BTreeMap<u32, Vec<Copy>> = BTreeMap::new();
    for mailbox in fs::read_dir(root).into_iter().flatten().flatten() {
        for file in fs::read_dir(mailbox.path().join("new")).into_iter().flatten().flatten() {
            let text = String::from_utf8_lossy(&fs::read(file.path()).expect("a delivered message")).into_owned();
            let at = file.metadata().and_then(|meta| meta.modified()).expect("files have times");
            let mailbox = mailbox.file_name().to_string_lossy().into_owned();
            let number = field(&text, "X-Storm").and_then(|value| value.parse().ok());
            found.entry(number.expect("nobody else writes here")).or_default().push(Copy { mailbox, at, text });
        }
    }
    found
}

/// The values of a field, top first.
pub(super) fn fields<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let head = text.lines().take_while(|line| !line.is_empty());
    let value = |line: &'a str| line.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
    head.filter_map(value).map(str::trim).collect()
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    fields(text, name).first().copied()
}

/// `queue ls --json`: all that is in the spool.
pub(super) fn queue(server: &Postern) -> Vec<Value> {
    let listed = server.command(postern(), &["queue", "ls", "--json", "--limit", "100000"]);
    listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Dead letters, by the number of the message.
pub(super) fn dead(server: &Postern) -> Vec<u32> {
    let ids = queue(server).into_iter().filter(|item| item["state"] == "DEAD");
    let number = |item: Value| {
        let id = item["id"].as_str().expect("an id").to_owned();
        let text = server.command(postern(), &["queue", "show", "--body", &id]);
        field(&text, "X-Storm").and_then(|value| value.parse().ok()).expect("nobody else writes here")
    };
    ids.map(number).collect()
}

/// All there is to compare.
pub(super) struct Account {
    pub(super) records: Vec<Record>,
    pub(super) copies: BTreeMap<u32, Vec<Copy>>,
    pub(super) dead: Vec<u32>,
}

impl Account {
    /// Every message is where its answer says. A 250 is one copy in each of its recipients' mailboxes, marked by the
    /// filter if it is spam, or one dead letter; anything else is nowhere, or there once when the client never heard.
    pub(super) fn settle(&self, by: &str) {
        let mut wrong: Vec<String> = self.records.iter().filter_map(|record| self.misplaced(record)).collect();
        for (number, there) in &self.copies {
            match self.records.iter().find(|record| record.number == *number) {
                None => wrong.push(format!("{number}: sent by nobody")),
                Some(record) => {
                    let why = there.iter().filter_map(|copy| unjudged(&copy.text, record.letter.spam, by));
                    wrong.extend(why.map(|why| format!("{number} ({}): {why}", record.words)));
                }
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), self.records.len(), wrong.join("\n"));
    }

    fn misplaced(&self, record: &Record) -> Option<String> {
        let there = self.copies.get(&record.number).map_or(&[][..], Vec::as_slice);
        let dead = self.dead.iter().filter(|number| **number == record.number).count();
        let all = record.to.len();
        let well = match (&record.answer, dead) {
            (Answer::Taken, 0) => there.len() == all,
            (Answer::Taken, 1) => there.is_empty() && record.letter.bad,
            (Answer::Unknown, 0) => there.len() <= all,
            (Answer::Refused(_) | Answer::Deferred(_), 0) => there.is_empty(),
            _ => false,
        };
        let mut mailboxes: Vec<&str> = there.iter().map(|copy| copy.mailbox.as_str()).collect();
        mailboxes.sort_unstable();
        let twice = mailboxes.windows(2).any(|pair| pair[0] == pair[1]);
        let (number, answer, to) = (record.number, &record.answer, &record.to);
        (!well || twice).then(|| format!("{number}: {answer:?}, to {to:?}: in {mailboxes:?}, dead {dead}"))
    }
}

/// Why it does not carry the one filter's judgement, its own forgery gone.
fn unjudged(text: &str, spam: bool, by: &str) -> Option<String> {
    let (judged, flag) = (fields(text, "X-Postern-Filter"), fields(text, "X-Spam-Flag"));
    let [judgement] = judged.as_slice() else { return Some(format!("judged {judged:?}")) };
    let (action, flags): (&str, &[&str]) = if spam { ("mark", &["YES"]) } else { ("accept", &[]) };
    let well = judgement.starts_with(&format!("{action}; by={by}")) && flag == flags;
    (!well).then(|| format!("spam: {spam}, judged {judged:?}, flag {flag:?}"))
}
