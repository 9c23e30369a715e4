//! What was required and what came out, one number a line.

use std::fmt::Write;

/// One number of the list.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    what: String,
    required: String,
    came_out: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Holds,
    Missed,
}

/// All numbers so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// A number that has to be exactly this.
    pub(crate) fn exactly(&mut self, what: impl Into<String>, required: u64, came_out: u64) {
        self.add(what, required.to_string(), came_out.to_string(), came_out == required);
    }

    pub(crate) fn at_least(&mut self, what: impl Into<String>, required: u64, came_out: u64) {
        self.add(what, format!("at least {required}"), came_out.to_string(), came_out >= required);
    }

    pub(crate) fn at_most(&mut self, what: impl Into<String>, required: u64, unit: &str, came_out: u64) {
        let (most, is) = (format!("at most {required}{unit}"), format!("{came_out}{unit}"));
        self.add(what, most, is, came_out <= required);
    }

    /// A number of interest, of which nothing is required.
    pub(crate) fn note(&mut self, what: impl Into<String>, came_out: impl ToString) {
        self.add(what, "-".to_owned(), came_out.to_string(), true);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.lines.extend(other.lines);
    }

    /// Prints the table and fails if a number is not what was required.
    pub(crate) fn holds(&self) {
        println!("\n{}", self.table());
        let broken: Vec<_> = self.lines.iter().filter(|line| line.verdict == Verdict::Missed).collect();
        assert!(broken.is_empty(), "{} of {} numbers miss: {broken:#?}", broken.len(), self.lines.len());
    }

    fn add(&mut self, what: impl Into<String>, required: String, came_out: String, holds: bool) {
        let verdict = if holds { Verdict::Holds } else { Verdict::Missed };
        self.line(what.into(), required, came_out, verdict);
    }

    fn line(&mut self, what: String, required: String, came_out: String, verdict: Verdict) {
        self.lines.push(Line { what, required, came_out, verdict });
    }

    fn table(&self) -> String {
        let mut text = format!("{:<76} {:>14} {:>10}\n", "what", "required", "came out");
        for Line { what, required, came_out, verdict } in &self.lines {
            let mark = match verdict {
                Verdict::Holds => "",
                Verdict::Missed => "  MISSED",
            };
            writeln!(text, "{what:<76} {required:>14} {came_out:>10}{mark}").expect("a String takes all");
        }
        text
    }
}
