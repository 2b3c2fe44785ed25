//! What holds of the runbook's text: its form, the commands and links that it names, and that all of it is walked.

use super::book::{Book, Kind, ROOT, is_by_hand, path};
use harness::Shop;
use std::collections::BTreeSet;

const PARTS: [&str; 4] = ["**What it means.**", "**See", "**Do**", "**Afterwards"];

#[test]
fn every_alert_begins_with_what_customers_notice_has_a_command_to_see_it_and_says_when_it_is_over() {
    let book = Book::read();
    let alerts: Vec<_> = book.sections.iter().filter(|section| section.under == "Alerts").collect();
    assert!(alerts.len() > 20);
    for section in alerts {
        let places = PARTS.map(|part| section.text.find(part).unwrap_or_else(|| panic!("{} has no {part}", section.name)));
        assert!(places.is_sorted(), "{}: {PARTS:?} stand in another order", section.name);
        let [means, see, _, afterwards] = places.map(|place| section.text[place..].split("```").next().unwrap());
        assert!(means.starts_with("**What it means.** Customers "), "{}: what do customers notice?", section.name);
        assert!(see.starts_with("**See.** "), "{}: how is it to be read what the command prints?", section.name);
        assert!(afterwards.starts_with("**Afterwards.** "), "{}: when is it over?", section.name);
        let see = &section.text[places[1]..places[2]];
        assert!(see.contains("```sh"), "{}: nothing to type shows it", section.name);
    }
}

#[test]
fn what_is_not_run_cannot_be_run_here() {
    for section in Book::read().sections {
        for block in section.blocks.iter().filter(|block| block.kind == Kind::ByHand) {
            for line in block.text.lines() {
                assert!(is_by_hand(line), "{}, line {}: mark it sh: {line}", section.name, block.line);
            }
        }
    }
}

#[test]
fn every_section_is_walked() {
    let walks = [include_str!("alerts.rs"), include_str!("stores.rs"), include_str!("procedures.rs"), include_str!("moves.rs")].concat();
    for section in Book::read().sections {
        assert!(walks.contains(&format!("\"{}\"", section.name)), "no test walks through {}", section.name);
    }
}

/// The place that a heading is linked by.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let book = Book::read();
    let headings: BTreeSet<String> =
        book.text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    let folder = path().parent().unwrap().to_owned();
    let mut count = 0;
    for rest in book.text.split("](").skip(1) {
        let link = rest.split(')').next().unwrap();
        count += 1;
        match link.strip_prefix('#') {
            Some(place) => assert!(headings.contains(place), "there is no heading {link}"),
            None => assert!(folder.join(link).exists(), "there is no file {link} beside the runbook"),
        }
    }
    assert!(count > 30);
    // Files that are named without a link.
    for file in book.text.split('`').filter(|word| word.starts_with("migrations/") || word.starts_with("deploy/")) {
        assert!(std::path::Path::new(ROOT).join(file).exists(), "there is no {file}");
    }
}

/// Words behind `inventoryctl`, as far as they may be commands.
fn commands(text: &str) -> BTreeSet<Vec<String>> {
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-') && !word.is_empty();
    let of = |rest: &str| {
        let line = rest.split(['\n', '`', '#', '|', '(', ')', '"', ';']).next().unwrap_or_default();
        line.split_whitespace().take_while(is_word).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    text.split("inventoryctl ").skip(1).map(of).filter(|words| !words.is_empty()).collect()
}

#[tokio::test]
async fn every_command_and_flag_that_is_named_exists() {
    let (book, shop) = (Book::read(), Shop::start().await);
    for words in commands(&book.text) {
        // Prose goes on behind a command of one word.
        let mut words: Vec<_> = words.iter().map(String::as_str).collect();
        let one = shop.ctl(None, &[words[0], "--help"]).await;
        assert_eq!(one.code, Some(0), "there is no command inventoryctl {words:?}");
        if !one.stdout.contains("\nCommands:\n") {
            words.truncate(1);
        }
        let help = shop.ctl(None, &[&words[..], &["--help"]].concat()).await;
        assert_eq!(help.code, Some(0), "there is no command inventoryctl {words:?}");
        for line in book.text.lines().filter(|line| line.contains(&format!("inventoryctl {}", words.join(" ")))) {
            let said = line.split(&format!("inventoryctl {}", words.join(" "))).nth(1).unwrap();
            let said = said.split(['`', '#', '|']).next().unwrap();
            for flag in said.split_whitespace().filter(|word| word.starts_with("--")) {
                assert!(help.stdout.contains(flag), "inventoryctl {words:?} has no {flag}");
            }
        }
    }
}

#[test]
fn lines_of_output_are_compared_without_their_figures() {
    use super::book::{is_like, shape};
    assert_eq!(shape("paused since 2026-01-05T02:11:09.123456Z by anna@shop1:  a disk"), "paused since 0 by anna@shop0 a disk");
    assert_eq!(shape("accepted   34,960"), shape("accepted 5"));
    assert!(is_like("a 1\nb\n", "a 7\nb").is_ok());
    assert!(is_like("a 1\n…\n", "a 7\nb\nc").is_ok());
    assert!(is_like("…\nb …\n", "a 7\nb c\n").is_ok());
    assert!(is_like("…c 1…\n", "a b c 7 d").is_ok());
    assert!(is_like("a 1\n", "a 7\nb").is_err());
    assert!(is_like("b\n", "a\nb").is_err());
    assert!(is_like("…\nd\n", "a\nb").is_err());
}
