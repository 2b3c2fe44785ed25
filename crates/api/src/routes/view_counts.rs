//! How often a product was viewed: its totals, and buckets of an hour or a day.
//!
//! Buckets are what is in MySQL; `total` also has the views on their way, as `pending`. Hours are UTC; days begin at
//! midnight of the given offset, which must be whole hours because buckets are.

use super::path_id;
use super::schemas::{Id, Span};
use crate::error::ApiError;
use crate::input::fields::Fault;
use crate::input::query;
use crate::state::State;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Datelike, FixedOffset, TimeDelta, Utc};
use domain::product::time_text;
use serde::Serialize;
use utoipa::ToSchema;

/// Most buckets of one answer: 31 days of hours, two years of days.
const MOST_BUCKETS: i64 = 744;

const SECONDS_PER_HOUR: i64 = 3_600;
const SECONDS_PER_DAY: i64 = 24 * SECONDS_PER_HOUR;

/// What is asked for: buckets of `step` seconds from `from` to `to`, both at the edge of a bucket.
#[derive(Debug, PartialEq, Eq)]
struct Window {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    step: i64,
}

/// How often a product was viewed.
#[derive(Serialize, ToSchema)]
#[schema(as = ViewCounts)]
pub(crate) struct Answer {
    product_id: u64,
    /// The start of the first bucket.
    #[schema(format = DateTime)]
    from: String,
    /// The end of the last one.
    #[schema(format = DateTime)]
    to: String,
    /// Every bucket in the order of time, with what is in MySQL.
    data: Vec<Bucket>,
    /// Of all time; null while a store is away.
    #[schema(required)]
    total: Option<u64>,
    /// What MySQL has of it.
    #[schema(required)]
    persisted: Option<u64>,
    /// What is on its way.
    #[schema(required)]
    pending: Option<u64>,
}

/// An hour or a day.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct Bucket {
    #[schema(format = DateTime)]
    start: String,
    views: u64,
}

/// Views of a product by the hour or the day
///
/// The window is widened to the edges of its buckets, of which there may be 744. Without `from` it is the last 24 hours or
/// 30 days before `to`, and without `to` it ends now.
#[utoipa::path(
    get, path = "/v1/products/{id}/views", operation_id = "getViews", tag = "views", params(Id, Span),
    responses(
        (status = 200, description = "Buckets and totals.", body = Answer, example = json!({
            "product_id": 1, "from": "2011-01-04T00:00:00.000000Z", "to": "2011-01-07T00:00:00.000000Z",
            "data": [
                {"start": "2011-01-04T00:00:00.000000Z", "views": 7},
                {"start": "2011-01-05T00:00:00.000000Z", "views": 0},
                {"start": "2011-01-06T00:00:00.000000Z", "views": 5}
            ],
            "total": 12, "persisted": 12, "pending": 0
        })),
        (status = 404, description = "`unknown-product`"),
        (status = 422, description = "`validation-failed`: an offset with minutes cannot begin a day"),
    ),
)]
pub(crate) async fn read(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    let window = Window::parse(query::parameters(&request, ["from", "to", "interval", "tz"])?, Utc::now())?;
    let catalog = &state.ready()?.catalog;
    let both = async { tokio::try_join!(catalog.product(id), catalog.view_hours(id, window.from, window.to)) };
    let (shown, hours) = state.read(both).await??;
    if shown.record.is_none() {
        return Err(ApiError::UnknownProduct(id));
    }
    let answer = Answer {
        product_id: id.get(),
        from: time_text(window.from),
        to: time_text(window.to),
        data: window.buckets(&hours),
        total: shown.views.map(catalog::Views::total),
        persisted: shown.views.map(|views| views.persisted),
        pending: shown.views.map(|views| views.pending),
    };
    Ok(HttpResponse::Ok().json(answer))
}

impl Window {
    fn parse([from, to, interval, tz]: [Option<String>; 4], now: DateTime<Utc>) -> Result<Self, ApiError> {
        let (step, default_steps) = match interval.as_deref() {
            None | Some("hour") => (SECONDS_PER_HOUR, 24),
            Some("day") => (SECONDS_PER_DAY, 30),
            Some(_) => return Err(ApiError::InvalidQuery("interval is hour or day".into())),
        };
        let offset = offset(tz.as_deref().unwrap_or("Z"))?;
        if step == SECONDS_PER_DAY && offset % SECONDS_PER_HOUR != 0 {
            let detail = "must be whole hours for days, because views are kept by the hour".to_owned();
            return Err(ApiError::Invalid(vec![Fault { pointer: "/tz".into(), detail }]));
        }
        let time = |name: &str, text: Option<String>| text.map(|text| time(name, &text)).transpose();
        let to = edge(time("to", to)?.unwrap_or(now), step, offset, true)?;
        let earlier = to - TimeDelta::seconds(default_steps * step);
        let from = edge(time("from", from)?.unwrap_or(earlier), step, offset, false)?;
        let buckets = (to - from).num_seconds() / step;
        match buckets {
            ..1 => Err(ApiError::InvalidQuery("from must be before to".into())),
            1..=MOST_BUCKETS => Ok(Self { from, to, step }),
            _ => Err(ApiError::InvalidQuery(format!("from and to span {buckets} buckets, at most {MOST_BUCKETS} are answered"))),
        }
    }

    /// One bucket for each step, also where nothing was viewed.
    fn buckets(&self, hours: &[(DateTime<Utc>, u64)]) -> Vec<Bucket> {
        let count = (self.to - self.from).num_seconds() / self.step;
        let mut views = vec![0_u64; usize::try_from(count).unwrap_or(0)];
        for (hour, more) in hours {
            let place = (*hour - self.from).num_seconds().div_euclid(self.step);
            if let Some(sum) = usize::try_from(place).ok().and_then(|place| views.get_mut(place)) {
                *sum = sum.saturating_add(*more);
            }
        }
        let start = |n: i64| time_text(self.from + TimeDelta::seconds(n * self.step));
        (0..).zip(views).map(|(n, views)| Bucket { start: start(n), views }).collect()
    }
}

/// A time as a parameter gives it.
pub(super) fn time(name: &str, text: &str) -> Result<DateTime<Utc>, ApiError> {
    // A plus that was not encoded arrives as a space.
    let parsed = DateTime::parse_from_rfc3339(&text.replace(' ', "+"));
    let hint = || ApiError::InvalidQuery(format!("{name} must be a time such as 2011-01-04T10:00:00Z"));
    parsed.map(|time| time.to_utc()).map_err(|_| hint())
}

/// Seconds east of UTC.
fn offset(text: &str) -> Result<i64, ApiError> {
    let text = if text == "Z" { "+00:00".to_owned() } else { text.replace(' ', "+") };
    let offset = text.parse::<FixedOffset>().ok().filter(|_| text.len() == "+00:00".len());
    let hint = || ApiError::InvalidQuery("tz must be an offset from UTC such as +01:00, or Z".into());
    offset.map(|offset| i64::from(offset.local_minus_utc())).ok_or_else(hint)
}

/// The edge of a bucket at or before `time`, or at or after it.
fn edge(time: DateTime<Utc>, step: i64, offset: i64, after: bool) -> Result<DateTime<Utc>, ApiError> {
    let seconds = if after && time.timestamp_subsec_nanos() > 0 { time.timestamp() + 1 } else { time.timestamp() };
    let shift = if step == SECONDS_PER_DAY { offset } else { 0 };
    let local = seconds + shift;
    let steps = if after { (local + step - 1).div_euclid(step) } else { local.div_euclid(step) };
    let outside = || ApiError::InvalidQuery("a time is out of range".into());
    DateTime::from_timestamp(steps * step - shift, 0).filter(|edge| (1970..=9999).contains(&edge.year())).ok_or_else(outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn window(from: &str, to: &str, interval: &str, tz: &str) -> Result<Window, ApiError> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Window::parse([given(from), given(to), given(interval), given(tz)], at("2011-01-20T10:30:00Z"))
    }

    #[test]
    fn a_window_is_widened_to_the_edges_of_its_buckets() {
        let hours = window("2011-01-04T10:20:00Z", "2011-01-04T12:00:01Z", "", "").unwrap();
        assert_eq!((hours.from, hours.to), (at("2011-01-04T10:00:00Z"), at("2011-01-04T13:00:00Z")));
        let days = window("2011-01-04T00:30:00+02:00", "2011-01-05T00:00:00+02:00", "day", "+02:00").unwrap();
        assert_eq!((days.from, days.to), (at("2011-01-03T22:00:00Z"), at("2011-01-04T22:00:00Z")));
        let usual = window("", "", "", "").unwrap();
        assert_eq!((usual.from, usual.to), (at("2011-01-19T11:00:00Z"), at("2011-01-20T11:00:00Z")));
    }

    #[test]
    fn every_bucket_is_there_and_hours_add_up_to_days() {
        let days = window("2011-01-04T00:00:00Z", "2011-01-07T00:00:00Z", "day", "").unwrap();
        let hours = [(at("2011-01-04T10:00:00Z"), 3), (at("2011-01-04T23:00:00Z"), 4), (at("2011-01-06T00:00:00Z"), 5)];
        let views: Vec<u64> = days.buckets(&hours).into_iter().map(|bucket| bucket.views).collect();
        assert_eq!(views, [7, 0, 5]);
        assert_eq!(days.buckets(&hours)[2].start, "2011-01-06T00:00:00.000000Z");
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused() {
        assert!(matches!(window("", "", "day", "+05:30"), Err(ApiError::Invalid(_))));
        assert!(window("", "", "hour", "+05:30").is_ok());
        let bad = [("", "", "week", ""), ("yesterday", "", "", ""), ("", "", "", "Europe/London"), ("", "", "day", "+1")];
        let ranges = [("2011-01-05T00:00:00Z", "2011-01-04T00:00:00Z", "", ""), ("2001-01-01T00:00:00Z", "2011-01-01T00:00:00Z", "", "")];
        for (from, to, interval, tz) in bad.into_iter().chain(ranges) {
            let refused = window(from, to, interval, tz);
            assert!(matches!(refused, Err(ApiError::InvalidQuery(_))), "{from} {to} {interval} {tz}: {refused:?}");
        }
    }
}
