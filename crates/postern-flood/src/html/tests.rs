use super::page;
use crate::report::{CrowdReport, CrowdSecond, FriendsReport, FriendsSecond, Percentiles, Report, Second};

fn report() -> Report {
    let friends =
        FriendsReport { name: "<known>".into(), accepted: 3, success_percent: 97.5, ..FriendsReport::default() };
    let crowd = CrowdReport { name: "spam".into(), refused: [(421, 9)].into(), ..CrowdReport::default() };
    let second = |at_s: u32| {
        let mut greeting = Percentiles::default();
        if at_s != 2 {
            greeting =
                Percentiles { samples: 1, p50_ms: 1.0, p90_ms: 2.0, p99_ms: f64::from(at_s) * 10.0, max_ms: 30.0 };
        }
        let friends = vec![FriendsSecond { greeting, ..FriendsSecond::default() }];
        Second { at_s, crowds: vec![CrowdSecond { open: 5, ..CrowdSecond::default() }], friends }
    };
    Report { friends: vec![friends], crowds: vec![crowd], series: (0..6).map(second).collect(), ..Report::default() }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page(&report());
    for outside in ["http:", "https:", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.matches("<svg").count() >= 6 && page.matches("<svg").count() == page.matches("</svg>").count());
}

#[test]
fn names_cannot_break_the_page_and_figures_stand_in_it() {
    let page = page(&report());
    assert!(page.contains("&lt;known&gt;") && !page.contains("<known>"));
    assert!(page.contains("97.5 %") && page.contains("spam: 421"));
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn a_second_without_a_sample_is_a_gap() {
    let page = page(&report());
    let plot = page.split("time to greeting").nth(1).unwrap().split("</svg>").next().unwrap();
    assert_eq!(plot.matches("<polyline").count(), 4, "two lines in two pieces each: {plot}");
}

#[test]
fn an_empty_report_is_a_page_too() {
    let page = page(&Report::default());
    assert!(page.contains("<h1>") && !page.contains("NaN"));
}
