//! `deploy/RUNBOOK.md`, taken apart: sections, their blocks, and what a block's output looks like without its figures.

use std::path::{Path, PathBuf};

pub(super) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What the text says to type and cannot be typed here: the test does what it says by hand, or need not.
pub(super) const BY_HAND: [(&str, &str); 2] = [
    ("systemctl ", "systemd does not run where tests run; `Walk::by_hand` does what it says"),
    ("journalctl ", "the journal is systemd's; what a program says is in the log of its test"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Marked `sh`: run.
    Sh,
    /// Marked `text` and right behind the former: what that prints.
    Output,
    /// Marked `text` elsewhere: see [`BY_HAND`].
    ByHand,
}

#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// Of its first line, from 1.
    pub(super) line: usize,
}

impl Block {
    /// What it is to end with: `# exits 3` in its last line, else 0.
    pub(super) fn exit_code(&self) -> i32 {
        let last = self.text.lines().last().unwrap_or_default();
        let told = self.text.matches("# exits ").count();
        assert!(told == usize::from(last.contains("# exits ")), "line {}: only the last command of a block may fail", self.line);
        last.split_once("# exits ").map_or(0, |(_, code)| code.trim().parse().expect("a number stands behind `# exits`"))
    }
}

/// What stands under a heading of the third level, or of the second up to there.
#[derive(Debug)]
pub(super) struct Section {
    /// Heading of the second level above it: `Alerts`, `Procedures`, or its own.
    pub(super) under: String,
    pub(super) name: String,
    pub(super) text: String,
    pub(super) blocks: Vec<Block>,
}

pub(super) struct Book {
    pub(super) text: String,
    /// What is pasted first: settings and functions that all blocks rely on.
    pub(super) opening: String,
    /// The first is the opening.
    pub(super) sections: Vec<Section>,
}

/// Whether a line may stand in a block that is not run.
pub(super) fn is_by_hand(line: &str) -> bool {
    BY_HAND.iter().any(|(start, _)| line.starts_with(start))
}

pub(super) fn path() -> PathBuf {
    Path::new(ROOT).join("deploy/RUNBOOK.md")
}

impl Book {
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string(path()).unwrap();
        let (mut sections, mut open) = (Vec::<Section>::new(), None::<Block>);
        // Whether nothing but blank lines came since a block of `sh`.
        let mut behind_sh = false;
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(section) = sections.last_mut() {
                section.text += &format!("{line}\n");
            }
            if let Some(mut block) = open.take() {
                if line.trim_start() == "```" {
                    if block.kind == Kind::Output && block.text.lines().all(is_by_hand) {
                        block.kind = Kind::ByHand;
                    }
                    behind_sh = block.kind == Kind::Sh;
                    sections.last_mut().expect("a block stands in a section").blocks.push(block);
                } else {
                    block.text += &format!("{line}\n");
                    open = Some(block);
                }
                continue;
            }
            if let Some(mark) = line.trim_start().strip_prefix("```") {
                let kind = match mark {
                    "sh" => Kind::Sh,
                    "text" if behind_sh => Kind::Output,
                    "text" => Kind::ByHand,
                    other => panic!("line {number}: a block is marked sh or text, not {other:?}"),
                };
                open = Some(Block { kind, text: String::new(), line: number + 1 });
                continue;
            }
            let under = || sections.last().map_or_else(String::new, |section| section.under.clone());
            let begun = match (line.strip_prefix("## "), line.strip_prefix("### ")) {
                (Some(name), _) => Some((name.to_owned(), name.to_owned())),
                (_, Some(name)) => Some((under(), name.to_owned())),
                _ => None,
            };
            if let Some((under, name)) = begun {
                sections.push(Section { under, name, text: String::new(), blocks: Vec::new() });
            }
            behind_sh &= line.trim().is_empty();
        }
        assert!(open.is_none(), "the last block is not closed");
        // A heading of the second level alone has nothing to type.
        sections.retain(|section| section.under != section.name || !section.blocks.is_empty());
        let opening = sections.first().and_then(|section| section.blocks.first());
        let opening = opening.expect("the opening has what is to be pasted").text.clone();
        Self { text, opening, sections }
    }

    pub(super) fn section(&self, name: &str) -> &Section {
        self.sections.iter().find(|section| section.name == name).unwrap_or_else(|| panic!("there is no section {name}"))
    }
}

/// A line without what differs from run to run: figures, times, lengths of columns and of lines of a table.
pub(super) fn shape(line: &str) -> String {
    let mut shape = String::new();
    for word in line.split_whitespace() {
        let mut digits = false;
        for c in word.chars() {
            // A number with its point, its commas, and the colons and dashes of a time, is one.
            let part = c.is_ascii_digit() || (digits && ",.:-TZ".contains(c));
            if !part {
                shape.push(c);
            } else if !digits {
                shape.push('0');
            }
            digits = part;
        }
        shape.push(' ');
    }
    while shape.contains("--") {
        shape = shape.replace("--", "-");
    }
    shape.trim_end().to_owned()
}

fn fits(example: &str, found: &str) -> bool {
    let (end, start) = (example.strip_prefix('…').map(str::trim_start), example.strip_suffix('…').map(str::trim_end));
    match (end, start) {
        (None, None) => found == example,
        (None, Some(start)) => found.starts_with(start),
        (Some(end), None) => found.ends_with(end),
        (Some(_), Some(_)) => found.contains(example.trim_matches(['…', ' '])),
    }
}

/// Whether an output is like the example, in which a line `…` stands for any lines, and `…` at an end of a line for any words.
pub(super) fn is_like(example: &str, output: &str) -> Result<(), String> {
    let lines = |text: &str| text.lines().map(shape).filter(|line| !line.is_empty()).collect::<Vec<_>>();
    let (example, output) = (lines(example), lines(output));
    let mut rest = output.as_slice();
    let mut any = false;
    for line in &example {
        if line == "…" {
            any = true;
            continue;
        }
        let fits = |found: &String| fits(line, found);
        let at = rest.iter().position(fits).filter(|at| any || *at == 0).ok_or_else(|| format!("no line like {line:?}"))?;
        (rest, any) = (&rest[at + 1..], false);
    }
    if any || rest.is_empty() { Ok(()) } else { Err(format!("further lines: {rest:?}")) }
}
