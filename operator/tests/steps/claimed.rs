//! The name of the sale that has a database, from the words of the app.

use flashsale_operator::flash_sale::claimed::{message, owner};

#[test]
fn the_owner_is_read_from_the_message_of_the_app() {
    let seed = "pod seed: container seed exited with 1: the database belongs to the sale \"shop/last\", and \
                this is the sale \"shop/next\": give this sale a database of its own";
    assert_eq!(owner(["away", seed]), Some("shop/last"));
    assert_eq!(owner(["the database belongs to nobody", "belongs to the sale \"cut"]), None);
    assert!(message("shop/last").contains("release-database shop/last"));
}
