//! Places at the filters: how many judgements may be under way, and none while a filter is away. Pure;
//! the gates are those of destinations (`schedule::Gate`).
//!
//! A message takes a place at every filter before the first is asked, so that nothing is judged by one
//! only to wait for another.

use std::sync::Arc;

use crate::drain::DrainOptions;
use crate::filters::{FilterOptions, FilterTable};
use crate::schedule::Gate;

/// The gates of today's filters.
#[derive(Debug, Default)]
pub struct Gates {
    table: Arc<FilterTable>,
    gates: Vec<FilterGate>,
}

#[derive(Debug)]
struct FilterGate {
    options: FilterOptions,
    gate: Gate,
    /// When it last gave a verdict.
    answered_ms: Option<u64>,
}

/// What a judgement says about its filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It judged.
    Answered,
    /// Nobody is there.
    Away,
    /// It took too long, or talked nonsense: perhaps over this one message.
    Silent,
    /// Nothing: it was not asked, or our own disk failed.
    Nothing,
}

impl Gates {
    /// Takes over a table. A filter that is configured as before keeps its gate. True when it is another one.
    pub fn set_table(&mut self, table: &Arc<FilterTable>, options: &DrainOptions) -> bool {
        if Arc::ptr_eq(&self.table, table) {
            return false;
        }
        let mut before = std::mem::take(&mut self.gates);
        let gate_of = |filter: &FilterOptions| {
            let same = before.iter().position(|gate| gate.options == *filter);
            same.map(|at| before.swap_remove(at)).unwrap_or_else(|| FilterGate {
                options: filter.clone(),
                gate: Gate::of_filter(filter.workers, options),
                answered_ms: None,
            })
        };
        self.gates = table.filters.iter().map(gate_of).collect();
        self.table = table.clone();
        true
    }

    /// Messages that may be judged now.
    pub fn free_at(&self, now_ms: u64) -> usize {
        self.gates.iter().map(|gate| gate.gate.free_at(now_ms)).min().unwrap_or(usize::MAX)
    }

    /// Milliseconds that nobody should wait for: a filter is away, or somebody finds out whether it is back.
    pub fn keeps_waiting_at(&self, now_ms: u64) -> Option<u64> {
        self.gates.iter().filter_map(|gate| gate.gate.keeps_waiting_at(now_ms)).max()
    }

    /// Milliseconds for which surely nothing is judged: a filter is away, and nobody is finding out whether it is back.
    pub fn shut_for_at(&self, now_ms: u64) -> u64 {
        self.gates.iter().map(|gate| gate.gate.shut_for_at(now_ms)).max().unwrap_or(0)
    }

    /// Takes a place at every filter; false when one has none.
    pub fn try_start_at(&mut self, now_ms: u64) -> bool {
        let free = self.free_at(now_ms) > 0;
        if free {
            self.gates.iter_mut().for_each(|gate| {
                gate.gate.try_start_at(now_ms);
            });
        }
        free
    }

    /// Gives the place at one filter back. One message that keeps a filter busy for too long closes it for
    /// nobody: silence counts only when no other message was judged since this one came (`asked_ms`).
    pub fn give_back_at(&mut self, name: &str, sign: Sign, asked_ms: u64, now_ms: u64, random: u64) {
        let Some(gate) = self.gates.iter_mut().find(|gate| gate.options.filter.name == name) else { return };
        match sign {
            Sign::Answered => {
                gate.answered_ms = Some(now_ms);
                gate.gate.handle_reached();
            }
            Sign::Away => gate.gate.handle_unreached_at(now_ms, random),
            Sign::Silent if gate.answered_ms.is_none_or(|at| at < asked_ms) => {
                gate.gate.handle_unreached_at(now_ms, random);
            }
            Sign::Silent | Sign::Nothing => gate.gate.handle_unknown(),
        }
    }

    /// Milliseconds until a filter may be asked again that is away, and judgements under way.
    pub fn state_at(&self, name: &str, now_ms: u64) -> (Option<u64>, usize) {
        let gate = self.gates.iter().find(|gate| gate.options.filter.name == name);
        gate.map_or((None, 0), |gate| (gate.gate.away_at(now_ms), gate.gate.running()))
    }
}

#[cfg(test)]
mod tests;
