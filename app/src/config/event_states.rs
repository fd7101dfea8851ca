//! The states of orders whose events a system gets.

use ledger::events::BUYER_ERASED;
use ledger::orders::OrderState;

use super::error::ConfigError;

/// The states of a list with commas; `name` is its setting.
pub(super) fn states(name: &str, text: Option<&str>) -> Result<Vec<String>, ConfigError> {
    let text = text.unwrap_or_default();
    let states: Vec<&str> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    let is_known = |state: &&str| *state == BUYER_ERASED || OrderState::of(state).is_some();
    match states.iter().find(|state| !is_known(state)) {
        Some(unknown) => {
            Err(ConfigError::new(name, format!("{unknown:?} is no state of an order")))
        }
        None => Ok(states.into_iter().map(str::to_owned).collect()),
    }
}
