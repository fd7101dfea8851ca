//! Lists that are read page by page.

use crate::http::problem::ApiError;

const DEFAULT_PAGE: i64 = 50;
const MAX_PAGE: i64 = 500;

/// The checked `limit` of an administrator's page.
pub(super) fn page_limit(limit: Option<i64>) -> Result<i64, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    let rule = "must be from 1 to 500";
    (1..=MAX_PAGE).contains(&limit).then_some(limit).ok_or(ApiError::Field { field: "limit", rule })
}

/// The page, and the `after` of the next one if there is one: the id of the page's last entry. `found` has one
/// entry more than the page holds if there is a next page.
pub(super) fn page<T>(
    mut found: Vec<T>,
    limit: i64,
    id: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let more = i64::try_from(found.len()).is_ok_and(|found| found > limit);
    if more {
        found.pop();
    }
    let next = found.last().filter(|_| more).map(id);
    (found, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_one_only_if_more_was_found() {
        let page = |found: &[u8]| page(found.to_vec(), 2, ToString::to_string);
        assert_eq!(page(&[]), (vec![], None));
        assert_eq!(page(&[1, 2]), (vec![1, 2], None));
        assert_eq!(page(&[1, 2, 3]), (vec![1, 2], Some("2".to_owned())));
    }
}
