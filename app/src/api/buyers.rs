//! `/v1/buyers`: what the law gives a buyer: to be erased, and to see what is held about them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use ledger::erasure::Replaced;
use ledger::{AuditEntry, AuditSearch, BuyerRecord, Ledger, PastOrderLine};
use sale::{OrderError, Sale};
use serde::Serialize;
use utoipa::ToSchema;

use super::audit::AuditEntryView;
use super::order_view::PlacedOrderView;
use super::payments::PaymentEventView;
use crate::api::extract::{Admin, PathId};
use crate::api::problems::{
    Administrator, BuyerPath, Database, ErasedBuyers, Problems, Recorded, RedisStock,
};
use crate::auth::Role;
use crate::erasures::{Erased, Erasures};
use crate::http::problem::ApiError;
use crate::order_state::OrderState;
use crate::times::created_at;

/// The longest name of a buyer, in bytes.
const MAX_NAME: usize = 256;

/// A buyer who was erased.
#[derive(Serialize, ToSchema)]
pub(crate) struct ErasedView {
    /// The name that the buyer's orders have from now on.
    #[schema(example = "erased:5b1f0a7de6a24a4f8a1f7d9a0b6f2c11")]
    pseudonym: String,
    /// Products of orders that have the pseudonym now.
    #[schema(example = 1)]
    order_lines: u64,
    /// Coupons that have the pseudonym now.
    #[schema(example = 0)]
    coupons: u64,
}

/// Everything that is held about a buyer.
#[derive(Serialize, ToSchema)]
pub(crate) struct BuyerView {
    #[schema(example = "ann")]
    buyer: String,
    /// The account, if the buyer signed up here. The password is stored as a hash only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    account: Option<AccountView>,
    /// Newest first.
    orders: Vec<PlacedOrderView>,
    /// What was reported of payments of these orders, oldest first.
    payment_events: Vec<PaymentEventView>,
    coupons: Vec<IssuedCoupon>,
    /// Products that the buyer waits for.
    waits: Vec<WaitView>,
    /// Salted hashes of the claim by which the sale limits persons, as the buyer's orders and coupons have them.
    limit_keys: Vec<String>,
    /// Products of orders of earlier sales on this database.
    past_order_lines: Vec<PastLine>,
    /// Coupons of earlier sales on this database.
    past_coupons: Vec<PastCoupon>,
    /// Exports about the buyer, and what the buyer did as an administrator; at most 1,000 entries.
    audit: Vec<AuditEntryView>,
}

/// An account.
#[derive(Serialize, ToSchema)]
struct AccountView {
    #[schema(example = "ann")]
    id: String,
    role: Role,
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
}

/// A coupon that the buyer has.
#[derive(Serialize, ToSchema)]
struct IssuedCoupon {
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    issue_id: String,
    #[schema(example = "ten-percent")]
    coupon_id: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    issued_at: Option<String>,
}

/// A product that the buyer waits for.
#[derive(Serialize, ToSchema)]
struct WaitView {
    #[schema(example = "1")]
    product_id: String,
    #[schema(example = 1)]
    quantity: i64,
}

/// A product of an order of an earlier sale.
#[derive(Serialize, ToSchema)]
struct PastLine {
    #[schema(example = "shop/last-year")]
    sale: String,
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: String,
    #[schema(example = "1")]
    product_id: String,
    #[schema(example = 1)]
    quantity: i64,
    state: OrderState,
    /// What a unit cost, in the smallest unit of the currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 49_900)]
    unit_price: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "EUR")]
    currency: Option<String>,
}

/// A coupon of an earlier sale.
#[derive(Serialize, ToSchema)]
struct PastCoupon {
    #[schema(example = "shop/last-year")]
    sale: String,
    #[schema(example = "ten-percent")]
    coupon_id: String,
}

fn checked(id: String) -> Result<String, ApiError> {
    let is_name = (1..=MAX_NAME).contains(&id.len()) && !id.contains('\0');
    if is_name { Ok(id) } else { Err(ApiError::UnknownBuyer(id)) }
}

/// Erases a buyer
///
/// For administrators. The account goes, and a pseudonym takes the buyer's place in orders, coupons, the audit log and
/// Redis. Stock does not change, and limits count the orders under the pseudonym; the limit of a person counts what
/// an erased account had, without a sign of whose order it was. Tokens of the buyer are refused from
/// then on. The answer takes about three seconds. A repeated request is safe.
#[utoipa::path(delete, path = "/v1/buyers/{id}", operation_id = "erase_buyer", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The buyer: the id of an account, or the `sub` of tokens", example = "ann")),
    responses(
        (status = 200, description = "Erased", body = ErasedView),
        Problems<(Administrator, BuyerPath, ErasedBuyers, Database, RedisStock)>,
    )
)]
pub(crate) async fn erase(
    Admin(claims): Admin,
    State(erasures): State<Arc<Erasures>>,
    PathId(id): PathId,
) -> Result<Json<ErasedView>, ApiError> {
    let id = checked(id)?;
    match erasures.erase(id.clone(), claims.sub).await? {
        Erased::Done(pseudonym, Replaced { order_lines, coupons }) => {
            Ok(Json(ErasedView { pseudonym, order_lines, coupons }))
        }
        Erased::UnknownBuyer => Err(ApiError::UnknownBuyer(id)),
        Erased::Administrator => Err(ApiError::AdministratorAccount(id)),
    }
}

/// Returns everything that is held about a buyer
///
/// For administrators, who hand it to the buyer. The request is in the audit log.
#[utoipa::path(get, path = "/v1/buyers/{id}/export", operation_id = "export_buyer", tag = "administration", security(("bearer" = [])),
    params(("id" = String, Path, description = "The buyer: the id of an account, or the `sub` of tokens", example = "ann")),
    responses(
        (status = 200, description = "Everything", body = BuyerView,
            headers(("Cache-Control", description = "`no-store`"))),
        Problems<(Administrator, BuyerPath, Database, Recorded)>,
    )
)]
pub(crate) async fn export(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    State(ledger): State<Ledger>,
    PathId(id): PathId,
) -> Result<Response, ApiError> {
    let id = checked(id)?;
    if !sale.all_recorded().await {
        return Err(OrderError::NotRecordedYet.into());
    }
    let Some(record) = ledger.buyer_record(&id).await? else {
        return Err(ApiError::UnknownBuyer(id));
    };
    ledger.log(&AuditEntry::new(&claims.sub, "export_buyer", &id, None)).await?;
    let about = AuditSearch {
        target: Some(id.clone()),
        action: Some("export_buyer".to_owned()),
        limit: MAX_AUDIT,
        ..AuditSearch::default()
    };
    let by = AuditSearch { actor: Some(id.clone()), limit: MAX_AUDIT, ..AuditSearch::default() };
    let mut audit = ledger.audit_log(&about).await?;
    audit.extend(ledger.audit_log(&by).await?);
    audit.sort_by_key(|entry| entry.id);
    audit.dedup_by_key(|entry| entry.id);
    let view = BuyerView { audit: audit.into_iter().map(Into::into).collect(), ..view(id, record) };
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)).into_response())
}

const MAX_AUDIT: i64 = 500;

fn view(buyer: String, record: BuyerRecord) -> BuyerView {
    let BuyerRecord {
        account,
        orders,
        payment_events,
        coupons,
        waits,
        limit_keys,
        past_order_lines,
        past_coupons,
    } = record;
    let account = account.map(|(id, role, created_at)| AccountView {
        id,
        role: if role == "admin" { Role::Admin } else { Role::Buyer },
        // PostgreSQL's text has a space and an offset of hours.
        created_at: created_at.parse().ok(),
    });
    let coupons = coupons.into_iter().map(|(coupon_id, issue)| IssuedCoupon {
        issue_id: issue.to_string(),
        coupon_id,
        issued_at: created_at(issue),
    });
    let line = |line: PastOrderLine| {
        let state = ledger::orders::OrderState::of(&line.shown_state)?.into();
        let PastOrderLine { sale, order_id, product_id, quantity, unit_price, currency, .. } = line;
        let unit_price = unit_price.filter(|_| currency.is_some());
        Some(PastLine { sale, order_id, product_id, quantity, state, unit_price, currency })
    };
    BuyerView {
        buyer,
        account,
        orders: orders.into_iter().map(Into::into).collect(),
        payment_events: payment_events.into_iter().map(Into::into).collect(),
        coupons: coupons.collect(),
        waits: waits
            .into_iter()
            .map(|(product_id, quantity)| WaitView { product_id, quantity })
            .collect(),
        limit_keys,
        past_order_lines: past_order_lines.into_iter().filter_map(line).collect(),
        past_coupons: past_coupons
            .into_iter()
            .map(|(sale, coupon_id)| PastCoupon { sale, coupon_id })
            .collect(),
        audit: Vec::new(),
    }
}
