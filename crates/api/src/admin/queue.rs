//! GET `/v1/admin/queue`: where the accepted views are, what each shard of the queue holds, and who drains it.

use super::{account_json, hold_json, of_read};
use crate::error::ApiError;
use crate::input::query;
use crate::state::State;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use storage::mysql::pause;
use storage::redis::workers::{Worker, workers};
use storage::status::{self, ShardDepth};
use storage::watch::now_ms;

/// `capacity` bounds `depth`, both in (product, hour) entries; the rest are views.
pub(super) async fn show(request: HttpRequest, state: Data<State>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let stores = state.stores()?;
    let all = async {
        let (account, hold) = tokio::try_join!(status::account(&stores.mysql, &stores.redis), pause::state(&stores.mysql))?;
        // The rest is worth showing where this user may not list clients.
        Ok((account, hold, workers(&stores.redis.queue).await.ok()))
    };
    let ((account, depth), hold, workers) = state.read(all).await?.map_err(of_read)?;
    let now_ms = now_ms();
    let shards: Vec<Value> = depth.shards.iter().enumerate().map(|(number, shard)| shard_json(number, shard, now_ms)).collect();
    let mut told = account_json(account);
    told["depth"] = json!(depth.entries);
    told["capacity"] = json!(stores.intake.capacity());
    told["in_flight"] = json!(depth.in_flight);
    told["oldest_age_seconds"] = json!(depth.oldest_age_seconds(now_ms));
    told["shards"] = json!(shards);
    told["workers"] = json!(workers.map(|workers| workers.into_iter().map(worker_json).collect::<Vec<_>>()));
    told["paused"] = json!(hold.map(hold_json));
    Ok(HttpResponse::Ok().json(told))
}

fn shard_json(number: usize, shard: &ShardDepth, now_ms: u64) -> Value {
    let batch = shard.batch.as_ref();
    let batch = batch.map(|batch| json!({"id": batch.id, "views": batch.views, "age_seconds": batch.age_seconds(now_ms)}));
    json!({"shard": number, "entries": shard.entries, "views_waiting": shard.views_waiting, "batch": batch})
}

fn worker_json(worker: Worker) -> Value {
    let hangs = worker.hangs();
    let Worker { name, address, connected_seconds, silent_seconds } = worker;
    json!({"name": name, "address": address, "connected_seconds": connected_seconds, "silent_seconds": silent_seconds, "hangs": hangs})
}
