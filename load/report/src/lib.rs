//! The report of a load run: as data, as text, as one JSON object, and as one HTML file with plots. The load tool writes
//! it; `kubectl flashsale report` reads it from the log of a Job. It decides nothing, and knows no network and no scenario.
//! Files of reports get their names when they are whole.

mod html;
mod log;
mod plot;
mod plots;
mod report;
mod response_times;
mod rules;
mod series;
mod text;
mod whole_file;

pub use html::page;
pub use log::{LogError, ReportLog};
pub use plot::PlotError;
pub use report::{Figures, Report, Row, Status, Verdict};
pub use response_times::ResponseTimes;
pub use rules::rule;
pub use series::{Buckets, MOST_POINTS, Point, Series, Slot, Slots};
pub use whole_file::WholeFile;
