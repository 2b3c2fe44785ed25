//! What this process is: build, settings, health; and what `inventoryctl doctor` says of its stores.
//!
//! Answers also while no store was reached: that is when one asks. Shows no secret.

use super::{of_read, within};
use crate::config::Settings;
use crate::error::ApiError;
use crate::input::query;
use crate::state::State;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use checks::doctor;
use checks::doctor::finding::Finding;
use chrono::{DateTime, Utc};
use domain::product::time_text;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use storage::MySql;
use storage::mysql::migrations;
use storage::settings::StoreArgs;
use telemetry::config::shown::Setting;
use telemetry::metrics::{Registry, StoreMetrics};
use telemetry::ops::Ops;
use tokio::sync::Mutex;

/// How long an examination is waited for, with those before it: of stores that hang it takes two calls of four seconds.
const DOCTOR_LIMIT: Duration = Duration::from_secs(15);

/// Connections of an examination, of which there is one at a time.
const DOCTOR_CONNECTIONS: u16 = 2;

/// What a process knows of itself from its start on.
pub(crate) struct Process {
    started_at: DateTime<Utc>,
    started: Instant,
    settings: Vec<Setting>,
    stores: StoreArgs,
    /// Its own handle, which may be there before MySQL was reached and takes no connection from requests; locked while it examines.
    doctor: Mutex<Option<MySql>>,
}

impl Process {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            started_at: Utc::now(),
            started: Instant::now(),
            settings: settings.shown.clone(),
            stores: settings.stores.clone(),
            doctor: Mutex::new(None),
        }
    }

    async fn examine(&self) -> Result<Vec<Finding>, String> {
        let mut doctor = self.doctor.lock().await;
        let mysql = match &mut *doctor {
            Some(mysql) => mysql,
            none => {
                let metrics = Arc::new(StoreMetrics::new(&Registry::new("inventory-api")));
                none.insert(MySql::new(&self.stores.mysql_url()?, DOCTOR_CONNECTIONS, metrics)?)
            }
        };
        Ok(doctor::examine(&self.stores, mysql).await?.findings)
    }
}

/// GET `/v1/admin/system`
pub(super) async fn system(
    request: HttpRequest,
    state: Data<State>,
    ops: Data<Ops>,
    process: Data<Process>,
) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let stores = state.stores().ok();
    let schema = match stores {
        // What MySQL does not tell is not known, and the rest is.
        Some(stores) => state.read(migrations::newest(&stores.mysql)).await.ok().and_then(|newest| newest.map_err(of_read).ok()).flatten(),
        None => None,
    };
    Ok(HttpResponse::Ok().json(json!({
        "build": ops.registry.build(),
        "started_at": time_text(process.started_at),
        "uptime_seconds": process.started.elapsed().as_secs(),
        "schema": {"version": schema},
        "shards": stores.map(|stores| stores.redis.keys.shards().count()),
        "settings": process.settings.iter().map(setting_json).collect::<Vec<_>>(),
        "health": ops.health.report(),
    })))
}

/// GET `/v1/admin/doctor`: of the stores; that the API answers is seen by the answer.
pub(super) async fn doctor(request: HttpRequest, process: Data<Process>) -> Result<HttpResponse, ApiError> {
    query::none(&request)?;
    let findings = within(DOCTOR_LIMIT, process.examine()).await?.map_err(|fault| ApiError::Internal(fault.into()))?;
    Ok(HttpResponse::Ok().json(json!({"data": findings})))
}

fn setting_json(setting: &Setting) -> Value {
    json!({"name": setting.variable, "value": setting.value, "source": setting.source})
}
