//! Tasks of the extension `io.modelcontextprotocol/tasks` (SEP-2663), as far as a host without it can be served: the task
//! is polled until its end, and the call that has led to it is answered then.
//!
//! # Invariants
//!
//! - A key of a request is asked once in the life of a task.

use std::{collections::HashSet, time::Duration};

use serde_json::value::RawValue;

use super::{
    capabilities::TASKS_EXTENSION,
    input::{InputRequest, InputRequired},
};
use crate::message::{Body, Message, members::Members, peek};

/// Pause between two polls where the server names none.
const POLL: Duration = Duration::from_secs(1);
/// The shortest and the longest pause: a server that names none of sense is neither flooded nor forgotten.
const SHORTEST_POLL: Duration = Duration::from_millis(100);
const LONGEST_POLL: Duration = Duration::from_secs(60);
/// Polls in a row that may be lost.
pub(crate) const MOST_LOST: u32 = 5;

/// A task in progress.
#[derive(Debug)]
pub(crate) struct Task {
    /// `taskId`, as the server has written it.
    pub(crate) id: Box<RawValue>,
    /// Pause before the next poll.
    pub(crate) poll: Duration,
    /// What the host was asked for.
    asked: HashSet<String>,
    /// Polls in a row that were lost.
    pub(crate) lost: u32,
}

/// How far a task is.
#[derive(Debug)]
pub(crate) enum TaskStatus {
    Working,
    /// These requests have not been asked before.
    InputRequired(Vec<InputRequest>),
    /// The result of the call.
    Completed(Box<RawValue>),
    /// The error of the call.
    Failed(Box<RawValue>),
    Cancelled,
}

impl Task {
    /// Reads the result that begins a task; `None` if it names none.
    pub(crate) fn begin(response: &Body) -> Option<Self> {
        let text = response.to_bytes();
        let whole = Members::read(&text)?;
        let result = whole.object("result")?;
        let id = result.get("taskId").filter(|id| id.get().starts_with('"'))?.to_owned();
        Some(Self { id, poll: poll_of(&result), asked: HashSet::new(), lost: 0 })
    }

    /// Reads the answer to a poll.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn status(&mut self, response: &Message) -> Result<TaskStatus, String> {
        let text = response.body.to_bytes();
        let whole = Members::read(&text).ok_or("it is not an object")?;
        let result = whole.object("result").ok_or("it has no result")?;
        self.poll = poll_of(&result);
        self.lost = 0;
        let member = |name: &str| result.get(name).map(ToOwned::to_owned).ok_or_else(|| format!("it has no {name}"));
        Ok(match result.value::<String>("status").as_deref() {
            Some("working") => TaskStatus::Working,
            Some("input_required") => {
                let mut requests = InputRequired::read(response)?.requests;
                requests.retain(|request| self.asked.insert(request.key.clone()));
                if requests.is_empty() { TaskStatus::Working } else { TaskStatus::InputRequired(requests) }
            }
            Some("completed") => TaskStatus::Completed(member("result")?),
            Some("failed") => TaskStatus::Failed(member("error")?),
            Some("cancelled") => TaskStatus::Cancelled,
            _ => return Err("its status is unknown".to_owned()),
        })
    }
}

fn poll_of(task: &Members<'_>) -> Duration {
    let named = task.value::<u64>("pollIntervalMs").map(Duration::from_millis);
    named.unwrap_or(POLL).clamp(SHORTEST_POLL, LONGEST_POLL)
}

/// Whether a server refuses a call because its client declares no tasks.
pub(crate) fn are_required(answer: &Body) -> bool {
    const MISSING_CAPABILITY: i64 = -32021;
    let Some(error) = peek::error(answer).filter(|error| error.code == MISSING_CAPABILITY) else { return false };
    let Some(data) = &error.data else { return false };
    let data = Members::read(data.get().as_bytes()).unwrap_or_default();
    let required = data.object("requiredCapabilities").unwrap_or_default();
    required.object("extensions").is_some_and(|extensions| extensions.get(TASKS_EXTENSION).is_some())
}
