//! Which request a response answers (JSON-RPC 2.0 §5).
//!
//! # Invariants
//!
//! - A response goes to the host under the text of the id that the host has used.

use serde::de::IgnoredAny;

use super::{error::Error, http::Http};
use crate::message::{Id, Message, Shape, peek};

/// Returns the position of the request that a response with this `id` answers: the one with the same text, else with the
/// same value, else the only one that a server may have written so ([`Id::matches_loosely`]).
pub(super) fn position<'a>(id: &Id, asked: impl Iterator<Item = &'a Id> + Clone) -> Option<usize> {
    let by_text = asked.clone().position(|asked| asked == id);
    let by_value = || asked.clone().position(|asked| asked.same_value(id));
    let loosely = || {
        let mut matching = asked.clone().enumerate().filter(|(_, asked)| asked.matches_loosely(id));
        let (found, _) = matching.next()?;
        // A wrong answer is worse than none.
        matching.next().is_none().then_some(found)
    };
    by_text.or_else(by_value).or_else(loosely)
}

/// Takes `id` off the list and returns the text it was asked with.
pub(super) fn take(id: &Id, unanswered: &mut Vec<Id>) -> Option<Id> {
    Some(unanswered.remove(position(id, unanswered.iter())?))
}

/// Returns a JSON body as the answer to the one request it came for, if it is an error without its id: the id is null where
/// the server could not read it, and some servers have one for all of their errors.
pub(super) fn sole_answer(message: Message, unanswered: &[Id], http: &Http) -> Result<Message, Error> {
    let (Shape::Response { id }, [asked]) = (&message.shape, unanswered) else { return Ok(message) };
    let is_error = || peek::error(&message.body).is_some();
    match id.as_ref().filter(|id| !id.is_null()) {
        Some(id) if position(id, [asked].into_iter()).is_some() => Ok(message),
        // A wrong result is worse than none, but the error of a request is no other's.
        Some(_) if !is_error() => Ok(message),
        Some(_) => Ok(message.with_id(asked)),
        None if is_error() || peek::result::<Option<IgnoredAny>>(&message.body).flatten().is_some() => {
            Ok(message.with_id(asked))
        }
        None => {
            let text = http.masked_line(&message.body.to_bytes());
            Err(Error::NotMcp(format!("returned JSON that is not a JSON-RPC response (\"{text}\")")))
        }
    }
}
