//! Where events of orders go.

use std::path::PathBuf;

use clap::Args;

use super::error::ConfigError;
use super::event_states::states;
use super::events_nats::NatsArgs;
use crate::order_events::{EventsConfig, SigningKey, WebhookConfig, WebhookUrl};

/// Settings of [`EventsConfig`].
// No `Debug`: it holds keys.
#[derive(Args)]
#[command(next_help_heading = "Events")]
pub struct EventsArgs {
    /// URL that gets each change of an order as a webhook, by the Standard Webhooks rules. Default: none.
    #[arg(
        long,
        value_name = "URL",
        env = "EVENTS_WEBHOOK_URL",
        hide_env_values = true,
        value_parser = |text: &str| text.parse::<WebhookUrl>()
    )]
    events_webhook_url: Option<WebhookUrl>,
    /// Key of the webhooks' signatures: `whsec_` and 24 to 64 bytes in base64. Two keys, separated by blanks or line
    /// ends, sign each webhook twice while the key changes.
    #[arg(long, env = "EVENTS_WEBHOOK_SECRET", hide_env_values = true)]
    events_webhook_secret: Option<String>,
    /// States whose events the webhook gets, separated by commas: those of orders, and `buyer_erased`. Default: all.
    #[arg(long, env = "EVENTS_WEBHOOK_STATES")]
    events_webhook_states: Option<String>,
    /// PEM file with the certificates of authorities that are trusted beside the public ones. Default: none.
    #[arg(long, env = "EVENTS_WEBHOOK_CA_FILE")]
    events_webhook_ca_file: Option<PathBuf>,
    #[command(flatten)]
    nats: NatsArgs,
}

impl EventsArgs {
    pub(super) fn into_config(self) -> Result<EventsConfig, ConfigError> {
        let nats = self.nats.into_config()?;
        let keys = keys(self.events_webhook_secret.as_deref().unwrap_or_default())?;
        let states = states("EVENTS_WEBHOOK_STATES", self.events_webhook_states.as_deref())?;
        let Some(url) = self.events_webhook_url else {
            return Ok(EventsConfig { webhook: None, nats });
        };
        if keys.is_empty() {
            let problem = "is needed with EVENTS_WEBHOOK_URL";
            return Err(ConfigError::new("EVENTS_WEBHOOK_SECRET", problem));
        }
        let authorities = self.events_webhook_ca_file;
        let webhook = Some(WebhookConfig { url, keys, states, authorities });
        Ok(EventsConfig { webhook, nats })
    }
}

/// Never shows a key in an error.
fn keys(text: &str) -> Result<Vec<SigningKey>, ConfigError> {
    let name = "EVENTS_WEBHOOK_SECRET";
    let keys = text.split_whitespace().map(str::parse).collect::<Result<Vec<SigningKey>, _>>();
    let keys = keys.map_err(|problem| ConfigError::new(name, problem))?;
    if keys.len() > 2 {
        return Err(ConfigError::new(name, "must have one key, or two while the key changes"));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::arguments::parse_variables;

    const URL: (&str, &str) = ("EVENTS_WEBHOOK_URL", "https://shop.example/events");
    const KEY: (&str, &str) = ("EVENTS_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");

    fn read(settings: &[(&str, &str)]) -> Result<EventsConfig, String> {
        let variable = |name: &str| {
            let found = settings.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let args: EventsArgs = parse_variables(&variable).map_err(|error| error.to_string())?;
        args.into_config().map_err(|error| error.to_string())
    }

    #[test]
    fn a_webhook_has_a_key_or_two() {
        assert!(read(&[]).unwrap().webhook.is_none());
        let webhook = read(&[URL, KEY]).unwrap().webhook.unwrap();
        assert_eq!((webhook.keys.len(), webhook.states.len()), (1, 0));
        let two = format!("{} {}", KEY.1.trim(), KEY.1);
        let states = ("EVENTS_WEBHOOK_STATES", "paid, buyer_erased");
        let webhook = read(&[URL, (KEY.0, &two), states]).unwrap().webhook.unwrap();
        assert_eq!(
            (webhook.keys.len(), webhook.states.as_slice()),
            (2, &["paid".to_owned(), "buyer_erased".to_owned()][..])
        );
    }

    #[test]
    fn errors_name_the_setting_and_show_no_key() {
        let three = [KEY.1.trim(); 3].join(" ");
        for (name, wrong) in [
            ("EVENTS_WEBHOOK_URL", "https://me:hunter2@shop.example"),
            ("EVENTS_WEBHOOK_SECRET", "hunter2"),
            ("EVENTS_WEBHOOK_SECRET", three.as_str()),
            ("EVENTS_WEBHOOK_STATES", "paid,sold"),
        ] {
            let error = read(&[(name, wrong)]).err().unwrap();
            assert!(error.starts_with(&format!("{name}: ")), "{wrong}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(read(&[URL]).err().unwrap().starts_with("EVENTS_WEBHOOK_SECRET: is needed"));
    }
}
