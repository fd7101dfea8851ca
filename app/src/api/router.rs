//! Every route on one screen.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, put};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::cors::{AllowedOrigins, cors};
use super::document::{self, ApiDoc};
use super::{
    admin, audit, auth, buyers, coupons, event_sinks, events, managed_orders, orders, page,
    payments, probes, products, purchases, stocks, waitlist,
};
use crate::api::state::AppState;
use crate::http::gzip;
use crate::http::problem::ApiError;
use crate::metrics::Metrics;

/// Bytes. No valid request is larger.
const BODY_LIMIT: usize = 64 * 1024;

fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(auth::sign_up))
        .routes(routes!(auth::log_in))
        .routes(routes!(auth::me))
        .routes(routes!(products::stock))
        .routes(routes!(purchases::purchase))
        .routes(routes!(waitlist::join, waitlist::show, waitlist::leave))
        .routes(routes!(events::follow_sale))
        .routes(routes!(events::follow_product))
        .routes(routes!(admin::create))
        .routes(routes!(admin::revise, admin::delete))
        .routes(routes!(admin::restock))
        .routes(routes!(buyers::erase))
        .routes(routes!(managed_orders::export))
        .routes(routes!(event_sinks::sinks))
        .routes(routes!(event_sinks::enable))
        .routes(routes!(event_sinks::replay_all))
        .routes(routes!(event_sinks::replay_one))
        .routes(routes!(stocks::distributed))
        .routes(routes!(stocks::fair))
        .routes(routes!(orders::place))
        .routes(routes!(orders::show))
        .routes(routes!(orders::cancel))
        .routes(routes!(orders::payment))
        .routes(routes!(orders::refund))
        .routes(routes!(payments::receive_from_stripe))
        .routes(routes!(payments::resolve))
        .routes(routes!(coupons::create))
        .routes(routes!(coupons::show))
        .routes(routes!(coupons::issue))
        .merge(large())
}

/// Answers that grow with the sale or with the buyer's orders, and have no access token in them.
fn large() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(products::list))
        .routes(routes!(events::sale))
        .routes(routes!(orders::list))
        .routes(routes!(admin::overview))
        .routes(routes!(managed_orders::search))
        .routes(routes!(audit::list))
        .routes(routes!(payments::list))
        .routes(routes!(event_sinks::dead))
        .routes(routes!(buyers::export))
        .layer(from_fn(gzip::compress_json))
}

/// The routes of `docs`, each with the status of its answer.
const DOCS: [(&str, &str); 4] =
    [("/docs", "303"), ("/docs/", "200"), ("/docs/{*rest}", "200"), ("/openapi.json", "200")];

/// Swagger UI, whose files are kept compressed, and the document.
fn docs(document: utoipa::openapi::OpenApi) -> Router<AppState> {
    Router::from(SwaggerUi::new("/docs").url("/openapi.json", document))
        .layer(from_fn(gzip::expand_files))
        .layer(from_fn(gzip::compress_json))
}

/// The OpenAPI document of the API.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut document) = documented().split_for_parts();
    document::complete(&mut document);
    document
}

/// The API on port 8080. Pages of the given origins may call it too.
pub fn api(state: AppState, origins: Option<&AllowedOrigins>) -> Router {
    let (routes, document) = (Router::from(documented()), openapi());
    state.metrics.know_responses(document::responses(&document));
    let of_page = |path| ["200", "304"].map(|status| ("GET", path, status));
    state.metrics.know_responses(page::paths().flat_map(of_page));
    state.metrics.know_responses(DOCS.map(|(path, status)| ("GET", path, status)));
    let routes = routes
        .merge(page::routes())
        // Before the fallbacks: they apply to the routes that exist already.
        .merge(docs(document))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(|_panic| {
            axum::response::IntoResponse::into_response(ApiError::Internal)
        }));
    let routes = match origins {
        Some(origins) => routes.layer(cors(origins)),
        None => routes,
    };
    routes.layer(from_fn_with_state(Arc::clone(&state.metrics), measure)).with_state(state)
}

/// Metrics and probes on port 9090.
pub fn internal(state: probes::ProbeState) -> Router {
    Router::new()
        .route("/metrics", get(probes::metrics))
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/sale", get(probes::sale))
        .route("/redis-nodes", put(probes::change_nodes))
        .with_state(state)
}

async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    metrics.http(method, route, response.status().as_str(), started.elapsed());
    response
}

/// A client may send any word as a method, so an unknown one must not become a label.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
