//! The judge of stock passes what may be and names what may not.

use super::*;

const ID: &str = "0190f5a2-7c1e-7d5b-9a44-3c2d1e0f8b6a";

fn movement(kind: &str, delta: i64, reserved_delta: i64, levels: (i64, i64)) -> Movement {
    let of_stock = ["count", "adjustment"].contains(&kind);
    Movement {
        product: 1,
        kind: kind.to_owned(),
        delta,
        reserved_delta,
        on_hand: levels.0,
        reserved: levels.1,
        reference: of_stock.then(|| kind.to_owned()),
        reservation: (!of_stock).then(|| ID.to_owned()),
    }
}

fn request(reference: &str, what: What, outcome: Outcome) -> Request {
    Request { reference: reference.to_owned(), what, outcome, at_ms: 0, again: None }
}

/// Ten were counted, three are reserved and committed.
fn sold() -> (Told, Ledger) {
    let reservation =
        Reservation { state: State::Committed, overdue: false, reference: Some("basket".to_owned()), items: BTreeMap::from([(1, 3)]) };
    let ledger = Ledger {
        stock: BTreeMap::from([(1, (7, 0))]),
        movements: vec![movement("count", 10, 0, (10, 0)), movement("reserve", 0, 3, (10, 3)), movement("commit", -3, -3, (7, 0))],
        reservations: HashMap::from([(ID.to_owned(), reservation)]),
        untimely: Vec::new(),
    };
    let told = Told {
        requests: vec![
            request("count", What::Count(1, 10), Outcome::Changed),
            request("basket", What::Reserve(vec![(1, 3)]), Outcome::Reserved(ID.to_owned())),
        ],
        sights: vec![Sight { id: ID.to_owned(), state: State::Committed, began: 4, ended: 5 }],
        closings: vec![Closing { id: ID.to_owned(), to: State::Committed, began: 4 }],
        wrong: Vec::new(),
    };
    (told, ledger)
}

fn rules(told: &Told, ledger: &Ledger) -> Vec<Rule> {
    let mut rules: Vec<Rule> = ledger.faults().into_iter().chain(judge(told, ledger)).map(|violation| violation.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn a_sale_that_is_there_as_it_was_told_is_no_fault() {
    let (mut told, ledger) = sold();
    assert_eq!(rules(&told, &ledger), []);
    for outcome in [Outcome::Doubtful, Outcome::Reserved(ID.to_owned())] {
        told.requests[1].outcome = outcome;
        assert_eq!(rules(&told, &ledger), []);
    }
    told.requests.push(request("gone", What::Adjust(1, 5), Outcome::Doubtful));
    told.requests.push(request("refused", What::Reserve(vec![(1, 30)]), Outcome::Refused));
    assert_eq!(rules(&told, &ledger), []);
}

#[test]
fn levels_that_do_not_follow_from_movements_and_reservations_are_seen() {
    let (told, right) = sold();
    let changed = |change: &dyn Fn(&mut Ledger)| {
        let mut ledger = right.clone();
        change(&mut ledger);
        rules(&told, &ledger)
    };
    assert_eq!(changed(&|ledger| *ledger.stock.get_mut(&1).unwrap() = (8, 0)), [Rule::Sums]);
    assert_eq!(changed(&|ledger| *ledger.stock.get_mut(&1).unwrap() = (7, 8)), [Rule::Sums, Rule::Oversold]);
    assert_eq!(changed(&|ledger| drop(ledger.movements.pop())), [Rule::Sums, Rule::Moves]);
    assert_eq!(changed(&|ledger| ledger.movements[1].on_hand = 9), [Rule::Step]);
    assert_eq!(changed(&|ledger| ledger.movements[1].kind = "release".to_owned()), [Rule::Step, Rule::Moves]);
    let oversold = |ledger: &mut Ledger| {
        ledger.movements[0] = movement("count", 2, 0, (2, 0));
        ledger.movements[1].on_hand = 2;
        ledger.movements[2].on_hand = -1;
        ledger.stock.insert(1, (-1, 0));
    };
    assert_eq!(changed(&oversold), [Rule::Oversold, Rule::Lost, Rule::Oversold]);
    assert_eq!(changed(&|ledger| ledger.reservations.clear()), [Rule::Moves, Rule::Lost]);
}

#[test]
fn what_was_told_and_is_not_there_is_lost_and_what_was_refused_may_not_be_there() {
    let (right, ledger) = sold();
    let changed = |change: &dyn Fn(&mut Told)| {
        let mut told =
            Told { requests: right.requests.clone(), sights: right.sights.clone(), closings: right.closings.clone(), wrong: vec![] };
        change(&mut told);
        rules(&told, &ledger)
    };
    assert_eq!(changed(&|told| told.requests[1].outcome = Outcome::Refused), [Rule::Undone]);
    assert_eq!(changed(&|told| told.requests[0].outcome = Outcome::Unchanged), [Rule::Undone]);
    assert_eq!(changed(&|told| told.requests[1].outcome = Outcome::Reserved("another".to_owned())), [Rule::Lost]);
    assert_eq!(changed(&|told| told.requests[1].what = What::Reserve(vec![(1, 2)])), [Rule::Lost]);
    assert_eq!(changed(&|told| drop(told.requests.remove(0))), [Rule::Undone], "nobody asked for it");
    let more = request("more", What::Adjust(1, 1), Outcome::Changed);
    assert_eq!(changed(&|told| told.requests.push(more.clone())), [Rule::Lost]);
    let mut twice = ledger.clone();
    twice.reservations.insert("again".to_owned(), ledger.reservations[ID].clone());
    assert!(rules(&right, &twice).contains(&Rule::Twice));
}

#[test]
fn an_end_that_was_told_stays_and_nobody_is_told_another() {
    let (told, mut ledger) = sold();
    let row = ledger.reservations.get_mut(ID).unwrap();
    let wrong = |row: &Reservation, seen: &[(State, u64, u64)], tried: &[(State, u64)]| {
        let sights: Vec<Sight> =
            seen.iter().map(|(state, began, ended)| Sight { id: ID.to_owned(), state: *state, began: *began, ended: *ended }).collect();
        let closings: Vec<Closing> = tried.iter().map(|(to, began)| Closing { id: ID.to_owned(), to: *to, began: *began }).collect();
        contradictions(row, &sights.iter().collect::<Vec<_>>(), &closings.iter().collect::<Vec<_>>()).len()
    };
    assert_eq!(told.sights.len(), 1);
    use State::{Active, Committed, Expired, Released};
    assert_eq!(wrong(row, &[(Active, 1, 2), (Committed, 4, 5)], &[(Committed, 4)]), 0);
    assert_eq!(wrong(row, &[], &[(Released, 4)]), 1, "nobody committed it");
    assert_eq!(wrong(row, &[(Released, 4, 5)], &[(Committed, 4), (Released, 4)]), 1);
    assert_eq!(wrong(row, &[(Committed, 4, 5), (Active, 6, 7)], &[(Committed, 4)]), 1);
    assert_eq!(wrong(row, &[(Committed, 4, 6), (Active, 5, 7)], &[(Committed, 4)]), 0, "at the same time");
    assert_eq!(wrong(row, &[(Expired, 4, 6)], &[(Committed, 5)]), 0, "its commit had begun");
    assert_eq!(wrong(row, &[(Expired, 4, 6)], &[(Committed, 7)]), 1);
    row.state = Active;
    assert_eq!(wrong(row, &[(Expired, 4, 6)], &[]), 1, "its time is not over");
    assert_eq!(wrong(row, &[(Committed, 4, 6)], &[(Committed, 4)]), 1);
    row.overdue = true;
    assert_eq!(wrong(row, &[(Expired, 4, 6)], &[(Committed, 7)]), 0);
    row.state = Expired;
    assert_eq!(wrong(row, &[(Expired, 4, 6)], &[(Committed, 7)]), 0);
    row.overdue = false;
    assert_eq!(wrong(row, &[], &[]), 1);
}
