//! What a server of HTTP+SSE (MCP 2024-11-05) keeps: the event streams it has opened, each with an
//! endpoint of its own, `/messages?session=N` with N from 1.

use std::sync::{Arc, Mutex};

use super::server::{Events, Reply, Request, Server, answer, initialize_result};

/// The streams of one server, in the order in which they were opened; none in place of an ended one.
#[derive(Clone, Default)]
pub struct EventStreams(Arc<Mutex<Vec<Option<Events>>>>);

impl EventStreams {
    /// Starts a server that does what the function says, and where it says nothing, what an
    /// ordinary one does.
    pub async fn serve(special: impl Fn(&Request, &Self) -> Option<Reply> + Send + Sync + 'static) -> (Server, Self) {
        let streams = Self::default();
        let ours = streams.clone();
        let server = Server::with(move |request| special(request, &ours).unwrap_or_else(|| ours.ordinary(request)));
        (server.await, streams)
    }

    /// Opens a stream that begins with this text.
    pub fn open_with(&self, text: impl AsRef<[u8]>) -> Reply {
        let (reply, events) = Reply::events();
        events.raw(text);
        self.0.lock().unwrap().push(Some(events));
        reply
    }

    /// Opens a stream that names its endpoint.
    pub fn open(&self) -> Reply {
        let number = self.count() + 1;
        self.open_with(format!("event: endpoint\ndata: /messages?session={number}\n\n"))
    }

    /// How many were ever opened.
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The stream opened last.
    pub fn last(&self) -> Events {
        self.0.lock().unwrap().last().cloned().flatten().expect("a stream is open")
    }

    /// Ends every stream, as a server does that shuts down.
    pub fn end(&self) {
        self.0.lock().unwrap().iter_mut().for_each(|stream| *stream = None);
    }

    /// What an ordinary server does: a GET opens a stream; a POST to an endpoint is accepted and
    /// answered on its stream, `{"echo": METHOD}` to all but `initialize`; any other POST is refused.
    pub fn ordinary(&self, request: &Request) -> Reply {
        if request.method == "GET" {
            return self.open();
        }
        let Some(session) = request.path.strip_prefix("/messages?session=") else { return Reply::empty(405) };
        let number: usize = session.parse().unwrap_or(0);
        let stream = number.checked_sub(1).and_then(|at| self.0.lock().unwrap().get(at).cloned().flatten());
        let Some(stream) = stream else { return Reply::status(404, "text/plain", "Session not found") };
        match request.rpc().as_str() {
            "" => {}
            "initialize" => stream.message(answer(request, initialize_result(request))),
            _ if request.json().get("id").is_none() => {}
            method => stream.message(answer(request, format!(r#"{{"echo":"{method}"}}"#))),
        }
        Reply::status(202, "text/plain", "Accepted")
    }
}
