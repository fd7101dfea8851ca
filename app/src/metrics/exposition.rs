//! The formats of `/metrics`.

use prometheus::{Encoder, TextEncoder};

use super::family::Family;
use super::protobuf;

const PROTOBUF: &str = "application/vnd.google.protobuf";
const FAMILY: &str = "io.prometheus.client.MetricFamily";

/// A format of `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Text, without native histograms.
    Text,
    /// Protobuf, with native histograms.
    Protobuf,
}

impl Exposition {
    /// Protobuf if the scraper prefers it to text, by its `Accept` header. Prometheus does where native histograms
    /// are enabled.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let (mut text, mut protobuf) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let type_ = parts.next().unwrap_or_default();
            let (mut quality, mut family, mut delimited) = (1.0, false, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name {
                    "q" => quality = value.parse().unwrap_or(0.0),
                    "proto" => family = value == FAMILY,
                    "encoding" => delimited = value == "delimited",
                    _ => {}
                }
            }
            match type_ {
                PROTOBUF if family && delimited => protobuf = quality,
                "text/plain" => text = f64::max(text, quality),
                _ => {}
            }
        }
        if protobuf > text { Self::Protobuf } else { Self::Text }
    }

    /// The media type of the response.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    pub(super) fn encode(self, families: Vec<Family>) -> prometheus::Result<Vec<u8>> {
        if self == Self::Protobuf {
            return Ok(protobuf::encode(&families));
        }
        let families: Vec<_> = families.into_iter().map(|family| family.classic).collect();
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_the_format_that_they_prefer() {
        // Prometheus 2.42 and 3.5 with and without native histograms, curl, nothing.
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        for (accept, format) in [
            (
                &*format!(
                    "{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
                ),
                Exposition::Protobuf,
            ),
            (
                &*format!(
                    "{protobuf};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
                ),
                Exposition::Protobuf,
            ),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                Exposition::Text,
            ),
            (&*format!("text/plain,{protobuf};q=0.1"), Exposition::Text),
            ("application/vnd.google.protobuf;proto=another.Message", Exposition::Text),
            ("*/*", Exposition::Text),
            ("", Exposition::Text),
        ] {
            assert_eq!(Exposition::accepted(accept), format, "{accept}");
        }
    }
}
