//! The lines of a CSV file, plain or gzipped, as records of fields.
//!
//! Promises that a broken line costs only itself: an open quote never swallows the
//! lines behind it. Does not know what the fields mean, and never loads a file whole.

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// A line longer than this is refused; the longest of the real files has about 100 bytes.
const MAX_LINE_BYTES: usize = 1 << 20;

/// A quoted field may go on over so many further lines, unless a layout allows more; past it the quote counts as never closed.
const MAX_CONTINUATION_LINES: usize = 16;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
const GZIP_MAGIC: &[u8] = b"\x1F\x8B";

/// One record with the number of its first line (the header is line 1) and its text as it was found.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) line: u64,
    pub(crate) text: Vec<u8>,
    pub(crate) fields: Result<ByteRecord, String>,
}

/// Opens a file for reading; whether it is gzipped is told by its first bytes, not by its name.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    decoded(BufReader::new(File::open(path)?))
}

fn decoded(mut input: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    if input.fill_buf()?.starts_with(GZIP_MAGIC) { Ok(Box::new(BufReader::new(MultiGzDecoder::new(input)))) } else { Ok(Box::new(input)) }
}

struct Line {
    number: u64,
    text: Vec<u8>,
    too_long: bool,
}

/// Reads records one after the other.
pub(crate) struct Records {
    input: Box<dyn BufRead>,
    lines_read: u64,
    /// Lines that were read ahead in search of a closing quote and belong to other records.
    put_back: VecDeque<Line>,
    /// How many fields a record over several lines must have; none while the header is unknown.
    width: Option<usize>,
    max_continuation_lines: usize,
}

impl Records {
    pub(crate) fn new(input: Box<dyn BufRead>) -> Self {
        Self { input, lines_read: 0, put_back: VecDeque::new(), width: None, max_continuation_lines: MAX_CONTINUATION_LINES }
    }

    /// From here on a quoted field may hold line breaks, if the record then has this many fields.
    pub(crate) fn expect_width(&mut self, width: usize) {
        self.width = Some(width);
    }

    /// From here on a quoted field may go on over so many further lines.
    pub(crate) fn allow_lines(&mut self, count: usize) {
        self.max_continuation_lines = count;
    }

    /// The next line that is not empty, as one field. `None` at the end.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(crate) fn next_whole(&mut self) -> io::Result<Option<Record>> {
        while let Some(Line { number, text, too_long }) = self.next_line()? {
            if too_long || !text.trim_ascii().is_empty() {
                let fields = if too_long { Err(line_too_long()) } else { Ok(ByteRecord::from(vec![&text])) };
                return Ok(Some(Record { line: number, text, fields }));
            }
        }
        Ok(None)
    }

    /// The next record that is not an empty line; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on, a cut gzip stream for example.
    pub(crate) fn next(&mut self) -> io::Result<Option<Record>> {
        while let Some(line) = self.next_line()? {
            if !line.text.iter().all(|byte| matches!(byte, b'\r' | b'\n')) || line.too_long {
                return self.record(line).map(Some);
            }
        }
        Ok(None)
    }

    fn record(&mut self, line: Line) -> io::Result<Record> {
        let Line { number, text, too_long } = line;
        let fields = match split(&text) {
            _ if too_long => Err(line_too_long()),
            Err(Fault::OpenQuote) => match self.continued(&text)? {
                Some((text, fields)) => {
                    return Ok(Record { line: number, text, fields: Ok(fields) });
                }
                None => Err(Fault::OpenQuote.to_string()),
            },
            fields => fields.map_err(|fault| fault.to_string()),
        };
        Ok(Record { line: number, text, fields })
    }

    /// A record whose quoted field goes on over the next lines, or nothing and all lines put back.
    fn continued(&mut self, first: &[u8]) -> io::Result<Option<(Vec<u8>, ByteRecord)>> {
        let mut text = first.to_vec();
        let mut ahead = Vec::new();
        while ahead.len() < self.max_continuation_lines && text.len() < MAX_LINE_BYTES {
            let Some(line) = self.next_line()? else { break };
            text.extend_from_slice(&line.text);
            // The line alone tells whether it closes the quote: splitting all of them again for each would be slow.
            let still_open = !line.too_long && split(&[b"\"", &line.text[..]].concat()) == Err(Fault::OpenQuote);
            ahead.push(line);
            if still_open {
                continue;
            }
            match split(&text) {
                Ok(fields) if self.width == Some(fields.len()) => return Ok(Some((text, fields))),
                _ => break,
            }
        }
        for line in ahead.into_iter().rev() {
            self.put_back.push_front(line);
        }
        Ok(None)
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.put_back.pop_front() {
            return Ok(Some(line));
        }
        let mut text = Vec::new();
        self.input.by_ref().take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut text)?;
        let too_long = text.len() == MAX_LINE_BYTES && text.last() != Some(&b'\n');
        if too_long {
            self.input.skip_until(b'\n')?;
        }
        if text.is_empty() {
            return Ok(None);
        }
        self.lines_read += 1;
        if self.lines_read == 1 && text.starts_with(BYTE_ORDER_MARK) {
            text.drain(..BYTE_ORDER_MARK.len());
        }
        Ok(Some(Line { number: self.lines_read, text, too_long }))
    }
}

/// What a first line that is no header of ours shows of the whole file: how spreadsheets save what is not read here.
pub(crate) fn saved_as(first: Option<&[u8]>) -> Option<&'static str> {
    let Some(text) = first else { return Some("the file is empty") };
    let has = |byte| text.contains(&byte);
    if has(0) {
        Some("the file is UTF-16: save it as CSV UTF-8")
    } else if has(b',') {
        None
    } else if has(b';') {
        Some("its fields are parted by semicolons: save it with commas, and prices with a point")
    } else if has(b'\t') {
        Some("its fields are parted by tabs: save it with commas")
    } else {
        None
    }
}

fn line_too_long() -> String {
    format!("the line is longer than {MAX_LINE_BYTES} bytes")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    OpenQuote,
    StrayQuote,
    CarriageReturn,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenQuote => "a quote is opened and never closed",
            Self::StrayQuote => "a quote stands inside a quoted field: write it twice",
            Self::CarriageReturn => "a carriage return stands inside the line",
        })
    }
}

/// Splits one record into its fields. Stricter than the reader of the csv crate, which takes `"A"B` for `AB`: with that, a quote
/// that is opened in one line and another one in the next would pass for one record.
fn split(text: &[u8]) -> Result<ByteRecord, Fault> {
    let mut rest = text.strip_suffix(b"\n").unwrap_or(text);
    rest = rest.strip_suffix(b"\r").unwrap_or(rest);
    let mut fields = ByteRecord::new();
    loop {
        let (field, behind) = match rest.strip_prefix(b"\"") {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
                let (field, behind) = rest.split_at(end);
                if field.contains(&b'\r') {
                    return Err(Fault::CarriageReturn);
                }
                (Cow::Borrowed(field), behind)
            }
        };
        fields.push_field(&field);
        match behind.split_first() {
            None => return Ok(fields),
            Some((b',', behind)) => rest = behind,
            Some(_) => return Err(Fault::StrayQuote),
        }
    }
}

/// A quoted field without its quotes, and what stands behind the closing one.
fn unquoted(quoted: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Fault> {
    let (mut field, mut rest) = (Cow::Borrowed(&quoted[..0]), quoted);
    loop {
        let end = rest.iter().position(|byte| *byte == b'"').ok_or(Fault::OpenQuote)?;
        let (part, behind) = (&rest[..end], &rest[end + 1..]);
        if field.is_empty() {
            field = Cow::Borrowed(part);
        } else {
            field.to_mut().extend_from_slice(part);
        }
        let Some(behind_doubled) = behind.strip_prefix(b"\"") else {
            return Ok((field, behind));
        };
        field.to_mut().push(b'"');
        rest = behind_doubled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::{Cursor, Write};

    /// Line number and fields joined by `|`, or `!` and the fault.
    fn read(text: &[u8], width: usize) -> Vec<String> {
        let mut records = Records::new(decoded(Cursor::new(text.to_vec())).unwrap());
        records.expect_width(width);
        let mut seen = Vec::new();
        while let Some(record) = records.next().unwrap() {
            let line = record.line;
            seen.push(match record.fields {
                Ok(fields) => {
                    let fields: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
                    format!("{line} {}", fields.join("|"))
                }
                Err(fault) => format!("{line} !{fault}"),
            });
        }
        seen
    }

    #[test]
    fn a_bom_line_ends_of_both_kinds_and_empty_lines_are_no_content() {
        assert_eq!(read(b"\xEF\xBB\xBFa,b\r\n\r\n1,2\n\n3,", 2), ["1 a|b", "3 1|2", "5 3|"]);
        assert_eq!(read(b"", 2), [""; 0]);
    }

    #[test]
    fn a_first_line_of_another_form_says_how_the_file_is_to_be_saved() {
        let semicolons = "its fields are parted by semicolons: save it with commas, and prices with a point";
        assert_eq!(saved_as(Some(b"sku;amount;currency\n")), Some(semicolons));
        assert_eq!(saved_as(Some(b"sku\tamount\n")), Some("its fields are parted by tabs: save it with commas"));
        let utf_16 = "the file is UTF-16: save it as CSV UTF-8";
        assert_eq!(saved_as(Some(b"\xFF\xFEs\0k\0u\0,\0a\0\r\0\n")), Some(utf_16));
        assert_eq!(saved_as(Some(b"\xFE\xFF\0s\0k\0u\0\n")), Some(utf_16));
        assert_eq!(saved_as(None), Some("the file is empty"));
        for told_elsewhere in ["SKU,amount;x\n", "sku\n", "{}\n"] {
            assert_eq!(saved_as(Some(told_elsewhere.as_bytes())), None, "{told_elsewhere:?}");
        }
    }

    #[test]
    fn quotes_hold_commas_doubled_quotes_and_line_breaks() {
        assert_eq!(read(b"\"a,\"\"b\"\"\",c\n\"d\r\ne\",f\ng,h\n", 2), ["1 a,\"b\"|c", "2 d\r\ne|f", "4 g|h"]);
    }

    #[test]
    fn a_quote_within_an_unquoted_field_is_just_a_character() {
        assert_eq!(read(b"12\" RULER,b\nc,d\n", 2), ["1 12\" RULER|b", "2 c|d"]);
    }

    #[test]
    fn an_open_quote_costs_its_own_line_only() {
        let never = "!a quote is opened and never closed";
        assert_eq!(read(b"a,\"b\nc,d\ne,f\n", 2), [format!("1 {never}"), "2 c|d".into(), "3 e|f".into()]);
        // The next line has a quote of its own, which must not be taken for the missing one.
        assert_eq!(read(b"a,\"b\nc,\"d\"\ne,f\n", 2), [format!("1 {never}"), "2 c|d".into(), "3 e|f".into()]);
        assert_eq!(read(b"a,\"b", 2), [format!("1 {never}")]);
    }

    #[test]
    fn a_stray_quote_and_a_carriage_return_are_faults_of_their_line() {
        let seen = read(b"\"a\"b,c\nd\re,f\ng,h\n", 2);
        assert_eq!(seen[0], "1 !a quote stands inside a quoted field: write it twice");
        assert_eq!(seen[1], "2 !a carriage return stands inside the line");
        assert_eq!(seen[2], "3 g|h");
    }

    #[test]
    fn a_line_without_end_is_refused_and_the_next_one_read() {
        let mut text = vec![b'x'; MAX_LINE_BYTES + 10];
        text.extend_from_slice(b"\na,b\n");
        assert_eq!(read(&text, 2), [format!("1 !the line is longer than {MAX_LINE_BYTES} bytes"), "2 a|b".into()]);
    }

    #[test]
    fn gzip_is_told_by_its_first_bytes_and_a_cut_file_is_an_error() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(b"a,b\n1,2\n").unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(read(&packed, 2), ["1 a|b", "2 1|2"]);
        let mut cut = Records::new(decoded(Cursor::new(packed[..packed.len() - 9].to_vec())).unwrap());
        let fault = std::iter::from_fn(|| cut.next().transpose()).find_map(Result::err);
        assert_eq!(fault.map(|fault| fault.kind()), Some(io::ErrorKind::UnexpectedEof));
    }

    proptest! {
        #[test]
        fn a_sound_line_is_split_as_the_csv_crate_splits_it(line in "[a,\"\r]{0,12}") {
            let mut theirs = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line.as_bytes());
            if let Ok(ours) = split(line.as_bytes())
                && let Some(theirs) = theirs.byte_records().next()
            {
                prop_assert_eq!(ours, theirs.unwrap());
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic_or_lose_a_line(bytes in prop::collection::vec(prop::sample::select(b"a,\"\r\n\xFF".to_vec()), 0..200)) {
            let mut records = Records::new(Box::new(Cursor::new(bytes.clone())));
            records.expect_width(2);
            let mut kept = Vec::new();
            while let Some(record) = records.next().unwrap() {
                kept.extend(record.text);
            }
            let content = |bytes: &[u8]| bytes.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect::<Vec<_>>();
            prop_assert_eq!(content(&kept), content(&bytes));
        }

        #[test]
        fn what_the_csv_writer_writes_is_read_back(rows in prop::collection::vec(prop::collection::vec("[a,\" é\n]{0,4}", 3), 0..8)) {
            let mut writer = csv::WriterBuilder::new().has_headers(false).quote_style(csv::QuoteStyle::Always).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = writer.into_inner().unwrap();
            let mut records = Records::new(Box::new(Cursor::new(text)));
            records.expect_width(3);
            let mut seen = Vec::new();
            while let Some(record) = records.next().unwrap() {
                let fields = record.fields.unwrap();
                seen.push(fields.iter().map(|field| String::from_utf8(field.to_vec()).unwrap()).collect::<Vec<_>>());
            }
            prop_assert_eq!(seen, rows);
        }
    }
}
