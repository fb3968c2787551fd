//! Classic BPF as the kernel takes it, and a writer that lays it out from its end to its beginning.
//!
//! Jumps only go forwards, so a program that is written backwards knows every target when it needs
//! it, and how far away it is. A conditional jump reaches 255 instructions; for farther targets the
//! writer puts an unconditional one, which reaches all, close by.

/// The kernel's limit (`BPF_MAXINSNS`).
pub const INSTRUCTIONS_MAX: usize = 4096;

/// A program for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

/// One instruction: `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) k: u32,
}

/// The codes in use (`linux/bpf_common.h`), each a class, a size or operation, and a mode or source.
pub(super) mod code {
    pub(crate) const LOAD_WORD: u16 = 0x20;
    pub(crate) const LOAD_BYTE: u16 = 0x30;
    pub(crate) const ADD: u16 = 0x04;
    pub(crate) const AND: u16 = 0x54;
    pub(crate) const MODULO: u16 = 0x94;
    pub(crate) const JUMP: u16 = 0x05;
    pub(crate) const JUMP_EQUAL: u16 = 0x15;
    pub(crate) const JUMP_NOT_BELOW: u16 = 0x35;
    pub(crate) const RETURN: u16 = 0x06;
    pub(crate) const RETURN_A: u16 = 0x16;
}

/// Added to an offset: count from the IP header (`SKF_NET_OFF`, -0x100000). For a reuseport group
/// offset 0 is the first octet behind the TCP header.
pub(super) const NETWORK_HEADER: u32 = 0xfff0_0000;
/// A load from here gives a random number (`SKF_AD_OFF + SKF_AD_RANDOM`).
pub(super) const RANDOM: u32 = 0xffff_f000 + 56;

impl Program {
    /// How many instructions.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: the kernel takes no empty program.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As written out by hand.
    pub(super) fn from_instructions(instructions: Vec<Instruction>) -> Self {
        Self(instructions)
    }

    pub(super) fn instructions(&self) -> &[Instruction] {
        &self.0
    }
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An instruction, counted from the end.
    At(usize),
    /// The answer "known" (true) or "stranger".
    Answer(bool),
}

/// Writes a program backwards.
pub(super) struct Writer {
    /// The last instruction first.
    code: Vec<Instruction>,
    cores: u16,
    /// The ends of the program; and the nearest place that leads to each. By `known as usize`.
    ends: [usize; 2],
    near: [usize; 2],
}

impl Writer {
    /// Starts with both answers. With more than one core a random number chooses among the queues
    /// of a class: a hash of port and address, which anybody can compute, would let an attacker aim
    /// all of a flood at one thread.
    pub(super) fn new(cores: u16) -> Self {
        let mut writer = Self { code: Vec::new(), cores, ends: [0; 2], near: [0; 2] };
        for known in [true, false] {
            let end = writer.answer(known);
            writer.ends[usize::from(known)] = end;
            writer.near[usize::from(known)] = end;
        }
        writer
    }

    fn answer(&mut self, known: bool) -> usize {
        let cores = u32::from(self.cores);
        if cores == 1 {
            return self.push(code::RETURN, u32::from(known));
        }
        self.push(code::RETURN_A, 0);
        if known {
            self.push(code::ADD, cores);
        }
        self.push(code::MODULO, cores);
        self.push(code::LOAD_WORD, RANDOM)
    }

    /// Writes an instruction before all that are there.
    pub(super) fn push(&mut self, code: u16, k: u32) -> usize {
        self.code.push(Instruction { code, if_true: 0, if_false: 0, k });
        self.code.len() - 1
    }

    /// A conditional jump; none where both ways lead to the same.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Two less than a jump reaches: the second may put one more instruction in between.
        let yes = self.bring_near(yes);
        let no = self.bring_near(no);
        let (if_true, if_false) = (self.distance(yes), self.distance(no));
        self.code.push(Instruction { code, if_true: narrow(if_true), if_false: narrow(if_false), k });
        Target::At(self.code.len() - 1)
    }

    /// Instructions that a jump written now would skip.
    fn distance(&self, target: usize) -> usize {
        self.code.len() - 1 - target
    }

    fn bring_near(&mut self, target: Target) -> usize {
        let at = match target {
            Target::At(at) => at,
            Target::Answer(known) => self.near[usize::from(known)],
        };
        if self.distance(at) <= REACH {
            return at;
        }
        match target {
            Target::At(at) => self.jump(at),
            Target::Answer(known) => {
                // An answer of one instruction costs no more than the jump to it.
                let near = if self.cores == 1 { self.answer(known) } else { self.jump(self.ends[usize::from(known)]) };
                self.near[usize::from(known)] = near;
                near
            }
        }
    }

    fn jump(&mut self, target: usize) -> usize {
        let distance = u32::try_from(self.distance(target)).unwrap_or(u32::MAX);
        self.push(code::JUMP, distance)
    }

    /// The program that begins at `start`.
    pub(super) fn finish(mut self, start: Target) -> Program {
        match start {
            Target::At(at) => self.code.truncate(at + 1),
            Target::Answer(known) => {
                self.code.clear();
                self.answer(known);
            }
        }
        self.code.reverse();
        Program(self.code)
    }
}

fn narrow(distance: usize) -> u8 {
    u8::try_from(distance).unwrap_or(u8::MAX)
}

/// How far a conditional jump may be from its target when the first of its two ways is looked at.
const REACH: usize = u8::MAX as usize - 1;
