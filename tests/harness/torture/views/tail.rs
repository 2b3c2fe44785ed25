//! The end of Redis's append-only file: where it may be cut, and which pushed views are behind a place. A process that is killed
//! loses nothing that it had written, since the kernel keeps it; cutting the file is what a power cut does to `everysec`.

use std::collections::BTreeMap;

/// One command of the log, or one transaction as a whole.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Where it ends.
    end: usize,
    /// (product, views) that it pushed.
    pushed: Vec<(u64, u64)>,
}

/// Cuts off whole commands: as many as fit into the last `most_bytes`. Returns the length that stays and the views in the rest.
pub(super) fn cut(log: &[u8], most_bytes: usize) -> (usize, BTreeMap<u64, u64>) {
    let entries = entries(log);
    let place = entries.partition_point(|entry| entry.end < log.len().saturating_sub(most_bytes));
    let mut gone = BTreeMap::<u64, u64>::new();
    let Some(last) = entries.get(place) else { return (log.len(), gone) };
    for (product, views) in entries[place + 1..].iter().flat_map(|entry| &entry.pushed) {
        *gone.entry(*product).or_default() += views;
    }
    (last.end, gone)
}

fn entries(log: &[u8]) -> Vec<Entry> {
    let (mut entries, mut at) = (Vec::new(), 0);
    let (mut open, mut pushed) = (false, Vec::new());
    while let Some((words, end)) = command(log, at) {
        match words.as_slice() {
            [b"MULTI", ..] => open = true,
            [b"EXEC", ..] => open = false,
            [word, key, records @ ..] if word.eq_ignore_ascii_case(b"RPUSH") && key.ends_with(b":open") => {
                pushed.extend(records.iter().flat_map(|record| pairs(record)));
            }
            _ => {}
        }
        at = end;
        if !open {
            entries.push(Entry { end, pushed: std::mem::take(&mut pushed) });
        }
    }
    entries
}

fn pairs(record: &[u8]) -> Vec<(u64, u64)> {
    domain::view::Record::parse(record).map_or_else(|_| Vec::new(), |record| record.counts)
}

/// The command that begins at a place, and where it ends; `None` where none begins, or one is cut off.
fn command(log: &[u8], at: usize) -> Option<(Vec<&[u8]>, usize)> {
    let (count, mut at) = number(log, at, b'*')?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let (length, start) = number(log, at, b'$')?;
        words.push(log.get(start..start + length)?);
        at = start + length + 2;
    }
    (at <= log.len()).then_some((words, at))
}

fn number(log: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let line = log.get(at..)?.strip_prefix(&[kind])?;
    let length = line.iter().position(|byte| *byte == b'\r')?;
    Some((std::str::from_utf8(&line[..length]).ok()?.parse().ok()?, at + 1 + length + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(commands: &[&[&str]]) -> Vec<u8> {
        let word = |word: &&str| format!("${}\r\n{word}\r\n", word.len());
        let command = |words: &&[&str]| format!("*{}\r\n{}", words.len(), words.iter().map(word).collect::<String>());
        commands.iter().map(command).collect::<String>().into_bytes()
    }

    #[test]
    fn a_log_is_cut_between_commands_and_never_within_a_transaction() {
        let record = "1 0123456789abcdef0123456789abcdef 1 5 0a1b2c3d 1000 7 3 9 2";
        let first = written(&[&["SELECT", "0"]]);
        let push: &[&[&str]] = &[&["MULTI"], &["HSET", "p:{0}:wseq", "w", "1 5"], &["RPUSH", "p:{0}:open", record], &["EXEC"]];
        let log = [first.clone(), written(push), written(&[&["SET", "x", "1"]])].concat();
        let last = written(&[&["SET", "x", "1"]]).len();
        assert_eq!(cut(&log, 0), (log.len(), BTreeMap::new()));
        assert_eq!(cut(&log, last), (log.len() - last, BTreeMap::new()));
        // All of the push, or nothing of it.
        let pushed = BTreeMap::from([(7, 3), (9, 2)]);
        assert_eq!(cut(&log, log.len() - first.len() - 1), (log.len() - last, BTreeMap::new()));
        assert_eq!(cut(&log, log.len() - first.len()), (first.len(), pushed));
        // What a claim moves is not pushed.
        let claim = written(&[&["SELECT", "0"], &["RPUSH", "p:{0}:batch", record]]);
        assert_eq!(cut(&claim, claim.len() - first.len()), (first.len(), BTreeMap::new()));
        // A command that is cut off stands behind all places.
        assert_eq!(cut(&log[..log.len() - 1], last), (log.len() - last, BTreeMap::new()));
    }
}
