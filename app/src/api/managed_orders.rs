//! `/v1/admin/orders`: the orders of all buyers, searched and exported.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::stream;
use jiff::Timestamp;
use ledger::orders::{self, OrderSearch, PlacedOrder};
use ledger::{AuditEntry, Ledger, LedgerError};
use sale::{OrderError, Sale};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::error;
use utoipa::ToSchema;
use uuid::Uuid;

use super::listing::{page, page_limit};
use super::order_view::{OrdersView, PlacedOrderView};
use crate::api::extract::Admin;
use crate::api::problems::{Administrator, Database, Problems, QueryInput, Recorded};
use crate::http::problem::ApiError;
use crate::order_state::OrderState;
use crate::times::created_at;

/// Orders of an export that are in memory.
const EXPORT_PAGE: i64 = 1_000;
const MAX_NAME: usize = 256;

/// Selects a page of orders. All conditions must apply; without one, all orders are selected.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// The order with this id.
    #[param(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: Option<Uuid>,
    /// Orders of this buyer.
    #[param(nullable = false, example = "ann", min_length = 1, max_length = 256)]
    buyer: Option<String>,
    /// Orders with this product.
    #[param(nullable = false, example = "1", min_length = 1, max_length = 63)]
    product_id: Option<String>,
    /// Orders in this state.
    #[param(inline, nullable = false, example = "pending")]
    state: Option<OrderState>,
    /// Orders from this time on, by RFC 3339.
    #[param(value_type = Option<String>, nullable = false, format = DateTime, example = "2026-11-27T00:00:00Z")]
    from: Option<String>,
    /// Orders before this time, by RFC 3339.
    #[param(value_type = Option<String>, nullable = false, format = DateTime, example = "2026-11-28T00:00:00Z")]
    until: Option<String>,
    /// Maximum number of orders on the page, 1 to 500.
    #[param(nullable = false, example = 50, minimum = 1, maximum = 500, default = 50)]
    limit: Option<i64>,
    /// The page starts after this order: the `next` of the previous page.
    #[param(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    after: Option<Uuid>,
}

/// Selects the orders of an export. All conditions must apply; without one, all orders are selected.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExportQuery {
    /// The order with this id.
    #[param(value_type = Option<String>, format = "uuid", nullable = false, example = "0192d7a4-3b4f-7c60-9c0a-0f4c3b2a1d00")]
    order_id: Option<Uuid>,
    /// Orders of this buyer.
    #[param(nullable = false, example = "ann", min_length = 1, max_length = 256)]
    buyer: Option<String>,
    /// Orders with this product.
    #[param(nullable = false, example = "1", min_length = 1, max_length = 63)]
    product_id: Option<String>,
    /// Orders in this state.
    #[param(inline, nullable = false, example = "pending")]
    state: Option<OrderState>,
    /// Orders from this time on, by RFC 3339.
    #[param(value_type = Option<String>, nullable = false, format = DateTime, example = "2026-11-27T00:00:00Z")]
    from: Option<String>,
    /// Orders before this time, by RFC 3339.
    #[param(value_type = Option<String>, nullable = false, format = DateTime, example = "2026-11-28T00:00:00Z")]
    until: Option<String>,
    /// `csv`, the default, has a header; `ndjson` has one JSON object a line.
    #[param(inline, nullable = false, example = "csv")]
    format: Option<Format>,
}

/// How an export is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// RFC 4180, with a header.
    #[default]
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// What both queries have in common.
#[derive(Serialize)]
struct Conditions {
    order_id: Option<Uuid>,
    #[serde(skip)]
    buyer: Option<String>,
    product_id: Option<String>,
    state: Option<OrderState>,
    from: Option<String>,
    until: Option<String>,
}

impl Conditions {
    fn search(&self) -> Result<OrderSearch, ApiError> {
        let fits = |text: &Option<String>, longest: usize| {
            let is_name =
                |text: &String| (1..=longest).contains(&text.len()) && !text.contains('\0');
            text.as_ref().is_none_or(is_name)
        };
        if !fits(&self.buyer, MAX_NAME) {
            return Err(ApiError::Field { field: "buyer", rule: "must have 1 to 256 bytes" });
        }
        if !fits(&self.product_id, super::purchases::MAX_PRODUCT_ID) {
            return Err(ApiError::Field { field: "product_id", rule: "must have 1 to 63 bytes" });
        }
        Ok(OrderSearch {
            id: self.order_id,
            buyer: self.buyer.clone(),
            product_id: self.product_id.clone(),
            state: self.state.map(orders::OrderState::from),
            from_ms: millis("from", self.from.as_deref())?,
            until_ms: millis("until", self.until.as_deref())?,
            ..OrderSearch::default()
        })
    }
}

/// Milliseconds since 1970, rounded up: an order of the millisecond before is not of this time.
fn millis(field: &'static str, text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let rule = sale::bounds::MOMENT_RULE;
    let moment: Timestamp = sale::bounds::moment(text).ok_or(ApiError::Field { field, rule })?;
    let millis = moment.as_nanosecond().div_euclid(1_000_000)
        + i128::from(moment.as_nanosecond().rem_euclid(1_000_000) > 0);
    Ok(Some(millis.try_into().unwrap_or(0)))
}

/// Searches the orders of all buyers
///
/// For administrators. Newest first, page by page. A search without an order or a buyer may read all orders.
#[utoipa::path(get, path = "/v1/admin/orders", operation_id = "search_orders", tag = "administration", security(("bearer" = [])),
    params(SearchQuery),
    responses(
        (status = 200, description = "A page of orders", body = OrdersView),
        Problems<(Administrator, QueryInput, Database)>,
    )
)]
pub(crate) async fn search(
    _: Admin,
    State(sale): State<Arc<Sale>>,
    State(ledger): State<Ledger>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<OrdersView>, ApiError> {
    let Query(SearchQuery { order_id, buyer, product_id, state, from, until, limit, after }) =
        query?;
    let conditions = Conditions { order_id, buyer, product_id, state, from, until };
    let limit = page_limit(limit)?;
    // One more than the page holds shows whether there is a next page.
    let search = OrderSearch { limit: limit + 1, after, ..conditions.search()? };
    let complete = after.is_some() || sale.all_recorded().await;
    let orders = ledger.find_orders(&search).await?;
    let (orders, next) = page(orders, limit, |order| order.id.to_string());
    let orders: Vec<PlacedOrderView> = orders.into_iter().map(Into::into).collect();
    Ok(Json(OrdersView::new(orders, next, complete)))
}

/// Exports the orders of all buyers
///
/// For administrators. Oldest first, and an order of several products has a line for each. The answer is
/// streamed; where it is cut, the transfer fails. Orders that are made meanwhile are at the end of it.
#[utoipa::path(get, path = "/v1/admin/orders/export", operation_id = "export_orders", tag = "administration", security(("bearer" = [])),
    params(ExportQuery),
    responses(
        (status = 200, description = "The orders: id, line, product, buyer, quantity, state, payment_reference, created_at, amount (of the line, in the smallest unit of the currency), currency",
            content((String = "text/csv"), (String = "application/x-ndjson")),
            headers(
                ("Cache-Control", description = "`no-store`"),
                ("Content-Disposition", description = "A name for the file"),
            )),
        Problems<(Administrator, QueryInput, Database, Recorded)>,
    )
)]
pub(crate) async fn export(
    Admin(claims): Admin,
    State(sale): State<Arc<Sale>>,
    State(ledger): State<Ledger>,
    query: Result<Query<ExportQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(ExportQuery { order_id, buyer, product_id, state, from, until, format }) = query?;
    let conditions = Conditions { order_id, buyer, product_id, state, from, until };
    let search = OrderSearch { oldest_first: true, limit: EXPORT_PAGE, ..conditions.search()? };
    if !sale.all_recorded().await {
        return Err(OrderError::NotRecordedYet.into());
    }
    // Without the buyer's name: the details of an entry never change.
    let entry = AuditEntry::new(&claims.sub, "export_orders", "orders", Some(json!(conditions)));
    ledger.log(&entry).await?;
    let format = format.unwrap_or_default();
    let (kind, disposition) = match format {
        Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"orders.csv\""),
        Format::Ndjson => ("application/x-ndjson", "attachment; filename=\"orders.ndjson\""),
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_DISPOSITION, HeaderValue::from_static(disposition)),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(lines(ledger, search, format))).into_response())
}

/// Where an export stands.
enum Export {
    Header,
    After(Option<Uuid>),
    Done,
}

/// One page after the other, so that an export holds neither a connection nor more than a page in memory.
fn lines(
    ledger: Ledger,
    search: OrderSearch,
    format: Format,
) -> impl futures::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(
        (ledger, search, Export::Header),
        move |(ledger, mut search, at)| async move {
            let after = match at {
                Export::Done => return Ok(None),
                Export::Header => {
                    let header = if format == Format::Csv { HEADER } else { "" };
                    let first = Bytes::from_static(header.as_bytes());
                    return Ok(Some((first, (ledger, search, Export::After(None)))));
                }
                Export::After(after) => after,
            };
            search.after = after;
            let orders = ledger.find_orders(&search).await.map_err(cut)?;
            let is_full = i64::try_from(orders.len()).is_ok_and(|found| found >= search.limit);
            let last = orders.last().map(|order| order.id).filter(|_| is_full);
            let next = last.map_or(Export::Done, |last| Export::After(Some(last)));
            let mut text = String::new();
            for order in &orders {
                write(&mut text, order, format).map_err(io::Error::other)?;
            }
            Ok(Some((Bytes::from(text), (ledger, search, next))))
        },
    )
}

/// The client sees that the transfer failed.
fn cut(error: LedgerError) -> io::Error {
    error!(%error, "an export of the orders was cut");
    io::Error::other(error)
}

const HEADER: &str =
    "id,line,product,buyer,quantity,state,payment_reference,created_at,amount,currency\r\n";

/// A product of an order, with the names that `kubectl flashsale orders export` has too.
#[derive(Serialize)]
struct Exported<'a> {
    id: String,
    line: usize,
    product: &'a str,
    buyer: &'a str,
    quantity: i64,
    state: &'static str,
    payment_reference: Option<&'a str>,
    created_at: String,
    amount: Option<i64>,
    currency: Option<&'static str>,
}

fn write(text: &mut String, order: &PlacedOrder, format: Format) -> serde_json::Result<()> {
    let created_at = created_at(order.id).unwrap_or_default();
    for (number, (line, price)) in order.lines.iter().zip(&order.prices).enumerate() {
        let amount = price.map(|price| price.of_units(line.quantity));
        let line = Exported {
            id: order.id.to_string(),
            line: number,
            product: &line.product_id,
            buyer: &order.buyer,
            quantity: line.quantity,
            state: order.state.name(),
            payment_reference: order.payment_reference.as_deref(),
            created_at: created_at.clone(),
            amount: amount.map(|amount| amount.amount),
            currency: amount.map(|amount| amount.currency.code()),
        };
        match format {
            Format::Csv => csv(text, &line),
            Format::Ndjson => {
                text.push_str(&serde_json::to_string(&line)?);
                text.push('\n');
            }
        }
    }
    Ok(())
}

fn csv(text: &mut String, line: &Exported<'_>) {
    let (number, quantity) = (line.line.to_string(), line.quantity.to_string());
    let amount = line.amount.map(|amount| amount.to_string()).unwrap_or_default();
    let fields = [
        line.id.as_str(),
        &number,
        line.product,
        line.buyer,
        &quantity,
        line.state,
        line.payment_reference.unwrap_or_default(),
        &line.created_at,
        &amount,
        line.currency.unwrap_or_default(),
    ];
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let plain = !field.contains(['"', ',', '\r', '\n']) && field.trim() == field;
        if plain {
            text.push_str(field);
        } else {
            text.extend(["\"", &field.replace('"', "\"\""), "\""]);
        }
    }
    text.push_str("\r\n");
}
