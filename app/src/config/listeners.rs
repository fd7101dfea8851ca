//! Followers of live stock.

use super::source::{ConfigError, Source};
use super::values::number;
use crate::api::ListenersConfig;
use crate::bounds;

pub(super) fn read(source: &impl Source) -> Result<ListenersConfig, ConfigError> {
    let bounds = bounds::EVENT_LISTENERS;
    let total = number(source, "EVENT_LISTENERS", 5_000, bounds.clone())?;
    // An office may be behind an address, and a browser may have the page open twice.
    let tenth = (total / 10).max(2);
    let per_address = number(source, "EVENT_LISTENERS_PER_ADDRESS", tenth, bounds)?;
    Ok(ListenersConfig { total, per_address })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Setting(&'static str, &'static str);

    impl Source for Setting {
        fn get(&self, name: &str) -> Option<String> {
            (self.0 == name).then(|| self.1.to_owned())
        }
    }

    #[test]
    fn an_address_has_a_tenth_of_the_listeners_or_what_is_set() {
        let limits = |name, value| {
            let listeners = read(&Setting(name, value)).unwrap();
            (listeners.total, listeners.per_address)
        };
        assert_eq!(limits("", ""), (5_000, 500));
        assert_eq!(limits("EVENT_LISTENERS", "100"), (100, 10));
        assert_eq!(limits("EVENT_LISTENERS", "2"), (2, 2));
        assert_eq!(limits("EVENT_LISTENERS_PER_ADDRESS", "7"), (5_000, 7));
        let wrong = read(&Setting("EVENT_LISTENERS_PER_ADDRESS", "-1"));
        assert!(wrong.unwrap_err().to_string().starts_with("EVENT_LISTENERS_PER_ADDRESS: "));
    }
}
