//! An external database that belongs to another sale. The app refuses it and names the owner; the operator reads that
//! name, because only the app sees into the database.

/// The start of the app's message, up to the name in quotes. A test of the app has the same text.
const CLAIMED: &str = "belongs to the sale \"";

/// The sale that has the database, according to the messages of the seed and of the replicas.
#[must_use]
pub fn owner<'a>(messages: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    messages.into_iter().find_map(|message| {
        let (_, rest) = message.split_once(CLAIMED)?;
        rest.split_once('"').map(|(owner, _)| owner)
    })
}

/// The message of the condition.
#[must_use]
pub fn message(owner: &str) -> String {
    format!(
        "the database of database.secretRef belongs to the sale {owner}: give this sale a database of its own. If \
         {owner} is over and deleted, release its database: flashsale-app release-database {owner}"
    )
}
