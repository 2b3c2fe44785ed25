//! What the load generator sends: requests rendered before the clock runs, and the order in which they are sent.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Products that everything is measured with.
pub(crate) const PRODUCTS: usize = 10_000;

/// Draws made before the clock runs; a slice that needs more begins anew.
const DRAWS: usize = 1 << 18;

/// Prices before the first one comes again. By then its product has had others, so that every PUT changes something.
const PRICES: usize = 4 * PRODUCTS;

/// Whole pounds that a list of prices spans.
pub(crate) const PRICE_SPAN: usize = PRICES / 100;

/// Which product is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Popularity {
    /// The k-th most popular is asked for in proportion to 1/k.
    Zipf,
    /// Everybody wants the same one.
    OneHot,
}

/// Rendered requests and their order; shared by all clients of a slice.
#[derive(Debug)]
pub(crate) struct Requests {
    texts: Vec<Vec<u8>>,
    order: Vec<u32>,
    next: AtomicUsize,
}

impl Requests {
    fn new(texts: Vec<Vec<u8>>, order: Vec<u32>) -> Self {
        Self { texts, order, next: AtomicUsize::new(0) }
    }

    pub(crate) fn gets(popularity: Popularity, seed: u64) -> Self {
        let texts = ids().map(|id| format!("GET /v1/products/{id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes());
        Self::new(texts.collect(), draws(popularity, seed))
    }

    /// One view a request, without a body.
    pub(crate) fn views(popularity: Popularity, seed: u64) -> Self {
        Self::new(ids().map(|id| view_of(id as u64)).collect(), draws(popularity, seed))
    }

    /// Every product in turn, each time with another price; all are from `base` pounds up, for a range to each row.
    pub(crate) fn prices(base: usize) -> Self {
        let text = |k: usize| {
            let body = format!("{{\"amount\":\"{}.{:02}\",\"currency\":\"GBP\"}}", base + k / 100, k % 100);
            put_price((k % PRODUCTS) as u64 + 1, &body)
        };
        Self::new((0..PRICES).map(text).collect(), (0..PRICES as u32).collect())
    }

    /// Each product once, to fill the cache.
    pub(crate) fn each_once() -> Self {
        Self { order: (0..PRODUCTS as u32).collect(), ..Self::gets(Popularity::OneHot, 0) }
    }

    pub(crate) fn next(&self) -> &[u8] {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.order.len();
        &self.texts[self.order[place] as usize]
    }
}

pub(crate) fn view_of(id: u64) -> Vec<u8> {
    format!("POST /v1/products/{id}/views HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n").into_bytes()
}

pub(crate) fn put_price(id: u64, body: &str) -> Vec<u8> {
    let head = format!("PUT /v1/products/{id}/price HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A batch of prices in whole pounds, by product.
pub(crate) fn post_batch(prices: impl Iterator<Item = (u64, u32)>) -> Vec<u8> {
    let item = |(id, pounds)| format!(r#"{{"product_id":{id},"amount":"{pounds}.00","currency":"GBP"}}"#);
    let body = format!(r#"{{"items":[{}]}}"#, prices.map(item).collect::<Vec<_>>().join(","));
    let head = "POST /v1/prices/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn ids() -> impl Iterator<Item = usize> {
    1..=PRODUCTS
}

fn draws(popularity: Popularity, seed: u64) -> Vec<u32> {
    match popularity {
        Popularity::OneHot => vec![0],
        Popularity::Zipf => {
            let (zipf, mut random) = (Zipf::new(PRODUCTS), fastrand::Rng::with_seed(seed));
            // Popular products lie anywhere, as in a shop, and so in any shard.
            let mut product: Vec<u32> = (0..PRODUCTS as u32).collect();
            random.shuffle(&mut product);
            (0..DRAWS).map(|_| product[zipf.rank(random.f64())]).collect()
        }
    }
}

/// Zipf's law with exponent 1: rank k, counted from 0, has a share in proportion to 1 / (k + 1).
#[derive(Debug)]
pub(crate) struct Zipf {
    /// Share of this rank and all before it.
    shares: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(ranks: usize) -> Self {
        let total: f64 = (1..=ranks).map(|k| 1.0 / k as f64).sum();
        let mut sum = 0.0;
        let share = |k: usize| {
            sum += 1.0 / k as f64 / total;
            sum
        };
        Self { shares: (1..=ranks).map(share).collect() }
    }

    /// The rank at a point of [0, 1).
    pub(crate) fn rank(&self, point: f64) -> usize {
        self.shares.partition_point(|share| *share <= point).min(self.shares.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_first_rank_is_drawn_k_times_as_often_as_the_kth() {
        let (zipf, mut random) = (Zipf::new(100), fastrand::Rng::with_seed(7));
        let mut drawn = [0_u32; 100];
        for _ in 0..1_000_000 {
            drawn[zipf.rank(random.f64())] += 1;
        }
        for k in [2_u32, 5, 10, 50] {
            let times = f64::from(drawn[0]) / f64::from(drawn[k as usize - 1]);
            assert!((times / f64::from(k) - 1.0).abs() < 0.05, "rank {k}: {times}");
        }
        assert_eq!((zipf.rank(0.0), zipf.rank(0.999_999_999), zipf.rank(1.0)), (0, 99, 99));
    }

    #[test]
    fn prices_in_a_row_are_of_different_products_and_never_what_the_product_has() {
        let prices = Requests::prices(10);
        let sent: Vec<&[u8]> = (0..PRICES).map(|_| prices.next()).collect();
        assert_eq!(sent.iter().collect::<HashSet<_>>().len(), PRICES);
        let body = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap().split("\r\n\r\n").nth(1).unwrap().to_owned();
        assert_eq!(body(sent[0]), r#"{"amount":"10.00","currency":"GBP"}"#);
        assert_eq!(body(sent[PRODUCTS]), r#"{"amount":"110.00","currency":"GBP"}"#);
        assert_eq!(prices.next(), sent[0]);
    }

    #[test]
    fn all_products_are_asked_for_once_to_fill_the_cache() {
        let requests = Requests::each_once();
        let sent: HashSet<&[u8]> = (0..PRODUCTS).map(|_| requests.next()).collect();
        assert_eq!(sent.len(), PRODUCTS);
    }
}
