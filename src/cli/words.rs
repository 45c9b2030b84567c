//! The words of a command given in one argument, as POSIX (Shell Command Language, §2.2 Quoting and
//! §2.3 Token Recognition) has a simple command fall into words.
//!
//! # Invariants
//!
//! - No shell is started or imitated: `$`, backquotes, `*`, `|` and the like are characters.

const UNCLOSED: &str = "has a quote that is not closed";

/// Splits at blanks; quotes and backslashes keep a word together and do not become part of it.
///
/// # Errors
/// What is wrong, without the text, which may hold a secret.
pub(super) fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    // `''` is a word too, so an empty one is not the same as none.
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => match characters.next().ok_or("ends in a backslash")? {
                '\n' => {} // §2.2.1: the line goes on
                quoted => word.get_or_insert_default().push(quoted),
            },
            // §2.2.2: everything is itself up to the next one.
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(UNCLOSED)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(UNCLOSED)? {
                        '"' => break,
                        // §2.2.3: a backslash quotes only what would otherwise mean something here.
                        '\\' => match characters.next().ok_or(UNCLOSED)? {
                            quoted @ ('$' | '`' | '"' | '\\') => word.push(quoted),
                            '\n' => {}
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn command_splits_into_words_like_shell() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t\n ", &[]),
            ("token", &["token"]),
            ("  gcloud auth\tprint-identity-token\n", &["gcloud", "auth", "print-identity-token"]),
            (
                r"'/opt/my tools/token' --for 'https://a.example/mcp'",
                &["/opt/my tools/token", "--for", "https://a.example/mcp"],
            ),
            (r#"say "a b" 'c d' e\ f"#, &["say", "a b", "c d", "e f"]),
            (r#"--a="b c"'d'e"#, &["--a=b cde"]),
            (r#"a '' "" b"#, &["a", "", "", "b"]),
            (r#""\$HOME \`x\` \"q\" \\ \n""#, &[r#"$HOME `x` "q" \ \n"#]),
            (r"'a\b' a\'b", &[r"a\b", "a'b"]),
            ("\"a\\\nb\" 'c\nd' e \\\n f\\\ng", &["ab", "c\nd", "e", "fg"]),
            (
                "cat $FILE `x` $(y) *.jwt ~ | a;b & # c",
                &["cat", "$FILE", "`x`", "$(y)", "*.jwt", "~", "|", "a;b", "&", "#", "c"],
            ),
            ("é \u{a0}ü", &["é", "\u{a0}ü"]),
        ] {
            assert_eq!(split(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn unclosed_quote_is_refused() {
        for text in ["'a", "a \"b", "a \"b\\", "\"", "a'b\"c\"", "\"a\\\""] {
            assert_eq!(split(text), Err(UNCLOSED), "{text:?}");
        }
        assert_eq!(split("a \\"), Err("ends in a backslash"));
    }

    /// Each of the ways in which a person may quote.
    fn quoted(word: &str, way: u8) -> String {
        match way {
            0 => format!("'{}'", word.replace('\'', r"'\''")),
            1 => {
                let escaped: String = word
                    .chars()
                    .flat_map(|one| matches!(one, '$' | '`' | '"' | '\\').then_some('\\').into_iter().chain([one]))
                    .collect();
                format!("\"{escaped}\"")
            }
            _ if word.is_empty() || word.contains('\n') => quoted(word, 0),
            _ => word.chars().flat_map(|one| ['\\', one]).collect(),
        }
    }

    proptest! {
        #[test]
        fn words_that_were_quoted_and_joined_come_back(
            words in proptest::collection::vec((r#"([ \t\n'"\\$`a-cé]|\PC){0,8}"#, 0_u8..3, "[ \t\n]{1,3}"), 0..6)
        ) {
            let text: String = words.iter().map(|(word, way, blank)| quoted(word, *way) + blank).collect();
            let expected: Vec<_> = words.into_iter().map(|(word, ..)| word).collect();
            prop_assert_eq!(split(&text).unwrap(), expected);
        }

        #[test]
        fn nothing_makes_it_panic(text in r#"([ \n'"\\a]|.){0,20}"#) {
            _ = split(&text);
        }
    }
}
