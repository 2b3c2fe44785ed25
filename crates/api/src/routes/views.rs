//! Views: acknowledged when Redis has them, written behind into MySQL.
//!
//! Both routes work from `navigator.sendBeacon`: no custom header, an empty or `text/plain` body. The
//! parameter `k` carries a publishable key there, which the door before the handler has read.
//! `accepted` counts events, not views: an event is one line of the request, whatever its `count`.

use super::path_id;
use super::schemas::{Id, NewViews, OneAccepted, Viewed};
use crate::error::ApiError;
use crate::ingest::Ingest;
use crate::input::fields::{self, Faults, Reader};
use crate::input::json::Json;
use crate::input::{body, conditions, query};
use crate::problem;
use crate::state::State;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use domain::ProductId;
use futures_util::future::join_all;
use serde::Serialize;
use telemetry::metrics::ViewOutcome;
use utoipa::ToSchema;
use uuid::Uuid;

/// Most events of one call.
pub(super) const MAX_EVENTS: usize = 500;

/// Most views of one event.
pub(super) const MAX_COUNT: u64 = 1_000;

/// One event: a product, how often it was viewed, and the id under which that counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Event {
    product: ProductId,
    views: u64,
    id: Option<Uuid>,
}

/// An event that was not counted.
#[derive(Serialize, ToSchema)]
struct Rejected {
    /// Its place among the events of the request, from 0.
    index: usize,
    /// 404: the product is absent. 503: the event may be sent again.
    status: u16,
    #[schema(format = "uri-reference")]
    r#type: String,
    detail: String,
}

/// What became of the events.
#[derive(Serialize, ToSchema)]
#[schema(as = ViewsAccepted)]
pub(crate) struct Accepted {
    /// Events, not views: an event is one line of the request, whatever its count.
    accepted: usize,
    rejected: Vec<Rejected>,
}

/// Count a view
///
/// 202 means that Redis has it, as durable as its `appendfsync`, and that MySQL will have it exactly once. Works from
/// `navigator.sendBeacon`: no body is one view, and JSON may come as `text/plain`.
///
/// After an answer that was lost, or a 503, the same request may be sent again: with an `id` it counts once for as long as the id is
/// remembered, 10 to 20 minutes, and is answered 202 like the first. What was counted first stands, whatever a repeat's `count` says.
/// A repeat after that counts again, and so does one whose id Redis had no room for or was made to throw out.
#[utoipa::path(
    post, path = "/v1/products/{id}/views", operation_id = "recordView", tag = "views", params(Id),
    request_body(content(
        (Viewed = "application/json", example = json!({"count": 3, "id": "0190f5a2-7c1e-7d5b-9a44-3c2d1e0f8b6a"})),
        (Viewed = "text/plain", example = json!({"count": 3})),
    )),
    responses(
        (status = 202, description = "Accepted.", body = OneAccepted, example = json!({"accepted": 1})),
        (status = 404, description = "`unknown-product`, only where the API knows that it is absent"),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`"),
    ),
)]
pub(crate) async fn one(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let id = path_id(&request)?;
    check_head(&request)?;
    let (views, event) = match body::beacon(&request, payload, state.time_limit).await? {
        Some(body) => viewed(body).inspect_err(|_| state.views.received[ViewOutcome::Invalid].inc())?,
        None => (1, None),
    };
    let counted = state.write(state.ready()?.ingest.view(id, views, event)).await?;
    counted.map_err(|refused| ApiError::of_view(id, refused))?;
    Ok(HttpResponse::Accepted().content_type(super::JSON).body("{\"accepted\":1}"))
}

/// Count views of several products
///
/// A fault in any event refuses them all. After that each stands for itself: 202 says which were not
/// counted, 503 that none was and that at least one may be sent again. An event with an `id` counts once, however often it is
/// sent, also within one request; a repeat is among those accepted. An id belongs to its product: with another it is another event.
#[utoipa::path(
    post, path = "/v1/views", operation_id = "recordViews", tag = "views",
    request_body(content(
        (NewViews = "application/json", example = json!({"events": [{"product_id": 1}, {"product_id": 99, "count": 5}]})),
        (NewViews = "text/plain", example = json!({"events": [{"product_id": 1}, {"product_id": 99, "count": 5}]})),
    )),
    responses(
        (status = 202, description = "Each accepted, or rejected with the reason.", body = Accepted, example = json!({
            "accepted": 1,
            "rejected": [{"index": 1, "status": 404, "type": "/problems/unknown-product", "detail": "there is no product 99"}]
        })),
        (status = 415, description = "`unsupported-media-type`"),
        (status = 422, description = "`validation-failed`"),
    ),
)]
pub(crate) async fn many(request: HttpRequest, payload: Payload, state: Data<State>) -> Result<HttpResponse, ApiError> {
    check_head(&request)?;
    let body = body::beacon(&request, payload, state.time_limit).await?;
    let body = body.ok_or_else(|| ApiError::MalformedJson("the body is empty".into()))?;
    let events = events(body).inspect_err(|_| state.views.received[ViewOutcome::Invalid].inc())?;
    let ingest = &state.ready()?.ingest;
    let counted = join_all(events.iter().map(|event| count_event(&state, ingest, *event))).await;
    answer(counted)
}

async fn count_event(state: &State, ingest: &Ingest, event: Event) -> Result<(), ApiError> {
    let Event { product, views, id } = event;
    state.write(ingest.view(product, views, id)).await?.map_err(|refused| ApiError::of_view(product, refused))
}

fn answer(counted: Vec<Result<(), ApiError>>) -> Result<HttpResponse, ApiError> {
    let accepted = counted.iter().filter(|counted| counted.is_ok()).count();
    let mut errors: Vec<(usize, ApiError)> =
        counted.into_iter().enumerate().filter_map(|(index, counted)| Some((index, counted.err()?))).collect();
    if accepted == 0 {
        // The one that leaves open whether its views count, where there is one: any other would deny it.
        let unknown = errors.iter().position(|(_, error)| matches!(error, ApiError::OutcomeUnknown(_)));
        if let Some(place) = unknown.or_else(|| errors.iter().position(|(_, error)| error.kind().status >= 500)) {
            return Err(errors.swap_remove(place).1);
        }
    }
    let rejected = |(index, error): (usize, ApiError)| {
        let kind = error.kind();
        Rejected { index, status: kind.status, r#type: problem::path(kind), detail: error.to_string() }
    };
    let rejected = errors.into_iter().map(rejected).collect();
    let body = serde_json::to_vec(&Accepted { accepted, rejected }).expect("a struct of texts and numbers always serialises");
    Ok(HttpResponse::Accepted().content_type(super::JSON).body(body))
}

fn check_head(request: &HttpRequest) -> Result<(), ApiError> {
    query::parameters(request, ["k"])?;
    conditions::refuse_idempotency_key(request, "Idempotency-Key has no meaning for views; an event that has an id in its body counts once")
}

fn viewed(body: Json) -> Result<(u64, Option<Uuid>), ApiError> {
    let mut faults = Faults::default();
    let viewed = Reader::new(body, String::new(), &mut faults).map(|mut reader| {
        let viewed = count_and_id(&mut reader);
        reader.finish();
        viewed
    });
    faults.into_result(viewed)
}

fn count_and_id(reader: &mut Reader<'_>) -> (u64, Option<Uuid>) {
    let views = reader.optional("count", fields::whole_number(1..=MAX_COUNT)).unwrap_or(1);
    (views, reader.optional("id", fields::uuid))
}

fn events(body: Json) -> Result<Vec<Event>, ApiError> {
    let mut faults = Faults::default();
    let items = Reader::new(body, String::new(), &mut faults).and_then(|mut reader| {
        let items = reader.required("events", list);
        reader.finish();
        items
    });
    let events = items.map(|items| items.into_iter().enumerate().filter_map(|(n, item)| event(n, item, &mut faults)).collect());
    faults.into_result(events)
}

fn list(value: Json) -> Result<Vec<Json>, String> {
    match value {
        Json::List(items) if items.len() <= MAX_EVENTS => Ok(items),
        Json::List(items) => Err(format!("has {} events, at most {MAX_EVENTS} are taken at once", items.len())),
        other => Err(format!("must be an array, but is {}", other.kind())),
    }
}

fn event(n: usize, item: Json, faults: &mut Faults) -> Option<Event> {
    let mut reader = Reader::new(item, format!("/events/{n}"), faults)?;
    let product = reader.required("product_id", fields::product_id);
    let (views, id) = count_and_id(&mut reader);
    reader.finish();
    Some(Event { product: product?, views, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    fn pointers<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Vec<String> {
        match result {
            Err(ApiError::Invalid(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_count_is_one_unless_it_is_given() {
        assert_eq!(viewed(json("{}")).unwrap(), (1, None));
        assert_eq!(viewed(json(r#"{"count":1000}"#)).unwrap(), (1000, None));
        for body in [r#"{"count":0}"#, r#"{"count":1001}"#, r#"{"count":-1}"#, r#"{"count":1.5}"#, r#"{"count":"3"}"#, r#"{"count":null}"#]
        {
            assert_eq!(pointers(viewed(json(body))), ["/count"], "{body}");
        }
        assert_eq!(pointers(viewed(json(r#"{"id":"x","product_id":7}"#))), ["/id", "/product_id"]);
    }

    #[test]
    fn all_faults_of_all_events_are_listed() {
        let body = r#"{"events":[{"product_id":1},{"product_id":0},7,{"count":0,"id":"x"}],"more":1}"#;
        assert_eq!(
            pointers(events(json(body))),
            ["/more", "/events/1/product_id", "/events/2", "/events/3/product_id", "/events/3/count", "/events/3/id"]
        );
        assert_eq!(pointers(events(json("{}"))), ["/events"]);
        assert_eq!(events(json(r#"{"events":[]}"#)).unwrap(), []);
        let many = |count: usize| json(&format!("{{\"events\":[{}]}}", vec!["{\"product_id\":1}"; count].join(",")));
        assert_eq!(events(many(MAX_EVENTS)).unwrap().len(), MAX_EVENTS);
        assert_eq!(pointers(events(many(MAX_EVENTS + 1))), ["/events"]);
    }

    #[tokio::test]
    async fn several_are_refused_as_a_whole_only_if_none_was_counted_and_one_may_be_sent_again() {
        let id = ProductId::new(9).unwrap();
        let absent = || Err(ApiError::UnknownProduct(id));
        let full = || Err(ApiError::OverCapacity);
        let status = |counted| answer(counted).map(|response| response.status().as_u16()).map_err(|error| error.kind().status);
        assert_eq!(status(vec![]), Ok(202));
        assert_eq!(status(vec![Ok(()), full()]), Ok(202));
        assert_eq!(status(vec![absent(), absent()]), Ok(202));
        assert_eq!(status(vec![absent(), full()]), Err(503));
        let unknown = || Err(ApiError::OutcomeUnknown("a push of views was not confirmed".into()));
        for counted in [vec![full(), unknown()], vec![absent(), unknown(), full()]] {
            assert_eq!(answer(counted).unwrap_err().kind().slug, "outcome-unknown");
        }

        let response = answer(vec![Ok(()), absent(), Ok(()), full()]).unwrap();
        let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["accepted"], 2);
        assert_eq!(body["rejected"][0]["index"], 1);
        assert_eq!(body["rejected"][0]["status"], 404);
        assert_eq!(
            body["rejected"][1],
            serde_json::json!({
                "index": 3, "status": 503, "type": "/problems/over-capacity", "detail": "the view queue is full; nothing was counted"
            })
        );
    }
}
