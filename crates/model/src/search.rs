//! Breadth-first search through all states of a model: what it finds first is reached by a shortest trace.

use std::collections::{HashMap, VecDeque};
use std::fmt::{Debug, Display, Formatter};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A system that takes one step at a time.
pub trait Model {
    /// All that is known at one moment; small, because millions are kept.
    type State: Copy + Eq + Hash;
    /// What must never be broken.
    type Promise: Copy + Debug + PartialEq;

    fn start(&self) -> Self::State;

    /// Tells every step that is possible in `state`, and every promise that is broken there.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self>);
}

/// What a model tells about one state.
pub struct Steps<M: Model + ?Sized> {
    next: Vec<M::State>,
    broken: Option<(M::Promise, String)>,
    /// While a trace is written: the state whose step is looked for, and its words.
    wanted: Option<M::State>,
    words: Option<String>,
}

impl<M: Model + ?Sized> Steps<M> {
    /// A step that leads to `next`. The words are made only for a trace.
    pub fn step(&mut self, words: impl FnOnce() -> String, next: M::State) {
        match self.wanted {
            None => self.next.push(next),
            Some(wanted) if wanted == next && self.words.is_none() => self.words = Some(words()),
            Some(_) => {}
        }
    }

    /// A promise is broken, by what the words say. The first one counts.
    pub fn broken(&mut self, promise: M::Promise, words: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some((promise, words()));
        }
    }

    fn of(model: &M, state: &M::State, wanted: Option<M::State>) -> Self {
        let mut steps = Self { next: Vec::new(), broken: None, wanted, words: None };
        model.steps(state, &mut steps);
        steps
    }
}

/// How a search ended.
#[derive(Debug)]
pub enum Outcome<P> {
    /// Every reachable state was visited, so many, and no promise was broken.
    Holds {
        states: usize,
    },
    Broken(Trace<P>),
    /// More states than were allowed: nothing is proven.
    Unfinished,
}

/// A shortest way to a broken promise.
#[derive(Debug)]
pub struct Trace<P> {
    pub promise: P,
    /// In words; the last line says what is wrong.
    pub steps: Vec<String>,
}

impl<P: Debug> Display for Trace<P> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.promise)?;
        self.steps.iter().enumerate().try_for_each(|(number, step)| write!(f, "\n{:>4}. {step}", number + 1))
    }
}

/// Each state with the one that it was first reached from.
type Seen<M> = HashMap<<M as Model>::State, Option<<M as Model>::State>, BuildHasherDefault<Mix>>;

/// Multiplies and turns. The usual hasher withstands an adversary, which a model has not got, and takes three times as long.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    // Which variant an enum is, is hashed as this.
    fn write_isize(&mut self, variant: isize) {
        self.write_u64(variant as u64);
    }

    fn write_u64(&mut self, word: u64) {
        // 2^64 divided by the golden ratio, as Knuth has it.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Visits every state that can be reached, nearest first, until a promise is broken or `most_states` are kept, each twice.
pub fn explore<M: Model>(model: &M, most_states: usize) -> Outcome<M::Promise> {
    let start = model.start();
    let mut seen = Seen::<M>::from_iter([(start, None)]);
    let mut open = VecDeque::from([start]);
    while let Some(state) = open.pop_front() {
        let steps = Steps::of(model, &state, None);
        if let Some((promise, words)) = steps.broken {
            let mut steps = trace(model, &seen, state);
            steps.push(words);
            return Outcome::Broken(Trace { promise, steps });
        }
        for next in steps.next {
            seen.entry(next).or_insert_with(|| {
                open.push_back(next);
                Some(state)
            });
        }
        if seen.len() > most_states {
            return Outcome::Unfinished;
        }
    }
    Outcome::Holds { states: seen.len() }
}

/// The words of the steps from the start to `state`.
fn trace<M: Model>(model: &M, seen: &Seen<M>, mut state: M::State) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(Some(before)) = seen.get(&state) {
        words.extend(Steps::of(model, before, Some(state)).words);
        state = *before;
    }
    words.reverse();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that steps by one or doubles, up to a limit; 12 is forbidden if it is asked for.
    struct Counter {
        limit: u32,
        forbidden: Option<u32>,
    }

    impl Model for Counter {
        type State = u32;
        type Promise = &'static str;

        fn start(&self) -> u32 {
            1
        }

        fn steps(&self, state: &u32, steps: &mut Steps<Self>) {
            if Some(*state) == self.forbidden {
                steps.broken("forbidden", || format!("{state} is forbidden"));
            }
            for (name, next) in [("one more", state + 1), ("twice", state * 2)] {
                if next <= self.limit {
                    steps.step(|| format!("{name}: {next}"), next);
                }
            }
        }
    }

    #[test]
    fn every_state_is_visited_once() {
        assert!(matches!(explore(&Counter { limit: 1000, forbidden: None }, 1000), Outcome::Holds { states: 1000 }));
    }

    #[test]
    fn a_trace_is_a_shortest_one_and_readable() {
        let Outcome::Broken(trace) = explore(&Counter { limit: 1000, forbidden: Some(12) }, 1000) else { panic!("12 is reached") };
        assert_eq!(
            trace.to_string(),
            "\"forbidden\"\n   1. one more: 2\n   2. one more: 3\n   3. twice: 6\n   4. twice: 12\n   5. 12 is forbidden"
        );
    }

    #[test]
    fn a_search_that_is_not_finished_says_so() {
        assert!(matches!(explore(&Counter { limit: 1000, forbidden: None }, 999), Outcome::Unfinished));
    }
}
