use super::{FilterError, Finding, Subject};
use crate::client::Target;

pub(super) async fn judge(_target: &Target, _hostname: &str, _subject: &Subject<'_>) -> Result<Finding, FilterError> {
    Err(FilterError::Unreachable("not yet".to_owned()))
}
