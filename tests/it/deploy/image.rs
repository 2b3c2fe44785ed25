//! `deploy/docker/Dockerfile`. There is no Docker where tests run: it is read by a linter, and what it names must be there.

use super::files::{built, linter, path, said, text};
use harness::{SOON, Shop, eventually};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

const DOCKERFILE: &str = "deploy/docker/Dockerfile";

/// Instructions with what follows them, lines that go on joined.
fn instructions() -> Vec<(String, String)> {
    let text = text(DOCKERFILE);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    joined.lines().map(|line| line.split_once(' ').unwrap()).map(|(word, rest)| (word.to_owned(), rest.to_owned())).collect()
}

fn of<'a>(instructions: &'a [(String, String)], word: &str) -> Vec<&'a str> {
    instructions.iter().filter(|(known, _)| known == word).map(|(_, rest)| rest.as_str()).collect()
}

/// What is copied from the repository.
fn copied(instructions: &[(String, String)]) -> BTreeSet<String> {
    let copies = of(instructions, "COPY").into_iter().filter(|rest| !rest.starts_with("--from"));
    let sources = |rest: &str| rest.split_whitespace().rev().skip(1).map(str::to_owned).collect::<Vec<_>>();
    copies.flat_map(sources).collect()
}

#[test]
fn a_linter_finds_no_fault_in_the_dockerfile() {
    let (well, told) = said(linter("hadolint").arg(path(DOCKERFILE)));
    assert!(well && told.is_empty(), "{told}");
}

#[test]
fn the_image_is_built_from_all_that_the_programs_are_made_of_and_nothing_more() {
    let instructions = instructions();
    let copied = copied(&instructions);
    for source in &copied {
        assert!(path(source).exists(), "{source} is copied and not there");
    }
    let ignore = text(&format!("{DOCKERFILE}.dockerignore"));
    let let_in: BTreeSet<String> = ignore.lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    assert!(ignore.lines().any(|line| line == "*"), "all else is left out");
    assert_eq!(let_in, copied);
    let is_copied = |file: &Path| copied.iter().any(|source| file.starts_with(path(source).canonicalize().unwrap()));
    let mut seen = 0;
    for (file, text) in sources(&path("crates").canonicalize().unwrap()) {
        for included in ["include_str!(\"", "include_bytes!(\""].iter().flat_map(|word| text.split(word).skip(1)) {
            let included = file.parent().unwrap().join(included.split('"').next().unwrap()).canonicalize().unwrap();
            assert!(is_copied(&included), "{} includes {}", file.display(), included.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} files are included");
    let embedded = std::fs::read_to_string(path("crates/storage/src/mysql/migrations.rs")).unwrap();
    assert!(embedded.contains("../../migrations") && copied.contains("migrations"), "refinery embeds them");
}

/// All sources below a folder.
fn sources(folder: &Path) -> Vec<(std::path::PathBuf, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| match path.is_dir() {
        true => sources(&path),
        false if path.extension().is_some_and(|ending| ending == "rs") => vec![(path.clone(), std::fs::read_to_string(path).unwrap())],
        false => Vec::new(),
    });
    files.collect()
}

#[test]
fn the_image_has_the_three_programs_and_runs_as_nobody_in_particular() {
    let instructions = instructions();
    let stages = of(&instructions, "FROM");
    let [builder, last] = stages[..] else { panic!("{stages:?}") };
    let least = text("Cargo.toml")
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = ").map(|version| version.trim_matches('"').to_owned()));
    let version = |text: &str| text.split('.').map(|part| part.parse::<u32>().unwrap()).collect::<Vec<_>>();
    let used = builder.strip_prefix("rust:").and_then(|rest| rest.split('-').next()).unwrap();
    assert!(version(used) >= version(&least.unwrap()), "{builder}");
    assert!(last.starts_with("gcr.io/distroless/cc-debian12:"), "of the same Debian as {builder}");
    assert!(builder.contains("-bookworm AS "));

    let run = of(&instructions, "RUN");
    assert!(run.len() == 1 && run[0].contains("cargo build --release --locked "), "{run:?}");
    assert_eq!(of(&instructions, "COPY").last(), Some(&"--from=builder /out/ /usr/local/bin/"));
    let user = of(&instructions, "USER")[0];
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    let healthy = of(&instructions, "HEALTHCHECK")[0].split("CMD ").nth(1).unwrap();
    for started in [healthy, of(&instructions, "CMD")[0]] {
        let words: Vec<String> = serde_json::from_str(started).unwrap_or_else(|error| panic!("{error} in {started}"));
        let program = words[0].strip_prefix("/usr/local/bin/").unwrap();
        assert!(run[0].contains(&format!("--bin {program}")) && run[0].contains(&format!("target/release/{program}")), "{program}");
    }
}

/// The program of the health check, at another port.
#[tokio::test]
async fn the_health_check_says_what_the_program_says() {
    let instructions = instructions();
    let healthy = of(&instructions, "HEALTHCHECK")[0].split("CMD ").nth(1).unwrap();
    let words: Vec<String> = serde_json::from_str(healthy).unwrap();
    let program = built("inventoryctl");
    assert_eq!((words[1].as_str(), words[2].as_str()), ("ready", "127.0.0.1:8081"));
    let ask = async |place: &str| {
        let output = Command::new(&program).args(["ready", place]).stdin(Stdio::null()).output().await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let shop = Shop::start().await;
    let place = |url: &str| url.strip_prefix("http://").unwrap().to_owned();
    let api = shop.api().await;
    let (code, text) = ask(&place(&api.ops)).await;
    assert!(code == Some(0) && text.contains("ready"), "{code:?} {text}");
    // The public listener is no ops listener.
    let (code, text) = ask(&place(&api.url)).await;
    assert!(code == Some(1) && text.contains("404"), "{code:?} {text}");

    let nowhere = format!("mysql://nobody@127.0.0.1:{}/none", servers::free_port().unwrap());
    let worker = shop.worker_starting(&[("INVENTORY_MYSQL_URL", nowhere)]).await;
    let unready = async || Some(ask(&place(&worker.ops)).await).filter(|(code, _)| *code == Some(1));
    let (_, text) = eventually("the worker listens and is not ready", SOON, unready).await;
    assert!(text.contains("is not ready: mysql is "), "{text}");

    let (code, text) = ask(&format!("127.0.0.1:{}", servers::free_port().unwrap())).await;
    assert!(code == Some(7) && text.contains("nobody listens there"), "{code:?} {text}");
}
