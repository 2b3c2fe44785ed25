//! GET `/v1/admin/stock` and `/v1/admin/reservations`: of what there is least, and what is held until when. Both need MySQL alone.

use super::{listed, of_read};
use crate::error::ApiError;
use crate::input::query;
use crate::state::State;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use domain::product::time_text;
use serde_json::{Value, json};
use storage::mysql::reservations::{self, Active, Item};
use storage::mysql::stock::{self, Named};

/// Lines of either, unless the request says so.
const LISTED: u64 = 50;

/// What is least available of active products first.
pub(super) async fn lowest(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let [limit] = query::parameters(&request, ["limit"])?;
    let limit = listed(limit, LISTED)?;
    let found = state.read(stock::lowest(&state.stores()?.mysql, limit)).await?.map_err(of_read)?;
    let data: Vec<Value> = found.into_iter().map(stock_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

/// Active ones, those that expire first first; seconds are negative where the time is over and no worker has released the pieces.
pub(super) async fn reservations(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    let [limit] = query::parameters(&request, ["limit"])?;
    let limit = listed(limit, LISTED)?;
    let found = state.read(reservations::active(&state.stores()?.mysql, limit)).await?.map_err(of_read)?;
    let data: Vec<Value> = found.into_iter().map(reservation_json).collect();
    Ok(HttpResponse::Ok().json(json!({ "data": data })))
}

fn stock_json(of: Named) -> Value {
    json!({
        "product_id": of.product_id,
        "sku": of.sku,
        "name": of.name,
        "on_hand": of.on_hand,
        "reserved": of.reserved,
        "available": of.on_hand - of.reserved,
    })
}

fn reservation_json(of: Active) -> Value {
    let item = |item: Item| json!({"product_id": item.product_id, "sku": item.sku, "quantity": item.quantity});
    json!({
        "id": of.id,
        "reference": of.reference,
        "created_at": time_text(of.created_at),
        "expires_at": time_text(of.expires_at),
        "expires_in_seconds": of.left_micros as f64 / 1e6,
        "items": of.items.into_iter().map(item).collect::<Vec<_>>(),
    })
}
