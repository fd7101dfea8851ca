//! An app that says what a test sets.

use std::sync::Mutex;

use flashsale_operator::crd::ProductStatus;
use flashsale_operator::flash_sale::app_client::{
    AppClient, DatabaseReport, ReportScope, SaleReport, Unfinished,
};
use flashsale_operator::flash_sale::nodes::{ChangeAnswer, LockNodes};
use futures::FutureExt;
use futures::future::BoxFuture;

/// A fake app whose counts, database, lock and unfinished work the test sets, and the last token that it was sent.
#[derive(Default)]
pub struct FakeApp(
    pub Mutex<Option<Vec<ProductStatus>>>,
    pub Mutex<Option<DatabaseReport>>,
    pub Mutex<Option<String>>,
    pub Mutex<FakeLock>,
    pub Mutex<Option<Unfinished>>,
);

/// The nodes of the lock, and those for which the app was asked. Absent nodes: a version that cannot change them.
#[derive(Default)]
pub struct FakeLock {
    pub nodes: Option<LockNodes>,
    pub asked: Vec<Vec<String>>,
}

impl AppClient for FakeApp {
    fn sale_report<'a>(
        &'a self,
        _namespace: &'a str,
        _sale: &'a str,
        token: Option<&'a str>,
        _scope: ReportScope,
    ) -> BoxFuture<'a, Option<SaleReport>> {
        *self.2.lock().unwrap() = token.map(str::to_owned);
        let database = self.1.lock().unwrap().clone();
        let products = self.0.lock().unwrap().clone();
        let redis = self.3.lock().unwrap().nodes.clone();
        let unfinished = *self.4.lock().unwrap();
        let report = products.map(|products| SaleReport {
            database,
            products,
            redis,
            unfinished,
            ..SaleReport::default()
        });
        async move { report }.boxed()
    }

    fn change_nodes<'a>(
        &'a self,
        _namespace: &'a str,
        _sale: &'a str,
        token: Option<&'a str>,
        nodes: Vec<String>,
    ) -> BoxFuture<'a, ChangeAnswer> {
        *self.2.lock().unwrap() = token.map(str::to_owned);
        let mut lock = self.3.lock().unwrap();
        lock.asked.push(nodes);
        let answer = lock.nodes.clone().map_or(ChangeAnswer::Unsupported, ChangeAnswer::Progress);
        async move { answer }.boxed()
    }
}
