//! Tables: columns two spaces apart, no blanks at line ends.
//!
//! Where a list is long the widest columns may be cut so that a line stays one. What a name of somebody's
//! product holds can neither move the cursor nor break a line.

use std::io::IsTerminal;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GAP: usize = 2;

/// No column is cut further than this: on a very narrow terminal lines break after all.
const MIN_WIDTH: usize = 8;

/// Columns of the terminal that stdout is, if it is one.
pub(crate) fn width_of_stdout() -> Option<usize> {
    let stdout = std::io::stdout();
    let (width, _) = terminal_size::terminal_size_of(&stdout).filter(|_| stdout.is_terminal())?;
    Some(usize::from(width.0))
}

/// Lines of cells as a table, with nothing cut.
pub(crate) fn of(lines: &[Vec<String>]) -> String {
    aligned(lines, &widths(lines, None), false)
}

/// How wide each column is, together no more than `max_width` if there is one.
pub(crate) fn widths(lines: &[Vec<String>], max_width: Option<usize>) -> Vec<usize> {
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.width()).max();
    let mut widths: Vec<_> = (0..).map_while(width).collect();
    let gaps = GAP * widths.len().saturating_sub(1);
    while let Some(max_width) = max_width
        && widths.iter().sum::<usize>() + gaps > max_width
        && let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > MIN_WIDTH)
    {
        *widest -= 1;
    }
    widths
}

/// Lines of cells under each other. A cell that is too wide is cut, or pushes the rest of its line.
pub(crate) fn aligned(lines: &[Vec<String>], widths: &[usize], cut: bool) -> String {
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (cell, &width) in line.iter().zip(widths) {
            let cell = cell.replace(char::is_control, " ");
            let cell = if cut { cut_to(width, cell) } else { cell };
            let blanks = (width + GAP).saturating_sub(cell.width()).max(GAP);
            shown = shown + &cell + &" ".repeat(blanks);
        }
        text += shown.trim_end();
        text.push('\n');
    }
    text
}

/// The text, or as much of it as leaves room for an ellipsis.
fn cut_to(width: usize, text: String) -> String {
    if text.width() <= width {
        return text;
    }
    let mut left = width.saturating_sub(1);
    let fits = |c: &char| {
        let wide = c.width().unwrap_or(0);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&[&str]]) -> Vec<Vec<String>> {
        lines.iter().map(|line| line.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn the_widest_column_is_cut_until_a_line_fits() {
        let table = lines(&[&["SKU", "NAME", "PRICE"], &["85123A", "WHITE HANGING HEART HOLDER", "2.55 GBP"]]);
        assert_eq!(of(&table), "SKU     NAME                        PRICE\n85123A  WHITE HANGING HEART HOLDER  2.55 GBP\n");
        let cut = |max_width| aligned(&table, &widths(&table, Some(max_width)), true);
        assert_eq!(cut(30), "SKU     NAME          PRICE\n85123A  WHITE HANGI…  2.55 GBP\n");
        assert_eq!(cut(5), "SKU     NAME      PRICE\n85123A  WHITE H…  2.55 GBP\n", "but not to nothing");
    }

    #[test]
    fn wide_characters_take_two_places_and_control_characters_none_of_the_neighbours() {
        let table = lines(&[&["杯子", "a"], &["cup", "b\u{1b}[2J\nc"]]);
        assert_eq!(of(&table), "杯子  a\ncup   b [2J c\n");
        assert_eq!(cut_to(4, "杯子杯子".into()), "杯…");
    }

    #[test]
    fn a_cell_wider_than_its_column_pushes_its_own_line_only() {
        let table = lines(&[&["abc", "x"], &["a", "x"]]);
        assert_eq!(aligned(&table, &[1, 1], false), "abc  x\na  x\n");
    }
}
