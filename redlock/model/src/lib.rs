//! The algorithm of the lock (docs/REDLOCK.md) as two models: [`lock`] with its quarantine and the
//! guarded store, and the change of the [`membership`]. The tests check them in every order of events,
//! within small bounds. Each rule that is left out must give a counterexample.

pub mod lock;
pub mod membership;

use std::collections::BTreeSet;
use std::hash::Hash;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model, Path};

/// Visits every state.
pub fn check<M>(builder: CheckerBuilder<M>) -> impl Checker<M>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + PartialEq + Send + Sync,
    M::Action: Clone + PartialEq,
{
    let checker = builder.spawn_dfs().join();
    println!("{} states", checker.unique_state_count());
    checker
}

/// The steps that lead to a state without the property, if there is one.
pub fn counterexample<M>(
    builder: CheckerBuilder<M>,
    property: &'static str,
) -> Option<Vec<M::Action>>
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Clone + PartialEq + Send + Sync,
    M::Action: Clone + PartialEq,
{
    let found = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    check(builder.finish_when(found)).discovery(property).map(Path::into_actions)
}
