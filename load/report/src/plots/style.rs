//! What all plots share.

use crate::plot::Color;

pub(super) const SOLD: &str = "sold";
pub(super) const SOLD_OUT: &str = "sold_out";
// Distinguishable with every common colour blindness (Okabe and Ito), on light and on dark ground.
pub(super) const SOLD_COLOR: Color = Color(0x00, 0x9E, 0x73);
pub(super) const SOLD_OUT_COLOR: Color = Color(0x8C, 0x8C, 0x8C);
pub(super) const BLUE: Color = Color(0x3A, 0x7C, 0xC2);

/// A drawing and what belongs to it.
pub struct Plot {
    pub title: &'static str,
    pub caption: String,
    pub svg: String,
    pub legend: Vec<(String, Color)>,
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

pub(super) fn seconds(micros: u64) -> f64 {
    float(micros) / 1e6
}

pub(super) fn millis(micros: u64) -> f64 {
    float(micros) / 1e3
}

/// The decimal logarithm of milliseconds, not below a microsecond.
pub(super) fn log_millis(micros: u64) -> f64 {
    millis(micros.max(1)).log10()
}
