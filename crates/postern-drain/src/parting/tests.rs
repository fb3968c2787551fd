use bytes::Bytes;
use postern_proto::judgement::Judgement;

use super::*;
use crate::testing::meta;

const STORED: &[u8] = b"Subject: hello\r\n\r\nThe old body.\r\n";

fn judged(recipients: &[&str], action: Action) -> Meta {
    let judgement =
        Judgement { action, score_hundredths: None, by: "milter".into(), reason: None, headers: Vec::new() };
    Meta { judged: true, judgement: Some(judgement), ..meta(recipients) }
}

/// One line for each item: class, whether judged, action, recipients, size of the new body.
async fn lines(action: Action, new_body: Option<Vec<u8>>, released: bool) -> Vec<String> {
    let parting = Parting {
        meta: judged(&["a@x.example", "b@y.example"], action),
        apart: Some(judged(&["no@x.example", "c@plain.example"], Action::Mark)),
        new_body,
        released,
    };
    let filters = FilterTable::default().without(["plain.example".to_owned()]);
    let line = |child: &Child| {
        let meta = Meta::from_bytes(&child.meta).unwrap();
        let to: Vec<String> = meta.recipients.iter().map(|to| to.address.to_string()).collect();
        let action = meta.judgement.as_ref().map(|judgement| judgement.action);
        let new = match &child.body {
            ChildBody::New(bytes) => Some(bytes.len()),
            ChildBody::Parent => None,
        };
        format!("{} {} {action:?} {} {new:?}", child.lane.class, meta.judged, to.join(" "))
    };
    let body = BodySource::Inline(Bytes::from_static(STORED));
    parting.children(&Lane::new("x.example", 1), &body, &filters).await.unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn a_new_body_goes_with_every_part_that_was_judged() {
    let new = b"New.\r\n".to_vec();
    let len = Some(b"Subject: hello\r\n\r\nNew.\r\n".len());
    let expected = [
        format!("1 true Some(Accept) a@x.example {len:?}"),
        format!("1 true Some(Accept) b@y.example {len:?}"),
        "1 false None c@plain.example None".to_owned(),
        format!("1 true Some(Mark) no@x.example {len:?}"),
    ];
    assert_eq!(lines(Action::Accept, Some(new.clone()), false).await, expected);
    let aside = lines(Action::Quarantine, Some(new), false).await;
    assert_eq!(aside[0], format!("253 true Some(Quarantine) a@x.example {len:?}"));
}

#[tokio::test]
async fn what_a_filter_disarmed_is_never_handed_on_as_it_came() {
    let new = vec![b'x'; KEPT_BODIES_BYTES_MAX / 2];
    let expected = [
        "1 false Some(Accept) a@x.example None",
        "1 false Some(Accept) b@y.example None",
        "1 false None c@plain.example None",
        "253 true Some(Quarantine) no@x.example None",
    ];
    assert_eq!(lines(Action::Accept, Some(new), false).await, expected);
}

#[tokio::test]
async fn what_was_let_go_from_hold_stays_free_in_its_domain() {
    let expected = [
        "254 true Some(Accept) a@x.example None",
        "1 true Some(Accept) b@y.example None",
        "1 false None c@plain.example None",
        "254 true Some(Mark) no@x.example None",
    ];
    assert_eq!(lines(Action::Accept, None, true).await, expected);
}

#[test]
fn a_new_body_begins_where_the_filter_saw_the_old_one() {
    for (stored, expected) in [
        ("A: 1\r\n\r\nold", "A: 1\r\n\r\nnew"),
        ("A: 1\r\nno field\r\n\r\nold", "A: 1\r\n\r\nnew"),
        ("A: 1", "A: 1\r\n\r\nnew"),
        ("old", "\r\nnew"),
    ] {
        assert_eq!(String::from_utf8(with_new_body(stored.as_bytes(), b"new")).unwrap(), expected);
    }
}
