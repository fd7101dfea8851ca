//! The stream of NATS that events of orders go to.

use std::path::PathBuf;

use clap::Args;

use super::error::ConfigError;
use super::event_states::states;
use crate::order_events::{NatsConfig, NatsLogin, NatsServer, NatsSubject, StreamName};

/// Most servers that can be named.
const MOST_SERVERS: usize = 16;

/// Settings of [`NatsConfig`].
// No `Debug`: it holds secrets.
#[derive(Args)]
#[expect(clippy::struct_field_names, reason = "each field is named as its setting")]
pub(super) struct NatsArgs {
    /// Servers of NATS, as URLs with commas between them: events go to a stream of `JetStream`. Default: none.
    #[arg(long, value_name = "URLS", env = "EVENTS_NATS_SERVERS")]
    events_nats_servers: Option<String>,
    /// Subject that events are published to. A part of it can be `{state}`: the state that the order has come into.
    #[arg(long, env = "EVENTS_NATS_SUBJECT", value_parser = |text: &str| text.parse::<NatsSubject>())]
    events_nats_subject: Option<NatsSubject>,
    /// Name of the stream that must have the subject. Default: any stream.
    #[arg(long, env = "EVENTS_NATS_STREAM", value_parser = |text: &str| text.parse::<StreamName>())]
    events_nats_stream: Option<StreamName>,
    /// States whose events are published, separated by commas: those of orders, and `buyer_erased`. Default: all.
    #[arg(long, env = "EVENTS_NATS_STATES")]
    events_nats_states: Option<String>,
    /// PEM file with the certificates of authorities that are trusted beside the public ones. Default: none.
    #[arg(long, env = "EVENTS_NATS_CA_FILE")]
    events_nats_ca_file: Option<PathBuf>,
    /// User of a log-in by password.
    #[arg(long, env = "EVENTS_NATS_USERNAME")]
    events_nats_username: Option<String>,
    /// Password of a log-in by password.
    #[arg(long, env = "EVENTS_NATS_PASSWORD", hide_env_values = true)]
    events_nats_password: Option<String>,
    /// Token of a log-in by token.
    #[arg(long, env = "EVENTS_NATS_TOKEN", hide_env_values = true)]
    events_nats_token: Option<String>,
    /// Seed of a user's key, of a log-in by key.
    #[arg(long, env = "EVENTS_NATS_NKEY", hide_env_values = true)]
    events_nats_nkey: Option<String>,
    /// Text of a credentials file: a user's JWT and the seed of its key.
    #[arg(long, env = "EVENTS_NATS_CREDENTIALS", hide_env_values = true)]
    events_nats_credentials: Option<String>,
}

impl NatsArgs {
    pub(super) fn into_config(self) -> Result<Option<NatsConfig>, ConfigError> {
        let states = states("EVENTS_NATS_STATES", self.events_nats_states.as_deref())?;
        let servers = servers(self.events_nats_servers.as_deref().unwrap_or_default())?;
        if servers.is_empty() {
            return Ok(None);
        }
        let subject = self.events_nats_subject.ok_or_else(|| {
            ConfigError::new("EVENTS_NATS_SUBJECT", "is needed with EVENTS_NATS_SERVERS")
        })?;
        let mut logins = Vec::new();
        match (self.events_nats_username, self.events_nats_password) {
            (Some(username), Some(password)) => {
                logins.push(NatsLogin::Password { username, password });
            }
            (None, None) => {}
            (Some(_), None) => {
                let problem = "is needed with EVENTS_NATS_USERNAME";
                return Err(ConfigError::new("EVENTS_NATS_PASSWORD", problem));
            }
            (None, Some(_)) => {
                let problem = "is needed with EVENTS_NATS_PASSWORD";
                return Err(ConfigError::new("EVENTS_NATS_USERNAME", problem));
            }
        }
        logins.extend(self.events_nats_token.map(NatsLogin::Token));
        if let Some(seed) = self.events_nats_nkey {
            let login = NatsLogin::nkey(&seed);
            logins.push(login.map_err(|problem| ConfigError::new("EVENTS_NATS_NKEY", problem))?);
        }
        if let Some(file) = self.events_nats_credentials {
            let login = NatsLogin::credentials(&file);
            let unusable = |problem| ConfigError::new("EVENTS_NATS_CREDENTIALS", problem);
            logins.push(login.map_err(unusable)?);
        }
        let login = logins.pop().unwrap_or(NatsLogin::None);
        if !logins.is_empty() {
            let problem = "and EVENTS_NATS_PASSWORD, EVENTS_NATS_TOKEN, EVENTS_NATS_NKEY or EVENTS_NATS_CREDENTIALS: \
                           only one log-in can be used";
            return Err(ConfigError::new("EVENTS_NATS_USERNAME", problem));
        }
        let (stream, authorities) = (self.events_nats_stream, self.events_nats_ca_file);
        Ok(Some(NatsConfig { servers, subject, stream, login, states, authorities }))
    }
}

fn servers(text: &str) -> Result<Vec<NatsServer>, ConfigError> {
    let name = "EVENTS_NATS_SERVERS";
    let servers = text.split(',').filter(|it| !it.trim().is_empty()).map(str::parse);
    let servers = servers.collect::<Result<Vec<NatsServer>, _>>();
    let servers = servers.map_err(|problem| ConfigError::new(name, problem))?;
    if servers.len() > MOST_SERVERS {
        return Err(ConfigError::new(name, format!("must be {MOST_SERVERS} URLs at most")));
    }
    Ok(servers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::arguments::parse_variables;

    const SERVERS: (&str, &str) = ("EVENTS_NATS_SERVERS", "nats://a, tls://b:4223,");
    const SUBJECT: (&str, &str) = ("EVENTS_NATS_SUBJECT", "shop.orders.{state}");
    const SEED: &str = "SUAP53KWOVQSKFT5IHP33SRIENTAZZUVMC4OCUZGBDCE6NMWYZLUAWSSYQ";

    fn read(settings: &[(&str, &str)]) -> Result<Option<NatsConfig>, String> {
        let variable = |name: &str| {
            let found = settings.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let args: NatsArgs = parse_variables(&variable).map_err(|error| error.to_string())?;
        args.into_config().map_err(|error| error.to_string())
    }

    #[test]
    fn a_stream_has_servers_a_subject_and_one_log_in_or_none() {
        assert!(read(&[]).unwrap().is_none());
        let nats = read(&[SERVERS, SUBJECT]).unwrap().unwrap();
        assert_eq!((nats.servers.len(), nats.stream), (2, None));
        assert!(nats.login == NatsLogin::None);
        let file = format!(
            "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------"
        );
        let user = ("EVENTS_NATS_USERNAME", "ann");
        for login in [
            &[user, ("EVENTS_NATS_PASSWORD", "hunter2")][..],
            &[("EVENTS_NATS_TOKEN", "hunter2")],
            &[("EVENTS_NATS_NKEY", SEED)],
            &[("EVENTS_NATS_CREDENTIALS", &file)],
        ] {
            let nats = read(&[&[SERVERS, SUBJECT][..], login].concat()).unwrap().unwrap();
            assert!(nats.login != NatsLogin::None);
            let two = [&[SERVERS, SUBJECT, ("EVENTS_NATS_TOKEN", "x")][..], login].concat();
            assert_eq!(read(&two).is_ok(), login[0].0 == "EVENTS_NATS_TOKEN");
        }
    }

    #[test]
    fn errors_name_the_setting_and_show_no_secret() {
        let many = vec!["nats://a"; 17].join(",");
        for (name, wrong) in [
            ("EVENTS_NATS_SERVERS", "nats://me:hunter2@a"),
            ("EVENTS_NATS_SERVERS", many.as_str()),
            ("EVENTS_NATS_SUBJECT", "shop.>"),
            ("EVENTS_NATS_STREAM", "a.b"),
            ("EVENTS_NATS_STATES", "sold"),
            ("EVENTS_NATS_NKEY", "hunter2"),
            ("EVENTS_NATS_CREDENTIALS", "hunter2"),
        ] {
            let error = read(&[(name, wrong), SERVERS, SUBJECT]).err().unwrap();
            assert!(error.starts_with(&format!("{name}: ")), "{wrong}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(read(&[SERVERS]).err().unwrap().starts_with("EVENTS_NATS_SUBJECT: is needed"));
        for (given, missing) in [
            ("EVENTS_NATS_USERNAME", "EVENTS_NATS_PASSWORD"),
            ("EVENTS_NATS_PASSWORD", "EVENTS_NATS_USERNAME"),
        ] {
            let error = read(&[SERVERS, SUBJECT, (given, "hunter2")]).err().unwrap();
            assert_eq!(error, format!("{missing}: is needed with {given}"));
        }
    }
}
