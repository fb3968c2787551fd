//! What the operator reads when he has mistyped.

use super::*;

fn check(text: &str, expected: &[&str]) {
    match (parse("postern.toml", text), expected) {
        (Ok(_), []) => {}
        (Ok(_), _) => panic!("accepted: {text}"),
        (Err(fault), _) => {
            let shown = fault.to_string();
            assert!(!expected.is_empty(), "refused {text}: {shown}");
            for part in expected {
                assert!(shown.contains(part), "{shown}\nlacks {part}");
            }
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    check(
        "[smtp]\nlisen = \"x\"\n",
        &["postern.toml:2:1:", "unknown key \"lisen\" in [smtp]", "did you mean \"listen\"?"],
    );
    check("hostnam = \"x\"\n", &["postern.toml:1:1:", "did you mean \"hostname\"?"]);
    check("[domain.\"a.example\"]\nmod = \"hold\"\n", &["2:1", "[domain.\"a.example\"]", "\"mode\""]);
    check("[smpt]\n", &["unknown table [smpt]", "did you mean [smtp]?"]);
    check("[tls]\nzzz = 1\n", &["known here: cert, key"]);
}

#[test]
fn a_key_in_the_wrong_table_is_told_its_place() {
    check("[tls]\nsize_max = 1\n", &["\"size_max\" belongs in [smtp]"]);
    check("[smtp]\nhostname = \"x\"\n", &["stands before the first table"]);
    check("smtp = 3\n", &["write [smtp]"]);
}

#[test]
fn a_wrong_value_is_shown_with_its_key_and_an_example() {
    check(
        "[smtp]\nlisten = [\"nowhere\"]\n",
        &["postern.toml:2:", "smtp.listen", "for example: listen = [\"127.0.0.1:2525\"]"],
    );
    check("mode = \"holt\"\n", &["1:8", "mode: ", "holt", "through", "for example: mode"]);
    check("[spool]\nfree_low = \"10 apples\"\n", &["spool.free_low", "10 apples", "KiB"]);
    check("[recipients]\n\"a.example\" = \"all\"\n", &["2:15", "a.example", "\"any\""]);
    check("[domain.\"a.example\"]\nmode = 7\n", &["2:8", "for example: mode = "]);
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    check("hostname = \n", &["postern.toml:1:", "TOML"]);
    check("[smtp\n", &["postern.toml:1:"]);
}

#[test]
fn an_empty_file_and_every_default_are_accepted() {
    check("", &[]);
    check("data = \"d\"\n[smtp]\nlisten = []\n[recipients]\n\"a.example\" = { list = [\"ann\"] }\n", &[]);
}
