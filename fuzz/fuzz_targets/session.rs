//! A session under a caller that does anything in any order; the rules are those of the property tests.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/postern-proto/tests/chaos/mod.rs"]
mod chaos;

use chaos::{Action, Chaos};

// The first octet sets the door up. Then: 0xff and an octet is an answer, 0xfe and two octets are seconds that pass,
// 0xfd the end, 0xfc a shutdown; all up to the next of these is a packet. (UTF-8 holds none of them.)
fuzz_target!(|input: &[u8]| {
    let Some((&options, mut rest)) = input.split_first() else { return };
    let mut chaos = Chaos::new(options);
    while let Some((&kind, tail)) = rest.split_first() {
        rest = tail;
        let action = match kind {
            0xff => Action::Answer(octet(&mut rest)),
            0xfe => Action::Pass(u32::from(u16::from_be_bytes([octet(&mut rest), octet(&mut rest)])) * 1_000),
            0xfd => Action::End,
            0xfc => Action::Shutdown,
            first => {
                let end = rest.iter().position(|octet| *octet >= 0xfc).unwrap_or(rest.len());
                let packet = [&[first], &rest[..end]].concat();
                rest = &rest[end..];
                Action::Packet(packet)
            }
        };
        chaos.act(action);
    }
});

fn octet(rest: &mut &[u8]) -> u8 {
    let Some((&first, tail)) = rest.split_first() else { return 0 };
    *rest = tail;
    first
}
