use super::{FriendsReport, Percentiles, Report};

#[test]
fn percentiles_are_nearest_ranks() {
    let mut samples: Vec<u32> = (1..=1_000).rev().map(|ms| ms * 1_000).collect();
    let found = Percentiles::of(&mut samples);
    let expected = Percentiles { samples: 1_000, p50_ms: 500.0, p90_ms: 900.0, p99_ms: 990.0, max_ms: 1_000.0 };
    assert_eq!(found, expected);
    assert_eq!(Percentiles::of(&mut []), Percentiles::default());
    assert_eq!(Percentiles::of(&mut [7_000]).p50_ms, 7.0);
}

#[test]
fn a_report_survives_json_and_says_when_the_generator_was_the_bottleneck() {
    let mut report = Report::default();
    report.friends.push(FriendsReport { name: "known".into(), success_percent: 99.5, ..FriendsReport::default() });
    report.generator.limited = true;
    let back: Report = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    let page = back.to_string();
    assert!(page.contains("99.5 %") && page.contains("lower bound"), "{page}");
}
