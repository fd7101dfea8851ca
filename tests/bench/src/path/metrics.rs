//! Metrics of a replica, as text.

/// The sum of a metric's samples in Prometheus's text format.
pub(super) fn sample(text: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| {
        let (labelled, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        let is_this = labelled.is_empty() || labelled.starts_with('{');
        let has_labels = labels.iter().all(|label| labelled.contains(label));
        (is_this && has_labels).then(|| value.parse::<f64>().ok()).flatten()
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_the_samples_of_one_metric() {
        let text = "# HELP sold_total x\nsold_total{outcome=\"sold\",product=\"1\"} 3\n\
                    sold_total{outcome=\"sold\",product=\"2\"} 4\nsold_total{outcome=\"lost\"} 5\n\
                    sold_total_more 100\nplain 7\n";
        assert!((sample(text, "sold_total", &["outcome=\"sold\""]) - 7.0).abs() < 1e-9);
        assert!((sample(text, "sold_total", &[]) - 12.0).abs() < 1e-9);
        assert!((sample(text, "plain", &[]) - 7.0).abs() < 1e-9);
    }
}
