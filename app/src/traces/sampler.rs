//! Which requests are traced: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.

use super::context::RemoteParent;

/// Chooses requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// The decision of the caller's `traceparent` stands.
    pub follows_parent: bool,
    /// For all other requests.
    pub root: RootSampler,
}

/// Chooses requests without a caller's decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RootSampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share, from 0 to 1, by the trace's id: every service chooses the same traces.
    Ratio(f64),
}

impl Sampler {
    /// The sampler of this name in the standard.
    pub(crate) fn of(name: &str, ratio: f64) -> Option<Self> {
        let (follows_parent, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let root = match root {
            "always_on" => RootSampler::AlwaysOn,
            "always_off" => RootSampler::AlwaysOff,
            "traceidratio" => RootSampler::Ratio(ratio),
            _ => return None,
        };
        Some(Self { follows_parent, root })
    }

    pub(super) fn samples(&self, trace: u128, parent: Option<RemoteParent>) -> bool {
        if let (true, Some(parent)) = (self.follows_parent, parent) {
            return parent.is_sampled;
        }
        match self.root {
            RootSampler::AlwaysOn => true,
            RootSampler::AlwaysOff => false,
            RootSampler::Ratio(ratio) => {
                // As the SDKs of all languages do it, with 63 bits of the id.
                #[expect(clippy::cast_possible_truncation, reason = "the lower half of the id")]
                let position = (trace as u64) >> 1;
                #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
                let position = position as f64;
                position < ratio * 2_f64.powi(63)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(is_sampled: bool) -> RemoteParent {
        RemoteParent { trace: u128::MAX, span: 1, is_sampled }
    }

    #[test]
    fn a_parent_decides_only_for_the_samplers_that_follow_it() {
        for (name, alone, sampled, unsampled) in [
            ("always_on", true, true, true),
            ("always_off", false, false, false),
            ("traceidratio", false, false, false),
            ("parentbased_always_on", true, true, false),
            ("parentbased_always_off", false, true, false),
            ("parentbased_traceidratio", false, true, false),
        ] {
            let sampler = Sampler::of(name, 0.5).unwrap();
            let samples = |parent| sampler.samples(u128::MAX, parent);
            let expected = (alone, sampled, unsampled);
            let found = (samples(None), samples(Some(parent(true))), samples(Some(parent(false))));
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(Sampler::of("parentbased_jaeger_remote", 1.0), None);
    }

    #[test]
    fn a_ratio_is_that_share_of_all_ids() {
        for (ratio, expected) in [(0.0, 0), (0.01, 100), (0.25, 2500), (1.0, 10_000)] {
            let sampler = Sampler::of("traceidratio", ratio).unwrap();
            // Spread evenly, the last one included.
            let ids = (1..=10_000_u128).map(|i| (i << 64) | (u128::from(u64::MAX) * i / 10_000));
            let sampled = ids.filter(|id| sampler.samples(*id, None)).count();
            assert!(sampled.abs_diff(expected) <= 1, "{ratio}: {sampled}");
        }
    }
}
