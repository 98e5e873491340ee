//! Log lines of processes that log to one place: each says whose it is.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Writes lines as `lines` does, with the number of a process.
pub struct Numbered<F> {
    pub lines: F,
    pub process: Option<u16>,
    pub json: bool,
}

impl<S, N, F> FormatEvent<S, N> for Numbered<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match self.process {
            None => self.lines.format_event(context, to, event),
            Some(process) if self.json => {
                let mut line = String::new();
                self.lines.format_event(context, Writer::new(&mut line), event)?;
                write!(to, "{{\"at_process\":{process},{}", line.strip_prefix('{').unwrap_or(&line))
            }
            Some(process) => {
                write!(to, "{process} ")?;
                self.lines.format_event(context, to, event)
            }
        }
    }
}
