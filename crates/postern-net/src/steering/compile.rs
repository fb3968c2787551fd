//! From networks to a program: a binary search over the addresses at which the answer changes.
//!
//! An IPv6 address is searched by its four words: within one word as if it were IPv4, and where a
//! word's value leaves the answer open, on with the next. So a /32 costs what an IPv4 network does.

use ipnet::IpNet;

use super::program::{NETWORK_HEADER, Program, Target, Writer, code};
use super::ranges::Edges;

/// A program and what found room in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// For the kernel.
    pub program: Program,
    /// How many of the networks it holds, from the first.
    pub held: usize,
    /// How many it does not.
    pub left_out: usize,
}

/// Compiles as many of `networks`, hottest first, as fit into `instructions_max`. They may overlap,
/// be repeated and come in any order; the answer for an address is the same in each.
pub fn compile(networks: &[IpNet], cores: u16, instructions_max: usize) -> Compiled {
    let all = assemble(networks, cores);
    if all.len() <= instructions_max {
        return Compiled { program: all, held: networks.len(), left_out: 0 };
    }
    // More networks make a longer program, but for neighbours that melt into one: the search may
    // then stop a few short of the most that would fit.
    let (mut fits, mut too_many) = (0, networks.len());
    let mut program = assemble(&[], cores);
    while too_many - fits > 1 {
        let middle = fits.midpoint(too_many);
        let candidate = assemble(&networks[..middle], cores);
        if candidate.len() <= instructions_max {
            (fits, program) = (middle, candidate);
        } else {
            too_many = middle;
        }
    }
    Compiled { program, held: fits, left_out: networks.len() - fits }
}

/// Where a family's header has the source address.
struct Family {
    source: u32,
    words: u32,
}

/// RFC 791 section 3.1.
const V4: Family = Family { source: 12, words: 1 };
/// RFC 8200 section 3.
const V6: Family = Family { source: 8, words: 4 };

/// What follows from the value of a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Answer(bool),
    /// It depends on the next word: these edges lie within, and this is the answer before them.
    Open(&'a [u128], bool),
}

fn assemble(networks: &[IpNet], cores: u16) -> Program {
    let edges = Edges::of(networks);
    let mut writer = Writer::new(cores);
    let four = word(&mut writer, &V4, 0, &edges.v4, false);
    let six = word(&mut writer, &V6, 0, &edges.v6, false);
    let start = writer.branch(code::JUMP_EQUAL, 0x60, six, Target::Answer(false));
    let start = writer.branch(code::JUMP_EQUAL, 0x40, four, start);
    let start = match start {
        Target::Answer(_) => start,
        Target::At(_) => {
            // The version is the high half of the first octet. A load from outside the packet ends
            // the program with 0, which is a queue for strangers.
            writer.push(code::AND, 0xf0);
            Target::At(writer.push(code::LOAD_BYTE, NETWORK_HEADER))
        }
    };
    writer.finish(start)
}

/// Looks at one word of the address: all edges agree in the words before it.
fn word(writer: &mut Writer, family: &Family, index: u32, edges: &[u128], known: bool) -> Target {
    let pieces = pieces(edges, 32 * (family.words - 1 - index), known);
    match search(writer, family, index, &pieces) {
        Target::At(_) => Target::At(writer.push(code::LOAD_WORD, NETWORK_HEADER + family.source + 4 * index)),
        answer => answer,
    }
}

/// The first value of each piece, and the piece; the first begins at 0.
fn pieces(edges: &[u128], shift: u32, mut known: bool) -> Vec<(u32, Piece<'_>)> {
    #[expect(clippy::cast_possible_truncation, reason = "one word of the address is wanted")]
    let value_of = |edge: &u128| (edge >> shift) as u32;
    let mut pieces = vec![(0, Piece::Answer(known))];
    for group in edges.chunk_by(|one, other| value_of(one) == value_of(other)) {
        let value = value_of(&group[0]);
        let after = known ^ (group.len() % 2 == 1);
        if let [edge] = group
            && edge.trailing_zeros() >= shift
        {
            begin(&mut pieces, value, Piece::Answer(after));
        } else {
            begin(&mut pieces, value, Piece::Open(group, known));
            if let Some(next) = value.checked_add(1) {
                begin(&mut pieces, next, Piece::Answer(after));
            }
        }
        known = after;
    }
    pieces
}

fn begin<'a>(pieces: &mut Vec<(u32, Piece<'a>)>, value: u32, piece: Piece<'a>) {
    // The piece before was empty, then.
    pieces.pop_if(|last| last.0 == value);
    if pieces.last().is_none_or(|last| last.1 != piece) {
        pieces.push((value, piece));
    }
}

fn search(writer: &mut Writer, family: &Family, index: u32, pieces: &[(u32, Piece<'_>)]) -> Target {
    match pieces {
        [] => Target::Answer(false),
        [(_, Piece::Answer(known))] => Target::Answer(*known),
        [(_, Piece::Open(edges, known))] => word(writer, family, index + 1, edges, *known),
        _ => {
            let (low, high) = pieces.split_at(pieces.len() / 2);
            let above = search(writer, family, index, high);
            let below = search(writer, family, index, low);
            writer.branch(code::JUMP_NOT_BELOW, high[0].0, above, below)
        }
    }
}
