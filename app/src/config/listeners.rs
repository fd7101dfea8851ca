//! Event streams of live stock.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::Args;

use super::values::{number, seconds};
use crate::api::ListenersConfig;

/// Bounds of `EVENT_KEEP_ALIVE_SECONDS`: a shorter interval would cost more than the events themselves.
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Settings of [`ListenersConfig`].
#[derive(Args, Debug)]
#[expect(clippy::struct_field_names, reason = "each field is named as its setting")]
#[command(next_help_heading = "Event streams")]
pub struct ListenersArgs {
    /// Maximum number of clients that follow the stock by events at a time.
    #[arg(
        long,
        env = "EVENT_LISTENERS",
        default_value = "5000",
        value_parser = number::<usize>(0..=1_000_000)
    )]
    event_listeners: usize,
    /// Maximum number of them from one IPv4 address or one IPv6 network of 64 bits. Default: a tenth of
    /// `EVENT_LISTENERS`, at least 2.
    #[arg(
        long,
        env = "EVENT_LISTENERS_PER_ADDRESS",
        value_parser = number::<usize>(0..=1_000_000)
    )]
    event_listeners_per_address: Option<usize>,
    /// Interval of keep-alive events on a stream without changes, in seconds: less than the idle timeout of every
    /// proxy. At most half of `HTTP_IDLE_TIMEOUT_SECONDS` is used.
    #[arg(
        long,
        env = "EVENT_KEEP_ALIVE_SECONDS",
        default_value = "15",
        value_parser = seconds(KEEP_ALIVE)
    )]
    event_keep_alive_seconds: Duration,
}

impl ListenersArgs {
    /// With the time after which this replica closes a connection on which nothing is sent.
    pub(super) fn into_config(self, idle_timeout: Duration) -> ListenersConfig {
        let total = self.event_listeners;
        // An office may be behind an address, and a browser may have the page open twice.
        let tenth = (total / 10).max(2);
        ListenersConfig {
            total,
            per_address: self.event_listeners_per_address.unwrap_or(tenth),
            keep_alive: self.event_keep_alive_seconds.min(idle_timeout / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::parse_variables;
    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_mins(2);

    #[test]
    fn an_address_has_a_tenth_of_the_listeners_or_what_is_set() {
        let read = |name: &str, value: &str| {
            parse_variables(&|it| (it == name).then(|| value.to_owned()))
                .map(|args: ListenersArgs| args.into_config(IDLE_TIMEOUT))
        };
        let limits = |name, value| {
            let listeners = read(name, value).unwrap();
            (listeners.total, listeners.per_address)
        };
        assert_eq!(limits("", ""), (5_000, 500));
        assert_eq!(limits("EVENT_LISTENERS", "100"), (100, 10));
        assert_eq!(limits("EVENT_LISTENERS", "2"), (2, 2));
        assert_eq!(limits("EVENT_LISTENERS_PER_ADDRESS", "7"), (5_000, 7));
        let keep_alive = |value| read("EVENT_KEEP_ALIVE_SECONDS", value).unwrap().keep_alive;
        assert_eq!((keep_alive("").as_secs(), keep_alive("55").as_secs()), (15, 55));
        assert_eq!(keep_alive("120"), IDLE_TIMEOUT / 2, "an idle connection is closed");
        let wrong = read("EVENT_LISTENERS_PER_ADDRESS", "-1");
        assert!(wrong.unwrap_err().to_string().starts_with("EVENT_LISTENERS_PER_ADDRESS: "));
    }
}
