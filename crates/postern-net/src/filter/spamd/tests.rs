//! Answers of spamd, and what would be written into the header.

use super::*;

#[track_caller]
fn check(answer: &str, expected: Result<(Verdict, i32, &str), &str>) {
    let found = read(answer.as_bytes());
    let expected = expected.map(|(verdict, score, reason)| (verdict, Some(score), Some(reason.to_owned())));
    let expected = expected.map_err(|words| FilterError::Protocol(format!("its answer {words}")));
    assert_eq!(found.map(|found| (found.verdict, found.score_hundredths, found.reason)), expected, "{answer:?}");
}

#[test]
fn an_answer_is_read_whatever_version_words_it() {
    let head = "SPAMD/1.1 0 EX_OK\r\nContent-length: 20\r\n";
    check(
        &format!("{head}Spam: True ; 1000.0 / 5.0\r\n\r\nGTUBE,NO_RELAYS"),
        Ok((Verdict::Mark, 100_000, "1000.0/5.0: GTUBE, NO_RELAYS")),
    );
    check(&format!("{head}Spam: False ; -1.2 / 5.0\r\n\r\n"), Ok((Verdict::Accept, -120, "-1.2/5.0")));
    check("SPAMD/1.5 0 EX_OK\r\nspam:yes;5/5\r\n\r\nA\r\n", Ok((Verdict::Mark, 500, "5.0/5.0: A")));
}

#[test]
fn an_answer_that_is_none_is_an_error() {
    check("HTTP/1.1 200 OK\r\n\r\n", Err("is not spamd's"));
    check("SPAMD/1.1\r\n\r\n", Err("has no code"));
    check("SPAMD/1.0 76 Bad header line: x\r\n", Err("is 76: Bad header line: x"));
    for spam in ["", "Spam: True\r\n", "Spam: maybe ; 1 / 5\r\n", "Spam: True ; x / 5\r\n", "Spam: True ; NaN / 5\r\n"]
    {
        check(&format!("SPAMD/1.1 0 EX_OK\r\n{spam}\r\n"), Err("does not say whether it is spam"));
    }
    assert_eq!(read(b"SPAMD/1.1 79 Timeout\r\n\r\n"), Err(FilterError::TimedOut));
}

#[test]
fn its_field_has_the_names_of_tests_and_nothing_else() {
    let answer = b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 7.5 / 5.0\r\n\r\nONE,TWO,no name\r\nBcc: x";
    let value = "Yes, score=7.5 required=5.0\r\n\ttests=ONE,\r\n\tTWO".to_owned();
    let expected = HeaderChange::Insert { at: 0, name: "X-Spam-Status".to_owned(), value };
    assert_eq!(read(answer).map(|found| found.headers), Ok(vec![expected]));
}
