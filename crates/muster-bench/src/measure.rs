//! Times and their distribution.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Times from 1 µs to 1 h, to three digits.
pub struct Times(Histogram<u64>);

impl Times {
    /// Nothing noted yet.
    pub fn new() -> Result<Self> {
        Ok(Self(
            Histogram::new_with_bounds(1, 3_600_000_000, 3).context("making a histogram")?,
        ))
    }

    /// Notes a time.
    pub fn add(&mut self, time: Duration) {
        self.0.saturating_record(time.as_micros() as u64);
    }

    /// `None` when nothing was noted.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        (!self.0.is_empty()).then(|| Quantiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1_000.0,
        })
    }
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are faster.
    pub p50: f64,
    /// 9 of 10 are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1,000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_in_milliseconds() {
        let mut times = Times::new().unwrap();
        assert_eq!(times.quantiles(), None);
        for ms in 1..=100 {
            times.add(Duration::from_millis(ms));
        }
        let quantiles = times.quantiles().unwrap();
        assert!(
            (quantiles.p50 - 50.0).abs() < 0.1 && (quantiles.max - 100.0).abs() < 0.2,
            "{quantiles:?}"
        );
    }
}
