//! Lines over time as SVG.

use std::fmt::Write;

use super::escape;

/// One line; a gap where there is no value.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) values: Vec<Option<f64>>,
}

/// One diagram.
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) unit: String,
    /// Latencies span five decades: on a linear scale the good half is one flat line.
    pub(super) logarithmic: bool,
    /// Seconds, ascending.
    pub(super) times: Vec<f64>,
    pub(super) lines: Vec<Line>,
}

impl Plot {
    pub(super) fn write(&self, page: &mut String) {
        let _ =
            write!(page, "<h2>{}</h2>\n<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">", escape(&self.title));
        let (low, high) = self.span();
        for tick in self.ticks(low, high) {
            let y = self.y(tick, low, high);
            let _ = write!(
                page,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT + INNER_WIDTH,
                LEFT - 6.0,
                y + 4.0,
                number(tick)
            );
        }
        let bottom = TOP + INNER_HEIGHT;
        let last = self.times.last().copied().unwrap_or(0.0).max(1.0);
        let _ = write!(
            page,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>",
            LEFT + INNER_WIDTH
        );
        let step = nice_step(last / 8.0);
        let mut at = 0.0;
        while at <= last {
            let x = self.x(at, last);
            let _ = write!(
                page,
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{} s</text>",
                bottom + 16.0,
                number(at)
            );
            at += step;
        }
        let _ = write!(page, "<text x=\"0\" y=\"10\">{}</text>", escape(&self.unit));
        for (n, line) in self.lines.iter().enumerate() {
            self.draw(page, line, COLOURS[n % COLOURS.len()], last, low, high);
            let y = TOP + 8.0 + n as f64 * 15.0;
            let x = LEFT + INNER_WIDTH + 12.0;
            let _ = write!(
                page,
                "<rect x=\"{x}\" y=\"{:.1}\" width=\"10\" height=\"3\" fill=\"{}\"/><text x=\"{}\" y=\"{:.1}\">{}</text>",
                y - 4.0,
                COLOURS[n % COLOURS.len()],
                x + 15.0,
                y,
                escape(&line.name)
            );
        }
        page.push_str("</svg>\n");
    }

    fn draw(&self, page: &mut String, line: &Line, colour: &str, last: f64, low: f64, high: f64) {
        let mut points = String::new();
        let flush = |points: &mut String, page: &mut String| {
            if !points.is_empty() {
                let _ = write!(
                    page,
                    "<polyline stroke=\"{colour}\" stroke-linecap=\"round\" points=\"{}\"/>",
                    points.trim()
                );
                points.clear();
            }
        };
        for (time, value) in self.times.iter().zip(&line.values) {
            match value {
                Some(value) => {
                    let (x, y) = (self.x(*time, last), self.y(*value, low, high));
                    // A lonely point is drawn as a line to itself: the round cap shows it.
                    let _ = write!(points, "{x:.1},{y:.1} ");
                    if points.matches(',').count() == 1 {
                        let _ = write!(points, "{x:.1},{y:.1} ");
                    }
                }
                None => flush(&mut points, page),
            }
        }
        flush(&mut points, page);
    }

    fn x(&self, time: f64, last: f64) -> f64 {
        LEFT + INNER_WIDTH * time / last
    }

    fn y(&self, value: f64, low: f64, high: f64) -> f64 {
        let part = if self.logarithmic {
            (value.max(low).log10() - low.log10()) / (high.log10() - low.log10())
        } else {
            (value - low) / (high - low)
        };
        TOP + INNER_HEIGHT * (1.0 - part.clamp(0.0, 1.0))
    }

    /// The lowest and highest of the scale; never the same.
    fn span(&self) -> (f64, f64) {
        let values = || self.lines.iter().flat_map(|line| line.values.iter().flatten().copied());
        let most = values().fold(0.0, f64::max);
        if !self.logarithmic {
            return (0.0, if most > 0.0 { most * 1.05 } else { 1.0 });
        }
        let least = values().filter(|value| *value > 0.0).fold(f64::MAX, f64::min).min(most.max(0.1)).max(0.01);
        let low = 10_f64.powf(least.log10().floor());
        (low, 10_f64.powf(most.max(low * 10.0).log10().ceil()))
    }

    fn ticks(&self, low: f64, high: f64) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.logarithmic {
            let mut tick = low;
            while tick <= high * 1.001 {
                ticks.push(tick);
                tick *= 10.0;
            }
        } else {
            let step = nice_step((high - low) / 5.0);
            let mut tick = low;
            while tick <= high {
                ticks.push(tick);
                tick += step;
            }
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, not below `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(power * 10.0)
}

fn number(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{:.0}k", value / 1_000.0)
    } else if value >= 1.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 18.0;
const INNER_WIDTH: f64 = 660.0;
const INNER_HEIGHT: f64 = 190.0;

/// Told apart by most eyes (Paul Tol's bright scheme).
const COLOURS: [&str; 8] = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#000000"];
