//! The document against the error types, and against the handlers' extractors.

use std::collections::BTreeSet;
use std::iter::successors;

use serde_json::Value;

use super::*;
use crate::api::router::openapi;

const TROUBLESHOOTING: &str = include_str!("../../../../docs/TROUBLESHOOTING.md");
/// Codes of no operation: a defect, an unknown path, an unknown method.
const UNDOCUMENTED: [&str; 3] = ["internal", "not_found", "method_not_allowed"];

/// Every variant. A new one does not compile until it has a place in the chain.
fn purchase_errors() -> impl Iterator<Item = PurchaseError> {
    let first = PurchaseError::NotStarted(Timestamp::UNIX_EPOCH);
    successors(Some(first), |error| {
        Some(match error {
            PurchaseError::NotStarted(at) => PurchaseError::Ended(*at),
            PurchaseError::Ended(_) => PurchaseError::UnknownProduct(String::new()),
            PurchaseError::UnknownProduct(_) => PurchaseError::SoldOut,
            PurchaseError::SoldOut => PurchaseError::LimitReached,
            PurchaseError::LimitReached => PurchaseError::LimitClaimMissing(String::new()),
            PurchaseError::LimitClaimMissing(_) => PurchaseError::KeyReused,
            PurchaseError::KeyReused => PurchaseError::LockTimeout,
            PurchaseError::LockTimeout => PurchaseError::QuorumUnavailable,
            PurchaseError::QuorumUnavailable => {
                PurchaseError::Overloaded { retry_after: Duration::ZERO }
            }
            PurchaseError::Overloaded { .. } => PurchaseError::DatabaseUnavailable,
            PurchaseError::DatabaseUnavailable => PurchaseError::StockUnavailable,
            PurchaseError::StockUnavailable => PurchaseError::NotWithAtomic,
            PurchaseError::NotWithAtomic => PurchaseError::Interrupted,
            PurchaseError::Interrupted => PurchaseError::Internal,
            PurchaseError::Internal => return None,
        })
    })
}

/// Every variant that does not wrap a [`PurchaseError`].
fn order_errors() -> impl Iterator<Item = OrderError> {
    successors(Some(OrderError::Unknown), |error| {
        Some(match error {
            OrderError::Unknown => OrderError::NotRecordedYet,
            OrderError::NotRecordedYet => OrderError::MixedCurrencies,
            OrderError::MixedCurrencies => OrderError::State(OrderState::Paid),
            OrderError::State(_) | OrderError::Purchase(_) | OrderError::Product { .. } => {
                return None;
            }
        })
    })
}

/// Every variant that does not wrap a [`PurchaseError`].
fn coupon_errors() -> impl Iterator<Item = CouponError> {
    successors(Some(CouponError::Unknown(String::new())), |error| {
        Some(match error {
            CouponError::Unknown(id) => CouponError::Exists(id.clone()),
            CouponError::Exists(_) => CouponError::Exhausted,
            CouponError::Exhausted => CouponError::NotStarted(Timestamp::UNIX_EPOCH),
            CouponError::NotStarted(at) => CouponError::Ended(*at),
            CouponError::Ended(_) | CouponError::Lock(_) => return None,
        })
    })
}

fn body_faults() -> impl Iterator<Item = BodyFault> {
    successors(Some(BodyFault::Late), |fault| {
        Some(match fault {
            BodyFault::Late => BodyFault::TooLarge,
            BodyFault::TooLarge => BodyFault::NotDeclaredJson,
            BodyFault::NotDeclaredJson => BodyFault::InvalidJson,
            BodyFault::InvalidJson => BodyFault::InvalidField,
            BodyFault::InvalidField => BodyFault::Unreadable,
            BodyFault::Unreadable => return None,
        })
    })
}

/// Every variant that does not wrap another error, from the first to the last.
fn api_errors() -> impl Iterator<Item = ApiError> {
    successors(Some(ApiError::MissingToken), |error| {
        Some(match error {
            ApiError::MissingToken => ApiError::Token(TokenError::Invalid),
            ApiError::Token(TokenError::Invalid) => ApiError::Token(TokenError::Expired),
            ApiError::Token(TokenError::Expired) => ApiError::Token(TokenError::Erased),
            ApiError::Token(TokenError::Erased) => ApiError::SignUp(SignUpRefused::Closed),
            ApiError::SignUp(SignUpRefused::Closed) => {
                ApiError::SignUp(SignUpRefused::WrongInviteCode)
            }
            ApiError::SignUp(SignUpRefused::WrongInviteCode) => {
                ApiError::UnknownBuyer(String::new())
            }
            ApiError::UnknownBuyer(id) => ApiError::AdministratorAccount(id.clone()),
            ApiError::AdministratorAccount(_) => ApiError::UnknownSink(String::new()),
            ApiError::UnknownSink(_) => ApiError::UnknownEvent,
            ApiError::UnknownEvent => ApiError::WrongCredentials,
            ApiError::WrongCredentials => ApiError::Forbidden,
            ApiError::Forbidden => ApiError::TooManyAttempts(too_many()),
            ApiError::TooManyAttempts(_) => ApiError::TooManySignUps(too_many()),
            ApiError::TooManySignUps(_) => ApiError::Overloaded { retry_after: Duration::ZERO },
            ApiError::Overloaded { .. } => ApiError::AccountExists(String::new()),
            ApiError::AccountExists(_) => invalid_field(),
            ApiError::Field { .. } => ApiError::ProductExists(String::new()),
            ApiError::ProductExists(_) => ApiError::StockChanged { stock: 0 },
            ApiError::StockChanged { .. } => ApiError::TooManyListeners,
            ApiError::TooManyListeners => ApiError::TooManyListenersHere,
            ApiError::TooManyListenersHere => ApiError::Path,
            ApiError::Path => ApiError::Query(String::new()),
            ApiError::Query(_) => ApiError::NotFound,
            ApiError::NotFound => ApiError::MethodNotAllowed,
            ApiError::MethodNotAllowed => ApiError::UnknownPayment,
            ApiError::UnknownPayment => ApiError::Payment(PaymentError::NotConfigured("stripe")),
            ApiError::Payment(error) => match error {
                PaymentError::NotConfigured(_) => ApiError::Payment(PaymentError::Signature),
                PaymentError::Signature => ApiError::Payment(PaymentError::Time),
                PaymentError::Time => {
                    ApiError::Payment(PaymentError::Amount { reported: None, expected: None })
                }
                PaymentError::Amount { .. } => ApiError::Payment(PaymentError::Json(String::new())),
                PaymentError::Json(_) => {
                    ApiError::Payment(PaymentError::Field { field: "", problem: String::new() })
                }
                PaymentError::Field { .. } => ApiError::Waitlist(WaitlistError::UnitsLeft),
                PaymentError::Order(_) | PaymentError::Ledger(_) => return None,
            },
            ApiError::Waitlist(error) => match error {
                WaitlistError::UnitsLeft => ApiError::Waitlist(WaitlistError::Full),
                WaitlistError::Full => ApiError::Waitlist(WaitlistError::NotWaiting),
                WaitlistError::NotWaiting => ApiError::Internal,
                WaitlistError::Purchase(_) => return None,
            },
            ApiError::Internal
            | ApiError::Body { .. }
            | ApiError::Purchase(_)
            | ApiError::Order(_)
            | ApiError::Coupon(_) => return None,
        })
    })
}

/// Every operation: its path and method, and its description.
fn operations() -> Vec<(String, Value)> {
    let document: Value = serde_json::to_value(openapi()).unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((format!("{method} {path}"), operation.clone()));
        }
    }
    operations
}

/// Status and code of every documented problem.
fn documented(operation: &Value) -> BTreeSet<(String, String)> {
    let mut problems = BTreeSet::new();
    for (status, response) in operation["responses"].as_object().unwrap() {
        if response["content"]["application/problem+json"].is_object() {
            let description = response["description"].as_str().unwrap();
            for group in description.split("; ") {
                let codes = group.split(": ").next().unwrap().split(", ");
                let codes = codes.filter_map(|code| code.strip_prefix('`')?.strip_suffix('`'));
                problems.extend(codes.map(|code| (status.clone(), code.to_owned())));
            }
        }
    }
    problems
}

/// Status and code of every line of the table of error codes.
fn explained() -> BTreeSet<(String, String)> {
    let (_, table) = TROUBLESHOOTING.split_once("## Error codes").unwrap();
    let (table, _) = table.split_once("\nMalformed HTTP").unwrap();
    let mut problems = BTreeSet::new();
    for line in table.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = line.split(" | ");
        let (codes, statuses) = (cells.next().unwrap(), cells.next().unwrap());
        for code in codes.split(", ").map(|code| code.trim_matches('`')) {
            let statuses = statuses.split(", ");
            problems.extend(statuses.map(|status| (status.to_owned(), code.to_owned())));
        }
    }
    problems
}

#[test]
fn the_document_has_every_status_and_code_and_no_other() {
    let errors = purchase_errors()
        .map(ApiError::from)
        .chain(order_errors().map(ApiError::from))
        .chain(coupon_errors().map(ApiError::from))
        .chain(body_faults().map(body))
        .chain(api_errors());
    let mut expected: BTreeSet<_> = errors
        .map(|error| error.status_and_code())
        .map(|(status, code)| (status.as_str().to_owned(), code.to_owned()))
        .collect();
    expected.retain(|(_, code)| !UNDOCUMENTED.contains(&code.as_str()));
    let documented: BTreeSet<_> =
        operations().iter().flat_map(|(_, operation)| documented(operation)).collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_troubleshooting_has_a_line_for_every_status_and_code_of_the_document() {
    let mut explained = explained();
    explained.retain(|(_, code)| !UNDOCUMENTED.contains(&code.as_str()));
    // Of plain HTTP on a port that speaks TLS, which is no operation.
    assert!(explained.remove(&("400".to_owned(), "https_required".to_owned())));
    let documented: BTreeSet<_> =
        operations().iter().flat_map(|(_, operation)| documented(operation)).collect();
    assert_eq!(explained, documented);
}

#[test]
fn an_operation_has_the_problems_of_its_token_its_body_and_its_path() {
    for (name, operation) in operations() {
        let documented = documented(&operation);
        let has =
            |status: &str, code: &str| documented.contains(&(status.to_owned(), code.to_owned()));
        let needs_token = operation["security"].as_array().is_some_and(|all| !all.is_empty());
        assert_eq!(has("401", "unauthenticated"), needs_token, "{name}: Login");
        let reads_body = operation["requestBody"].is_object();
        assert_eq!(has("408", "request_timeout"), reads_body, "{name}: JsonInput");
        if name.contains('{') {
            assert!(has("422", "invalid_request"), "{name}: PathInput");
        }
    }
}

#[test]
fn the_codes_of_a_status_are_joined_by_their_notes() {
    let problem = |code, note: &str| DocumentedProblem {
        status: StatusCode::CONFLICT,
        code,
        retry: false,
        note: note.to_owned(),
    };
    let problems = [
        problem("sold_out", ""),
        problem("order_state", "`state` is the state"),
        problem("limit_reached", ""),
        problem("sold_out", ""),
    ];
    let joined = "`sold_out`, `limit_reached`; `order_state`: `state` is the state";
    assert_eq!(description(&problems), joined);
}

#[test]
fn the_advice_to_retry_comes_from_the_error() {
    let note = |error: &ApiError, note| DocumentedProblem::new(error, note).note;
    assert_eq!(note(&PurchaseError::LockTimeout.into(), ""), RETRY);
    assert_eq!(note(&PurchaseError::SoldOut.into(), ""), "");
    let listeners = note(&ApiError::TooManyListenersHere, "too many from this address");
    assert_eq!(listeners, format!("too many from this address; {RETRY}"));
}
