//! The problems that each operation of the OpenAPI document lists.
//!
//! A set names errors, and several operations share it:
//! `responses((status = 200, body = View), Problems<(Login, ProductPath, Database)>)`. Status, code and
//! the advice to retry come from the error itself, so the document cannot differ from the answer.
//! utoipa keeps one response for each status, so [`Problems`] joins the codes of one status.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use axum::http::StatusCode;
use jiff::Timestamp;
use ledger::orders::OrderState;
use sale::{CouponError, OrderError, PurchaseError, WaitlistError};
use utoipa::IntoResponses;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};

use super::document::{CHALLENGE, RETRY_AFTER, header};
use crate::auth::{SignUpRefused, TokenError, TooManyAttempts};
use crate::http::body::BodyFault;
use crate::http::problem::ApiError;
use crate::payments::PaymentError;

const RETRY: &str = "try again after `Retry-After`";

/// One problem of an operation.
#[derive(Debug)]
pub(super) struct DocumentedProblem {
    status: StatusCode,
    code: &'static str,
    /// Whether the answer has `Retry-After`.
    retry: bool,
    /// What a client should know about it, or do.
    note: String,
}

impl DocumentedProblem {
    fn new(error: &ApiError, note: &str) -> Self {
        let (status, code) = error.status_and_code();
        let retry = error.retry_after().is_some();
        let advice = if retry { RETRY } else { "" };
        let separator = if note.is_empty() || advice.is_empty() { "" } else { "; " };
        Self { status, code, retry, note: format!("{note}{separator}{advice}") }
    }
}

/// The problems that operations have in common.
pub(super) trait ProblemSet {
    /// Adds the problems of the set.
    fn add_to(problems: &mut Vec<DocumentedProblem>);
}

macro_rules! tuples {
    ($($($set:ident)+;)+) => {$(
        impl<$($set: ProblemSet),+> ProblemSet for ($($set,)+) {
            fn add_to(problems: &mut Vec<DocumentedProblem>) {
                $($set::add_to(problems);)+
            }
        }
    )+};
}

tuples! {
    A;
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
}

/// The responses of an operation that answers the problems of these sets.
pub(super) struct Problems<Sets>(PhantomData<Sets>);

impl<Sets: ProblemSet> IntoResponses for Problems<Sets> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut problems = Vec::new();
        Sets::add_to(&mut problems);
        Everywhere::add_to(&mut problems);
        let mut by_status = BTreeMap::<_, Vec<DocumentedProblem>>::new();
        for problem in problems {
            by_status.entry(problem.status.as_str().to_owned()).or_default().push(problem);
        }
        by_status.into_iter().map(|(status, all)| (status, response(&all).into())).collect()
    }
}

/// The response of one status.
fn response(problems: &[DocumentedProblem]) -> Response {
    let schema = Content::new(Some(Ref::from_schema_name("Problem")));
    let mut response = ResponseBuilder::new()
        .description(description(problems))
        .content("application/problem+json", schema);
    if problems.iter().any(|problem| problem.status == StatusCode::UNAUTHORIZED) {
        response = response.header_ref(CHALLENGE, header(CHALLENGE));
    }
    if problems.iter().any(|problem| problem.retry) {
        response = response.header_ref(RETRY_AFTER, header(RETRY_AFTER));
    }
    response.build()
}

/// The codes of one status, grouped by their notes: `` `a`, `b`: note; `c` ``.
fn description(problems: &[DocumentedProblem]) -> String {
    let mut groups = Vec::<(&str, Vec<String>)>::new();
    for DocumentedProblem { code, note, .. } in problems {
        let code = format!("`{code}`");
        match groups.iter_mut().find(|(of, _)| of == note) {
            Some((_, codes)) if codes.contains(&code) => {}
            Some((_, codes)) => codes.push(code),
            None => groups.push((note, vec![code])),
        }
    }
    let group = |(note, codes): (&str, Vec<String>)| match (codes.join(", "), note) {
        (codes, "") => codes,
        (codes, note) => format!("{codes}: {note}"),
    };
    groups.into_iter().map(group).collect::<Vec<_>>().join("; ")
}

/// Declares sets: `Name: SetsThatItIncludes { errors }`, an error with a note where its code does not
/// explain itself.
macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident $(: $($base:ident),+)? {
        $($error:expr $(=> $note:literal)?),* $(,)?
    })+) => {$(
        $(#[$doc])*
        pub(super) enum $name {}

        impl ProblemSet for $name {
            fn add_to(problems: &mut Vec<DocumentedProblem>) {
                $($($base::add_to(problems);)+)?
                problems.extend([$(
                    DocumentedProblem::new(&ApiError::from($error), concat!($($note)?)),
                )*]);
            }
        }
    )+};
}

problems! {
    /// Any operation, when the replica has its maximum of connections.
    Everywhere { ApiError::Overloaded { retry_after: Duration::ZERO } }

    /// The operation needs a token.
    Login { ApiError::MissingToken, TokenError::Expired, TokenError::Erased }

    /// The answer needs all orders in the database.
    Recorded { OrderError::NotRecordedYet }

    /// The path names a buyer.
    BuyerPath: PathInput { ApiError::UnknownBuyer(String::new()) }

    /// The path names a sink of events.
    SinkPath: PathInput { ApiError::UnknownSink(String::new()) }

    /// The path names an event that was given up.
    DeadEventPath: PathInput { ApiError::UnknownEvent }

    /// The operation erases a buyer.
    ErasedBuyers { ApiError::AdministratorAccount(String::new()) }

    /// The operation needs the token of an administrator.
    Administrator: Login { ApiError::Forbidden }

    /// The operation reads a JSON body.
    JsonInput {
        body(BodyFault::InvalidJson),
        body(BodyFault::Unreadable),
        body(BodyFault::Late) => "the body did not arrive in time",
        body(BodyFault::TooLarge),
        body(BodyFault::NotDeclaredJson),
        body(BodyFault::InvalidField),
        invalid_field(),
    }

    /// The operation reads parameters of the query.
    QueryInput {
        ApiError::Query(String::new()),
        invalid_field(),
    }

    /// The operation's path has a parameter.
    PathInput { ApiError::Path }

    /// The path names a product.
    ProductPath: PathInput { PurchaseError::UnknownProduct(String::new()) }

    /// The path names an order.
    OrderPath: PathInput {
        OrderError::Unknown => "no order has this id, or it is another buyer's",
        OrderError::NotRecordedYet,
    }

    /// The path names a coupon.
    CouponPath: PathInput { CouponError::Unknown(String::new()) }

    /// The operation uses the database.
    Database { PurchaseError::DatabaseUnavailable }

    /// The operation acquires locks.
    Locks: Database {
        PurchaseError::LockTimeout,
        PurchaseError::QuorumUnavailable,
        PurchaseError::Overloaded { retry_after: Duration::ZERO },
        PurchaseError::Interrupted,
    }

    /// The sale may limit what a person gets.
    Limits {
        PurchaseError::LimitReached,
        PurchaseError::LimitClaimMissing(String::new()) => "the sale limits buyers by a claim that the token lacks",
    }

    /// The operation takes units of one product.
    Purchases: Locks, Limits {
        PurchaseError::NotStarted(Timestamp::MAX) => "before the start",
        PurchaseError::Ended(Timestamp::UNIX_EPOCH) => "after the end",
        PurchaseError::UnknownProduct(String::new()),
        PurchaseError::SoldOut,
        PurchaseError::KeyReused,
        invalid_field(),
    }

    /// The operation depends on Redis where Redis decides (strategy `Atomic`).
    RedisStock { PurchaseError::StockUnavailable }

    /// The operation takes units of several products.
    Orders: Purchases {
        PurchaseError::NotWithAtomic,
        OrderError::MixedCurrencies => "the products have prices in several currencies",
    }

    /// The operation changes the state of an order.
    OrderChanges: Locks {
        OrderError::State(OrderState::Paid) => "`state` is the state of the order",
    }

    /// The operation puts the caller on a waiting list.
    Waitlists: Database, Limits {
        PurchaseError::NotStarted(Timestamp::MAX) => "before the start",
        PurchaseError::Ended(Timestamp::UNIX_EPOCH) => "after the end",
        PurchaseError::UnknownProduct(String::new()),
        PurchaseError::SoldOut => "no unpaid order holds units of it",
        PurchaseError::NotWithAtomic,
        WaitlistError::UnitsLeft => "there are enough units",
        WaitlistError::Full => "as many wait as the product has units, or 10,000",
        WaitlistError::NotWaiting => "the caller was served at this moment",
    }

    /// The path names a product that the caller waits for.
    WaitPlaces: PathInput { WaitlistError::NotWaiting }

    /// The operation takes an event of a payment service.
    PaymentEvents: OrderChanges {
        PaymentError::NotConfigured("stripe") => "the sale takes no payments by this service",
        PaymentError::Signature,
        PaymentError::Time => "it was signed too long ago",
        PaymentError::Amount { reported: None, expected: None } => "amount or currency are not the order's",
        OrderError::Unknown => "no order has the id that the event names",
        OrderError::NotRecordedYet,
    }

    /// The path names an event of a payment service.
    PaymentPath: PathInput { ApiError::UnknownPayment }

    /// The operation creates a product.
    NewProducts { ApiError::ProductExists(String::new()) }

    /// The operation adds units to a product.
    Restocks { ApiError::StockChanged { stock: 0 } => "`from` is not the product's stock" }

    /// The operation creates a coupon.
    NewCoupons { CouponError::Exists(String::new()) }

    /// The operation issues a coupon.
    CouponIssues: Locks, Limits {
        CouponError::NotStarted(Timestamp::MAX) => "before the start",
        CouponError::Ended(Timestamp::UNIX_EPOCH) => "after the end",
        CouponError::Exhausted,
    }

    /// The operation computes a password's hash.
    Passwords: Database { ApiError::Overloaded { retry_after: Duration::ZERO } }

    /// The operation creates an account.
    SignUps: Passwords {
        ApiError::AccountExists(String::new()),
        ApiError::TooManySignUps(too_many()) => "too many sign-ups from this address",
        ApiError::SignUp(SignUpRefused::Closed) => "buyers come with tokens of the shop",
        ApiError::SignUp(SignUpRefused::WrongInviteCode) => "`invite_code` is needed",
    }

    /// The operation checks a password.
    LogIns: Passwords {
        ApiError::WrongCredentials,
        ApiError::TooManyAttempts(too_many()) => "too many failed log-ins",
    }

    /// The operation streams events.
    Events: Database {
        ApiError::TooManyListeners,
        ApiError::TooManyListenersHere => "too many from this address",
    }
}

fn body(fault: BodyFault) -> ApiError {
    ApiError::Body { fault, detail: String::new() }
}

fn invalid_field() -> ApiError {
    ApiError::Field { field: "", rule: "" }
}

fn too_many() -> TooManyAttempts {
    TooManyAttempts { retry_after: Duration::ZERO }
}

#[cfg(test)]
mod tests;
