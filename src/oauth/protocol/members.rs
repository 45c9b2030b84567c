//! Members of a JSON document that another party publishes, read where only one meaning is possible, because servers
//! write a text for a list (RFC 8414 §2, RFC 9728 §2), a list for a text, or a truth value as text.
//!
//! # Invariants
//!
//! - A document that cannot be used is not taken for one that is absent: the fault names the member and its type.

use log::debug;
use serde_json::{Map, Value};

/// The members of a document.
#[derive(Debug)]
pub(crate) struct Members(Map<String, Value>);

/// Why a document cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It is not JSON, or is another value.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A member has another type.
    #[error("its member {name} is {found} instead of {expected}")]
    Type { name: &'static str, found: &'static str, expected: &'static str },
}

impl Members {
    /// Reads a document, with or without a byte order mark (RFC 8259 §8.1).
    ///
    /// # Errors
    /// [`Fault::NotAnObject`].
    pub(crate) fn of(body: &[u8]) -> Result<Self, Fault> {
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
        serde_json::from_slice(body).map(Self).map_err(|_| Fault::NotAnObject)
    }

    /// Returns a text; a list of one text is that text, and an empty text is none.
    ///
    /// # Errors
    /// [`Fault::Type`].
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Fault> {
        let value = match self.0.get(name) {
            Some(Value::Array(values)) if values.len() == 1 => values.first(),
            value => value,
        };
        match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(value) => Err(fault(name, value, "a string")),
        }
    }

    /// Returns a list of texts. A text is a list of its words; what is no text in a list, or an empty one, is
    /// left out.
    ///
    /// # Errors
    /// [`Fault::Type`].
    pub(crate) fn list(&self, name: &'static str) -> Result<Option<Vec<String>>, Fault> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(words(text))),
            Some(Value::Array(values)) => {
                let texts = values.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
                Ok(Some(texts.map(Into::into).collect()))
            }
            Some(value) => Err(fault(name, value, "a list")),
        }
    }

    /// Returns a truth value, also one that is written as text.
    ///
    /// # Errors
    /// [`Fault::Type`].
    pub(crate) fn flag(&self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(value) => Err(fault(name, value, "true or false")),
        }
    }
}

/// Returns a member without which a document can be used.
pub(crate) fn spared<T>(read: Result<Option<T>, Fault>) -> Option<T> {
    read.unwrap_or_else(|fault| {
        debug!("ignoring a metadata field: {fault}");
        None
    })
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| character.is_ascii_whitespace() || character == ',');
    words.filter(|word| !word.is_empty()).map(Into::into).collect()
}

fn fault(name: &'static str, value: &Value, expected: &'static str) -> Fault {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Fault::Type { name, found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> Members {
        Members::of(text.as_bytes()).unwrap()
    }

    #[test]
    fn member_of_other_type_is_read_if_unambiguous() {
        let members = members(
            r#"{"a":"x y","b":["x",1,"y"],"c":["x"],"d":["x","y"],"e":"true","f":"yes","g":null,"h":{},"i":"","j":7}"#,
        );
        let list = |texts: &[&str]| Ok(Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
        assert_eq!(members.list("a"), list(&["x", "y"]));
        assert_eq!(members.list("b"), list(&["x", "y"]));
        assert_eq!((members.text("c"), members.text("i")), (Ok(Some("x".to_owned())), Ok(None)));
        assert_eq!((members.flag("e"), members.flag("g")), (Ok(Some(true)), Ok(None)));
        let told = |fault: Fault| fault.to_string();
        assert_eq!(members.text("d").map_err(told), Err("its member d is a list instead of a string".to_owned()));
        assert_eq!(members.list("h").map_err(told), Err("its member h is an object instead of a list".to_owned()));
        assert_eq!(
            members.flag("f").map_err(told),
            Err("its member f is a string instead of true or false".to_owned())
        );
        assert_eq!(members.text("j").map_err(told), Err("its member j is a number instead of a string".to_owned()));
    }

    #[test]
    fn empty_text_counts_as_absent() {
        let members = members(r#"{"a":["",1],"b":["","x"],"c":" ,"}"#);
        for (name, texts) in [("a", &[][..]), ("b", &["x"]), ("c", &[])] {
            assert_eq!(members.list(name), Ok(Some(texts.iter().map(ToString::to_string).collect())), "{name}");
        }
    }

    #[test]
    fn byte_order_mark_is_skipped() {
        assert_eq!(members("\u{feff}{\"a\":\"x\"}").text("a"), Ok(Some("x".to_owned())));
        assert_eq!(Members::of(b"<html>").unwrap_err(), Fault::NotAnObject);
        assert_eq!(Members::of(b"[]").unwrap_err(), Fault::NotAnObject);
    }
}
