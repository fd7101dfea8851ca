//! `/v1/coupons`: administrators create coupons, buyers receive them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use ledger::coupons::Coupon;
use sale::{CouponError, Coupons, IssueReceipt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::purchases::REPLAYED;
use crate::api::extract::{Admin, Authenticated, Buyer, PathId};
use crate::api::problems::{
    Administrator, CouponIssues, CouponPath, Database, JsonInput, Login, NewCoupons, Problems,
};
use crate::http::json::JsonBody;
use crate::http::problem::ApiError;
use crate::times::rfc3339;

const MAX_ID: usize = 63;
const MAX_QUANTITY: i64 = 1_000_000_000;

/// A coupon to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CouponRequest {
    /// 1 to 63 letters, digits, `.`, `_` or `-`.
    #[schema(example = "ten-percent", pattern = "^[A-Za-z0-9._-]{1,63}$")]
    id: String,
    /// Total number to issue, 1 to 1000000000.
    #[schema(example = 100, minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
    /// Start of the issue, RFC 3339. Absent: at once.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-27T00:00:00Z")]
    starts_at: Option<String>,
    /// End of the issue, exclusive, RFC 3339. Absent: never.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-28T00:00:00Z")]
    ends_at: Option<String>,
}

/// A coupon and its remaining number.
#[derive(Serialize, ToSchema)]
pub(crate) struct CouponView {
    #[schema(example = "ten-percent")]
    id: String,
    #[schema(example = 100)]
    quantity: i64,
    #[schema(example = 1)]
    issued: i64,
    #[schema(example = 99)]
    remaining: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00Z")]
    starts_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-28T00:00:00Z")]
    ends_at: Option<String>,
}

/// A committed issue of a coupon to a buyer.
#[derive(Serialize, ToSchema)]
pub(crate) struct IssueView {
    /// The id of this issue.
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    issue_id: String,
    #[schema(example = "ten-percent")]
    coupon_id: String,
    #[schema(example = "ann")]
    buyer: String,
}

impl From<Coupon> for CouponView {
    fn from(coupon: Coupon) -> Self {
        Self {
            remaining: coupon.quantity - coupon.issued,
            id: coupon.id,
            quantity: coupon.quantity,
            issued: coupon.issued,
            starts_at: coupon.starts_at_ms.and_then(rfc3339),
            ends_at: coupon.ends_at_ms.and_then(rfc3339),
        }
    }
}

/// The id becomes a part of Redis keys.
fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (1..=MAX_ID).contains(&id.len()) && id.chars().all(allowed)
}

/// A malformed id is answered like an unknown one.
fn checked(id: &str) -> Result<&str, CouponError> {
    if is_id(id) { Ok(id) } else { Err(CouponError::Unknown(id.to_owned())) }
}

fn moment(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let moment = sale::bounds::moment(text);
    moment.map(Some).ok_or(ApiError::Field { field, rule: sale::bounds::MOMENT_RULE })
}

/// Creates a coupon
///
/// For administrators.
#[utoipa::path(post, path = "/v1/coupons", operation_id = "create_coupon", tag = "coupons", security(("bearer" = [])),
    request_body = CouponRequest,
    responses(
        (status = 201, description = "Created", body = CouponView),
        Problems<(Administrator, JsonInput, NewCoupons, Database)>,
    )
)]
pub(crate) async fn create(
    Admin(claims): Admin,
    State(coupons): State<Arc<Coupons>>,
    JsonBody(request): JsonBody<CouponRequest>,
) -> Result<(StatusCode, Json<CouponView>), ApiError> {
    let CouponRequest { id, quantity, starts_at, ends_at } = request;
    if !is_id(&id) {
        let rule = "must be 1 to 63 letters, digits, '.', '_' or '-'";
        return Err(ApiError::Field { field: "id", rule });
    }
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        return Err(ApiError::Field { field: "quantity", rule: "must be from 1 to 1000000000" });
    }
    let starts_at = moment("starts_at", starts_at.as_deref())?;
    let ends_at = moment("ends_at", ends_at.as_deref())?;
    if let (Some(starts_at), Some(ends_at)) = (starts_at, ends_at)
        && ends_at <= starts_at
    {
        return Err(ApiError::Field { field: "ends_at", rule: "must be after starts_at" });
    }
    let coupon = Coupon {
        id,
        quantity,
        issued: 0,
        starts_at_ms: starts_at.map(Timestamp::as_millisecond),
        ends_at_ms: ends_at.map(Timestamp::as_millisecond),
        fence: 0,
    };
    coupons.create(&coupon, &claims.sub).await?;
    Ok((StatusCode::CREATED, Json(coupon.into())))
}

/// Returns a coupon
///
/// With the number that is left.
#[utoipa::path(get, path = "/v1/coupons/{id}", operation_id = "get_coupon", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path, description = "The coupon", example = "ten-percent")),
    responses(
        (status = 200, description = "The coupon", body = CouponView),
        Problems<(Login, CouponPath, Database)>,
    )
)]
pub(crate) async fn show(
    _: Authenticated,
    State(coupons): State<Arc<Coupons>>,
    PathId(id): PathId,
) -> Result<Json<CouponView>, ApiError> {
    Ok(Json(coupons.coupon(checked(&id)?).await?.into()))
}

/// Issues a coupon to the caller
///
/// One for each buyer, and one for each person where the sale limits by a claim. A repeated request returns the same one.
#[utoipa::path(post, path = "/v1/coupons/{id}/issue", operation_id = "issue_coupon", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path, description = "The coupon", example = "ten-percent")),
    responses(
        (status = 200, description = "Issued to the caller before", body = IssueView,
            headers(("Idempotent-Replayed" = bool, description = "`true`"))),
        (status = 201, description = "Issued and committed", body = IssueView),
        Problems<(Login, CouponPath, CouponIssues)>,
    )
)]
pub(crate) async fn issue(
    Buyer { applicant, missing }: Buyer,
    State(coupons): State<Arc<Coupons>>,
    PathId(id): PathId,
) -> Result<(StatusCode, HeaderMap, Json<IssueView>), ApiError> {
    let IssueReceipt { issue, replayed } = coupons.issue(checked(&id)?, applicant, missing).await?;
    let mut headers = HeaderMap::new();
    let status = if replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let view = IssueView {
        issue_id: issue.id.to_string(),
        coupon_id: issue.coupon_id,
        buyer: issue.buyer,
    };
    Ok((status, headers, Json(view)))
}
