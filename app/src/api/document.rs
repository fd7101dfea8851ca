//! The head of the OpenAPI document, and what all operations have in common.

use axum::http::StatusCode;
use utoipa::OpenApi;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Content, Ref, Response, ResponseBuilder};

use crate::http::problem::Problem;

/// Answers that are the same for all operations, by their status.
const OF_ALL: [(StatusCode, &str); 2] = [
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HeaderTooLarge"),
    (StatusCode::INTERNAL_SERVER_ERROR, "Internal"),
];

#[derive(OpenApi)]
#[openapi(
    components(schemas(Problem)),
    info(
        title = "Flash sale",
        description = "Sells exactly the declared stock, in order. Errors are RFC 9457 problem documents with a stable `code`.",
        contact(name = "The people who run this sale"),
        license(name = "Apache License 2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "The sale that this document comes from")),
    tags(
        (name = "auth", description = "Accounts and access tokens"),
        (name = "sale", description = "The public state of the sale"),
        (name = "products", description = "Products and their remaining stock"),
        (name = "purchases", description = "Purchases of one product"),
        (name = "orders", description = "Orders of several products, and the changes of an order"),
        (name = "payments", description = "Events of payment services"),
        (name = "coupons", description = "Coupons, one for each buyer"),
        (name = "administration", description = "Changes of products and the state of a replica; for administrators")
    )
)]
pub(super) struct ApiDoc;

/// Seconds until a retry can succeed.
pub(super) const RETRY_AFTER: &str = "Retry-After";
/// The kind of token that is needed.
pub(super) const CHALLENGE: &str = "WWW-Authenticate";

/// One of the headers above.
pub(super) fn header(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// Adds what the operations have in common.
pub(super) fn complete(document: &mut utoipa::openapi::OpenApi) {
    add_to(document.components.get_or_insert_default());
    document.paths.paths.values_mut().flat_map(operations).for_each(complete_operation);
}

/// Method, path and status of each documented response, as the API counts them: a header that is too large is refused
/// before there is a path.
pub(super) fn responses(
    document: &utoipa::openapi::OpenApi,
) -> impl Iterator<Item = (&str, &str, &str)> {
    let all = document.paths.paths.iter().flat_map(|(path, item)| {
        let PathItem { get, put, post, delete, patch, .. } = item;
        let operations =
            [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)];
        operations.into_iter().flat_map(move |(method, operation)| {
            let statuses = operation.iter().flat_map(|it| it.responses.responses.keys());
            statuses.map(move |status| (method, path.as_str(), status.as_str()))
        })
    });
    let before = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    all.filter(move |(.., status)| *status != before.as_str())
}

fn add_to(components: &mut Components) {
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
    let bearer =
        bearer.description(Some("The token of a log-in, or of the shop's identity provider"));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
    let challenge = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["Bearer"]));
    for (name, schema, description) in [
        (RETRY_AFTER, seconds, "Seconds until a retry can succeed"),
        (CHALLENGE, challenge, "The kind of token that is needed"),
    ] {
        let header = HeaderBuilder::new().schema(Some(schema)).description(Some(description));
        components.headers.insert(name.to_owned(), header.build().into());
    }
    let problem = Content::new(Some(Ref::from_schema_name("Problem")));
    let internal = ResponseBuilder::new()
        .description("`internal`: a defect, or a wrong setting; the log has the cause")
        .content("application/problem+json", problem);
    let too_large = "The header of the request is over 16 KiB or has more than 100 lines; no body";
    components.responses.insert("Internal".to_owned(), internal.into());
    components.responses.insert("HeaderTooLarge".to_owned(), Response::new(too_large).into());
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = path;
    [get, put, post, delete, patch].into_iter().flatten()
}

fn complete_operation(operation: &mut Operation) {
    // Empty: no token is needed.
    operation.security.get_or_insert_default();
    for (status, name) in OF_ALL {
        let response = Ref::from_response_name(name).into();
        operation.responses.responses.insert(status.as_str().to_owned(), response);
    }
}

#[cfg(test)]
mod tests;
