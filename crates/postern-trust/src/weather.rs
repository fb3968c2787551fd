//! The weather: when senders are answered, for the whole and for each domain.
use crate::pressure::Pressure;

/// When the sender is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// At the outcome.
    #[default]
    Through,
    /// At the receipt.
    Collect,
}

/// What is seen at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sky {
    /// Of the whole server.
    pub pressure: Pressure,
    /// Every domain that has mail, or whose next hop or filter is not well.
    pub domains: Vec<DomainSky>,
}

/// One domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainSky {
    /// Its name.
    pub domain: String,
    /// How long its next hop has been out of reach, in seconds; 0 while it is up.
    pub hop_down_s: u64,
    /// How long its filter has been out of reach, in seconds.
    pub filter_down_s: u64,
    /// How long messages wait for its filter, in seconds.
    pub filter_wait_s: u64,
    /// Its messages that could leave now.
    pub backlog: u64,
}

/// The modes.
#[derive(Clone, Debug, Default)]
pub struct Weather {}

impl Weather {
    /// Something changed?
    pub fn update(&mut self, _now_ms: u64, _sky: &Sky) -> bool {
        false
    }
    /// Of one domain.
    #[must_use]
    pub fn answer_of(&self, _domain: &str) -> Answer {
        Answer::Through
    }
}
