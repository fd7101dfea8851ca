//! Traces, by OpenTelemetry's own variables.

use axum::http::{HeaderName, HeaderValue};
use clap::Args;

use super::error::ConfigError;
use super::values::value;
use crate::traces::{Endpoint, Sampler, TracesConfig};

/// Settings of [`TracesConfig`].
// No `Debug`: the headers hold secrets.
#[derive(Args)]
#[expect(clippy::struct_field_names, reason = "each field is named as its setting")]
#[command(next_help_heading = "Traces")]
pub struct TracesArgs {
    /// Base URL of a collector that takes OTLP over HTTP, such as `http://collector:4318`; spans are posted to
    /// `/v1/traces` below it. Default: none, nothing is traced.
    #[arg(
        long,
        value_name = "URL",
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_parser = |text: &str| text.parse::<Endpoint>()
    )]
    otel_exporter_otlp_endpoint: Option<Endpoint>,
    /// Headers of each export, such as a key of the collector: `name=value`, separated by commas, values
    /// percent-encoded.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    otel_exporter_otlp_headers: Option<String>,
    /// Protocol of the export. Only `http/protobuf` is there.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_PROTOCOL",
        default_value = "http/protobuf",
        value_parser = protocol
    )]
    otel_exporter_otlp_protocol: String,
    /// Name of the service in traces.
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "flashsale")]
    otel_service_name: String,
    /// Which requests are traced: `always_on`, `always_off`, `traceidratio`, or one of these after `parentbased_`, which
    /// follows the caller's `traceparent` if there is one.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", default_value = "parentbased_always_on", value_parser = sampler)]
    otel_traces_sampler: String,
    /// Share of the requests that `traceidratio` traces, from 0 to 1.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1", value_parser = ratio)]
    otel_traces_sampler_arg: f64,
}

impl TracesArgs {
    /// `None`: nothing is traced.
    pub(super) fn into_config(self) -> Result<Option<TracesConfig>, ConfigError> {
        let headers = headers(self.otel_exporter_otlp_headers.as_deref().unwrap_or_default());
        let headers =
            headers.map_err(|problem| ConfigError::new("OTEL_EXPORTER_OTLP_HEADERS", problem))?;
        // Checked when it is read: there is one.
        let _ = self.otel_exporter_otlp_protocol;
        let Some(endpoint) = self.otel_exporter_otlp_endpoint else { return Ok(None) };
        let sampler = Sampler::of(&self.otel_traces_sampler, self.otel_traces_sampler_arg);
        let sampler = sampler.ok_or_else(|| ConfigError::new("OTEL_TRACES_SAMPLER", UNKNOWN))?;
        Ok(Some(TracesConfig { endpoint, headers, service: self.otel_service_name, sampler }))
    }
}

const UNKNOWN: &str =
    "must be always_on, always_off or traceidratio, or one of them after parentbased_";

fn sampler(text: &str) -> Result<String, String> {
    let known = Sampler::of(text.trim(), 1.0).map(|_| text.trim().to_owned());
    known.ok_or_else(|| format!("{text:?} {UNKNOWN}"))
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = value::<f64>("a number from 0 to 1")(text)?;
    let is_share = (0.0..=1.0).contains(&ratio);
    is_share.then_some(ratio).ok_or_else(|| format!("{text:?} is not a number from 0 to 1"))
}

fn protocol(text: &str) -> Result<String, String> {
    let only =
        "is not http/protobuf, the one protocol that there is; collectors take it on port 4318";
    let is_known = text.trim() == "http/protobuf";
    is_known.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} {only}"))
}

/// Never shows a header in an error: it may be a key.
fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let header = |(number, pair): (usize, &str)| {
        let parse = || {
            let (name, value) = pair.split_once('=')?;
            let mut value = HeaderValue::from_bytes(&percent_decoded(value.trim())?).ok()?;
            value.set_sensitive(true);
            Some((name.trim().parse().ok()?, value))
        };
        let problem = "is not name=value, with a value that is percent-encoded";
        parse().ok_or_else(|| format!("header {} {problem}", number + 1))
    };
    pairs.enumerate().map(header).collect()
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut decoded: Vec<u8> = parts.next()?.into();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        decoded.push(u8::from_str_radix(digits, 16).ok()?);
        decoded.extend(rest.as_bytes());
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::arguments::parse_variables;
    use crate::traces::RootSampler;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318");

    fn read(settings: &[(&str, &str)]) -> Result<Option<TracesConfig>, String> {
        let variable = |name: &str| {
            let found = settings.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let args: TracesArgs = parse_variables(&variable).map_err(|error| error.to_string())?;
        args.into_config().map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_traced_without_an_endpoint() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("OTEL_TRACES_SAMPLER", "always_on")]).unwrap().is_none());
        let config = read(&[ENDPOINT]).unwrap().unwrap();
        let sampler = Sampler { follows_parent: true, root: RootSampler::AlwaysOn };
        assert_eq!((config.sampler, config.service.as_str()), (sampler, "flashsale"));
        assert!(config.headers.is_empty());
    }

    #[test]
    fn samplers_have_the_names_of_the_standard() {
        let sampler = ("OTEL_TRACES_SAMPLER", "traceidratio\n");
        let config = read(&[ENDPOINT, sampler, ("OTEL_TRACES_SAMPLER_ARG", "0.01")]);
        let expected = Sampler { follows_parent: false, root: RootSampler::Ratio(0.01) };
        assert_eq!(config.unwrap().unwrap().sampler, expected);
    }

    #[test]
    fn headers_are_names_and_percent_encoded_values() {
        let text = "authorization=Bearer%20a%3Db, X-Tenant = shop ,,";
        let config = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", text)]).unwrap().unwrap();
        let headers: Vec<_> =
            config.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(headers, [("authorization", &b"Bearer a=b"[..]), ("x-tenant", b"shop")]);
    }

    #[test]
    fn errors_name_the_setting_and_show_no_key() {
        for (name, wrong) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:hunter2@otel"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b,hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%zz"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2%0a"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
            ("OTEL_TRACES_SAMPLER_ARG", "1%"),
        ] {
            // Without an endpoint as well: a mistake is found before traces are turned on.
            for endpoint in [None, Some(ENDPOINT)] {
                let settings: Vec<_> = [(name, wrong)].into_iter().chain(endpoint).collect();
                let error = read(&settings).err().unwrap();
                assert!(error.starts_with(&format!("{name}: ")), "{wrong}: {error}");
                assert!(!error.contains("hunter2"), "{error}");
            }
        }
    }
}
