//! `product export`: all products of the API in one file.
//!
//! Promises that the file is whole or not there: all pages are fetched before the first byte is written, so that they can be
//! sorted, too. Sorted by SKU the same catalogue gives the same bytes, whichever ids its database gave. No snapshot: a product
//! that is changed meanwhile is there as it was or as it is.

use crate::api_client::{ApiClient, MAX_PAGE};
use crate::args::{ExportArgs, ExportForm};
use crate::catalogue_file::{self, Line};
use crate::exit::{Exit, Failure};
use crate::new_file::NewFile;
use crate::output::{Output, Row};
use crate::progress::Progress;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use telemetry::stop::Shutdown;

/// What was written.
#[derive(Debug, Serialize)]
struct Report {
    products: u64,
    file: String,
}

impl Row for Report {
    const COLUMNS: &'static [&'static str] = &["products", "file"];

    fn cells(&self) -> Vec<String> {
        vec![self.products.to_string(), self.file.clone()]
    }
}

pub(crate) async fn run(args: &ExportArgs, api: &ApiClient, output: &Output) -> Result<Exit, Failure> {
    let form = args.format.unwrap_or_else(|| told_by(&args.file));
    if args.file == Path::new("-") {
        let lines = all(api).await?;
        let mut stdout = BufWriter::new(io::stdout().lock());
        write(form, &lines, &mut stdout)?;
        stdout.flush()?;
        return Ok(Exit::Ok);
    }
    let mut file = NewFile::begin(&args.file)?;
    let lines = all(api).await?;
    let name = args.file.display();
    let written = write_file(form, &lines, is_gzipped(&args.file), file.writer()).and_then(|()| file.finish());
    written.map_err(|fault| Failure::doing(format!("writing {name}"), &fault))?;
    output.one(&Report { products: lines.len() as u64, file: name.to_string() })?;
    Ok(Exit::Ok)
}

/// All products, sorted by SKU.
async fn all(api: &ApiClient) -> Result<Vec<Line>, Failure> {
    let stop = Shutdown::on_signals().map_err(|fault| Failure::doing("listening for Ctrl-C", &fault))?;
    let progress = Progress::start("products", None);
    let lines = tokio::select! {
        lines = fetch(api, &progress) => lines,
        () = stop.requested() => Err(Failure::new(Exit::Failure, "interrupted")),
    };
    progress.finish();
    let mut lines = lines.map_err(|failure| Failure::new(failure.exit, format!("{}; nothing was written", failure.message)))?;
    lines.sort_unstable_by(|one, other| one.sku.cmp(&other.sku));
    Ok(lines)
}

async fn fetch(api: &ApiClient, progress: &Progress) -> Result<Vec<Line>, Failure> {
    let (mut lines, mut cursor) = (Vec::new(), None);
    loop {
        let page = api.page(MAX_PAGE, cursor.as_deref(), None).await?;
        for product in &page.data {
            lines.push(api.parsed(product.get())?);
        }
        progress.advance(page.data.len() as u64);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(lines);
        }
    }
}

fn write_file(form: ExportForm, lines: &[Line], gzipped: bool, file: &mut impl Write) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    if gzipped {
        let mut packed = GzEncoder::new(&mut file, Compression::default());
        write(form, lines, &mut packed)?;
        packed.finish()?;
    } else {
        write(form, lines, &mut file)?;
    }
    file.flush()
}

fn write(form: ExportForm, lines: &[Line], to: &mut dyn Write) -> io::Result<()> {
    match form {
        ExportForm::Csv => catalogue_file::write_csv(lines, to),
        ExportForm::Ndjson => catalogue_file::write_ndjson(lines, to),
    }
}

fn is_gzipped(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

fn told_by(path: &Path) -> ExportForm {
    let stem = if is_gzipped(path) { path.with_extension("") } else { path.to_owned() };
    let ndjson = stem.extension().is_some_and(|ending| ending == "ndjson" || ending == "jsonl");
    if ndjson { ExportForm::Ndjson } else { ExportForm::Csv }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_form() {
        for name in ["a.ndjson", "a.jsonl", "a.ndjson.gz"] {
            assert_eq!(told_by(Path::new(name)), ExportForm::Ndjson, "{name}");
        }
        for name in ["-", "a", "a.csv", "a.csv.gz", "a.gz", "ndjson"] {
            assert_eq!(told_by(Path::new(name)), ExportForm::Csv, "{name}");
        }
        assert!(is_gzipped(Path::new("a.csv.gz")) && !is_gzipped(Path::new("gz")));
    }
}
