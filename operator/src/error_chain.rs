//! Errors as one line of a log.

/// An error with its causes, on one line.
pub(crate) fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| match api_message(*error) {
        Some(_) => None,
        None => error.source(),
    });
    causes
        .map(|it| api_message(it).unwrap_or_else(|| it.to_string()))
        .collect::<Vec<_>>()
        .join(": ")
}

/// The message of the API server. The client's own message repeats it with a dump of the whole response.
fn api_message(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => Some(status.message.clone()),
        _ => None,
    }
}
