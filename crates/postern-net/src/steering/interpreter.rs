//! Classic BPF as the kernel runs it, for the tests: checks a program, then runs it on a header.

use super::program::{NETWORK_HEADER, Program, RANDOM, code};

/// What the kernel would refuse to load (`bpf_check_classic`).
pub(super) fn check(program: &Program) -> Result<(), String> {
    let code = program.instructions();
    if code.is_empty() || code.len() > 4096 {
        return Err(format!("{} instructions", code.len()));
    }
    for (at, one) in code.iter().enumerate() {
        let left = code.len() - at - 1;
        let farthest = match one.code {
            code::JUMP => one.k as usize,
            code::JUMP_EQUAL | code::JUMP_NOT_BELOW => usize::from(one.if_true.max(one.if_false)),
            code::MODULO if one.k == 0 => return Err(format!("{at}: division by zero")),
            code::RETURN | code::RETURN_A => continue,
            code::LOAD_WORD | code::LOAD_BYTE | code::ADD | code::AND | code::MODULO => 0,
            unknown => return Err(format!("{at}: code {unknown:#x}")),
        };
        if farthest >= left {
            return Err(format!("{at}: goes {farthest} on, with {left} left"));
        }
    }
    Ok(())
}

/// The program's answer for a packet with this IP header.
pub(super) fn run(program: &Program, header: &[u8], random: u32) -> u32 {
    let code = program.instructions();
    let (mut at, mut a) = (0, 0u32);
    loop {
        let one = &code[at];
        at += 1;
        match one.code {
            code::LOAD_WORD if one.k == RANDOM => a = random,
            code::LOAD_WORD | code::LOAD_BYTE => {
                let size = if one.code == code::LOAD_WORD { 4 } else { 1 };
                let from = (one.k - NETWORK_HEADER) as usize;
                // Outside the packet the program ends with 0.
                let Some(octets) = header.get(from..from + size) else { return 0 };
                a = octets.iter().fold(0, |a, octet| a << 8 | u32::from(*octet));
            }
            code::ADD => a = a.wrapping_add(one.k),
            code::AND => a &= one.k,
            code::MODULO => a %= one.k,
            code::JUMP => at += one.k as usize,
            code::JUMP_EQUAL => at += usize::from(if a == one.k { one.if_true } else { one.if_false }),
            code::JUMP_NOT_BELOW => at += usize::from(if a >= one.k { one.if_true } else { one.if_false }),
            code::RETURN => return one.k,
            code::RETURN_A => return a,
            unknown => panic!("{}: code {unknown:#x}", at - 1),
        }
    }
}
