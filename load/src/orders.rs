//! `orders`: writes all orders as CSV or NDJSON. Their number is in the object on stderr: a reader compares the two, so
//! that a cut stream is not taken for the whole.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::error::ConfigError;
use crate::stores::database::SaleDatabase;
use crate::stores::database::export::OrderLine;

const POLL: Duration = Duration::from_millis(500);
/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;
/// The columns of the CSV file, in their order.
const COLUMNS: &str =
    "id,line,product,buyer,quantity,state,payment_reference,created_at,amount,currency";

/// The format of the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// RFC 4180, with a header; lines end with CR LF
    Csv,
    /// One JSON object a line
    Ndjson,
}

/// The flags of `orders`.
#[derive(Args)]
pub struct ExportOptions {
    /// The sale's database, `postgres://...` or `sqlite://path`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: String,
    /// The certificates of the authorities of the database, a PEM file, if it has TLS
    #[arg(long, env = "DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
    /// The format
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Seconds to wait until the database is reachable
    #[arg(long, default_value_t = 0)]
    wait_seconds: u64,
}

impl fmt::Debug for ExportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportOptions").field("format", &self.format).finish_non_exhaustive()
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Lines of orders, without the header
    pub rows: u64,
    /// Bytes, the header included
    pub bytes: u64,
}

impl Written {
    /// One line for the reader.
    #[must_use]
    pub fn json(&self) -> String {
        format!(r#"{{"rows":{},"bytes":{}}}"#, self.rows, self.bytes)
    }
}

/// Writes all orders to stdout.
///
/// # Errors
/// When the database cannot be read, or stdout cannot be written.
pub async fn write_orders(options: &ExportOptions) -> Result<Written, ConfigError> {
    let url = options.database_url.trim_end_matches(['\r', '\n']);
    let database = SaleDatabase::connect_lazy(url, options.database_ca_file.as_deref())
        .map_err(|error| ConfigError::new("DATABASE_URL", error.to_string()))?;
    let deadline = Instant::now() + Duration::from_secs(options.wait_seconds);
    while let Err(error) = database.on_sale().await {
        if Instant::now() >= deadline {
            return Err(unreadable(&error));
        }
        sleep(POLL).await;
    }
    let mut writer = OrderWriter::new(io::stdout().lock(), options.format);
    write_all(&database, &mut writer).await
}

async fn write_all<W: Write>(
    database: &SaleDatabase,
    writer: &mut OrderWriter<W>,
) -> Result<Written, ConfigError> {
    let unwritable = |error: io::Error| ConfigError::new("stdout", error.to_string());
    writer.header().map_err(unwritable)?;
    let mut lines = database.order_lines();
    while let Some(line) = lines.try_next().await.map_err(|error| unreadable(&error))? {
        writer.line(&line).map_err(unwritable)?;
    }
    writer.finish().map_err(unwritable)
}

fn unreadable(error: &sqlx::Error) -> ConfigError {
    ConfigError::new("DATABASE_URL", format!("cannot read the orders: {error}"))
}

/// Writes and counts.
struct OrderWriter<W: Write> {
    inner: BufWriter<W>,
    format: Format,
    written: Written,
}

impl<W: Write> OrderWriter<W> {
    fn new(inner: W, format: Format) -> Self {
        let inner = BufWriter::with_capacity(BUFFER, inner);
        Self { inner, format, written: Written::default() }
    }

    fn header(&mut self) -> io::Result<()> {
        match self.format {
            Format::Csv => self.write(&format!("{COLUMNS}\r\n")),
            Format::Ndjson => Ok(()),
        }
    }

    fn line(&mut self, line: &OrderLine) -> io::Result<()> {
        let text = match self.format {
            Format::Csv => csv(line),
            Format::Ndjson => serde_json::to_string(line)? + "\n",
        };
        self.written.rows += 1;
        self.write(&text)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.written.bytes += text.len() as u64;
        self.inner.write_all(text.as_bytes())
    }

    fn finish(&mut self) -> io::Result<Written> {
        self.inner.flush()?;
        Ok(self.written)
    }
}

fn csv(all: &OrderLine) -> String {
    let OrderLine { id, line, product, buyer, quantity, state, .. } = all;
    let OrderLine { payment_reference, created_at, amount, currency, .. } = all;
    let amount = amount.map(|amount| amount.to_string()).unwrap_or_default();
    let currency = currency.as_deref().unwrap_or_default();
    let reference = payment_reference.as_deref().unwrap_or_default();
    let (line, quantity) = (line.to_string(), quantity.to_string());
    let fields =
        [id, &line, product, buyer, &quantity, state, reference, created_at, &amount, currency];
    fields.map(quoted).join(",") + "\r\n"
}

/// A field that would be misread is quoted, and its quotes are doubled.
fn quoted(field: &str) -> String {
    let plain = !field.contains(['"', ',', '\r', '\n']) && field.trim() == field;
    if plain { field.to_owned() } else { format!("\"{}\"", field.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(buyer: &str) -> OrderLine {
        OrderLine {
            id: "0198".to_owned(),
            line: 0,
            product: "1".to_owned(),
            buyer: buyer.to_owned(),
            quantity: 2,
            state: "paid".to_owned(),
            payment_reference: None,
            created_at: "2026-11-27T00:00:00.000000Z".to_owned(),
            amount: Some(99_800),
            currency: Some("EUR".to_owned()),
        }
    }

    fn written(format: Format, buyers: &[&str]) -> (String, Written) {
        let mut bytes = Vec::new();
        let mut writer = OrderWriter::new(&mut bytes, format);
        writer.header().unwrap();
        for buyer in buyers {
            writer.line(&line(buyer)).unwrap();
        }
        let counted = writer.finish().unwrap();
        drop(writer);
        (String::from_utf8(bytes).unwrap(), counted)
    }

    #[test]
    fn csv_quotes_what_would_be_misread() {
        let (text, counted) = written(Format::Csv, &["a", "x,\"y\"\n", " b"]);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], COLUMNS);
        assert_eq!(lines[1], "0198,0,1,a,2,paid,,2026-11-27T00:00:00.000000Z,99800,EUR");
        assert!(lines[2].contains(",\"x,\"\"y\"\"\n\",2,"), "{text}");
        assert!(lines[3].contains(",\" b\","), "{text}");
        assert_eq!(counted, Written { rows: 3, bytes: text.len() as u64 });
    }

    #[test]
    fn ndjson_is_an_object_a_line() {
        let (text, counted) = written(Format::Ndjson, &["a\nb"]);
        let object: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (object["buyer"].as_str(), object["quantity"].as_i64()),
            (Some("a\nb"), Some(2))
        );
        assert_eq!(text.lines().count(), 1);
        assert_eq!(counted.json(), format!(r#"{{"rows":1,"bytes":{}}}"#, text.len()));
    }
}
