//! The members of a JSON object (RFC 8259 §4), for a message of which one member has to change.
//!
//! # Invariants
//!
//! - The text of a value does not change, whatever is done to the others.

use std::borrow::Cow;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The members of an object in the order in which they stand, the value of each as it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Members<'a> {
    /// Reads a text; `None` if it is no object.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// The value of a member; of the last one, where there are several of the name.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The value of a member, if it is an object.
    pub(crate) fn object(&self, name: &str) -> Option<Members<'_>> {
        Members::read(self.get(name)?.get().as_bytes())
    }

    /// The value of a member, if it is of this type.
    pub(crate) fn value<'b, T: Deserialize<'b>>(&'b self, name: &str) -> Option<T> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Gives a member this value: in its place if it is there, at the end if not.
    pub(crate) fn set(&mut self, name: &'a str, value: Box<RawValue>) {
        match self.0.iter_mut().rev().find(|(known, _)| known == name) {
            Some((_, there)) => *there = Cow::Owned(value),
            None => self.0.push((Cow::Borrowed(name), Cow::Owned(value))),
        }
    }

    /// The same with what can be written as JSON; nothing happens if it cannot.
    pub(crate) fn put(&mut self, name: &'a str, value: &impl Serialize) {
        if let Ok(value) = serde_json::value::to_raw_value(value) {
            self.set(name, value);
        }
    }

    /// The same, unless the member is there.
    pub(crate) fn put_missing(&mut self, name: &'a str, value: &impl Serialize) {
        if self.get(name).is_none() {
            self.put(name, value);
        }
    }

    /// Takes a member away; returns whether it was there.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| known != name);
        self.0.len() < before
    }

    /// Keeps the members whose name fits.
    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// Every member.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object's text.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'a> Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'a> Visitor<'a> for Object {
            type Value = Members<'a>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(4));
                while let Some((name, value)) = map.next_entry::<String, &'a RawValue>()? {
                    members.push((Cow::Owned(name), Cow::Borrowed(value)));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_values_stay_as_written() {
        let text = r#"{ "a" : 1.0e2, "b":[ 1 , 18446744073709551616], "\u0063":"\u0041", "a":{"x" : null} }"#;
        let mut members = Members::read(text.as_bytes()).unwrap();
        assert_eq!(members.get("a").unwrap().get(), r#"{"x" : null}"#);
        assert!(members.object("a").unwrap().get("x").is_some() && members.object("b").is_none());
        assert_eq!(members.value::<String>("c").as_deref(), Some("A"));
        members.put("d", &true);
        members.put_missing("d", &false);
        members.put("b", &0);
        assert_eq!(members.to_json(), r#"{"a":1.0e2,"b":0,"c":"\u0041","a":{"x" : null},"d":true}"#);
        assert!(members.remove("a") && !members.remove("a"));
        assert_eq!(members.to_json(), r#"{"b":0,"c":"\u0041","d":true}"#);
        assert!(Members::read(b"[]").is_none() && Members::read(b"{").is_none());
    }
}
