//! What the thread does with a question.
use crate::desk::{Errand, IdentityError, Shared};
use crate::dns::Dns;
use crate::options::IdentityOptions;
use postern_trust::EvidenceSender;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
pub(crate) struct Setup;
impl Setup {
    pub(crate) fn new(_: IdentityOptions, _: Dns, _: Arc<Shared>, _: EvidenceSender) -> Result<Self, IdentityError> {
        Ok(Self)
    }
    pub(crate) async fn run(self, _receivers: Vec<mpsc::Receiver<Errand>>, mut stopped: watch::Receiver<bool>) {
        let _ = stopped.changed().await;
    }
}
