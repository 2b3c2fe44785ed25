//! Ids of events: under one of them a client may send a view again, and it counts once.
//!
//! An id belongs to its product: under another product it is another event. It is remembered by the script that stores its view,
//! in the set of the window in which the push was first sent, so a push that was refused or never arrived leaves nothing. The sets
//! of the windows before and after are looked at too: that makes it 10 to 20 minutes, also where the clocks of two APIs differ.
//!
//! Counting rests on none of this: whatever a push stored counts once. A set that is lost, evicted or full costs the
//! answer to one question, whether a request that was sent again is a repeat; it is then counted as another view.

use super::keys::Keys;
use ::redis::ScriptInvocation;
use uuid::Uuid;

/// Length of a window. An id is remembered until the end of the window after its own.
pub const WINDOW_MS: u64 = 10 * 60 * 1_000;

/// Most ids of a window in a shard; what comes after them is counted and not remembered. A full set takes 4.7 MB, 72 bytes an id
/// (measured on 7.0: a power of two, because that many slots its table has), so two windows of four shards take 38 MB.
pub const MOST_IDS: u64 = 65_536;

/// How long Redis keeps a set: its own window, the next one, and a minute for clocks that differ.
const KEPT_MS: u64 = 2 * WINDOW_MS + 60 * 1_000;

/// A view, or several of one product, that counts once under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub product: u64,
    /// At least 1.
    pub views: u64,
    pub id: Uuid,
}

/// What became of an event whose push was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    New,
    /// Its id was remembered: it was counted before.
    Repeated,
    /// Counted; its id was not remembered, because the window holds [`MOST_IDS`].
    Unremembered,
}

impl Event {
    /// What is remembered: the id and the product, in 16 bytes and as few more as the product has.
    fn member(&self) -> Vec<u8> {
        let product = self.product.to_be_bytes();
        let zeros = self.product.leading_zeros() as usize / 8;
        [self.id.as_bytes(), &product[zeros..]].concat()
    }
}

/// Adds events (at least one) to a call of push, behind its counts.
pub(super) fn add(call: &mut ScriptInvocation<'_>, keys: &Keys, shard: u16, at_ms: u64, events: &[Event]) {
    let window = at_ms / WINDOW_MS;
    for window in [window.saturating_sub(1), window, window + 1] {
        call.key(keys.event_ids(shard, window));
    }
    for event in events {
        call.arg(event.product).arg(event.views).arg(event.member());
    }
    call.arg(MOST_IDS).arg(KEPT_MS).arg(events.len());
}

/// Reads what push says of the events, in their order.
pub(super) fn fates(reply: &str) -> Vec<Fate> {
    let fate = |letter| match letter {
        'r' => Fate::Repeated,
        'u' => Fate::Unremembered,
        _ => Fate::New,
    };
    reply.chars().map(fate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_under_another_product_is_another_member() {
        let id = Uuid::from_u128(7);
        let member = |product| Event { product, views: 1, id }.member();
        let members = [1, 255, 256, 65_536, 1 << 52].map(member);
        assert_eq!(members.each_ref().map(Vec::len), [17, 17, 18, 19, 23]);
        let other = Event { product: 1, views: 1, id: Uuid::from_u128(7 << 8) }.member();
        assert!(members.iter().all(|member| *member != other));
    }
}
