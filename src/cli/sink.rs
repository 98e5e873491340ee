//! `tieout sink`: what outputs left on the brokers.

use std::io::Write;

use clap::{Args, Subcommand};

use super::{Fail, Files, count, table::table};
use crate::{
    checkpoint::{Folder, folder_of},
    config::Need,
    pipeline::Failure,
    plan::Plan,
    row::source_time_text,
    sink::{
        SinkError, exact,
        kafka::open::{Held, Known, Outputs},
    },
};

/// Look at what outputs left open on the brokers, and end it
#[derive(Debug, Args)]
#[command(after_help = "\
A tieout that dies in the middle of a transaction leaves it open. Readers of what is committed wait
for its end: until the next start, which ends it, or for `transaction.timeout.ms` (a minute, unless
the connection says otherwise). Where no start will follow soon, `abort` ends it. Nothing is lost:
the next start writes its records again.

Examples:
  tieout sink transactions list
  tieout sink transactions abort           refused while a tieout runs that writes there
  tieout sink transactions abort --force   even so; one that lives writes the transaction again")]
pub struct Sink {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Transactions of outputs to Kafka
    #[command(subcommand)]
    Transactions(Transactions),
}

#[derive(Debug, Subcommand)]
enum Transactions {
    /// What the brokers know of the deployment's transactions, and the partitions that an open one holds back
    List(List),
    /// Ends the transaction that a dead tieout left open, without its records
    Abort(Abort),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, Args)]
struct Abort {
    #[command(flatten)]
    files: Files,
    /// Also when a tieout seems to be alive
    #[arg(long)]
    force: bool,
}

pub fn sink(args: &Sink, out: &mut impl Write) -> Result<(), Fail> {
    let What::Transactions(what) = &args.what;
    let files = match what {
        Transactions::List(list) => &list.files,
        Transactions::Abort(abort) => &abort.files,
    };
    let plan = files.load(Need::Connections)?;
    let connections = exact::connections(&plan);
    if connections.is_empty() {
        return Err(Fail::Configuration("no output goes to Kafka; there are no transactions".into()));
    }
    let all = connections.into_iter().map(|connection| Outputs::of(&plan, connection)).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    match what {
        Transactions::List(_) => list(&all, out),
        Transactions::Abort(args) => abort(&plan, &all, args.force, out),
    }
}

fn failed(error: SinkError) -> Fail {
    Failure::from(error).into()
}

fn list(all: &[Outputs], out: &mut impl Write) -> Result<(), Fail> {
    for outputs in all {
        writeln!(out, "connection `{}`, transactional id `{}`", outputs.connection(), outputs.id())?;
        let known = outputs.known();
        match &known {
            Ok(Some(known)) => writeln!(out, "{}", described(known))?,
            Ok(None) => writeln!(out, "the brokers know no transactions of this id")?,
            Err(error) => writeln!(out, "what the coordinator knows can't be read: {error}")?,
        }
        let held = outputs.held().map_err(failed)?;
        if held.is_empty() {
            writeln!(out, "no partition is held back")?;
        } else {
            write!(out, "{}", shown(&held, known.as_ref().ok().and_then(Option::as_ref), &outputs.progress()))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn described(known: &Known) -> String {
    let mut text = format!("{}: producer {} of epoch {}, since {}", known.state, known.producer, known.epoch, source_time_text(known.updated_ms));
    if known.state.open() {
        let began = known.began_ms.map(|ms| format!(", began {}", source_time_text(ms))).unwrap_or_default();
        text += &format!("{began}, aborted by the brokers {} s after that", known.timeout_ms / 1000);
    }
    text
}

fn shown(held: &[Held], known: Option<&Known>, progress: &str) -> String {
    let whose = |of: &Held| match known {
        Some(known) if known.state.open() && known.partitions.iter().any(|(topic, numbers)| *topic == of.topic && numbers.contains(&of.partition)) => "this id",
        Some(known) if !known.state.open() && (of.tick.is_some() || of.topic == progress) => "this id; it hangs, and the next start ends it",
        Some(_) => "another",
        None => "?",
    };
    let rows: Vec<Vec<String>> = held
        .iter()
        .map(|of| {
            vec![
                of.topic.clone(),
                of.partition.to_string(),
                of.from.to_string(),
                of.end.to_string(),
                of.since_ms.map_or_else(|| "?".into(), source_time_text),
                of.tick.map_or_else(|| "-".into(), |tick| tick.to_string()),
                whose(of).into(),
            ]
        })
        .collect();
    table(&["held back", "partition", "from", "end", "since", "tick", "transaction of"], &rows)
}

fn abort(plan: &Plan, all: &[Outputs], force: bool, out: &mut impl Write) -> Result<(), Fail> {
    // Held until the end, so that none starts meanwhile.
    let _mine = if force || !folder_of(&plan.data_dir).is_dir() { None } else { Some(Folder::open(&plan.data_dir).map_err(Failure::from)?) };
    for outputs in all {
        let held = outputs.held().map_err(failed)?;
        if held.is_empty() {
            writeln!(out, "connection `{}`: no partition is held back, there is nothing to end", outputs.connection())?;
            continue;
        }
        if !force {
            outputs.unused().map_err(failed)?;
        }
        outputs.abort().map_err(failed)?;
        writeln!(out, "connection `{}`: ended; {} free again", outputs.connection(), count(held.len(), "partition"))?;
    }
    Ok(())
}
