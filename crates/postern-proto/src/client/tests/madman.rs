//! A next hop that may say anything, from many seeds.

use alloc::vec::Vec;

use super::*;

/// A generator of the test's own: the seed is the whole story of a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides
    }
}

const REPLIES: [&[u8]; 16] = [
    b"220 hop\r\n",
    b"250 ok\r\n",
    b"250 2.0.0 ok\r\n",
    b"250-hop\r\n250-PIPELINING\r\n250-XCLIENT ADDR\r\n250 STARTTLS\r\n",
    b"354 go\r\n",
    b"354 go\r\n",
    b"421 4.3.2 down\r\n",
    b"450 4.2.0 later\r\n",
    b"550 5.1.1 no\r\n",
    b"552 too much\r\n",
    b"250 ok\r\n250 ok\r\n354 go\r\n",
    b"250-hop\r\n250 PIPELINING\r\n",
    b"25",
    b"0 x\r\n",
    b"\r\n",
    b"250 ok\r\n",
];

/// What a sane next hop would say to the last thing that was said to it.
fn sane(said: &[u8]) -> &'static [u8] {
    let last = said.strip_suffix(b"\r\n").unwrap_or_default().rsplit(|&byte| byte == b'\n').next();
    match last.unwrap_or_default() {
        b"" | b"STARTTLS" | b"XCLIENT ADDR=192.0.2.1" => REPLIES[0],
        b"EHLO us" | b"LHLO us" => REPLIES[3],
        b"DATA" => b"250 ok\r\n250 ok\r\n250 ok\r\n450 no\r\n354 go\r\n",
        b"." => b"250 ok\r\n250 ok\r\n250 ok\r\n",
        _ => REPLIES[1],
    }
}

/// A next hop that may say anything at any time.
fn talk_to_a_madman(seed: u64) {
    let mut dice = Dice(seed | 1);
    let protocol = if dice.roll(2) == 0 { Protocol::Smtp } else { Protocol::Lmtp };
    let options =
        ClientOptions { protocol, helo: "us".into(), starttls: dice.roll(2) == 0, deadlines: Deadlines::default() };
    let mut now = Instant(0);
    let mut client = Client::new(options, now);
    let mut out = Vec::new();
    let (mut sent_whole, mut orders) = (false, 0);
    for _ in 0..200 {
        match client.poll(&mut out) {
            Step::Read => {
                assert!(client.next_timeout().is_some(), "seed {seed}: a wait without a deadline");
                match dice.roll(40) {
                    0 => client.handle_closed("reset"),
                    1 => {
                        now = client.next_timeout().unwrap_or(now);
                        client.handle_timeout(now);
                    }
                    2..6 => client.handle_bytes(now, REPLIES[dice.roll(REPLIES.len())]),
                    _ => client.handle_bytes(now, sane(&out)),
                }
                out.clear();
            }
            Step::StartTls => client.handle_tls(now),
            Step::Body if dice.roll(4) == 0 => client.handle_bytes(now, REPLIES[dice.roll(REPLIES.len())]),
            Step::Body => {
                client.encode_body(now, b"x\r\n.\r\n", &mut out);
                client.end_body(now, &mut out);
                sent_whole = true;
            }
            Step::Outcome(results) => {
                assert_eq!(results.len(), 3, "seed {seed}: one result per recipient");
                let delivered = results.iter().any(|result| matches!(result, RecipientResult::Delivered(_)));
                assert!(sent_whole || !delivered, "seed {seed}: delivered, but never sent");
            }
            Step::Idle if orders == 5 => return,
            Step::Idle => {
                orders += 1;
                sent_whole = false;
                let order = match dice.roll(4) {
                    0 => Order::Xclient("ADDR=192.0.2.1"),
                    1 => Order::Reset,
                    _ => Order::Send(letter(&["a@y.org", "b@y.org", "c@y.org"], "")),
                };
                give(&mut client, now, &order);
            }
            Step::Closed => return,
            Step::Failed(failure) => {
                let decided = client.take_decided();
                assert!(decided.is_empty() || decided.len() == 3, "seed {seed}");
                assert!(
                    !matches!(failure, Failure::AfterFinalDot(_)) || sent_whole,
                    "seed {seed}: ambiguous, but never sent"
                );
                let delivered = decided.iter().flatten().any(|result| matches!(result, RecipientResult::Delivered(_)));
                assert!(sent_whole || !delivered, "seed {seed}: delivered, but never sent");
                return;
            }
        }
    }
}

#[test]
fn whatever_a_next_hop_says_nothing_is_delivered_that_was_not_sent() {
    for seed in 1..20_000_u64 {
        talk_to_a_madman(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}
