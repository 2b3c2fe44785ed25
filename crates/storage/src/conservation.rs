//! What must hold in the account of views at every moment, and what is off where it does not.
//!
//! Each shard is read as one moment of both stores, as `status.rs` does; sums within MySQL are read by one statement.

use crate::mysql::view_checks;
use crate::status::{Account, ShardMoment, moments};
use crate::{Error, MySql, Redis};
use domain::view::Writer;
use std::fmt;

pub use crate::mysql::view_checks::HoursDiffer;

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Accepted is not persisted + pending + dead + lost.
    Drift {
        shard: u16,
        account: Account,
    },
    /// MySQL added or set aside another number of views than its watermarks say that came.
    Arrived {
        shard: u16,
        arrived: u64,
        counted: u64,
    },
    /// More views of a writer came than it had accepted; without one: of those who are retired.
    BeyondAccepted {
        shard: u16,
        writer: Option<Writer>,
        accepted: u64,
        arrived: u64,
    },
    /// The totals of all products are not what the shards added.
    Totals {
        totals: u64,
        persisted: u64,
    },
    Hours(HoursDiffer),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drift { shard, account: Account { accepted, persisted, pending, dead, lost } } => {
                write!(f, "shard {shard}: {accepted} views were accepted, but ")?;
                write!(f, "{persisted} are in MySQL, {pending} pending, {dead} set aside, {lost} lost")
            }
            Self::Arrived { shard, arrived, counted } => {
                write!(f, "shard {shard}: {arrived} views came to MySQL by its watermarks, {counted} were added or set aside")
            }
            Self::BeyondAccepted { shard, writer, accepted, arrived } => {
                let whose = writer.map_or_else(|| "retired writers".to_owned(), |writer| format!("writer {writer}"));
                write!(f, "shard {shard}, {whose}: {arrived} views came to MySQL, but {accepted} were accepted")
            }
            Self::Totals { totals, persisted } => {
                write!(f, "product_views has {totals} views, but the shards added {persisted}")
            }
            Self::Hours(HoursDiffer { product_id, total, hours }) => {
                write!(f, "product {product_id}: product_views has {total} views, but its hours in view_hours {hours}")
            }
        }
    }
}

/// What is off in the shards.
///
/// # Errors
/// A store is away, or a shard moved too fast to be read.
pub async fn of_shards(mysql: &MySql, redis: &Redis) -> Result<Vec<Fault>, Error> {
    let moments = moments(mysql, redis).await?;
    Ok((0..).zip(&moments).flat_map(|(shard, moment)| of_shard(shard, moment)).collect())
}

fn of_shard(shard: u16, moment: &ShardMoment) -> Vec<Fault> {
    let (account, totals, mut faults) = (moment.account(), &moment.totals, Vec::new());
    if account.drift() != 0 {
        faults.push(Fault::Drift { shard, account });
    }
    let arrived = totals.marks.values().map(|mark| mark.arrived).sum::<u64>() + totals.retired_arrived;
    let counted = totals.persisted + totals.dead;
    if arrived != counted {
        faults.push(Fault::Arrived { shard, arrived, counted });
    }
    let writers = totals.marks.iter().map(|(writer, mark)| (Some(*writer), mark.accepted, mark.arrived));
    let all = writers.chain([(None, totals.retired_accepted, totals.retired_arrived)]);
    let beyond = all.filter(|(_, accepted, arrived)| arrived > accepted);
    faults.extend(beyond.map(|(writer, accepted, arrived)| Fault::BeyondAccepted { shard, writer, accepted, arrived }));
    faults
}

/// Whether the totals of all products are what the shards added; reads all of `product_views`.
///
/// # Errors
/// MySQL is away.
pub async fn of_totals(mysql: &MySql) -> Result<Option<Fault>, Error> {
    let (totals, persisted) = view_checks::totals_and_persisted(mysql).await?;
    Ok((totals != persisted).then_some(Fault::Totals { totals, persisted }))
}

/// Products with `after < id <= last` whose hours do not make up their totals; a hundred of them may have a million hours.
///
/// # Errors
/// MySQL is away.
pub async fn of_hours(mysql: &MySql, after: u64, last: u64) -> Result<Vec<Fault>, Error> {
    Ok(view_checks::hours_differ(mysql, after, last).await?.into_iter().map(Fault::Hours).collect())
}
