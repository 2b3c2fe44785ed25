//! Results on stdout: a table for people, JSON, NDJSON or CSV for programs.
//!
//! Promises one form for every command, and that nothing but results goes to stdout.

use crate::table;
use clap::ValueEnum;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Ndjson,
    Csv,
}

/// A result that can be shown as cells; its serde form is what JSON shows.
pub(crate) trait Row: Serialize {
    const COLUMNS: &'static [&'static str];

    /// One text for each column.
    fn cells(&self) -> Vec<String>;
}

/// Writes results in the form that was asked for.
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Shows one result: an object in JSON, a field a line in a table.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn one<R: Row>(&self, row: &R) -> io::Result<()> {
        emit(&render_one(self.format, row)?)
    }

    /// Shows several results: an array in JSON, a line each elsewhere.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn rows<R: Row>(&self, rows: &[R]) -> io::Result<()> {
        emit(&render_rows(self.format, rows)?)
    }

    /// Begins a list that comes page by page and has an end; JSON is one array.
    pub(crate) fn pages(&self) -> Pages {
        Pages { format: self.format, max_width: table::width_of_stdout(), widths: Vec::new(), shown: 0 }
    }

    /// Begins a list whose rows come one by one and have no end; JSON is then an object a line.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn running<R: Row>(&self) -> io::Result<Running> {
        emit(&running_header(self.format, R::COLUMNS)?)?;
        Ok(Running { format: self.format })
    }

    /// Shows what is JSON already, such as an answer of the API.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        emit(&format!("{}\n", text.trim_end()))
    }
}

/// A list that is being shown page by page. Columns of a table are as wide as its first page needs them, and cut to the width of a
/// terminal: here lines are many, and what was cut can be looked at by itself.
pub(crate) struct Pages {
    format: Format,
    max_width: Option<usize>,
    widths: Vec<usize>,
    shown: usize,
}

impl Pages {
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn add<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        emit(&self.render(rows)?)
    }

    /// Ends the list; one that got no page is an empty one.
    ///
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn finish<R: Row>(mut self) -> io::Result<()> {
        emit(&self.render_end::<R>()?)
    }

    fn render<R: Row>(&mut self, rows: &[R]) -> io::Result<String> {
        let first = self.shown == 0;
        if rows.is_empty() {
            return Ok(String::new());
        }
        self.shown += rows.len();
        match self.format {
            Format::Table => {
                let header = first.then(|| heading(R::COLUMNS));
                let lines: Vec<_> = header.into_iter().chain(rows.iter().map(Row::cells)).collect();
                if first {
                    self.widths = table::widths(&lines, self.max_width);
                }
                Ok(table::aligned(&lines, &self.widths, self.max_width.is_some()))
            }
            Format::Json => {
                let rows: Vec<_> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
                Ok(format!("{}{}", if first { "[" } else { "," }, rows.join(",")))
            }
            Format::Csv if !first => rows.iter().map(|row| csv_line(&row.cells())).collect(),
            Format::Ndjson | Format::Csv => render_rows(self.format, rows),
        }
    }

    fn render_end<R: Row>(&mut self) -> io::Result<String> {
        match self.format {
            _ if self.shown == 0 => render_rows::<R>(self.format, &[]),
            Format::Json => Ok("]\n".to_owned()),
            Format::Table | Format::Ndjson | Format::Csv => Ok(String::new()),
        }
    }
}

/// A list whose rows come one by one.
pub(crate) struct Running {
    format: Format,
}

impl Running {
    /// # Errors
    /// Stdout cannot be written.
    pub(crate) fn add<R: Row>(&mut self, row: &R) -> io::Result<()> {
        emit(&running_row(self.format, row)?)
    }
}

fn running_header(format: Format, columns: &[&str]) -> io::Result<String> {
    match format {
        Format::Table => Ok(columns.join("  ").to_uppercase() + "\n"),
        Format::Csv => csv_line(columns),
        Format::Json | Format::Ndjson => Ok(String::new()),
    }
}

/// In a table a cell is as wide as its heading, or wider and then pushes the rest of its line.
fn running_row<R: Row>(format: Format, row: &R) -> io::Result<String> {
    match format {
        Format::Table => {
            let padded = R::COLUMNS.iter().zip(row.cells()).map(|(name, cell)| format!("{cell:>width$}", width = name.len()));
            Ok(padded.collect::<Vec<_>>().join("  ") + "\n")
        }
        Format::Csv => csv_line(&row.cells()),
        Format::Json | Format::Ndjson => Ok(serde_json::to_string(row)? + "\n"),
    }
}

fn csv_line(cells: &[impl AsRef<str>]) -> io::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells.iter().map(AsRef::as_ref))?;
    let bytes = writer.into_inner().map_err(csv::IntoInnerError::into_error)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn emit(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn render_one<R: Row>(format: Format, row: &R) -> io::Result<String> {
    match format {
        Format::Table => {
            let pairs: Vec<_> = R::COLUMNS.iter().zip(row.cells()).map(|(name, cell)| vec![(*name).to_owned(), cell]).collect();
            Ok(table::of(&pairs))
        }
        Format::Json | Format::Ndjson => Ok(serde_json::to_string(row)? + "\n"),
        Format::Csv => render_rows(format, std::slice::from_ref(row)),
    }
}

fn render_rows<R: Row>(format: Format, rows: &[R]) -> io::Result<String> {
    match format {
        Format::Table => {
            let lines: Vec<_> = std::iter::once(heading(R::COLUMNS)).chain(rows.iter().map(Row::cells)).collect();
            Ok(table::of(&lines))
        }
        Format::Json => Ok(serde_json::to_string(rows)? + "\n"),
        Format::Ndjson => rows.iter().map(|row| Ok(serde_json::to_string(row)? + "\n")).collect(),
        Format::Csv => {
            let lines = rows.iter().map(|row| csv_line(&row.cells()));
            std::iter::once(csv_line(R::COLUMNS)).chain(lines).collect()
        }
    }
}

fn heading(columns: &[&str]) -> Vec<String> {
    columns.iter().map(|name| name.to_uppercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Shelf {
        name: &'static str,
        pieces: Option<u64>,
    }

    impl Row for Shelf {
        const COLUMNS: &'static [&'static str] = &["name", "pieces"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.pieces.map(|n| n.to_string()).unwrap_or_default()]
        }
    }

    fn shelves() -> [Shelf; 2] {
        let full = Shelf { name: "tea, \"loose\"", pieces: Some(12) };
        [full, Shelf { name: "cups", pieces: None }]
    }

    #[test]
    fn several_rows_in_each_form() {
        let shown = |format| render_rows(format, &shelves()).unwrap();
        assert_eq!(shown(Format::Table), "NAME          PIECES\ntea, \"loose\"  12\ncups\n");
        assert_eq!(shown(Format::Json), "[{\"name\":\"tea, \\\"loose\\\"\",\"pieces\":12},{\"name\":\"cups\",\"pieces\":null}]\n");
        assert_eq!(shown(Format::Ndjson), "{\"name\":\"tea, \\\"loose\\\"\",\"pieces\":12}\n{\"name\":\"cups\",\"pieces\":null}\n");
        assert_eq!(shown(Format::Csv), "name,pieces\n\"tea, \"\"loose\"\"\",12\ncups,\n");
    }

    #[test]
    fn one_row_in_each_form() {
        let shown = |format| render_one(format, &shelves()[0]).unwrap();
        assert_eq!(shown(Format::Table), "name    tea, \"loose\"\npieces  12\n");
        assert_eq!(shown(Format::Json), "{\"name\":\"tea, \\\"loose\\\"\",\"pieces\":12}\n");
        assert_eq!(shown(Format::Ndjson), shown(Format::Json));
        assert_eq!(shown(Format::Csv), "name,pieces\n\"tea, \"\"loose\"\"\",12\n");
    }

    #[test]
    fn rows_that_come_one_by_one_have_one_heading() {
        let shown = |format| {
            let rows = shelves().map(|shelf| running_row(format, &shelf).unwrap()).concat();
            running_header(format, Shelf::COLUMNS).unwrap() + &rows
        };
        assert_eq!(shown(Format::Table), "NAME  PIECES\ntea, \"loose\"      12\ncups        \n");
        assert_eq!(shown(Format::Csv), "name,pieces\n\"tea, \"\"loose\"\"\",12\ncups,\n");
        assert_eq!(shown(Format::Json), "{\"name\":\"tea, \\\"loose\\\"\",\"pieces\":12}\n{\"name\":\"cups\",\"pieces\":null}\n");
        assert_eq!(shown(Format::Ndjson), shown(Format::Json));
    }

    #[test]
    fn pages_add_up_to_what_all_rows_at_once_show() {
        for format in [Format::Table, Format::Json, Format::Ndjson, Format::Csv] {
            let mut pages = Pages { format, max_width: None, widths: Vec::new(), shown: 0 };
            let shown = shelves().map(|shelf| pages.render(&[shelf]).unwrap()).concat() + &pages.render_end::<Shelf>().unwrap();
            assert_eq!(shown, render_rows(format, &shelves()).unwrap());
            let mut none = Pages { format, max_width: None, widths: Vec::new(), shown: 0 };
            assert_eq!(none.render_end::<Shelf>().unwrap(), render_rows::<Shelf>(format, &[]).unwrap());
        }
    }

    #[test]
    fn no_rows_are_a_header_or_an_empty_list() {
        let shown = |format| render_rows::<Shelf>(format, &[]).unwrap();
        assert_eq!([Format::Table, Format::Json, Format::Ndjson, Format::Csv].map(shown), ["NAME  PIECES\n", "[]\n", "", "name,pieces\n"]);
    }
}
