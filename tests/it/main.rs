//! Everything that is tested against real servers, as one binary.

#![allow(clippy::unwrap_used, reason = "a test that panics names its line; what helps its reader says more")]

mod admin;
mod admin_checks;
mod admin_stock;
mod availability;
mod backlog;
mod bad_http;
mod bad_input;
mod cache;
mod catalogue_file;
mod check;
mod cli;
mod cli_api;
mod cli_forms;
mod cli_stock;
mod conditional;
mod conservation;
mod console;
mod contract;
mod cors;
mod dead_letters;
mod deploy {
    mod compose;
    mod files;
    mod image;
    mod kubernetes;
    mod site;
    mod systemd;
}
mod doctor;
mod event_ids;
mod expiry;
mod faults {
    mod event_ids;
    mod letters;
    mod merging;
    mod oldest_age;
    mod outage;
    mod poison;
    mod price_batches;
    mod price_traces;
    mod prices;
    mod prices_under_load;
    mod pushes;
    mod redis_loss;
    mod stampede;
    mod stock;
    mod stock_torture;
    mod stores_away;
    mod tail;
    mod views;
    mod views_torture;
    mod views_under_load;
}
mod flush;
mod idempotency;
mod in_step;
mod merging;
mod openapi;
mod pace;
mod pause;
mod pause_points;
mod price_batches;
mod price_files;
mod price_reads;
mod problems;
mod product_list;
mod prometheus;
mod redis_full;
mod replay;
mod reservations;
mod retention;
mod runbook {
    mod alerts;
    mod book;
    mod moves;
    mod procedures;
    mod stage;
    mod stores;
    mod text;
    mod walk;
}
mod smoke;
mod sold_out;
mod startup;
mod stock;
mod stock_checks;
mod stock_replay;
mod stream;
mod structure;
mod tail;
mod telemetry;
mod tokens;
mod views;
mod writers;
