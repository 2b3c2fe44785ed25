//! What a tokens file may hold, and how each fault is told.

use super::*;

const SECRET: &str = "inv_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

fn hash() -> String {
    Digest::of(SECRET.as_bytes()).hex()
}

/// A whole entry, in which one text is replaced by another.
fn entry(from: &str, to: &str) -> String {
    let whole = format!("[[token]]\nname = \"till\"\nscopes = [\"catalog:read\"]\nsha256 = \"{}\"\n", hash());
    assert!(whole.contains(from), "{from}");
    whole.replacen(from, to, 1)
}

fn refused(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(faults) => {
            assert!(!faults.contains(SECRET) && !faults.contains(&hash()), "a secret is told: {faults}");
            faults
        }
    }
}

#[test]
fn a_good_file_is_read() {
    let other = entry("till", "page").replace("catalog:read", "views:write") + "publishable = true\n";
    let other = other.replace(&hash(), &Digest::of(b"other").hex().to_uppercase());
    let set = parse(&format!("# ours\n{}\n{other}", entry("till", "till"))).unwrap();
    assert_eq!(set.iter().map(|token| &*token.name).collect::<Vec<_>>(), ["till", "page"]);
    assert!(set[0].digest == Digest::of(SECRET.as_bytes()) && set[0].scopes.contains(Scope::CatalogRead) && !set[0].publishable);
    assert!(set[1].digest == Digest::of(b"other") && set[1].publishable);
}

#[test]
fn every_fault_is_refused_with_its_line_and_reason() {
    let hash = hash();
    let quoted = format!("\"{hash}\"");
    for (from, to, fault) in [
        ("name", "names", "line 1: name is missing; line 2: unknown key; did you mean name?"),
        ("sha256", "sha_256", "line 1: sha256 is missing; line 4: unknown key; did you mean sha256?"),
        ("\"till\"", "7", "line 2: name must be a text in quotes"),
        ("till", "", "line 2: name: use 1 to 64"),
        ("till", "two words", "line 2: name: use 1 to 64"),
        ("[\"catalog:read\"]", "[]", "line 3: scopes is empty"),
        ("[\"catalog:read\"]", "\"catalog:read\"", "line 3: scopes must be a list"),
        ("\"catalog:read\"", "7", "line 3: scopes: each is a text in quotes"),
        ("catalog:read", "price:write", "line 3: scopes: no such scope; did you mean prices:write?"),
        ("\"catalog:read\"", "\"admin\", \"admin\"", "line 3: scopes: given twice"),
        (&hash, &format!("g{}", &hash[1..]), "line 4: sha256 must be the SHA-256 of the secret as 64 hexadecimal digits"),
        (&hash, &hash[1..], "line 4: sha256 must be"),
        (&hash, &"é".repeat(32), "line 4: sha256 must be"),
        (&quoted, "7", "line 4: sha256 must be"),
        (&hash, &"0".repeat(64), "line 4: sha256 is a placeholder"),
        ("[\"catalog:read\"]", "[\"catalog:read\", \"views:write\"]\npublishable = true", "line 4: a publishable token may be seen"),
        ("[\"catalog:read\"]", "[\"views:write\"]\npublishable = 1", "line 4: publishable must be true or false"),
        ("[[token]]", "[token]", "line 1: write [[token]], with two brackets"),
        ("[[token]]", "[[tokens]]", "line 1: it has no [[token]]; nobody would be let in; line 1: unknown key; each token is a [[token]]"),
        ("[[token]]", "token = []", "line 1: there is no token in it"),
        ("[[token]]", "token = [7]", "line 1: a token is a table"),
        ("\"till\"", "till", "line 2: not TOML: "),
        ("\"till\"", "\"till\"\nname = \"twice\"", "line 3: not TOML: duplicate key"),
        (&quoted, &hash, "line 4: not TOML: "),
    ] {
        let faults = refused(&entry(from, to));
        assert!(faults.contains(fault), "{from} -> {to}: {faults}");
    }
    assert_eq!(refused("\n# nothing\n"), "line 1: it has no [[token]]; nobody would be let in");
}

#[test]
fn a_secret_in_the_wrong_place_is_not_told() {
    for (from, to) in [("till", SECRET), ("catalog:read", SECRET), ("name", SECRET), ("[[token]]", &format!("[[{SECRET}]]"))] {
        refused(&(entry(from, to) + &entry(from, to)));
    }
    refused(&entry("[\"catalog:read\"]", &format!("[\"views:write\"]\npublishable = \"{SECRET}\"")));
    refused(&entry("[\"catalog:read\"]", &format!("[\"views:write\"]\n{SECRET}")));
    refused(&format!("{SECRET}\n"));
}

#[test]
fn two_tokens_are_told_apart_by_name_and_secret() {
    let (first, hash) = (entry("till", "till"), hash());
    let same_name = first.replace(&hash, &Digest::of(b"other").hex());
    assert_eq!(refused(&format!("{first}{same_name}")), "line 6: another token has this name");
    let same_secret = entry("till", "other");
    assert_eq!(refused(&format!("{first}{same_secret}")), "line 8: the token till has the same secret");
}

#[test]
fn an_empty_or_easily_guessed_secret_is_refused() {
    for weak in ["", "\n", "secret", "password\n", "changeme", "token", "test", "admin", "till", "till\n"] {
        let faults = refused(&entry(&hash(), &Digest::of(weak.as_bytes()).hex()));
        assert!(faults.contains("line 4: sha256 is that of an empty or easily guessed secret"), "{weak:?}: {faults}");
    }
}

#[test]
fn there_is_an_end_to_tokens_and_bytes() {
    let entries = |count: usize| -> String {
        let numbered = |n: usize| entry("till", &format!("till-{n}")).replace(&hash(), &Digest::of(format!("secret {n}").as_bytes()).hex());
        (0..count).map(numbered).collect()
    };
    assert_eq!(parse(&entries(MAX_TOKENS)).unwrap().len(), MAX_TOKENS);
    assert!(refused(&entries(MAX_TOKENS + 1)).contains("there are more than 256 tokens"));

    let folder = std::env::temp_dir().join(format!("telemetry-tokens-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("tokens.toml");
    let with = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        read(&file).map(|set| set.len())
    };
    assert_eq!(with(entry("till", "till").as_bytes()), Ok(1));
    let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
    let padded = entry("till", "till");
    let padded = padded.clone() + &" ".repeat(limit - padded.len());
    assert_eq!(with(padded.as_bytes()), Ok(1));
    assert!(with(" ".repeat(limit + 1).as_bytes()).unwrap_err().ends_with("is longer than 262144 bytes"));
    assert!(with(b"# 1\n# \xff\n").unwrap_err().ends_with("line 2: not UTF-8"));
    assert!(read(&folder).err().unwrap().ends_with("is no file"));
    assert!(read(&folder.join("none")).err().unwrap().contains("cannot read"));
    std::fs::remove_dir_all(&folder).unwrap();
}
