//! Arithmetic of what was measured: medians, spreads, ratios paired within a round, straight lines.

use indicatif::HumanCount;
use serde::Serialize;

/// Median and range of what the rounds gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) samples: usize,
}

impl Spread {
    /// `None` without values.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max, samples: sorted.len() })
    }
}

/// Ratios of the first to the second, each pair of one round: what slows a round as a whole cancels out.
pub(crate) fn paired(pairs: &[(f64, f64)]) -> Vec<f64> {
    pairs.iter().map(|(candidate, baseline)| candidate / baseline).collect()
}

/// Slope of the straight line with the least squared distance from the points; `None` for fewer than two moments.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let together: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (spread > 0.0).then(|| together / spread)
}

/// 34960 → `34,960`.
pub(crate) fn grouped(number: f64) -> String {
    HumanCount(number.max(0.0).round_ties_even() as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_two_middles() {
        let of = |values: &[f64]| Spread::of(values);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0, samples: 3 }));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0, samples: 4 }));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_slow_round_does_not_change_its_ratio() {
        // In the second round the machine was half as fast. Unpaired, 50 / 200 would be compared as well.
        assert_eq!(paired(&[(100.0, 200.0), (50.0, 100.0)]), [0.5, 0.5]);
    }

    #[test]
    fn a_slope_is_growth_per_unit_and_noise_around_it_cancels_out() {
        let close = |points: &[(f64, f64)], expected: f64| (slope(points).unwrap() - expected).abs() < 1e-9;
        assert!(close(&[(0.0, 5.0), (1.0, 7.0), (2.0, 9.0)], 2.0));
        assert!(close(&[(0.0, 6.0), (1.0, 4.0), (2.0, 4.0), (3.0, 6.0)], 0.0));
        assert_eq!(slope(&[(1.0, 5.0), (1.0, 9.0)]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0.0, 999.4, 34_960.0, 1_234_567.0].map(grouped), ["0", "999", "34,960", "1,234,567"]);
    }
}
