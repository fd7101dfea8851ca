//! The names of the sales.

/// Sales in one namespace.
const PER_NAMESPACE: u32 = 50;

/// A sale.
#[derive(Clone, Debug)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The names of all sales.
pub fn of(sales: u32) -> Vec<Name> {
    let name = |number: u32| Name {
        namespace: format!("fleet-{}", number / PER_NAMESPACE),
        name: format!("sale-{number}"),
    };
    (0..sales).map(name).collect()
}
