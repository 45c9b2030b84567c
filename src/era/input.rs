//! What a server asks for in the middle of a call (MCP 2026-07-28, Multi Round-Trip Requests): the two forms of it. A
//! modern server answers with an `InputRequiredResult`, and the call is sent again with the answers; a legacy server sends
//! requests of its own.
//!
//! # Invariants
//!
//! - `requestState` passes as it is written, and with no other request.

use serde_json::value::RawValue;

use crate::message::{Message, members::Members};

/// Most requests of one result: each may open a dialog.
pub(crate) const MOST_REQUESTS: usize = 8;
/// Most times that a call is sent again: a server can ask without end.
pub(crate) const MOST_ROUNDS: u32 = 10;
/// Most calls that wait for input at once.
pub(crate) const MOST_WAITING: usize = 64;

/// One request inside an `InputRequiredResult`.
#[derive(Clone, Debug)]
pub(crate) struct InputRequest {
    /// The server's name for it.
    pub(crate) key: String,
    pub(crate) method: String,
    /// As the server has written it.
    pub(crate) params: Option<Box<RawValue>>,
}

/// An `InputRequiredResult`.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputRequired {
    pub(crate) requests: Vec<InputRequest>,
    /// As the server has written it.
    pub(crate) state: Option<Box<RawValue>>,
}

impl InputRequired {
    /// Reads the result of a response.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn read(response: &Message) -> Result<Self, String> {
        let text = response.body.to_bytes();
        let whole = Members::read(&text).ok_or("it is not an object")?;
        let result = whole.object("result").ok_or("it has no result")?;
        let state = result.get("requestState").map(ToOwned::to_owned);
        let mut requests = Vec::new();
        if result.get("inputRequests").is_some() {
            let asked = result.object("inputRequests").ok_or("inputRequests is not an object")?;
            for (key, request) in asked.iter() {
                let request = Members::read(request.get().as_bytes()).ok_or("a request in it is not an object")?;
                let method = request.value::<String>("method").ok_or("a request in it has no method")?;
                let params = request.get("params").map(ToOwned::to_owned);
                requests.push(InputRequest { key: key.to_owned(), method, params });
            }
        }
        if requests.len() > MOST_REQUESTS {
            return Err(format!("it has {} requests, and the limit is {MOST_REQUESTS}", requests.len()));
        }
        if requests.is_empty() && state.is_none() {
            return Err("it has no request".to_owned());
        }
        Ok(Self { requests, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(result: &str) -> Result<InputRequired, String> {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
        InputRequired::read(&Message::from_text(text).unwrap())
    }

    #[test]
    fn state_and_params_are_kept_as_written() {
        let read = read(
            r#"{"resultType":"input_required","requestState":"{ \"a\" : \u0041}","inputRequests":{"k\u0031":{"method":"elicitation/create","params":{ "message" : 1.0 }},"r":{"method":"roots/list"}}}"#,
        )
        .unwrap();
        assert_eq!(read.state.unwrap().get(), r#""{ \"a\" : \u0041}""#);
        let [first, second] = &read.requests[..] else { panic!("{:?}", read.requests) };
        assert_eq!((first.key.as_str(), first.method.as_str()), ("k1", "elicitation/create"));
        assert_eq!(first.params.as_ref().unwrap().get(), r#"{ "message" : 1.0 }"#);
        assert_eq!((second.method.as_str(), second.params.is_none()), ("roots/list", true));
    }

    #[test]
    fn result_without_meaning_is_refused() {
        let many: Vec<_> = (0..9).map(|key| format!(r#""{key}":{{"method":"roots/list"}}"#)).collect();
        for result in ["{}", r#"{"inputRequests":{}}"#, r#"{"inputRequests":[]}"#, r#"{"inputRequests":{"a":{}}}"#, "7"]
        {
            assert!(read(result).is_err(), "{result}");
        }
        let refused = read(&format!(r#"{{"inputRequests":{{{}}}}}"#, many.join(","))).unwrap_err();
        assert!(refused.contains("9 requests"), "{refused}");
        assert!(read(r#"{"requestState":""}"#).is_ok());
    }
}
