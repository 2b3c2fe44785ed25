//! The judgement of groups, on books that need no database.

use crate::book::{Book, Keys};
use crate::{Answer, Ask, Change, Changed, Done, Error, Expected, Key, Level, Line, Note, Once, Outcome, Reservation, ReservationState};
use chrono::{DateTime, Utc};
use domain::ProductId;
use proptest::prelude::*;
use std::collections::HashMap;
use std::time::Duration;
use storage::mysql::idempotency::Begun;
use storage::mysql::stock::{Held, Locked};
use uuid::Uuid;

const TTL: Duration = Duration::from_secs(60);

fn product(id: u64) -> ProductId {
    ProductId::new(id).unwrap()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_294_135_200, 0).unwrap()
}

/// Products 1, 2, … with so many on hand and reserved.
fn locked(levels: &[(u64, u64)]) -> Locked {
    let held =
        |(on_hand, reserved): &(u64, u64)| Held { level: Level { on_hand: *on_hand, reserved: *reserved, version: 1 }, is_sold: true };
    let levels = levels.iter().enumerate().map(|(place, level)| (product(place as u64 + 1), held(level)));
    Locked { levels: levels.collect(), now: Some(now()) }
}

fn ask(change: Change) -> Ask {
    Ask { change, actor: None, once: None }
}

fn reserve(lines: &[(u64, u64)]) -> Ask {
    let lines = lines.iter().map(|(id, quantity)| Line { product_id: product(*id), quantity: *quantity }).collect();
    ask(Change::Reserve { id: Uuid::new_v4(), lines, ttl: TTL, reference: None })
}

fn adjust(id: u64, delta: i64) -> Ask {
    ask(Change::Adjust { product: product(id), delta, note: Note::default() })
}

/// Under this key; the answer tells which ask gave it.
fn keyed(ask: Ask, key: &str, request: u8) -> Ask {
    let key = Key { token: String::new(), route: "POST /", key: key.to_owned(), request: [request; 32] };
    let answer = |changed: &Changed| Answer { status: 201, etag: None, location: None, body: format!("{changed:?}").into_bytes() };
    Ask { once: Some(Once { key, answer }), ..ask }
}

fn reservation(id: u128, state: ReservationState, expires_in: i64, lines: &[(u64, u64)]) -> Reservation {
    let lines = lines.iter().map(|(id, quantity)| Line { product_id: product(*id), quantity: *quantity }).collect();
    let (expires_at, created_at) = (now() + chrono::Duration::seconds(expires_in), now());
    Reservation { id: Uuid::from_u128(id), state, lines, reference: None, actor: None, expires_at, created_at, updated_at: created_at }
}

fn judge(book: &mut Book, asks: &[Ask]) -> Vec<Outcome> {
    let mut keys = Keys::new(std::iter::empty());
    asks.iter().map(|ask| book.judge(ask, &mut keys)).collect()
}

fn book(levels: &[(u64, u64)], reservations: Vec<Reservation>) -> Book {
    Book::new(locked(levels), reservations.into_iter().map(|it| (it.id, it)).collect::<HashMap<_, _>>())
}

#[test]
fn who_comes_first_gets_the_last_piece_and_a_basket_is_all_or_nothing() {
    let mut book = book(&[(3, 0), (1, 0)], vec![]);
    let outcomes = judge(&mut book, &[reserve(&[(1, 2), (2, 1)]), reserve(&[(1, 1), (2, 1)]), reserve(&[(1, 1)]), reserve(&[(9, 1)])]);
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    let Err(Error::Insufficient(short)) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(short.iter().map(|it| (it.product.get(), it.requested, it.available)).collect::<Vec<_>>(), [(2, 1, 0)]);
    assert!(matches!(&outcomes[3], Err(Error::UnknownProducts(ids)) if ids == &[product(9)]), "{outcomes:?}");
    let levels: Vec<_> = book.changes.levels.values().map(|(_, after)| (after.on_hand, after.reserved)).collect();
    assert_eq!((levels, book.changes.movements.len(), book.changes.made.len()), (vec![(3, 3), (1, 1)], 3, 2));
}

#[test]
fn equal_keys_of_a_group_are_answered_from_the_first_and_what_is_refused_keeps_none() {
    let mut book = book(&[(3, 0)], vec![]);
    let kept = Key { token: String::new(), route: "POST /", key: "old".into(), request: [7; 32] };
    let before = Answer { status: 201, etag: None, location: None, body: b"old".to_vec() };
    let mut keys = Keys::new([(&kept, Begun::Answered(before.clone()))].into_iter());
    let asks = [
        keyed(adjust(1, -9), "a", 1),
        keyed(adjust(1, 1), "a", 2),
        keyed(adjust(1, 1), "a", 2),
        keyed(adjust(1, 2), "a", 3),
        keyed(adjust(1, 5), "old", 7),
    ];
    let outcomes: Vec<_> = asks.iter().map(|ask| book.judge(ask, &mut keys)).collect();
    assert!(matches!(outcomes[0], Err(Error::Insufficient(_))), "{outcomes:?}");
    let Ok(Done::Now(first)) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(matches!(&outcomes[2], Ok(Done::Before(answer)) if answer.body == format!("{first:?}").into_bytes()), "{outcomes:?}");
    assert!(matches!(outcomes[3], Err(Error::KeyReused)), "{outcomes:?}");
    assert!(matches!(&outcomes[4], Ok(Done::Before(answer)) if *answer == before), "{outcomes:?}");
    assert_eq!((keys.given.len(), book.changes.movements.len()), (1, 1));
}

#[test]
fn a_reservation_ends_once_and_one_whose_time_is_over_has_expired() {
    use ReservationState::{Active, Committed, Expired, Released};
    let there = vec![
        reservation(1, Active, 1, &[(1, 2)]),
        reservation(2, Active, 0, &[(1, 3)]),
        reservation(3, Released, 1, &[(1, 1)]),
        reservation(4, Active, 1, &[(1, 1)]),
    ];
    let mut book = book(&[(10, 6)], there);
    let asks: Vec<_> = [
        Change::Commit(Uuid::from_u128(1)),
        Change::Commit(Uuid::from_u128(1)),
        Change::Release(Uuid::from_u128(1)),
        Change::Commit(Uuid::from_u128(2)),
        Change::Release(Uuid::from_u128(3)),
        Change::Expire(Uuid::from_u128(4)),
        Change::Release(Uuid::from_u128(4)),
        Change::Commit(Uuid::from_u128(5)),
    ]
    .map(ask)
    .into();
    let outcomes = judge(&mut book, &asks);
    let state = |outcome: &Outcome| match outcome {
        Ok(Done::Now(Changed::Reservation(reservation))) => Ok(reservation.state),
        Err(Error::NotActive(state)) => Err(Some(*state)),
        Err(Error::UnknownReservation) => Err(None),
        other => panic!("{other:?}"),
    };
    let states: Vec<_> = outcomes.iter().map(state).collect();
    let expected =
        [Ok(Committed), Ok(Committed), Err(Some(Committed)), Err(Some(Expired)), Ok(Released), Err(Some(Active)), Ok(Released), Err(None)];
    assert_eq!(states, expected);
    assert_eq!(outcomes[0].as_ref().ok(), outcomes[1].as_ref().ok());
    // Two pieces were sold, three and one came back.
    assert_eq!(book.changes.levels[&product(1)].1, Level { on_hand: 8, reserved: 0, version: 4 });
    let expired = book.reservations_of(&[Uuid::from_u128(2)])[0].clone();
    assert_eq!((expired.state, expired.updated_at), (Expired, expired.expires_at));
}

#[test]
fn a_count_replaces_what_it_expects_and_nothing_else() {
    let count = |on_hand, expected| ask(Change::Count { product: product(1), on_hand, expected, note: Note::default() });
    let mut book = book(&[(5, 2)], vec![]);
    let asks = [
        count(9, Expected::Version(vec![])),
        count(1, Expected::Anything),
        count(5, Expected::Version(vec![1])),
        count(7, Expected::Version(vec![4, 1])),
        count(8, Expected::Version(vec![1])),
    ];
    let outcomes = judge(&mut book, &asks);
    assert!(matches!(outcomes[0], Err(Error::PreconditionFailed(_))), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(Error::BelowReserved(_))), "{outcomes:?}");
    assert!(matches!(outcomes[2], Ok(Done::Now(Changed::Level { delta: 0, .. }))), "{outcomes:?}");
    assert!(matches!(outcomes[3], Ok(Done::Now(Changed::Level { delta: 2, .. }))), "{outcomes:?}");
    assert!(matches!(outcomes[4], Err(Error::PreconditionFailed(level)) if level.version == 2), "{outcomes:?}");
    assert_eq!(book.changes.movements.len(), 1);
}

proptest! {
    /// Whatever is asked: the movements of a product lead from its level before to its level after, one by one, never oversold.
    #[test]
    fn the_ledger_leads_from_what_was_to_what_is(
        levels in prop::collection::vec((0_u64..30, 0_u64..10), 3),
        asked in prop::collection::vec((0_u8..3, 1_u64..=4, 1_u64..6), 1..40),
    ) {
        let levels: Vec<_> = levels.into_iter().map(|(free, reserved)| (free + reserved, reserved)).collect();
        let there: Vec<_> = levels.iter().enumerate().map(|(place, (_, reserved))| {
            reservation(place as u128 + 1, ReservationState::Active, 1, &[(place as u64 + 1, *reserved)])
        }).collect();
        let mut book = book(&levels, there);
        let asks: Vec<_> = asked.iter().map(|(kind, id, number)| match kind {
            0 => reserve(&[(*id, *number), (1 + id % 4, 1)]),
            1 => adjust(*id, *number as i64 * 2 - 5),
            _ => ask(if number % 2 == 0 { Change::Commit(Uuid::from_u128(u128::from(*id))) } else { Change::Release(Uuid::from_u128(u128::from(*id))) }),
        }).collect();
        judge(&mut book, &asks);
        for (id, (before, after)) in &book.changes.levels {
            let mut level = *before;
            for movement in book.changes.movements.iter().filter(|movement| movement.product_id == *id) {
                prop_assert_eq!(movement.level.on_hand as i64, level.on_hand as i64 + movement.delta);
                prop_assert_eq!(movement.level.reserved as i64, level.reserved as i64 + movement.reserved_delta);
                prop_assert!(movement.level.reserved <= movement.level.on_hand);
                prop_assert_eq!(movement.level.version, level.version + 1);
                level = movement.level;
            }
            prop_assert_eq!(level, *after);
        }
    }
}
