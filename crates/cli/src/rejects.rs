//! Lines that could not be used: the first few on stderr, all of them in a file if one is named.

use crate::exit::{Exit, Failure};
use crate::online_retail::Reject;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// So many are shown; the rest is counted.
const MAX_SHOWN: u64 = 10;

pub(crate) struct Rejects {
    input: PathBuf,
    file: Option<(PathBuf, csv::Writer<File>)>,
    seen: u64,
    cure: &'static str,
}

impl Rejects {
    /// Begins the file, if one is named, as CSV with the columns line, reason and text.
    ///
    /// # Errors
    /// The file cannot be made, or is the one that is read.
    pub(crate) fn of(input: &Path, errors_to: Option<&Path>) -> Result<Self, Failure> {
        let file = errors_to.map(|path| begin(input, path)).transpose()?;
        Ok(Self { input: input.to_owned(), file, seen: 0, cure: "correct them there and run again" })
    }

    /// What is to be done about them, where correcting them in the file and running it again would be wrong.
    pub(crate) fn cured_by(&mut self, cure: &'static str) {
        self.cure = cure;
    }

    /// # Errors
    /// The file cannot be written.
    pub(crate) fn add(&mut self, reject: Reject) -> io::Result<()> {
        self.seen += 1;
        if self.seen <= MAX_SHOWN {
            eprintln!("{}: line {}: {}", self.input.display(), reject.line, reject.reason);
        }
        if let Some((_, file)) = &mut self.file {
            let text = reject.text.trim_ascii_end();
            file.write_record([reject.line.to_string().as_bytes(), reject.reason.as_bytes(), text])?;
        }
        Ok(())
    }

    /// Says how many there were and where they are.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Self { input, file, seen, cure } = self;
        let mut place = String::new();
        if let Some((path, mut file)) = file {
            file.flush().map_err(|fault| Failure::doing(format!("writing {}", path.display()), &fault))?;
            place = format!(", all of them in {}", path.display());
        } else if seen > MAX_SHOWN {
            place = format!(", {MAX_SHOWN} of them shown: name a file with --errors-to to have them all");
        }
        if seen > 0 {
            let (lines, were) = if seen == 1 { ("line", "was") } else { ("lines", "were") };
            eprintln!("{seen} {lines} of {} {were} rejected{place}; {cure}", input.display());
        }
        Ok(())
    }
}

fn begin(input: &Path, path: &Path) -> Result<(PathBuf, csv::Writer<File>), Failure> {
    let same = path.canonicalize().is_ok_and(|path| input.canonicalize().is_ok_and(|input| input == path));
    if same {
        return Err(Failure::new(Exit::Usage, format!("--errors-to {} would overwrite the file that is read", path.display())));
    }
    let doing = |fault: &csv::Error| Failure::doing(format!("making {}", path.display()), fault);
    let mut file = csv::Writer::from_path(path).map_err(|fault| doing(&fault))?;
    file.write_record(["line", "reason", "text"]).map_err(|fault| doing(&fault))?;
    Ok((path.to_owned(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_are_written_with_line_reason_and_the_bytes_as_they_were() {
        let folder = std::env::temp_dir().join(format!("inventoryctl-rejects-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (input, bad) = (folder.join("in.csv"), folder.join("bad.csv"));
        std::fs::write(&input, "x").unwrap();
        let mut rejects = Rejects::of(&input, Some(&bad)).unwrap();
        let reject = Reject { line: 7, reason: "a, b".into(), text: b"1,\"CAF\xC9\r\n".to_vec() };
        rejects.add(reject).unwrap();
        rejects.finish().unwrap();
        assert_eq!(std::fs::read(&bad).unwrap(), b"line,reason,text\n7,\"a, b\",\"1,\"\"CAF\xC9\"\n");
        assert_eq!(Rejects::of(&input, Some(&input)).err().map(|failure| failure.exit), Some(Exit::Usage));
        assert_eq!(std::fs::read(&input).unwrap(), b"x");
        assert!(Rejects::of(&input, Some(&folder.join("none/bad.csv"))).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
