//! What is on the screen: lines that stay, and below them one live line that is redrawn in place.
//!
//! On a terminal the cursor rests in a row of its own under the live line, so that a word can be
//! typed while the figures change. Elsewhere the live line becomes a plain line every ten seconds.

use std::io::{IsTerminal, Write, stdout};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const OFF_TERMINAL: Duration = Duration::from_secs(10);
const USUAL_WIDTH: usize = 80;

struct Screen {
    live: String,
    /// Whether the live line is on the terminal, right above the cursor's row.
    drawn: bool,
    printed: Option<Instant>,
}

static SCREEN: Mutex<Screen> = Mutex::new(Screen { live: String::new(), drawn: false, printed: None });

/// Prints a line that stays.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut screen = screen();
    if screen.drawn {
        put("\r\x1b[1A\x1b[J");
    }
    put(line.as_ref());
    put("\n");
    screen.drawn = false;
    screen.draw();
}

/// Replaces the live line; an empty text removes it.
pub(crate) fn live(text: impl Into<String>) {
    let mut screen = screen();
    let text = text.into();
    let first = screen.live.is_empty();
    screen.live = text;
    if screen.live.is_empty() {
        if screen.drawn {
            put("\r\x1b[1A\x1b[J");
        }
        screen.drawn = false;
    } else if stdout().is_terminal() {
        screen.draw();
    } else if first || screen.printed.is_none_or(|at| at.elapsed() >= OFF_TERMINAL) {
        put(&format!("{}\n", screen.live));
        screen.printed = Some(Instant::now());
    }
}

/// Somebody pressed Enter, which moved the cursor down a row: takes the typed word off the screen.
pub(crate) fn entered() {
    let mut screen = screen();
    if screen.drawn {
        put("\x1b[2A\r\x1b[J");
        screen.drawn = false;
        screen.draw();
    }
}

impl Screen {
    fn draw(&mut self) {
        if self.live.is_empty() || !stdout().is_terminal() {
            return;
        }
        let line = fit(&self.live, width());
        if self.drawn {
            // Save the cursor, rewrite the row above, come back to where the user types.
            put(&format!("\x1b7\x1b[1A\r\x1b[2K{line}\x1b8"));
        } else {
            put(&format!("{line}\n"));
        }
        self.drawn = true;
    }
}

/// A live line that wraps could not be redrawn: first the spaces go, then the end.
fn fit(text: &str, width: usize) -> String {
    let fits = |text: &str| text.chars().count() < width;
    if fits(text) {
        return text.to_owned();
    }
    let tight = text.replace(" | ", "|");
    if fits(&tight) { tight } else { tight.chars().take(width - 1).collect() }
}

fn width() -> usize {
    let size = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let text = size.map(|s| String::from_utf8_lossy(&s.stdout).into_owned()).unwrap_or_default();
    let columns = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    columns.filter(|columns| *columns > 20).unwrap_or(USUAL_WIDTH)
}

fn screen() -> MutexGuard<'static, Screen> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A reader that went away (`| head`) must not end us before the servers are stopped.
fn put(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// 34960 → `34,960`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0, 999, 1_000, 34_960, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "34,960", "1,234,567"]);
    }

    #[test]
    fn a_line_too_long_for_the_terminal_loses_spaces_first() {
        assert_eq!(fit("a | b | c", 10), "a | b | c");
        assert_eq!(fit("a | b | c", 9), "a|b|c");
        assert_eq!(fit("a | b | c", 5), "a|b|");
    }
}
