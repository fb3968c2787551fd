//! A generator's report as few figures, and the median of several.

use postern_flood::{Percentiles, Report};
use serde_json::{Map, Value, json};

/// What is printed of one run.
pub(super) fn of(report: &Report) -> Value {
    let friends: Map<String, Value> = report
        .friends
        .iter()
        .map(|friends| {
            let figures = json!({
                "offered": friends.offered,
                "success_percent": tenth(friends.success_percent),
                "in_time_percent": tenth(friends.in_time_percent),
                "greeting_ms": percentiles(&friends.greeting),
                "answer_ms": percentiles(&friends.final_reply),
            });
            (friends.name.clone(), figures)
        })
        .collect();
    let all = |of: fn(&postern_flood::CrowdReport) -> u64| report.crowds.iter().map(of).sum::<u64>();
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let per_second = |count: u64| (count as f64 / report.seconds.max(1e-9)).round();
    json!({
        "friends": friends,
        "hostile_connects_per_second": per_second(all(|crowd| crowd.attempts)),
        "hostile_greeted_per_second": per_second(all(|crowd| crowd.greeted)),
        "hostile_answered_250_per_second": per_second(all(|crowd| crowd.accepted)),
        "hostile_open_max": all(|crowd| crowd.open_max),
        "generator_cpu_percent": report.generator.cpu_percent.round(),
        "generator_busy_percent": report.generator.busy_percent.round(),
        "generator_late_p99_ms": tenth(report.generator.lag_p99_ms),
    })
}

/// Nothing where nobody was: a zero would look like an instant.
fn percentiles(of: &Percentiles) -> Value {
    if of.samples == 0 {
        return Value::Null;
    }
    json!({ "samples": of.samples, "p50": tenth(of.p50_ms), "p99": tenth(of.p99_ms), "max": tenth(of.max_ms) })
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A figure; 0 of none.
pub(super) fn num(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// Figure by figure; of an even number the worse (higher) one of the two in the middle.
pub(super) fn median(rounds: &[Value]) -> Value {
    let Some(first) = rounds.iter().find(|round| !round.is_null()) else { return Value::Null };
    if let Some(object) = first.as_object() {
        let of = |key: &String| median(&rounds.iter().map(|round| round[key].clone()).collect::<Vec<_>>());
        return object.keys().map(|key| (key.clone(), of(key))).collect::<Map<String, Value>>().into();
    }
    // Who was never greeted waited longest; a round without a figure is the worst of all.
    let mut values: Vec<&Value> = rounds.iter().collect();
    let order = |value: &Value| value.as_f64().unwrap_or(f64::INFINITY);
    values.sort_by(|a, b| order(a).total_cmp(&order(b)));
    values[values.len() / 2].clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_taken_figure_by_figure_and_a_missing_one_is_the_worst() {
        let round = |ms: Value, rate: u64| json!({ "a": { "ms": ms }, "rate": rate });
        let check = |rounds: &[Value], expected: Value| assert_eq!(median(rounds), expected, "{rounds:?}");
        check(&[], Value::Null);
        check(&[round(json!(3), 7)], round(json!(3), 7));
        let three = [round(json!(9), 1), round(json!(2), 3), round(json!(4), 2)];
        check(&three, round(json!(4), 2));
        check(&[round(json!(1), 1), round(Value::Null, 2), round(Value::Null, 3)], round(Value::Null, 2));
        check(&[round(json!(1), 1), round(Value::Null, 1), round(json!(2), 1)], round(json!(2), 1));
    }
}
