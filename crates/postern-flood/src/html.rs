//! The report as one HTML page.

use crate::report::Report;

/// A page.
pub fn page(report: &Report) -> String {
    format!("<pre>{report}</pre>")
}
