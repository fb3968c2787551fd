//! Reasons in sentences, for `postern why`.
use crate::class::Class;

/// A class and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The class as the doors would see it.
    pub class: Class,
    /// Sentences, the most weighty first.
    pub reasons: Vec<String>,
}
