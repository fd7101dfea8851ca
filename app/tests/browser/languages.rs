//! The pages speak the language that the reader chose, else the browser's.

use serde_json::{Value, json};

use super::{ENGLISH, KOREAN, Screen, Stage, Window, in_seconds, of_admin};
use crate::common::{Database, SaleSpec};

/// Everything that a reader sees or hears.
const TEXTS: &str = "[document.title, document.body.innerText, \
    ...[...document.querySelectorAll('[aria-label],[placeholder],[content]')].flatMap((element) => \
    ['aria-label', 'placeholder'].map((name) => element.getAttribute(name) || ''))].join(' ')";
/// Names and symbols that are the same in Korean.
const NAMES: [&str; 20] = [
    "API",
    "English",
    "ID",
    "P50",
    "P99",
    "ms",
    "Game",
    "Headset",
    "ann",
    "root",
    "a",
    "b",
    "black-friday-app-7c9d8-x2k4q",
    "Console",
    "CSV",
    "KRW",
    // Of an event of a payment service.
    "checkout",
    "session",
    "completed",
    "evt",
];

impl Window {
    async fn speaks(&self, language: &str) {
        assert_eq!(self.js("document.documentElement.lang").await, language);
    }

    /// Fails at an English word.
    async fn is_korean(&self) {
        self.speaks("ko").await;
        let texts = self.js(TEXTS).await;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let words = texts.as_str().unwrap().split(|c: char| !is_word(c));
        let english: Vec<&str> = words
            .filter(|word| word.chars().any(|c| c.is_ascii_alphabetic()) && !NAMES.contains(word))
            // The id of an order; a number with its unit.
            .filter(|word| uuid::Uuid::parse_str(word).is_err())
            .filter(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()) != "ms")
            .collect();
        assert!(english.is_empty(), "{english:?} in {texts}");
    }
}

const BUY: &str = "[data-product='1'] form button";
const RESULT: &str = "[data-product='1'] .result";
const QUEUE: &str = "[data-product='3'] button.quiet";
const INVITE_CODE: &str = "code-of-the-buyers";

fn products() -> Value {
    let price = json!({"amount": 59_000, "currency": "KRW"});
    json!([
        {"id": "1", "name": "Console", "stock": 12_000, "price": price},
        {"id": "2", "name": "Game", "stock": 40, "max_per_buyer": 1},
        {"id": "3", "name": "Headset", "stock": 1},
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_korean_reader_buys_in_korean() {
    let settings = vec![
        ("SALE_ENDS_AT", in_seconds(7200).to_string()),
        ("SIGN_UP", "Invited".to_owned()),
        ("INVITE_CODES", INVITE_CODE.to_owned()),
    ];
    let spec =
        SaleSpec { nodes: 1, products: products(), settings, ..SaleSpec::on(Database::Sqlite) };
    let stage = Stage::set(spec).await;
    let headset = json!({"items": [{"product_id": "3"}]});
    stage.sale.buyer("bob").call("POST", "/v1/orders", Some(&headset)).await.order();
    let window = stage.window_of(Screen::Desktop, KOREAN).await;
    window.open("/").await;
    window.until_shows("#live", "실시간").await;
    window.until_shows("#headline", "지금 판매 중").await;
    window.until_shows("#window", "마감").await;
    window.until_shows("#countdown", "시간").await;
    window.until_shows("[data-product='1'] .left", "12,000").await;
    window.until_shows("[data-product='1'] .price", "59,000").await;
    window.until_shows(QUEUE, "취소분 대기하기").await;
    window.is_korean().await;
    stage.place_unpaid("ann", "1").await;
    window.fill("[data-product='1'] input", "3").await;
    window.click(BUY).await;
    window.until_shows("#account-reason", "바로 구매가 진행됩니다").await;
    window.fill("#account-id", "ann").await;
    window.fill("#account-password", "short").await;
    window.click("#do-sign-up").await;
    window.until_shows("#account-error", "비밀번호는 8~128자").await;
    window.is_korean().await;
    window.fill("#account-password", "correct horse").await;
    window.click("#do-log-in").await;
    window.until_shows("#account-error", "올바르지 않습니다").await;
    window.click("#do-sign-up").await;
    window.until_shows("#account-error", "초대 코드").await;
    window.until_shows("#account-invite", "초대 코드").await;
    window.is_korean().await;
    window.fill("#account-code", INVITE_CODE).await;
    window.click("#do-sign-up").await;
    window.until_shows(RESULT, "수량을 확보했으니 시간 안에 결제해 주세요.").await;
    window.until_shows("#order-list", "Console 3개").await;
    window.until_shows("#order-list .held", "동안 확보").await;
    window.until_shows("#order-list .over", "결제 시간 초과").await;
    window.is_korean().await;
    window.picture("korean").await;
    window.click(QUEUE).await;
    window.until_shows(QUEUE, "대기 1번째").await;
    window.until_shows("[data-product='3'] .result", "대기를 시작했습니다").await;
    for text in ["구매 완료! 1개를 구매했습니다.", "1인당 구매 가능 수량"] {
        window.click("[data-product='2'] form button").await;
        window.until_shows("[data-product='2'] .result", text).await;
    }
    window.is_korean().await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readers_choice_is_remembered_on_both_pages() {
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products()) }).await;
    let window = stage.window_of(Screen::Phone, KOREAN).await;
    window.open("/").await;
    window.until_shows("#headline", "지금 판매 중").await;
    window.until_shows("#language", "English").await;
    window.click("#language").await;
    window.until_shows("#headline", "It’s on.").await;
    window.speaks("en").await;
    window.client.refresh().await.unwrap();
    window.until_shows("#headline", "It’s on.").await;
    window.open("/admin").await;
    window.until_shows("#gate", "administrator").await;
    window.speaks("en").await;
    window.until_shows("#language", "한국어").await;
    window.click("#language").await;
    window.until_shows("#gate", "관리자 로그인").await;
    window.open("/").await;
    window.until_shows("#headline", "지금 판매 중").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_manage_products_in_korean() {
    let stage = Stage::set(SaleSpec { nodes: 1, ..of_admin(products()) }).await;
    let window = stage.window_of(Screen::Desktop, KOREAN).await;
    window.open("/admin").await;
    window.until_shows("#gate", "관리자 로그인").await;
    window.is_korean().await;
    window.fill("#gate-id", "root").await;
    window.fill("#gate-password", "correct horse").await;
    window.click("#gate button").await;
    window.until_shows("#live", "실시간").await;
    window.until_shows("[data-product='1']", "12,000개 남음").await;
    stage.sell("ann", "1").await;
    stage.report_wrong_payment().await;
    window.until_shows("#waits", "평균").await;
    window.is_korean().await;
    window.click("#new").await;
    window.fill("#e-id", "a b").await;
    window.fill("#e-stock", "7").await;
    window.fill("#e-name", "Headset").await;
    window.click("#edit-do").await;
    window.until_shows("#edit-error", "상품 ID는 영문").await;
    window.is_korean().await;
    window.fill("#e-id", "1").await;
    window.click("#edit-do").await;
    window.until_shows("#edit-error", "이미 판매 중인 상품 ID").await;
    window.click("#edit-close").await;
    window.click("[data-product='2'] [data-does=restock]").await;
    window.fill("#e-add", "5").await;
    window.click("#edit-do").await;
    window.until_shows("#notice", "재입고했습니다").await;
    window.click("#orders-search").await;
    window.until_shows("#orders-found", "결제 완료").await;
    window.click("#payments-show").await;
    window.until_shows("#payments-found", "주문 금액과 다름").await;
    window.is_korean().await;
    window.click("#orders-found button").await;
    window.until_shows("#refund-text", "먼저 결제 서비스에서").await;
    window.is_korean().await;
    window.click("#refund-close").await;
    window.picture("korean-admin").await;
    window.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_language_of_the_browser_that_the_page_has_is_taken() {
    let stage = Stage::set(SaleSpec { nodes: 1, ..SaleSpec::on(Database::Sqlite) }).await;
    let cases = [("fr-FR,ko,en", "ko"), ("fr-FR,fr", "en"), (ENGLISH, "en"), ("en-GB,ko", "en")];
    for (languages, expected) in cases {
        let window = stage.window_of(Screen::Desktop, languages).await;
        window.open("/").await;
        window.until(&format!("document.documentElement.lang === '{expected}'")).await;
        window.until("document.querySelector('[data-product]')").await;
        window.speaks(expected).await;
        window.close().await;
    }
}
