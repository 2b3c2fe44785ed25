//! What the load generator sends: requests rendered before the clock runs, and the order in which they are sent.

use crate::connection::Answer;
use crate::stock::{BASKET, Goods, HOT, SOLD_OUT};
use anyhow::Context;
use std::collections::BTreeSet;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Products that everything is measured with.
pub(crate) const PRODUCTS: usize = 10_000;

/// Draws made before the clock runs; a slice that needs more begins anew.
const DRAWS: usize = 1 << 18;

/// Prices before the first one comes again. By then its product has had others, so that every PUT changes something.
const PRICES: usize = 4 * PRODUCTS;

/// Baskets before the first one comes again.
const BASKETS: usize = 1 << 14;

/// The head of a reservation up to its key, and the key's length: hexadecimal digits of 128 bits.
const RESERVE: &str = "POST /v1/reservations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nIdempotency-Key: ";
const KEY_BYTES: usize = 32;

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
    /// Of requests that reserve: each goes with a key of its own.
    goods: Option<Goods>,
}

impl Requests {
    fn new(texts: Vec<Vec<u8>>, order: Vec<u32>) -> Self {
        Self { texts, order, next: AtomicUsize::new(0), goods: None }
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

    pub(crate) fn reservations(goods: Goods, seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let texts: Vec<_> = match goods {
            Goods::Hot | Goods::Bought => vec![post_reservation(&BTreeSet::from([HOT]))],
            Goods::SoldOut => vec![post_reservation(&BTreeSet::from([SOLD_OUT]))],
            Goods::Baskets => (0..BASKETS).map(|_| post_reservation(&basket(&mut random))).collect(),
        };
        let order = (0..texts.len() as u32).collect();
        Self { goods: Some(goods), ..Self::new(texts, order) }
    }

    /// `buffer` is for a request that is not sent as it was rendered.
    pub(crate) fn next<'a>(&'a self, buffer: &'a mut Vec<u8>) -> &'a [u8] {
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.order.len();
        let text = &self.texts[self.order[place] as usize];
        if self.goods.is_none() {
            return text;
        }
        buffer.clear();
        buffer.extend_from_slice(text);
        let key = &mut buffer[RESERVE.len()..RESERVE.len() + KEY_BYTES];
        write!(&mut key[..], "{:032x}", fastrand::u128(..)).expect("the key is as long as its place");
        buffer
    }

    /// Whether a request may be answered so.
    pub(crate) fn expects(&self, answer: &Answer<'_>) -> bool {
        if self.goods.is_some_and(Goods::is_refused) { answer.status == 409 } else { answer.is_success() }
    }

    /// What the same client sends at once when it has this answer.
    ///
    /// # Errors
    /// The answer does not say which reservation it is of.
    pub(crate) fn next_after(&self, answer: &Answer<'_>) -> anyhow::Result<Option<Vec<u8>>> {
        if self.goods != Some(Goods::Bought) {
            return Ok(None);
        }
        let text = std::str::from_utf8(answer.body)?;
        let id = text.split_once(r#""id":""#).and_then(|(_, rest)| Some(rest.split_once('"')?.0));
        let id = id.with_context(|| format!("a reservation was answered without an id: {text}"))?;
        Ok(Some(format!("POST /v1/reservations/{id}/commit HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n").into_bytes()))
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

/// One piece each; the key is yet to be written.
fn post_reservation(products: &BTreeSet<u64>) -> Vec<u8> {
    let items: Vec<String> = products.iter().map(|id| format!(r#"{{"product_id":{id},"quantity":1}}"#)).collect();
    let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
    format!("{RESERVE}{:KEY_BYTES$}\r\nContent-Length: {}\r\n\r\n{body}", "", body.len()).into_bytes()
}

fn basket(random: &mut fastrand::Rng) -> BTreeSet<u64> {
    let mut products = BTreeSet::new();
    while products.len() < BASKET {
        products.insert(random.u64(1..=PRODUCTS as u64));
    }
    products
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

    fn sent(requests: &Requests) -> String {
        String::from_utf8(requests.next(&mut Vec::new()).to_vec()).unwrap()
    }

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
        let all: Vec<_> = (0..PRICES).map(|_| sent(&prices)).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), PRICES);
        let body = |text: &str| text.split("\r\n\r\n").nth(1).unwrap().to_owned();
        assert_eq!(body(&all[0]), r#"{"amount":"10.00","currency":"GBP"}"#);
        assert_eq!(body(&all[PRODUCTS]), r#"{"amount":"110.00","currency":"GBP"}"#);
        assert_eq!(sent(&prices), all[0]);
    }

    #[test]
    fn each_reservation_has_a_key_of_its_own_and_is_otherwise_as_rendered() {
        let requests = Requests::reservations(Goods::Hot, 7);
        let (one, other) = (sent(&requests), sent(&requests));
        let parts = |text: &str| {
            let (head, rest) = text.split_once("Idempotency-Key: ").unwrap();
            let (key, rest) = rest.split_once("\r\n").unwrap();
            (key.to_owned(), format!("{head}{rest}"))
        };
        let ((key, rest), (other_key, other_rest)) = (parts(&one), parts(&other));
        assert!(key.len() == KEY_BYTES && key.bytes().all(|digit| digit.is_ascii_hexdigit()) && key != other_key, "{one}");
        assert_eq!(rest, other_rest);
        assert!(rest.ends_with("Content-Length: 41\r\n\r\n{\"items\":[{\"product_id\":1,\"quantity\":1}]}"), "{rest}");
    }

    #[test]
    fn a_basket_has_as_many_different_products_as_it_is_to_have() {
        let requests = Requests::reservations(Goods::Baskets, 7);
        let baskets: Vec<_> = (0..1_000).map(|_| sent(&requests)).collect();
        assert!(baskets.iter().all(|text| text.matches("product_id").count() == BASKET));
        let mut random = fastrand::Rng::with_seed(7);
        assert!((0..1_000).all(|_| basket(&mut random).iter().all(|id| (1..=PRODUCTS as u64).contains(id))));
    }

    #[test]
    fn what_was_reserved_is_committed_where_it_is_to_be_bought() {
        let answer = Answer { status: 201, body: br#"{"id":"0190-7","state":"active"}"# };
        let next = |goods| Requests::reservations(goods, 7).next_after(&answer).unwrap();
        assert!(next(Goods::Hot).is_none());
        assert!(next(Goods::Bought).unwrap().starts_with(b"POST /v1/reservations/0190-7/commit HTTP/1.1\r\n"));
        assert!(Requests::reservations(Goods::Bought, 7).next_after(&Answer { status: 201, body: b"{}" }).is_err());
    }

    #[test]
    fn only_what_is_sold_out_may_be_refused_and_must_be() {
        let expects = |goods, status| Requests::reservations(goods, 7).expects(&Answer { status, body: b"" });
        assert_eq!([201, 409, 503].map(|status| expects(Goods::Hot, status)), [true, false, false]);
        assert_eq!([201, 409, 503].map(|status| expects(Goods::SoldOut, status)), [false, true, false]);
    }

    #[test]
    fn all_products_are_asked_for_once_to_fill_the_cache() {
        let requests = Requests::each_once();
        let sent: HashSet<_> = (0..PRODUCTS).map(|_| sent(&requests)).collect();
        assert_eq!(sent.len(), PRODUCTS);
    }
}
