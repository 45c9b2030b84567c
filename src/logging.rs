//! The log: env_logger's lines, each with our pid, on stderr, and with `--debug` also in a file.
//!
//! # Invariants
//!
//! - The log does not write to stdout.
//! - The loop does not wait for a reader of stderr, because hosts forget to read it.
//! - A server cannot fill a disk with lines: of those from one place in the code, few are written in a minute; the rest is
//!   counted, and the count is logged with the next line or at the end. No line is longer than [`LONGEST_LINE`].
//! - The debug file belongs to its user alone. Secrets do not get here: they are in types that do not print.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc::sync_channel},
    time::{Duration, Instant},
};

use log::{Level, LevelFilter, Metadata, Record};

use crate::{
    sync::LockExt,
    text::{self, is_obeyed},
    worker::Worker,
};

/// The target of the loop's lines ([`crate::forward`]). A command that prints how its own requests fail turns them off.
pub(crate) const LOOP: &str = concat!(env!("CARGO_CRATE_NAME"), "::forward");

/// Longest text of a line, in bytes. Reports of this program with all the words that they quote have 2 KB; what is longer is
/// a peer's.
const LONGEST_LINE: usize = 16 * 1024;
/// Lines that may wait for stderr; what comes on top is dropped.
const QUEUE: usize = 4096;
/// Size in bytes at which the debug file is put aside as `.1`, in place of the one before.
const LARGEST_FILE: u64 = 10 * 1024 * 1024;
/// How long the end of the program waits for the last lines.
const LAST_LINES: Duration = Duration::from_millis(50);

/// Libraries that print cookies, authorization codes or whole heads of requests below this level,
/// whatever `RUST_LOG` says.
const PRINT_SECRETS: [&str; 4] = ["cookie_store", "h2", "hyper", "rmcp::transport::auth"];

/// Lines from one place in the code that are written in a [`MINUTE`]: more than any outage has.
pub(crate) const MOST_ALIKE: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// How much is logged on stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogMode {
    /// A line for each change of state.
    #[default]
    Normal,
    /// Nothing.
    Silent,
    /// Nothing, because the command prints its steps itself.
    Steps,
    /// Warnings without the process ID, of a command for people.
    Person,
    /// Every message and request, with times, also to a file.
    Debug,
}

/// The open log; finish it before the program ends.
#[derive(Debug)]
pub(crate) struct Log {
    writer: Option<Queue>,
    alike: Arc<Alike>,
}

/// Opens the log. `file` is where `--debug` also writes.
#[must_use]
pub(crate) fn start(mode: LogMode, file: PathBuf, filters: Option<&str>) -> Log {
    if matches!(mode, LogMode::Silent | LogMode::Steps) {
        return Log::none();
    }
    let queue = Queue { worker: Worker::new("log", QUEUE), file: Arc::default() };
    if mode == LogMode::Debug {
        queue.open_file(file);
    }
    let own = match mode {
        LogMode::Debug => LevelFilter::Debug,
        LogMode::Person => LevelFilter::Warn,
        _ => LevelFilter::Info,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Warn).filter_module("mcp_remote", own);
    if let Some(filters) = filters {
        builder.parse_filters(filters);
    }
    // The one calls the end of its own listener an error, the other each certificate that is then told in
    // the catalogue's words, or accepted for being named.
    for module in ["tiny_http", "rustls_platform_verifier"] {
        builder.filter_module(module, LevelFilter::Off);
    }
    let pid = std::process::id();
    let alike = Arc::<Alike>::default();
    let lines = alike.clone();
    builder.format(move |line, record| {
        if prints_secrets(record.metadata()) {
            return Ok(());
        }
        let omitted = match lines.admit(record, Instant::now()) {
            None => return Ok(()),
            Some(0) => String::new(),
            Some(count) => format!(" ({count} similar lines omitted)"),
        };
        let note = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            _ => "",
        };
        let words = words(record);
        if mode == LogMode::Debug {
            let time = line.timestamp_millis();
            writeln!(line, "[{}][{pid}] {note}{words}{omitted}", time)
        } else if mode == LogMode::Person {
            writeln!(line, "{note}{words}{omitted}")
        } else {
            writeln!(line, "[{pid}] {note}{words}{omitted}")
        }
    });
    builder.target(env_logger::Target::Pipe(Box::new(queue.clone())));
    if builder.try_init().is_err() {
        return Log::none(); // a program that uses the library logs already
    }
    Log { writer: Some(queue), alike }
}

/// Returns the text of a line. Whatever a server may have put into it, it moves no cursor and sets no title.
fn words(record: &Record<'_>) -> String {
    let mut words = Words(String::new());
    // An error is the end of the room, and the rest of the line is not even written out.
    if words.write_fmt(*record.args()).is_err() {
        words.0.push('…');
    }
    text::without_number(words.0)
}

/// The text of a line, up to [`LONGEST_LINE`].
struct Words(String);

impl fmt::Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let is_shown = character == '\n' || !is_obeyed(character);
            let shown = if is_shown { character } else { char::REPLACEMENT_CHARACTER };
            if self.0.len() + shown.len_utf8() > LONGEST_LINE {
                return Err(fmt::Error);
            }
            self.0.push(shown);
        }
        Ok(())
    }
}

impl Log {
    fn none() -> Self {
        Self { writer: None, alike: Arc::default() }
    }

    /// Writes how many lines were omitted, and what is waiting, if stderr is read.
    pub(crate) fn finish(self) {
        let Some(mut queue) = self.writer else { return };
        for (count, first) in self.alike.omitted() {
            let line = format!("[{}] {count} similar lines omitted: {first}\n", std::process::id());
            _ = queue.write(line.as_bytes());
        }
        // This end stays open: if the queue is full, its lines have that time.
        let (ended, end) = sync_channel(1);
        let done = ended.clone();
        _ = queue.worker.run(move || _ = done.send(()));
        _ = end.recv_timeout(LAST_LINES);
    }
}

/// Decided here and not by a filter: one that names a module within would overrule it.
fn prints_secrets(line: &Metadata<'_>) -> bool {
    line.level() > Level::Info && PRINT_SECRETS.iter().any(|library| line.target().starts_with(library))
}

/// A target, and a line in its module.
type CallSite = (String, Option<u32>);

/// Returns the target of the reports with this code: each code has its own lines of a [`MINUTE`], so that a server that
/// makes one kind appear often hides no other.
pub(crate) fn of_report(code: &str) -> String {
    format!("{}::report::{code}", env!("CARGO_CRATE_NAME"))
}

/// How many lines each call site has written.
#[derive(Debug, Default)]
struct Alike(Mutex<HashMap<CallSite, Lines>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    count: usize,
    /// The first one that was omitted.
    omitted: Option<String>,
}

impl Alike {
    /// Returns whether a line is written, and how many like it were not before. What `--debug` asks for is.
    fn admit(&self, record: &Record<'_>, now: Instant) -> Option<usize> {
        if record.level() > Level::Info {
            return Some(0);
        }
        let mut places = self.0.guard();
        let place = (record.target().to_owned(), record.line());
        let lines = places.entry(place).or_insert(Lines { since: now, count: 0, omitted: None });
        let mut omitted = 0;
        if now.saturating_duration_since(lines.since) >= MINUTE {
            omitted = lines.count.saturating_sub(MOST_ALIKE);
            *lines = Lines { since: now, count: 0, omitted: None };
        }
        lines.count += 1;
        if lines.count > MOST_ALIKE {
            lines.omitted.get_or_insert_with(|| words(record));
            return None;
        }
        Some(omitted)
    }

    /// Returns the lines that no later line has counted yet: how many, and the first of them.
    fn omitted(&self) -> Vec<(usize, String)> {
        let places = self.0.guard();
        let count = |lines: &Lines| Some((lines.count.saturating_sub(MOST_ALIKE), lines.omitted.clone()?));
        places.values().filter_map(count).collect()
    }
}

/// Lines on their way to stderr and the debug file.
#[derive(Clone, Debug)]
struct Queue {
    worker: Worker,
    file: Arc<Mutex<Option<(File, PathBuf)>>>,
}

impl Queue {
    /// Opens the debug file before the first line is written.
    fn open_file(&self, path: PathBuf) {
        let file = self.file.clone();
        _ = self.worker.run(move || match open(&path) {
            Ok(open) => *file.guard() = Some((open, path)),
            Err(error) => {
                _ = writeln!(
                    io::stderr(),
                    "[{}] warning: cannot write the debug log to {}: {}",
                    std::process::id(),
                    path.display(),
                    text::chain(&error)
                );
            }
        });
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (file, text) = (self.file.clone(), line.to_vec());
        _ = self.worker.run(move || write(&mut file.guard(), &text));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(file: &mut Option<(File, PathBuf)>, line: &[u8]) {
    _ = io::stderr().write_all(line);
    if let Some((open, path)) = file {
        _ = open.write_all(line);
        if open.metadata().is_ok_and(|file| file.len() > LARGEST_FILE) {
            *file = rotate(path).ok().map(|open| (open, std::mem::take(path)));
        }
    }
}

fn rotate(path: &Path) -> io::Result<File> {
    fs::rename(path, path.with_extension("log.1"))?;
    open(path)
}

/// Opens for adding at the end, for the owner only (0600, in a folder of 0700).
fn open(path: &Path) -> io::Result<File> {
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true);
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
        folder.mode(0o700);
        options.mode(0o600);
        if let Ok(old) = fs::metadata(path)
            && old.permissions().mode() & 0o077 != 0
        {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?; // npm's, perhaps
        }
    }
    if let Some(parent) = path.parent() {
        folder.create(parent)?;
    }
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_log_lines_are_counted() {
        let alike = Alike::default();
        let began = Instant::now();
        let admit_of = |code, line, level, after| {
            let (args, target) = (format_args!("a line"), of_report(code));
            let record = Record::builder().args(args).level(level).target(&target).line(Some(line)).build();
            alike.admit(&record, began + after)
        };
        let admit = |line, level, after| admit_of("bad_message", line, level, after);
        let written = (0..1000).filter(|_| admit(1, Level::Warn, Duration::ZERO).is_some()).count();
        assert_eq!(written, MOST_ALIKE);
        assert_eq!(alike.omitted(), [(1000 - MOST_ALIKE, "a line".to_owned())]);
        assert_eq!(admit(2, Level::Warn, Duration::ZERO), Some(0), "another place");
        assert_eq!(
            admit_of("issuer_not_named", 1, Level::Warn, Duration::ZERO),
            Some(0),
            "another code, the same place"
        );
        assert_eq!(admit(1, Level::Warn, MINUTE), Some(1000 - MOST_ALIKE));
        assert_eq!(admit(1, Level::Warn, MINUTE), Some(0));
        assert!(alike.omitted().is_empty(), "they are counted already");
        assert!((0..1000).all(|_| admit(3, Level::Debug, Duration::ZERO) == Some(0)));
    }

    #[test]
    fn long_log_line_is_cut_between_characters() {
        let text = |length: usize| {
            let long = format!("a{}\n", "é\u{1b}".repeat(length));
            words(&Record::builder().args(format_args!("{long}")).build())
        };
        assert_eq!(text(2), "aé\u{fffd}é\u{fffd}\n", "a short line is whole, and its line breaks stay");
        let cut = text(10_000_000);
        assert!(cut.len() <= LONGEST_LINE + '…'.len_utf8() && cut.len() > LONGEST_LINE - 4, "{} bytes", cut.len());
        assert!(cut.starts_with("aé\u{fffd}é") && cut.ends_with('…'));
    }

    #[test]
    fn secret_printing_library_is_quiet_in_all_modules() {
        let printed = |target, level| !prints_secrets(&Metadata::builder().target(target).level(level).build());
        for target in ["hyper::proto::h1::io", "h2::codec::framed_read", "cookie_store::cookie_store"] {
            assert!(!printed(target, Level::Debug) && !printed(target, Level::Trace), "{target}");
            assert!(printed(target, Level::Warn), "{target}");
        }
        assert!(printed("mcp_remote::oauth", Level::Debug));
    }
}
