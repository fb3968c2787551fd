//! So many lines of one call site each second, and a count of what was left out.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// The filter. Call sites are compiled in, so the table is as large as the program has log lines.
pub(super) struct RateLimit<W> {
    windows: Mutex<Windows>,
    /// Where the counts go.
    out: W,
}

/// Pure: which lines of which kind were let through in their current second.
#[derive(Debug)]
struct Windows {
    per_second_max: u32,
    kinds: HashMap<Identifier, Window>,
    /// When the counts were last looked through.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
    place: String,
}

impl<W> RateLimit<W> {
    pub(super) fn new(per_second_max: u32, out: W) -> Self {
        Self { windows: Mutex::new(Windows { per_second_max, kinds: HashMap::new(), swept: None }), out }
    }
}

impl<S: Subscriber, W: Write + Clone + 'static> Filter<S> for RateLimit<W> {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let meta = event.metadata();
        let now = Instant::now();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = windows.sweep(now);
        let admitted = windows.admit(meta.callsite(), now, || place(meta));
        drop(windows);
        for (place, count) in counts {
            let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let line = format!("{}  WARN log: left out {count} more lines of {place}\n", super::rfc3339(since_1970));
            let _ = self.out.clone().write_all(line.as_bytes());
        }
        admitted
    }
}

fn place(meta: &Metadata<'_>) -> String {
    format!("{}:{}", meta.file().unwrap_or(meta.target()), meta.line().unwrap_or(0))
}

impl Windows {
    fn admit(&mut self, kind: Identifier, now: Instant, place: impl FnOnce() -> String) -> bool {
        let max = self.per_second_max;
        let window =
            self.kinds.entry(kind).or_insert_with(|| Window { began: now, written: 0, left_out: 0, place: place() });
        if now.duration_since(window.began) >= SECOND {
            window.began = now;
            window.written = 0;
        }
        if window.written < max {
            window.written += 1;
            return true;
        }
        window.left_out += 1;
        false
    }

    /// Once a second: what has been left out since the last time, to be told.
    fn sweep(&mut self, now: Instant) -> Vec<(String, u64)> {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < SECOND) {
            return Vec::new();
        }
        self.swept = Some(now);
        let over = self.kinds.values_mut().filter(|window| window.left_out > 0);
        over.map(|window| (window.place.clone(), std::mem::take(&mut window.left_out))).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tracing::Callsite;

    use super::*;

    /// Two call sites to name.
    macro_rules! kind {
        () => {{
            static CALLSITE: tracing::callsite::DefaultCallsite = tracing::callsite::DefaultCallsite::new(&META);
            static META: Metadata<'static> = tracing::metadata! {
                name: "event", target: "test", level: tracing::Level::INFO, fields: tracing::fieldset!("message"),
                callsite: &CALLSITE, kind: tracing::metadata::Kind::EVENT
            };
            CALLSITE.metadata().callsite()
        }};
    }

    #[test]
    fn a_flood_of_one_kind_is_cut_counted_and_leaves_other_kinds_alone() {
        let (flood, other) = (kind!(), kind!());
        let start = Instant::now();
        let mut windows = Windows { per_second_max: 20, kinds: HashMap::new(), swept: None };
        assert_eq!(windows.sweep(start), []);
        let written = (0..1000).filter(|_| windows.admit(flood.clone(), start, || "door.rs:7".into())).count();
        assert_eq!(written, 20);
        assert!(windows.admit(other, start, String::new));
        assert_eq!(windows.sweep(start), [], "told once a second, not at each line");
        assert_eq!(windows.sweep(start + SECOND), [("door.rs:7".to_owned(), 980)]);
        assert!(windows.admit(flood, start + SECOND, String::new));
        assert_eq!(windows.sweep(start + SECOND * 2), []);
    }
}
