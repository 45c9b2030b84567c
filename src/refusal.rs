//! A command line that is refused: reported on stderr and, because hosts hide stderr, in the answer to each request
//! of the host.
//!
//! # Invariants
//!
//! - This module answers every request until `initialize` has its answer, because a host shows the error of
//!   `initialize`, and some hosts ask `server/discover` first.
//! - This module never answers a notification or a response.
//! - The program ends at the end of input, and without waiting long for a host that asks nothing.

use std::{
    borrow::Cow,
    io::{self, BufRead, IsTerminal, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    cli::{Reader, Usage, has_colors},
    local::Patient,
    mcp::method,
    message::Message,
    report::Report,
};

/// How long the first request of a host is awaited: hosts send it at once. And how long requests that follow the
/// answer to `initialize` are answered.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);

/// Reports what is wrong with the arguments, and returns when the program may end. A person reads it in the form of most
/// programs, and the log of a host gets the same words as one line.
pub(crate) fn refuse(usage: &Usage) {
    let Usage { reader, report, text } = usage;
    let text = if io::stderr().is_terminal() && has_colors(&|name| std::env::var(name).ok()) {
        Cow::from(colored(text))
    } else if *reader == Reader::Person || io::stderr().is_terminal() || !is_hosts(&io::stdin()) {
        Cow::from(text)
    } else {
        format!("[{}] mcp-remote: {}\n", std::process::id(), report.line()).into()
    };
    _ = io::stderr().write_all(text.as_bytes());
    if *reader == Reader::Host && !io::stdin().is_terminal() {
        answer_requests(report, &lines());
    }
}

/// Returns the text with the colors that most programs give to these words.
fn colored(text: &str) -> String {
    let color = |word: &str, code: &str| format!("\u{1b}[{code}m{word}\u{1b}[0m");
    match text.strip_prefix("error:") {
        Some(rest) => color("error:", "1;31") + &rest.replacen("  tip:", &format!("  {}", color("tip:", "32")), 1),
        None => text.to_owned(),
    }
}

/// Returns whether stdin may come from a host: hosts use pipes and sockets.
#[cfg(unix)]
fn is_hosts(stdin: &io::Stdin) -> bool {
    use std::{
        fs::File,
        os::{fd::AsFd as _, unix::fs::FileTypeExt as _},
    };

    let kind = stdin.as_fd().try_clone_to_owned().and_then(|stdin| File::from(stdin).metadata());
    kind.is_ok_and(|file| file.file_type().is_fifo() || file.file_type().is_socket())
}

#[cfg(not(unix))]
fn is_hosts(stdin: &io::Stdin) -> bool {
    !stdin.is_terminal()
}

/// Reads stdin on a thread of its own, which is not joined because a read cannot be canceled.
fn lines() -> Receiver<Vec<u8>> {
    let (sender, lines) = channel();
    _ = std::thread::Builder::new().name("stdin".into()).spawn(move || {
        for line in io::BufReader::new(Patient(io::stdin())).split(b'\n').map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What this module waits for.
#[derive(Clone, Copy)]
enum Awaited {
    /// The first request, until then.
    Request(Instant),
    /// `initialize`, or the end of input.
    Initialize,
    /// The end of input, until then.
    End(Instant),
}

fn answer_requests(report: &Report, lines: &Receiver<Vec<u8>>) {
    let mut awaited = Awaited::Request(Instant::now() + REQUEST_PATIENCE);
    loop {
        let line = match awaited {
            Awaited::Request(until) | Awaited::End(until) => {
                lines.recv_timeout(until.saturating_duration_since(Instant::now()))
            }
            Awaited::Initialize => lines.recv().map_err(RecvTimeoutError::from),
        };
        let Ok(line) = line else { return };
        let Ok(message) = Message::from_host(Bytes::from(line)) else { continue };
        for id in message.requests() {
            let mut answer = report.answer(id).to_vec();
            answer.push(b'\n');
            if io::stdout().write_all(&answer).and_then(|()| io::stdout().flush()).is_err() {
                return; // the host no longer reads
            }
            awaited = match awaited {
                Awaited::End(until) => Awaited::End(until),
                _ if message.method() == Some(method::INITIALIZE) => Awaited::End(Instant::now() + REQUEST_PATIENCE),
                Awaited::Request(_) | Awaited::Initialize => Awaited::Initialize,
            };
        }
    }
}
