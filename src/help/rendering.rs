//! Markdown laid out for a terminal: wrapped, without markup; a table becomes a list of terms.
//!
//! # Invariants
//!
//! - No line of running text is wider than the layout, unless one word is.
//! - A code block is printed as it stands, because it is there to be copied.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// What text is laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Columns.
    pub width: usize,
    /// Whether headings and code are shown in bold and color.
    pub styled: bool,
}

/// Columns by which lists, code blocks and the cells below a term are indented.
const INDENT: usize = 2;

const HEADING: Style = Style::new().bold();
const CODE: Style = AnsiColor::Cyan.on_default();

/// Lays out a page.
#[must_use]
pub fn render(markdown: &str, layout: Layout) -> String {
    let mut page = Page { layout, ..Page::default() };
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        page.event(event);
    }
    page.out
}

impl Default for Layout {
    /// The terminal of old, without styles.
    fn default() -> Self {
        Self { width: 80, styled: false }
    }
}

/// A page as far as it is laid out.
#[derive(Default)]
struct Page {
    layout: Layout,
    out: String,
    /// Inline text of the block that is being read.
    inline: String,
    /// For each open list, the number of its next item, or none for bullets.
    lists: Vec<Option<u64>>,
    /// What stands before the first line of the next block, instead of as many columns of the indentation.
    marker: String,
    in_code_block: bool,
    /// Where the link that is open leads.
    link: String,
    /// Cells of the row that is being read, without the head of the table.
    cells: Vec<String>,
    in_table_head: bool,
}

impl Page {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.in_code_block => self.code_block(&text),
            Event::Text(text) => self.inline.push_str(&text),
            Event::Code(code) if self.layout.styled => {
                // The blanks of one code span are no place for a line break.
                let code = code.replace(' ', "\u{a0}");
                _ = write!(self.inline, "{CODE}{code}{CODE:#}");
            }
            Event::Code(code) => self.inline.push_str(&code.replace(' ', "\u{a0}")),
            Event::SoftBreak | Event::HardBreak => self.inline.push(' '),
            Event::Rule
            | Event::Html(_)
            | Event::InlineHtml(_)
            | Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => {
                self.flush();
                self.separate();
                self.in_code_block = true;
            }
            Tag::List(first) => {
                self.flush();
                if self.lists.is_empty() {
                    self.separate();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                self.marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number += 1;
                        format!("{}. ", *number - 1)
                    }
                    _ => "- ".to_owned(),
                };
            }
            Tag::Link { dest_url, .. } => self.link = dest_url.into_string(),
            Tag::TableHead => self.in_table_head = true,
            Tag::Paragraph if self.lists.is_empty() => self.separate(),
            Tag::Paragraph if self.marker.is_empty() => self.separate(),
            Tag::Heading { .. } | Tag::Table(_) => self.separate(),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::Item => self.flush(),
            TagEnd::Heading(_) => {
                let text = std::mem::take(&mut self.inline);
                let style = if self.layout.styled { HEADING } else { Style::new() };
                _ = writeln!(self.out, "{style}{text}{style:#}");
            }
            TagEnd::CodeBlock => self.in_code_block = false,
            TagEnd::List(_) => _ = self.lists.pop(),
            TagEnd::Link => {
                let link = std::mem::take(&mut self.link);
                if let Some(topic) = link.strip_suffix(".md") {
                    _ = write!(self.inline, " (mcp-remote\u{a0}help\u{a0}{topic})");
                } else if link.contains("://") && !self.inline.ends_with(&link) {
                    _ = write!(self.inline, " ({link})");
                }
            }
            TagEnd::TableHead => {
                self.in_table_head = false;
                self.cells.clear();
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.inline);
                self.cells.push(cell);
            }
            TagEnd::TableRow => self.row(),
            _ => {}
        }
    }

    /// A row as a term and, below it, what the other cells say. A short cell in the middle stands beside the term.
    fn row(&mut self) {
        /// Columns.
        const SHORT: usize = 12;
        let mut cells = std::mem::take(&mut self.cells);
        let indent = self.lists.len() * INDENT + INDENT;
        if cells.len() > 2 && !cells[1].is_empty() && visible(&cells[1]) <= SHORT {
            let beside = cells.remove(1);
            cells[0] = format!("{} ({beside})", cells[0]);
        }
        let mut cells = cells.into_iter();
        let term = cells.next().unwrap_or_default();
        self.wrap(&term, "", indent);
        for cell in cells.filter(|cell| !cell.is_empty()) {
            self.wrap(&cell, "", indent + 2 * INDENT);
        }
    }

    fn code_block(&mut self, text: &str) {
        let indent = " ".repeat((self.lists.len() + 1) * INDENT);
        for line in text.lines() {
            _ = writeln!(self.out, "{}", format!("{indent}{line}").trim_end());
        }
    }

    /// An empty line, unless there is one, or nothing before it.
    fn separate(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with("\n\n") {
            self.out.push('\n');
        }
    }

    /// Ends the paragraph that is being read.
    fn flush(&mut self) {
        let text = std::mem::take(&mut self.inline);
        if text.trim().is_empty() {
            return;
        }
        let marker = std::mem::take(&mut self.marker);
        let depth = self.lists.len().saturating_sub(1) * INDENT;
        let hanging = if self.lists.is_empty() { 0 } else { depth + marker.len().max(INDENT) };
        self.wrap(&text, &marker, hanging);
    }

    /// Writes text in lines; the first begins with the marker, instead of the end of its indentation.
    fn wrap(&mut self, text: &str, marker: &str, indent: usize) {
        let mut line = format!("{}{marker}", " ".repeat(indent.saturating_sub(marker.len())));
        let mut column = indent;
        let mut is_first = true;
        // A no-break space is no white space to split at, and is printed as a space.
        for word in text.split([' ', '\n', '\t']).filter(|word| !word.is_empty()) {
            let width = visible(word);
            if !is_first && column + 1 + width > self.layout.width {
                _ = writeln!(self.out, "{line}");
                line = " ".repeat(indent);
                column = indent;
                is_first = true;
            }
            if !is_first {
                line.push(' ');
                column += 1;
            }
            line.push_str(&word.replace('\u{a0}', " "));
            column += width;
            is_first = false;
        }
        _ = writeln!(self.out, "{line}");
    }
}

/// Columns of a word, without the sequences that style it.
fn visible(word: &str) -> usize {
    let mut width = 0;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            _ = characters.find(char::is_ascii_alphabetic);
        } else {
            width += 1;
        }
    }
    width
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(markdown: &str, width: usize) -> String {
        render(markdown, Layout { width, styled: false })
    }

    #[test]
    fn text_is_wrapped_without_markup() {
        let markdown = "# Signing in\n\nRun `mcp-remote login` **before**\nthe host starts, see [hosts](hosts.md).\n";
        assert_eq!(
            shown(markdown, 40),
            "Signing in\n\nRun mcp-remote login before the host\nstarts, see hosts (mcp-remote help hosts).\n"
                .replace("starts, see hosts (mcp-remote help hosts).", "starts, see hosts\n(mcp-remote help hosts).")
        );
    }

    #[test]
    fn code_block_keeps_its_lines() {
        let markdown =
            "Type:\n\n```sh\nmcp-remote client https://example.com/mcp --verbose\n\nnext\n```\n\nThen wait.\n";
        assert_eq!(
            shown(markdown, 20),
            "Type:\n\n  mcp-remote client https://example.com/mcp --verbose\n\n  next\n\nThen wait.\n"
        );
    }

    #[test]
    fn lists_hang_below_their_markers() {
        let markdown = "Causes:\n\n1. The first one is long enough.\n2. Short.\n\n- a\n- b\n\nEnd.\n";
        assert_eq!(
            shown(markdown, 20),
            "Causes:\n\n1. The first one is\n   long enough.\n2. Short.\n\n- a\n- b\n\nEnd.\n"
        );
    }

    #[test]
    fn table_becomes_list_of_terms() {
        let markdown = "| flag | meaning |\n|---|---|\n| `--http1` | Use HTTP/1.1 only |\n| `--ipv4` | Use IPv4 |\n";
        assert_eq!(shown(markdown, 80), "  --http1\n      Use HTTP/1.1 only\n  --ipv4\n      Use IPv4\n");
    }

    #[test]
    fn short_middle_cell_stands_beside_its_term() {
        let markdown = "| host | time | what |\n|---|---|---|\n| Codex | 50 s | restart it |\n";
        assert_eq!(shown(markdown, 80), "  Codex (50 s)\n      restart it\n");
    }

    #[test]
    fn link_to_web_shows_its_url_once() {
        let markdown = "See [the specification](https://example.com/spec) and <https://example.com>.";
        assert_eq!(shown(markdown, 80), "See the specification (https://example.com/spec) and https://example.com.\n");
    }

    #[test]
    fn styles_take_no_columns() {
        let markdown = "# Title\n\nUse `a` or `b` now";
        let styled = render(markdown, Layout { width: 14, styled: true });
        let plain: String = styled.replace("\u{1b}[1m", "").replace("\u{1b}[36m", "").replace("\u{1b}[0m", "");
        assert_eq!(plain, shown(markdown, 14));
        assert!(styled.contains("\u{1b}[1mTitle\u{1b}[0m"), "{styled:?}");
    }
}
