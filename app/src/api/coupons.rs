//! Coupons.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use ledger::coupons::Coupon;
use sale::{CouponError, Coupons, IssueReceipt};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::purchases::REPLAYED;
use crate::api::extract::{Admin, Authenticated};
use crate::http::json::JsonBody;
use crate::http::problem::{ApiError, Problem};

const LONGEST_ID: usize = 63;
const MOST: i64 = 1_000_000_000;

/// A coupon to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CouponRequest {
    /// 1 to 63 letters, digits, `.`, `_` or `-`.
    #[schema(example = "ten-percent", pattern = "^[A-Za-z0-9._-]{1,63}$")]
    id: String,
    /// How many there are, 1 to 1000000000.
    #[schema(example = 100, minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
    /// From when on they are issued; at once if absent. RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-27T00:00:00Z")]
    starts_at: Option<String>,
    /// Until when, not included; for ever if absent. RFC 3339.
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-11-28T00:00:00Z")]
    ends_at: Option<String>,
}

/// A coupon, and how many of it are left.
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
    #[schema(example = "2026-11-27T00:00:00Z")]
    starts_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2026-11-28T00:00:00Z")]
    ends_at: Option<String>,
}

/// A buyer's coupon: committed.
#[derive(Serialize, ToSchema)]
pub(crate) struct IssueView {
    /// Names this one.
    #[schema(example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    issue_id: String,
    #[schema(example = "ten-percent")]
    coupon_id: String,
    #[schema(example = "ann")]
    buyer: String,
}

impl From<Coupon> for CouponView {
    fn from(coupon: Coupon) -> Self {
        let time = |millis| Timestamp::from_millisecond(millis).ok().map(|time| time.to_string());
        Self {
            remaining: coupon.quantity - coupon.issued,
            id: coupon.id,
            quantity: coupon.quantity,
            issued: coupon.issued,
            starts_at: coupon.starts_at_ms.and_then(time),
            ends_at: coupon.ends_at_ms.and_then(time),
        }
    }
}

/// It becomes part of Redis keys.
fn is_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(allowed)
}

/// What cannot be an id is no coupon's.
fn checked(id: &str) -> Result<&str, CouponError> {
    if is_id(id) { Ok(id) } else { Err(CouponError::Unknown(id.to_owned())) }
}

fn moment(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let moment = sale::bounds::moment(text);
    moment.map(Some).ok_or(ApiError::Field { field, rule: sale::bounds::MOMENT_RULE })
}

/// Makes a coupon; for administrators.
#[utoipa::path(post, path = "/v1/coupons", tag = "coupons", security(("bearer" = [])),
    request_body = CouponRequest,
    responses(
        (status = 201, body = CouponView),
        (status = 400, description = "`invalid_json`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`coupon_exists`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    _: Admin,
    State(coupons): State<Arc<Coupons>>,
    body: Result<JsonBody<CouponRequest>, JsonRejection>,
) -> Result<(StatusCode, Json<CouponView>), ApiError> {
    let JsonBody(CouponRequest { id, quantity, starts_at, ends_at }) = body?;
    if !is_id(&id) {
        let rule = "must be 1 to 63 letters, digits, '.', '_' or '-'";
        return Err(ApiError::Field { field: "id", rule });
    }
    if !(1..=MOST).contains(&quantity) {
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
    coupons.create(&coupon).await?;
    Ok((StatusCode::CREATED, Json(coupon.into())))
}

/// Shows a coupon.
#[utoipa::path(get, path = "/v1/coupons/{id}", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path, description = "The coupon", example = "ten-percent")),
    responses(
        (status = 200, body = CouponView),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_coupon`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`database_unavailable`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(
    _: Authenticated,
    State(coupons): State<Arc<Coupons>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<CouponView>, ApiError> {
    let Path(id) = path?;
    Ok(Json(coupons.coupon(checked(&id)?).await?.into()))
}

/// Issues a coupon to the caller: one for each. Asking again gives the same one.
#[utoipa::path(post, path = "/v1/coupons/{id}/issue", tag = "coupons", security(("bearer" = [])),
    params(("id" = String, Path, description = "The coupon", example = "ten-percent")),
    responses(
        (status = 200, description = "The caller has had it; with `Idempotent-Replayed: true`.", body = IssueView),
        (status = 201, description = "Issued and committed.", body = IssueView),
        (status = 400, description = "`invalid_request`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`unauthenticated`, `token_expired`", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "`coupon_not_open`", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`unknown_coupon`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`coupon_exhausted`", body = Problem, content_type = "application/problem+json"),
        (status = 423, description = "`lock_timeout`: try again", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`quorum_unavailable`, `overloaded`, `database_unavailable`, `interrupted`: try again after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn issue(
    Authenticated(claims): Authenticated,
    State(coupons): State<Arc<Coupons>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<(StatusCode, HeaderMap, Json<IssueView>), ApiError> {
    let Path(id) = path?;
    let IssueReceipt { issue, replayed } = coupons.issue(checked(&id)?, claims.sub).await?;
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
