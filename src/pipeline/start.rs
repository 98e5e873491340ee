//! What a start goes on from: which checkpoint, which ticks are made again, and where each connection goes on writing.
//!
//! A checkpoint is of use when it is sound, and when what was written after it can be made again: the chain of progress
//! records has every tick since, and all of them follow from this plan. Of a checkpoint of another plan it is used what still
//! holds (see `checkpoint::changes`). Whatever contradicts itself stops the start, by a name.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::Failure;
use crate::{
    checkpoint::{
        Changes, Folder, Manifest, folder,
        manifest::{self, fingerprint},
        restore::Restore,
    },
    engine::{Again, Incomplete, Sealed, Tick},
    log::At,
    plan::{ConnectionId, Plan},
    sink::{
        Keep,
        exact::{self, Exact, From},
        file,
    },
};

/// See the module.
pub struct Start {
    pub restore: Option<Restore>,
    /// Where each source is read from.
    pub at: Vec<At>,
    /// The newest tick that was ever made.
    pub last: Tick,
    /// Ticks to be made again.
    pub again: Vec<Sealed>,
    /// What is read again before that, for sides that are not as they were.
    pub rebuild: Vec<Again>,
    /// The transactions that stand incomplete once they are made again.
    pub incomplete: Vec<Incomplete>,
    pub exact: Vec<(Exact, From)>,
}

/// Finds out what to go on from. `path`: the folder of checkpoints, if there is one that may be used; `exactly`: outputs to
/// Kafka are written exactly once.
///
/// # Errors
/// The named stops of checkpoints and progress records; brokers that can't be reached.
pub fn find(plan: &Arc<Plan>, path: Option<&Path>, fresh: bool, exactly: bool) -> Result<Start, Failure> {
    let exact = if exactly { exact::connections(plan) } else { Vec::new() };
    let known = known(path, fresh)?;
    let known = |connection: &ConnectionId| known.get(&plan.connections[*connection].name).copied().unwrap_or(0);
    let exact = exact.into_iter().map(|connection| Exact::open(plan, connection, known(&connection), fresh)).collect::<Result<Vec<_>, _>>()?;
    choose(plan, path, fresh, exact)
}

fn list(path: Option<&Path>, fresh: bool) -> Result<Vec<folder::Found>, Failure> {
    match path.map_or(Ok(Vec::new()), folder::list) {
        Err(_) if fresh => Ok(Vec::new()),
        found => Ok(found?),
    }
}

/// By connection: up to which tick the newest checkpoint knows its progress records to be committed.
fn known(path: Option<&Path>, fresh: bool) -> Result<BTreeMap<String, Tick>, Failure> {
    let newest = list(path, fresh)?.into_iter().find_map(|found| found.manifest.ok());
    Ok(newest.map(|manifest| manifest.progress).unwrap_or_default())
}

/// The same, once it is known how far each connection was written.
fn choose(plan: &Arc<Plan>, path: Option<&Path>, fresh: bool, exact: Vec<Exact>) -> Result<Start, Failure> {
    let found = list(path, fresh)?;
    if let Some(error) = exact::twice(plan, &exact) {
        return Err(error.into());
    }
    let of = fingerprint(plan);
    let ever = exact.iter().filter_map(|exact| exact.chain.as_ref()).map(|chain| chain.last).max().unwrap_or(0);
    let newest = found.first().map_or(0, |newest| newest.tick);
    let anew = |exact: Vec<Exact>| {
        let last = ever.max(newest);
        let exact = exact.into_iter().map(|exact| (exact, From { begins: true, ..From::default() })).collect();
        Ok(Start { restore: None, at: vec![At::default(); plan.sources.len()], last, again: Vec::new(), rebuild: Vec::new(), incomplete: Vec::new(), exact })
    };
    if fresh {
        return anew(exact);
    }
    // The newest sound one that fits; one of which nothing holds ends the search.
    let foreign = |after: Tick| exact.iter().filter_map(|exact| exact.chain.as_ref()).any(|chain| !chain.follows_from(&of, after));
    let (mut chosen, mut unfit) = (None::<(Manifest, Changes)>, None);
    for candidate in &found {
        let manifest = match candidate.clone().sound(path.expect("it was listed")) {
            Ok(manifest) => manifest,
            Err(error) if ["CHECKPOINT_NEWER", "CHECKPOINT_UNREADABLE"].contains(&error.code) => return Err(error.into()),
            Err(error) => {
                tracing::error!("{error}");
                continue;
            }
        };
        let changes = match Changes::between(&manifest, plan) {
            Ok(changes) => changes,
            Err(why) => {
                tracing::warn!("the checkpoint of tick {} is not used, everything is read from the beginning: {why}", manifest.tick);
                return anew(exact);
            }
        };
        if foreign(manifest.tick) {
            if !changes.is_none() {
                let remedy = "before a change, stop in order (ctrl-c, or a TERM signal), so that a checkpoint has all that was written";
                let what = changes.what.join("; ");
                tracing::warn!("{what}; and what was written after the checkpoint of tick {} follows from what was before; {remedy}", manifest.tick);
            }
            break;
        }
        if let Some(error) = exact.iter().find_map(|exact| contradiction(plan, exact, &manifest)) {
            return Err(error.into());
        }
        match exact.iter().find(|exact| exact.chain.as_ref().is_some_and(|chain| !chain.goes_on_from(manifest.tick))) {
            None => {
                if let Some(error) = exact.iter().find_map(|exact| removed(plan, exact, &manifest)) {
                    return Err(error.into());
                }
                chosen = Some((manifest, changes));
                break;
            }
            Some(exact) => _ = unfit.get_or_insert((exact.connection, manifest.tick)),
        }
    }
    if chosen.is_none() && foreign(0) {
        tracing::warn!("what is written follows from other tables, mappings or logs; everything is read from the beginning, and written again");
        return anew(exact);
    }
    let from = chosen.as_ref().map_or(0, |(manifest, _)| manifest.tick);
    if let Some(exact) = exact.iter().find(|exact| exact.chain.as_ref().is_some_and(|chain| !chain.goes_on_from(from))) {
        let base = exact.chain.as_ref().map_or(0, |chain| chain.base);
        let why = match unfit {
            Some((_, tick)) => format!("its records begin after tick {base}, and the newest sound checkpoint is of tick {tick}"),
            None => format!("its records begin after tick {base}, and there is no checkpoint"),
        };
        return Err(exact::gap(&plan.name, &plan.connections[exact.connection].name, &why).into());
    }
    if chosen.is_none() && !found.is_empty() {
        tracing::warn!("no checkpoint can be used, and everything is read from the beginning");
    }
    let chain = exact.iter().filter_map(|exact| exact.chain.as_ref()).max_by_key(|chain| chain.last);
    let again = chain.map(|chain| chain.after(from)).unwrap_or_default();
    let restore = chosen.map(|(manifest, changes)| Restore::read(plan, path.expect("it has the checkpoint"), manifest, changes)).transpose()?;
    let mut at = match (&restore, chain) {
        (Some(restore), _) => restore.at(),
        (None, Some(chain)) if !again.is_empty() => {
            chain.starts(plan.sources.len()).into_iter().map(|(positions, identity)| At { positions, identity, ..At::default() }).collect()
        }
        _ => vec![At::default(); plan.sources.len()],
    };
    if let Some(sealed) = again.last() {
        at.iter_mut().zip(&sealed.sources).for_each(|(at, of)| at.settled.clone_from(&of.positions));
    }
    let exact = exact.into_iter().map(|exact| {
        let from = match &exact.chain {
            Some(chain) => From { written: chain.last, partly: chain.partly, begins: false },
            None => From { written: from, partly: None, begins: true },
        };
        (exact, from)
    });
    let incomplete = match (again.last(), &restore) {
        (Some(sealed), _) => sealed.incomplete.clone(),
        (None, Some(restore)) => restore.manifest.ledger.incomplete.clone(),
        (None, None) => Vec::new(),
    };
    let rebuild = restore.as_ref().map(Restore::again).unwrap_or_default();
    // Ticks that are older than a checkpoint, though it is of no use, would be lost again.
    let last = if restore.is_none() && again.is_empty() { from.max(newest) } else { from };
    Ok(Start { restore, at, last, again, rebuild, incomplete, exact: exact.collect() })
}

/// What stays of the files that outputs are written to: what is as of the checkpoint that the run goes on from; without one, what
/// there was before this deployment.
///
/// # Errors
/// `OUTPUT_GONE`: the checkpoint knows of a file that is not there, or of more of it. One that was emptied is meant to be.
pub fn keep(plan: &Plan, folder: Option<&Folder>, restore: Option<&Restore>) -> Result<impl Fn(usize) -> Keep + use<>, Failure> {
    let names = manifest::outputs(plan);
    let length = |path: &PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
    let known = |name: &String| restore.and_then(|restore| restore.manifest.outputs.as_ref()).is_some_and(|outputs| outputs.contains(name));
    for (output, _) in plan.outputs.iter().zip(&names).filter(|(_, name)| known(name)) {
        if let Some(path) = plan.file_of(output).filter(|path| !path.exists()) {
            return Err(file::gone(&path).into());
        }
        let (Some(path), Some(restore)) = (plan.file_of(output), restore) else { continue };
        let (is, was) = (length(&path), restore.manifest.lengths.get(&path.display().to_string()).copied().unwrap_or(0));
        if is < was && (is == 0 || file::is_after(&path, restore.manifest.tick)) {
            tracing::warn!("{} was emptied; it has what changed since", path.display());
        } else if is < was {
            return Err(file::shorter(&path, is, was).into());
        }
    }
    let paths: Vec<Option<PathBuf>> = plan.outputs.iter().map(|output| plan.file_of(output)).collect();
    let now = paths.iter().flatten().map(|path| (path.display().to_string(), length(path))).collect();
    let restored = restore.map(|restore| restore.manifest.tick);
    let begun = match folder.map(|folder| folder.begin(now)).transpose() {
        // What goes on from a checkpoint does not need it.
        Err(error) if restored.is_some() => {
            tracing::error!("{error}");
            None
        }
        begun => begun?,
    };
    Ok(move |output: usize| match (restored, &begun, &paths[output]) {
        (Some(tick), ..) => Keep::UpTo(tick),
        (None, Some(begun), Some(path)) => begun.get(&path.display().to_string()).map_or(Keep::All, |bytes| Keep::Bytes(*bytes)),
        _ => Keep::All,
    })
}

/// A checkpoint knows of progress records that are not there, or of another cluster.
fn contradiction(plan: &Plan, exact: &Exact, manifest: &Manifest) -> Option<crate::sink::SinkError> {
    let name = &plan.connections[exact.connection].name;
    if let Some(was) = manifest.clusters.get(name).filter(|was| Some(*was) != exact.cluster.as_ref()) {
        return Some(exact::moved(plan, exact, was));
    }
    let known = *manifest.progress.get(name)?;
    let newest = match &exact.chain {
        // One that began anew and was killed before it wrote anything knows of nothing; the checkpoint is of the time before.
        Some(chain) if chain.last >= known || chain.last == 0 => return None,
        Some(chain) => format!("the newest is {}", chain.last),
        None => "there are none; the topic was removed, the deployment had another `name`, or the brokers are those of another cluster".into(),
    };
    let why = format!("the checkpoint of tick {} knows of tick {known}, and {newest}", manifest.tick);
    Some(exact::lost(&plan.name, &plan.connections[exact.connection].name, &why))
}

/// What is gone on from was written to topics that are not there any more.
fn removed(plan: &Plan, exact: &Exact, manifest: &Manifest) -> Option<crate::sink::SinkError> {
    let known = manifest.topics.get(&plan.connections[exact.connection].name)?;
    let outputs = plan.outputs.iter().zip(manifest::outputs(plan)).filter(|(output, _)| output.connection == exact.connection);
    let is_new = |name: &String| manifest.outputs.as_ref().is_some_and(|outputs| !outputs.contains(name));
    let topics = outputs.filter(|(_, name)| !is_new(name)).map(|(output, _)| &output.to);
    let mut others = topics.filter(|topic| known.get(*topic).zip(exact.topics.get(*topic)).is_some_and(|(was, is)| was != is));
    others.next().map(|topic| exact::gone(&plan.connections[exact.connection].name, topic))
}

#[cfg(test)]
mod tests;
