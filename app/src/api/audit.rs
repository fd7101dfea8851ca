//! `/v1/admin/audit`: what administrators did.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use ledger::{AuditEntry, AuditSearch, Ledger};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing::{page, page_limit};
use crate::api::extract::Admin;
use crate::api::problems::{Administrator, Database, Problems, QueryInput};
use crate::http::problem::ApiError;
use crate::times::created_at;

/// Selects a page of the audit log. All conditions must apply.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// Entries of this administrator.
    #[param(nullable = false, example = "admin", max_length = 256)]
    actor: Option<String>,
    /// Entries of this action.
    #[param(nullable = false, example = "restock_product", max_length = 64)]
    action: Option<String>,
    /// Entries about this product, order, coupon or buyer.
    #[param(nullable = false, example = "1", max_length = 256)]
    target: Option<String>,
    /// Maximum number of entries on the page, 1 to 500.
    #[param(nullable = false, example = 50, minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
    /// The page starts after this entry: the `next` of the previous page.
    #[param(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    after: Option<Uuid>,
}

/// Some of what administrators did, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditView {
    entries: Vec<AuditEntryView>,
    /// The `after` of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    next: Option<String>,
}

/// What an administrator did.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntryView {
    #[schema(value_type = String, format = "uuid", example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    id: String,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime, nullable = false, example = "2026-11-27T00:00:00.123Z")]
    at: Option<String>,
    /// The administrator.
    #[schema(example = "admin")]
    actor: String,
    /// `create_product`, `revise_product`, `restock_product`, `delete_product`, `create_coupon`,
    /// `cancel_order`, `report_payment`, `refund_order`, `resolve_payment`, `erase_buyer`, `export_buyer`,
    /// `export_orders`, `enable_event_sink` or `replay_events`. Later versions may have more.
    #[schema(example = "restock_product")]
    action: String,
    /// The id of the product, order, coupon, buyer, payment event, sink or event. An erased buyer has a
    /// pseudonym.
    #[schema(example = "1")]
    target: String,
    /// What the action was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    detail: Option<serde_json::Value>,
}

impl From<AuditEntry> for AuditEntryView {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, actor, action, target, detail } = entry;
        let at = created_at(id);
        Self { id: id.to_string(), at, actor, action, target, detail }
    }
}

/// Lists what administrators did
///
/// For administrators. Newest first, page by page. Entries are never changed or removed; erasing a buyer replaces
/// the name only.
#[utoipa::path(get, path = "/v1/admin/audit", operation_id = "list_audit_log", tag = "administration", security(("bearer" = [])),
    params(AuditQuery),
    responses(
        (status = 200, description = "A page of the audit log", body = AuditView),
        Problems<(Administrator, QueryInput, Database)>,
    )
)]
pub(crate) async fn list(
    _: Admin,
    State(ledger): State<Ledger>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditView>, ApiError> {
    let Query(AuditQuery { actor, action, target, limit, after }) = query?;
    let limit = page_limit(limit)?;
    let names = [("actor", &actor, 256), ("action", &action, 64), ("target", &target, 256)];
    for (field, name, longest) in names {
        let fits = |name: &String| name.len() <= longest && !name.contains('\0');
        if !name.as_ref().is_none_or(fits) {
            return Err(ApiError::Field { field, rule: "is too long, or has a NUL" });
        }
    }
    let search = AuditSearch { actor, action, target, after, limit: limit + 1 };
    let entries = ledger.audit_log(&search).await?;
    let (entries, next) = page(entries, limit, |entry| entry.id.to_string());
    Ok(Json(AuditView { entries: entries.into_iter().map(Into::into).collect(), next }))
}
