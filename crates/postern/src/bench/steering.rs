//! What an accept queue of their own is worth to the known: time to greeting under more hostile
//! connections than the door can admit, with steering and without, in turn.
//!
//! Time to greeting, never to connect: `connect()` returns at once while thousands wait in the
//! queue behind it. The hostile crowd comes from all over 127.0.0.0/9, the friends from a pinned
//! network; the door takes extra time over each stranger (`smtp.admission_spin_us`), so that it
//! cannot keep up however fast this machine is.

mod friends;
mod hostile;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, Setup};
use crate::exit::{Code, Failure};
use friends::Greetings;
use hostile::Crowd;

/// As `--only` looks for it.
pub(super) const NAME: &str = "steering under hostile connections";

/// One way to run the server.
struct Way {
    name: &'static str,
    settings: &'static str,
    greetings: Greetings,
    hostile: u64,
    hostile_seconds: f64,
    accepted: u64,
    accepting_seconds: f64,
}

/// Runs each way `rounds` times, in turn; one row for each.
pub(super) fn measure(rounds: u32, quick: bool) -> Result<Vec<Value>, Failure> {
    let seconds = if quick { SECONDS / 3 } else { SECONDS };
    let way = |name, settings| Way {
        name,
        settings,
        greetings: Greetings::default(),
        hostile: 0,
        hostile_seconds: 0.0,
        accepted: 0,
        accepting_seconds: 0.0,
    };
    let mut ways = [way("one queue", OFF), way("a queue for the known", ON)];
    for round in 0..rounds {
        for way in &mut ways {
            eprintln!("round {}/{rounds}: {HOSTILE_PER_SECOND} hostile connections a second, {}", round + 1, way.name);
            way.run(Duration::from_secs(seconds))?;
        }
    }
    Ok(ways.iter_mut().map(Way::row).collect())
}

impl Way {
    fn run(&mut self, time: Duration) -> Result<(), Failure> {
        let server = Server::start(&Setup { settings: self.settings.into(), ..Setup::default() })?;
        let failed = |error: &std::io::Error| {
            Failure::io(Code::Os, NAME, error).cure("needs as many open files as connections: `ulimit -n 20000`")
        };
        let began = Instant::now();
        let crowd = Crowd::start(server.addr(), HOSTILE_PER_SECOND, WARM_UP + time).map_err(|error| failed(&error))?;
        // The queue fills up first: friends of the first moment would find it empty.
        std::thread::sleep(WARM_UP);
        let greetings = friends::come(server.addr(), FRIENDS_PER_SECOND, time).map_err(|error| failed(&error))?;
        self.accepted += server.accepted()?;
        self.accepting_seconds += began.elapsed().as_secs_f64();
        self.greetings.add(greetings);
        self.hostile += crowd.join().map_err(|error| failed(&error))?;
        self.hostile_seconds += (WARM_UP + time).as_secs_f64();
        Ok(())
    }

    fn row(&mut self) -> Value {
        let per_second = |count: u64, seconds: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            let count = count as f64;
            (count / seconds).round()
        };
        let millis = |time: Option<Duration>| time.map(|time| (time.as_secs_f64() * 1e5).round() / 100.0);
        let greetings = &mut self.greetings;
        json!({
            "name": self.name,
            "hostile_per_second": per_second(self.hostile, self.hostile_seconds),
            "accepted_per_second": per_second(self.accepted, self.accepting_seconds),
            "friends": greetings.came(),
            "never_greeted": greetings.never(),
            "greeting_p50_ms": millis(greetings.at(50)),
            "greeting_p99_ms": millis(greetings.at(99)),
        })
    }
}

/// The rows for people.
pub(super) fn print(rows: &[Value]) {
    if rows.is_empty() {
        return;
    }
    println!(
        "\ntime to greeting of {FRIENDS_PER_SECOND} friends a second under {HOSTILE_PER_SECOND} hostile connections a second\n"
    );
    println!("{:<24} {:>12} {:>10} {:>10} {:>14} {:>12}", "", "p50 ms", "p99 ms", "never", "hostile/s", "accepted/s");
    for row in rows {
        let time = |key: &str| row[key].as_f64().map_or_else(|| "never".to_owned(), |time| format!("{time:.1}"));
        println!(
            "{:<24} {:>12} {:>10} {:>10} {:>14} {:>12}",
            row["name"].as_str().unwrap_or(""),
            time("greeting_p50_ms"),
            time("greeting_p99_ms"),
            format!("{} of {}", row["never_greeted"], row["friends"]),
            super::num(&row["hostile_per_second"]),
            super::num(&row["accepted_per_second"]),
        );
    }
}

/// 100 µs for each stranger: with the session's own cost one core admits fewer than 10,000 a second.
const OFF: &str =
    "[smtp]\nadmission_spin_us = 100\n[trust]\npinned = [\"127.200.0.0/16\"]\n[auto]\nsteering = \"off\"\n";
const ON: &str =
    "[smtp]\nadmission_spin_us = 100\n[trust]\npinned = [\"127.200.0.0/16\"]\n[auto]\nsteering = \"auto\"\n";
/// What `6-kernel.md` measured with, and twice what such a door can take.
const HOSTILE_PER_SECOND: u32 = 20_000;
const FRIENDS_PER_SECOND: u32 = 20;
const SECONDS: u64 = 9;
/// 4,096 waiting connections are there in less.
const WARM_UP: Duration = Duration::from_secs(2);
