//! When all is healed and drained: what MySQL holds, what both APIs show and what the account says must be the same, and agree
//! with what clients were told.

use super::judge::{Booked, Rule, Violation, judge};
use super::victims::Victims;
use super::watch::look;
use super::workload::{Clients, INSTANCES, PRODUCTS};
use crate::torture::connection::Connection;
use crate::{Books, SOON, Shop, eventually};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use storage::status::Account;

/// For all that waits to be drained, on a busy machine.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// For metrics that are read from both stores every second.
const METRICS_LIMIT: Duration = Duration::from_secs(15);

/// Products of one read of the API.
const LISTED: usize = 50;

/// What is there at rest.
pub(super) struct Rest {
    pub(super) violations: Vec<Violation>,
    pub(super) account: Account,
}

/// Waits for it and judges. `api_died`: an API was killed after Redis had lost data, and what only it knew went with it.
pub(super) async fn at_rest(victims: &mut Victims, clients: &Clients, booked: &BTreeMap<u64, Booked>, api_died: bool) -> Rest {
    for victim in victims.apis.iter_mut().chain(&mut victims.workers) {
        victim.program.ready().await;
    }
    let shop = &victims.shop;
    let Some(account) = drained(&shop.books().await).await else {
        let status = shop.ctl(Some(&victims.apis[0].program), &["queue", "status", "-o", "json"]).await;
        let violations = vec![Violation::of(Rule::NotDrained, format!("not within {} s: {}", DRAIN_LIMIT.as_secs(), status.stdout))];
        return Rest { violations, account: Account::default() };
    };
    let open = shop.open_transactions().await;
    let (views, dead) = (by_product(shop, VIEWS).await, by_product(shop, LETTERS).await);
    let mut counted = views.clone();
    for (id, letters) in &dead {
        *counted.entry(*id).or_default() += letters;
    }
    let mut violations = judge(booked, &counted, &victims.gone);
    violations.extend(open.map(|open| Violation::of(Rule::NotDrained, open)));
    let mut account_says = |detail: String| violations.push(Violation::of(Rule::Account, detail));
    for wrong in accounts(&account, &views, &dead, booked, &victims.gone, api_died) {
        account_says(wrong);
    }
    if by_product(shop, HOURS).await != views {
        account_says("the hours of products are not their totals".to_owned());
    }
    for wrong in told(victims, &account).await {
        account_says(wrong);
    }
    for wrong in shown(clients, &views).await {
        account_says(wrong);
    }
    Rest { violations, account }
}

const VIEWS: &str = "SELECT product_id, views FROM product_views WHERE views > 0";
const HOURS: &str = "SELECT product_id, CAST(SUM(views) AS UNSIGNED) FROM view_hours GROUP BY product_id";
const LETTERS: &str = "SELECT product_id, CAST(SUM(views) AS UNSIGNED) FROM dead_letters WHERE product_id IS NOT NULL GROUP BY product_id";

async fn by_product(shop: &Shop, sql: &str) -> BTreeMap<u64, u64> {
    shop.rows::<(u64, u64)>(sql).await.into_iter().collect()
}

/// The account, once nothing waits and nothing is sealed.
async fn drained(books: &Books) -> Option<Account> {
    let started = Instant::now();
    while started.elapsed() < DRAIN_LIMIT {
        if let Some((account, depth)) = books.account().await
            && (account.pending, depth.entries, depth.views) == (0, 0, 0)
        {
            return Some(account);
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// What is wrong with the account, beside the tables and beside what clients were told.
fn accounts(
    account: &Account,
    views: &BTreeMap<u64, u64>,
    dead: &BTreeMap<u64, u64>,
    booked: &BTreeMap<u64, Booked>,
    gone: &BTreeMap<u64, u64>,
    api_died: bool,
) -> Vec<String> {
    let sum = |views: &BTreeMap<u64, u64>| views.values().sum::<u64>();
    let (accepted, doubtful) = booked.values().fold((0, 0), |(all, more), of| (all + of.accepted, more + of.doubtful));
    // Accepted views of each product that are certainly not there.
    let missing = |(id, of): (&u64, &Booked)| {
        let there = [views, dead].map(|views| views.get(id).copied().unwrap_or(0)).iter().sum();
        of.accepted.saturating_sub(there)
    };
    let certainly_lost = if api_died { 0 } else { booked.iter().map(missing).sum() };
    let counted = sum(views) + sum(dead);
    let holds = [
        (account.drift() == 0, "its drift is not 0"),
        (account.persisted == sum(views), "persisted is not the sum of the products' views"),
        (account.dead == sum(dead), "dead is not the sum of the letters"),
        (account.lost <= sum(gone), "more is said to be lost than Redis lost"),
        (account.lost <= (accepted + doubtful).saturating_sub(counted), "more is said to be lost than is missing"),
        (account.lost >= certainly_lost, "less is said to be lost than is missing"),
        (account.accepted <= accepted + doubtful, "more is said to be accepted than was sent"),
    ];
    let wrong = holds.iter().filter(|(holds, _)| !holds);
    let numbers = format!(
        "{account:?}, {counted} counted, {accepted} accepted by the clients' books, {doubtful} doubtful, {} in what Redis lost, {certainly_lost} certainly lost",
        sum(gone)
    );
    wrong.map(|(_, what)| format!("{what}: {numbers}")).collect()
}

/// What both APIs and `inventoryctl` say of the account, where it is something else.
async fn told(victims: &Victims, account: &Account) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, victim) in victims.apis.iter().enumerate() {
        let wanted =
            [("inventory_views_conservation_drift", 0), ("inventory_views_lost_total", account.lost), ("inventory_views_pending", 0)];
        let (started, mut found) = (Instant::now(), Vec::new());
        while started.elapsed() < METRICS_LIMIT {
            let text = victim.program.metrics().await;
            found = wanted.iter().map(|(name, _)| crate::metric_in(&text, name)).collect();
            if found.iter().zip(&wanted).all(|(found, (_, wanted))| *found == Some(*wanted as f64)) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        if found.iter().zip(&wanted).any(|(found, (_, wanted))| *found != Some(*wanted as f64)) {
            wrong.push(format!("API {number} shows {found:?} for {wanted:?}"));
        }
    }
    let status = victims.shop.ctl(Some(&victims.apis[0].program), &["queue", "status", "-o", "json"]).await.json(0);
    let listed = [("accepted", account.accepted), ("persisted", account.persisted), ("dead", account.dead), ("lost", account.lost)];
    for (name, wanted) in listed.into_iter().chain([("pending", 0), ("twice", 0), ("depth", 0), ("in_flight", 0)]) {
        if status[name].as_u64() != Some(wanted) {
            wrong.push(format!("inventoryctl queue status says {name} {} and not {wanted}", status[name]));
        }
    }
    wrong
}

/// Where an API shows another total than MySQL has.
async fn shown(clients: &Clients, views: &BTreeMap<u64, u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let ids: Vec<u64> = (1..=PRODUCTS).collect();
    for instance in 0..INSTANCES {
        let mut connection = Connection::to(clients.addresses[instance]);
        for ids in ids.chunks(LISTED) {
            let products = eventually("totals are shown at rest", SOON, async || {
                let products = look(&mut connection, ids).await;
                (products.len() == ids.len() && products.iter().all(|product| product.views.is_some())).then_some(products)
            })
            .await;
            for product in products {
                let there = views.get(&product.id).copied().unwrap_or(0);
                if product.views != Some(there) {
                    wrong.push(format!("API {instance} shows {:?} of product {} and MySQL has {there}", product.views, product.id));
                }
            }
        }
    }
    wrong
}
