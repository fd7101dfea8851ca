//! Which series an expression of `PromQL` reads.

/// A metric in an expression, with the conditions on its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The metric.
    pub name: String,
    /// The conditions.
    pub matchers: Vec<Matcher>,
}

/// A condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: String,
    /// `=`, `!=`, `=~` or `!~`.
    pub operator: String,
    /// The value, or the alternatives of a regular expression.
    pub values: Vec<String>,
}

/// The metrics of the project and of Prometheus in an expression.
#[must_use]
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut found = Vec::new();
    let mut rest = expression;
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    while let Some(start) = rest.find(is_word) {
        let from_word = &rest[start..];
        let end = from_word.find(|it| !is_word(it)).unwrap_or(from_word.len());
        let word = &from_word[..end];
        rest = &from_word[end..];
        if ["by", "on", "without", "ignoring"].contains(&word) {
            // Labels, not metrics.
            rest = rest.split_once(')').map_or("", |(_, rest)| rest);
            continue;
        }
        let mut matchers = Vec::new();
        if let Some(labels) = rest.strip_prefix('{') {
            let (labels, after) = labels.split_once('}').unwrap_or((labels, ""));
            let conditions = labels.split(',').filter(|condition| !condition.trim().is_empty());
            matchers = conditions.map(matcher).collect();
            rest = after;
        }
        if word.starts_with("flashsale_") || word.starts_with("process_") || word == "up" {
            found.push(Selector { name: word.to_owned(), matchers });
        }
    }
    found
}

fn matcher(text: &str) -> Matcher {
    let is_operator = |character: char| "=!~".contains(character);
    let start = text.find(is_operator).unwrap_or(text.len());
    let end = text[start..].find(|it| !is_operator(it)).map_or(text.len(), |end| start + end);
    let operator = text[start..end].to_owned();
    let value = text[end..].trim().trim_matches('"');
    let values = if operator.ends_with('~') {
        value.split('|').map(str::to_owned).collect()
    } else {
        vec![value.to_owned()]
    };
    Matcher { label: text[..start].trim().to_owned(), operator, values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_with_their_conditions() {
        let found = selectors(
            r#"sum by (flashsale_x, le) (rate(flashsale_a_total{outcome=~"sold|lost",namespace="n"}[5m])) > 0 and on (flashsale) up{job!=""} == 1 or flashsale_b{} or process_c"#,
        );
        let names: Vec<_> = found.iter().map(|selector| &*selector.name).collect();
        assert_eq!(names, ["flashsale_a_total", "up", "flashsale_b", "process_c"]);
        assert_eq!(found[0].matchers[0].values, ["sold", "lost"]);
        assert_eq!(found[0].matchers[1].operator, "=");
        assert_eq!(found[1].matchers[0].operator, "!=");
        assert!(found[2].matchers.is_empty());
    }
}
