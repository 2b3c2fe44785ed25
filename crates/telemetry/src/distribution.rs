//! A histogram as it stood at one moment, to be read by the process itself: what came between two moments, and its quantiles.

/// Observations by bucket.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Distribution {
    /// Upper bound of each bucket in ascending order, and the observations at or below it.
    cumulative: Vec<(f64, u64)>,
    total: u64,
}

impl Distribution {
    pub(crate) fn new(cumulative: Vec<(f64, u64)>, total: u64) -> Self {
        Self { cumulative, total }
    }

    /// Adds what another histogram with the same bounds holds.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.cumulative.is_empty() {
            self.cumulative.clone_from(&other.cumulative);
        } else {
            self.cumulative.iter_mut().zip(&other.cumulative).for_each(|(own, other)| own.1 += other.1);
        }
        self.total += other.total;
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was observed since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |place: usize| earlier.cumulative.get(place).map_or(0, |(_, count)| *count);
        let difference = |(place, (bound, count)): (usize, &(f64, u64))| (*bound, count.saturating_sub(before(place)));
        let cumulative = self.cumulative.iter().enumerate().map(difference).collect();
        Self { cumulative, total: self.total.saturating_sub(earlier.total) }
    }

    /// The value that a share `q` (0 to 1) of the observations does not exceed, on a straight line within its bucket, as Prometheus's
    /// `histogram_quantile` has it; the last bound for what lies beyond. `None` without observations.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = q * self.total as f64;
        let place = self.cumulative.iter().position(|(_, count)| *count as f64 >= rank);
        let Some(place) = place else { return self.cumulative.last().map(|(bound, _)| *bound) };
        let (upper, count) = self.cumulative[place];
        let (lower, below) = if place == 0 { (0.0, 0) } else { self.cumulative[place - 1] };
        let within = (count - below) as f64;
        Some(if within == 0.0 { upper } else { lower + (upper - lower) * ((rank - below as f64) / within) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: [u64; 3], total: u64) -> Distribution {
        Distribution::new([0.5, 1.5, 2.0].into_iter().zip(counts).collect(), total)
    }

    #[test]
    fn a_quantile_lies_on_a_line_within_its_bucket() {
        let even = counted([100, 200, 200], 200);
        assert_eq!([0.25, 0.5, 0.75, 1.0].map(|q| even.quantile(q)), [Some(0.25), Some(0.5), Some(1.0), Some(1.5)]);
        assert_eq!(counted([0, 0, 10], 20).quantile(0.99), Some(2.0), "what lies beyond all bounds");
        assert_eq!(counted([0, 0, 0], 0).quantile(0.5), None);
    }

    #[test]
    fn what_came_between_two_moments_is_told_apart() {
        let (before, after) = (counted([5, 6, 6], 6), counted([5, 6, 16], 16));
        assert_eq!(after.since(&before), counted([0, 0, 10], 10));
        assert_eq!(after.since(&Distribution::default()), after);
        let mut sum = Distribution::default();
        sum.add(&before);
        sum.add(&after);
        assert_eq!(sum, counted([10, 12, 22], 22));
    }
}
