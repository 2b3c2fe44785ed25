//! A writer's steps: lock, mark, COMMIT, publish; and the faults that strike between them.

use super::{Announce, Entry, Price, Prices, Publish, State, Writer};
use crate::search::Steps;

impl Prices {
    fn announced(&self, entry: Entry, price: Price) -> Entry {
        match self.protocol.announce {
            Announce::Mark | Announce::MarkOrDelete => Entry::Marker(price),
            Announce::Data => Entry::Data(price),
            Announce::Nothing => entry,
        }
    }

    fn publish(&self, s: &mut State, price: Price) {
        match self.protocol.publish {
            Publish::OwnMarker if s.entry == Entry::Marker(price) => s.entry = Entry::Data(price),
            Publish::Delete => s.entry = Entry::Absent,
            Publish::Newer => s.set_newer(price),
            Publish::OwnMarker | Publish::Nothing => {}
        }
    }

    /// The steps of a writer.
    pub(super) fn write(&self, s: &State, i: usize, steps: &mut Steps<Self>) {
        let (writer, me) = (s.writers[i], u8::try_from(i).expect("writers are few"));
        let price = |version| Price { version, by: me };
        let to = |writer| move |n: &mut State| n.writers[i] = writer;
        match writer {
            Writer::Idle | Writer::Unknown if s.lock.is_none() => {
                let next = s.version + 1;
                let (words, writer) = if writer == Writer::Unknown && s.row().by == me {
                    ("locks the row again and finds its price there".to_owned(), Writer::Same)
                } else {
                    (format!("locks the row v{}→v{next}", s.version), Writer::Locked(next))
                };
                let locked = s.with(to(writer)).with(|n| n.lock = Some(me));
                steps.step(|| format!("W{i} {words}"), locked);
            }
            Writer::Locked(version) => {
                let marked = s.with(to(Writer::Marked(version)));
                let entry = self.announced(s.entry, price(version));
                let words = match self.protocol.announce {
                    Announce::Mark | Announce::MarkOrDelete => "marks",
                    Announce::Data => "stores what it has not committed,",
                    Announce::Nothing => "leaves the entry as it is,",
                };
                steps.step(|| format!("W{i} {words} v{version}"), marked.with(|n| n.entry = entry));
                if self.protocol.announce == Announce::MarkOrDelete {
                    steps.step(|| format!("Redis is full: W{i} deletes the entry"), marked.with(|n| n.entry = Entry::Absent));
                }
            }
            Writer::Same => {
                let dropped = s.with(to(Writer::Dropped)).with(|n| n.entry = Entry::Absent);
                steps.step(|| format!("W{i} drops the entry"), dropped);
            }
            Writer::Dropped => {
                let ended = s.with(to(Writer::Ended)).with(|n| n.lock = None).with(|n| n.acknowledge(s.version));
                steps.step(|| format!("W{i} ends its transaction; acknowledged v{}", s.version), ended);
            }
            Writer::Marked(version) => {
                let committed = s.with(to(Writer::Committed(version))).with(|n| n.commit(price(version)));
                steps.step(|| format!("W{i} commits v{version}"), committed.with(|n| self.note_event(n, version, false)));
            }
            Writer::Sent(version) => {
                let ended = s.with(to(Writer::Unknown));
                steps.step(|| format!("the COMMIT of W{i} lands v{version}"), ended.with(|n| n.commit(price(version))));
                steps.step(|| format!("the transaction of W{i} is rolled back"), ended.with(|n| n.lock = None));
            }
            Writer::Committed(version) => {
                let published = s.with(to(Writer::Ended)).with(|n| self.publish(n, price(version)));
                steps.step(|| format!("W{i} publishes; acknowledged v{version}"), published.with(|n| n.acknowledge(version)));
            }
            Writer::LateMark(version) => {
                let entry = self.announced(s.entry, price(version));
                steps.step(|| format!("the mark of W{i} arrives late"), s.with(to(Writer::Ended)).with(|n| n.entry = entry));
            }
            Writer::LatePublish(version) => {
                let published = s.with(to(Writer::Ended)).with(|n| self.publish(n, price(version)));
                steps.step(|| format!("the publish of W{i} arrives late"), published);
            }
            Writer::Idle | Writer::Unknown | Writer::Ended => {}
        }
    }

    /// The faults that strike a writer.
    pub(super) fn strike_writer(&self, s: &State, i: usize, steps: &mut Steps<Self>) {
        let to = |writer| move |n: &mut State| n.writers[i] = writer;
        let holds = matches!(s.writers[i], Writer::Locked(_) | Writer::Same | Writer::Dropped | Writer::Marked(_));
        let ended = s.with(to(Writer::Ended)).with(|n| n.lock = if holds { None } else { n.lock });
        if s.faults.killed > 0 && (holds || matches!(s.writers[i], Writer::Committed(_))) {
            steps.step(|| format!("W{i} is killed"), ended.with(|n| n.faults.killed -= 1));
        }
        if let (Writer::Locked(version), true) = (s.writers[i], s.faults.call_lost > 0) {
            let ended = ended.with(|n| n.faults.call_lost -= 1);
            let me = u8::try_from(i).expect("writers are few");
            let entry = self.announced(s.entry, Price { version, by: me });
            steps.step(|| format!("the mark of W{i} is on its way; W{i} gives up, 503"), ended.with(to(Writer::LateMark(version))));
            steps.step(|| format!("W{i} marks, the reply is lost; W{i} gives up, 503"), ended.with(|n| n.entry = entry));
            steps.step(|| format!("the mark of W{i} is lost; W{i} gives up, 503"), ended);
        }
        if let Writer::Marked(version) = s.writers[i] {
            if s.faults.unknown > 0 {
                let sent = s.with(to(Writer::Sent(version))).with(|n| n.faults.unknown -= 1);
                steps.step(|| format!("W{i} sends COMMIT v{version}, the connection is lost; W{i} answers 503"), sent);
            }
            if s.faults.rolled_back > 0 {
                steps.step(|| format!("MySQL rolls W{i} back, 503"), ended.with(|n| n.faults.rolled_back -= 1));
            }
        }
        if let (Writer::Committed(version), true) = (s.writers[i], s.faults.call_lost > 0) {
            let acknowledged = s.with(|n| n.faults.call_lost -= 1).with(|n| n.acknowledge(version));
            let words = move |what: &str| format!("the publish of W{i} {what}; acknowledged v{version}");
            steps.step(|| words("is lost"), acknowledged.with(to(Writer::Ended)));
            steps.step(|| words("is on its way"), acknowledged.with(to(Writer::LatePublish(version))));
        }
    }
}
