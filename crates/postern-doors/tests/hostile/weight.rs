//! What a peer's tickets say of its weight: from the book through a real connection, and never from the peer.

use postern_doors::postern::{Proof, Standing};
use postern_proto::door::{Keyring, Master, PeerClass, open_ticket};
use postern_trust::{Evidence, Writer};

use crate::blunt::admission;
use crate::client::{Held, Peer, now_s};
use crate::stage::{Settings, Stage, run};

/// As the server reads it when the ticket is shown.
fn weight((ticket, _): &Held) -> Option<u8> {
    let keys = Keyring::new(&Master::new([7; 32]), now_s().into());
    let (_, body) = open_ticket(&keys, ticket, now_s()).expect("ours");
    body.share.weight()
}

#[test]
fn a_history_is_told_by_the_next_tickets_and_a_ticket_with_it_is_let_in() {
    let (admission, _hands) = admission(64 << 20);
    let mut writer = Writer::new(std::sync::Arc::clone(&admission.book));
    let stage = Stage::new(Settings { admission: Some(admission), ..Settings::default() });
    let weights = async |peer: &Peer| {
        let link = peer.enter(stage.addr(), None).await.expect("let in");
        link.tickets.iter().map(weight).collect::<Vec<_>>()
    };
    run(async {
        // No more than two connections of each, which is as many as a proven domain may have.
        let (newcomer, old) = (stage.proven("new.example"), stage.proven("old.example"));
        assert_eq!(weights(&newcomer).await, [Some(1); 4]);
        // A letter of ours, which is worth eight good days: 1 + log2(9), whole.
        writer.apply(&Evidence::WroteTo { domain: "old.example".into(), address: None }, now_s().into());
        let link = old.enter(stage.addr(), None).await.expect("let in");
        assert_eq!(weight(&link.tickets[0]), Some(4));
        assert_eq!(weights(&newcomer).await, [Some(1); 4], "nobody else's");
        let again = old.enter(stage.addr(), Some(link.tickets[0])).await.expect("let in");
        assert_eq!(again.class, PeerClass::Proven);
        assert_eq!(stage.postern().gate().admitted_ticket, 1);
        let pinned = stage.peer("pinned.example", Proof::Pinned(Standing::secure("pinned.example")));
        assert_eq!(weights(&pinned).await, [Some(7); 4], "the operator's word");
    });
}
