use super::*;

#[test]
fn an_id_survives_its_text() {
    for id in [0, 1, 31, 32, u64::MAX, 0x0123_4567_89ab_cdef] {
        let text = ItemId(id).to_string();
        assert_eq!(text.len(), 13);
        assert_eq!(text.parse(), Ok(ItemId(id)), "{text}");
        assert_eq!(text.to_lowercase().parse(), Ok(ItemId(id)), "{text}");
    }
}

#[test]
fn text_order_is_id_order() {
    assert!(ItemId(5).to_string() < ItemId(1 << 40).to_string());
}

#[test]
fn other_text_is_not_an_id() {
    for text in ["", "0", "00000000000000", "000000000000U", "G000000000000", "000000 000000", "00000000000\u{e9}"] {
        assert_eq!(text.parse::<ItemId>(), Err(ItemIdError), "{text}");
    }
}
