//! Server-sent events: a snapshot, then what each tick changed, for as long as the subscriber reads.
//!
//! ```text
//!  closed tick ─▶ look at the ledger ─▶ not known: snapshot …        ─▶ progress
//!                                    ─▶ known up to tick t: changes after t ─▶ progress
//!                                    ─▶ t is too long ago: cut, end
//! ```
//!
//! A subscription pulls: when a tick is closed it looks what it lacks. Whoever reads slowly falls behind on its own, and is
//! cut when the ledger no longer knows what it lacks. Nothing here ever makes the ledger wait.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::Stream;
use utoipa::{IntoParams, ToSchema};

use crate::{
    engine::Tick,
    http::{
        App,
        answer::{AsOf, ComparisonInfo, ComparisonsAnswer, DifferenceInfo, Notices, Shower, now_ms},
        differences::{DifferencesQuery, Filter},
        problem::{Names, Params, Problem},
        status::notices,
    },
    ledger::{Change, Difference, Ledger, TickChanges},
    plan::{ComparisonId, Plan},
    telemetry,
};

/// Differences in one event; a larger snapshot comes in parts.
const PART: usize = 500;
/// Events that wait for the subscriber's connection.
const WAITING: usize = 16;
/// How often progress is told when nothing else happens.
const PROGRESS: Duration = Duration::from_millis(250);
/// How long a subscriber may take for one event.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the overview is told at most.
const OVERVIEW: Duration = Duration::from_millis(100);
/// How often it comes at least.
const OVERVIEW_STILL: Duration = Duration::from_secs(2);

/// Which differences to subscribe to; several kinds or states are separated by commas.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SubscribeQuery {
    /// `missing`, `unexpected`, `mismatched`, `duplicate`.
    pub kind: Option<String>,
    /// `undetermined`, `in_flight`, `confirmed`.
    pub state: Option<String>,
    /// Exactly this key: the value of its one column, or a JSON array of several.
    pub key: Option<String>,
    /// Keys whose text begins with this.
    pub key_prefix: Option<String>,
    /// Only mismatches in this field.
    pub field: Option<String>,
}

impl From<SubscribeQuery> for DifferencesQuery {
    fn from(query: SubscribeQuery) -> DifferencesQuery {
        let SubscribeQuery { kind, state, key, key_prefix, field } = query;
        DifferencesQuery { kind, state, key, key_prefix, field, ..DifferencesQuery::default() }
    }
}

/// Event `snapshot`: what stands as of a tick. The last part has the id to resume from.
#[derive(Serialize, ToSchema)]
pub struct SnapshotEvent {
    pub as_of: Tick,
    pub part: usize,
    pub last: bool,
    pub differences: Vec<DifferenceInfo>,
}

/// Event `change`: what one tick changed. The last part has the id to resume from.
#[derive(Serialize, ToSchema)]
pub struct ChangeEvent {
    pub as_of: Tick,
    pub part: usize,
    pub last: bool,
    pub changes: Vec<ChangeInfo>,
}

/// A key's change: `after` is null when the difference is gone, or no longer what was asked for.
#[derive(Serialize, ToSchema)]
pub struct ChangeInfo {
    pub key: String,
    pub before: Option<DifferenceInfo>,
    pub after: Option<DifferenceInfo>,
}

/// Event `progress`: everything up to `as_of` has been told.
#[derive(Serialize, ToSchema)]
pub struct ProgressEvent {
    #[serde(flatten)]
    pub as_of: AsOf,
    pub comparison: ComparisonInfo,
}

/// Event `progress` of `/api/v1/subscribe`: all comparisons.
#[derive(Serialize, ToSchema)]
pub struct OverviewEvent {
    #[serde(flatten)]
    pub as_of: AsOf,
    pub comparisons: Vec<ComparisonInfo>,
    /// Rejects that stand.
    pub rejects: i64,
    #[serde(flatten)]
    pub notices: Notices,
}

/// Event `cut`: the last one, where the subscriber read too slowly.
#[derive(Serialize, ToSchema)]
pub struct CutEvent {
    /// `too_slow`.
    pub code: &'static str,
    pub message: &'static str,
    pub remedy: &'static str,
}

/// Why a send did not happen.
enum Gone {
    /// The subscriber left, or the process stops.
    Left,
    Slow,
}

/// The event with which a stream ends, if there is one to say. It has a place of its own, because a subscriber that is cut has
/// filled all others.
type Farewell = Arc<Mutex<Option<Event>>>;

/// What waits for the subscriber's connection, and then the farewell.
struct Waiting {
    events: mpsc::Receiver<Event>,
    farewell: Farewell,
}

impl Stream for Waiting {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Self::Item>> {
        let event = match self.events.poll_recv(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => self.farewell.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Poll::Ready(event) => event,
        };
        Poll::Ready(event.map(Ok))
    }
}

struct Subscriber {
    to: mpsc::Sender<Event>,
    farewell: Farewell,
    closed: watch::Receiver<Tick>,
}

impl Subscriber {
    async fn send(&self, name: &str, id: Option<Tick>, data: &impl Serialize) -> Result<(), Gone> {
        let mut event = Event::default().event(name);
        if let Some(id) = id {
            event = event.id(id.to_string());
        }
        let event = event.json_data(data).expect("an event is JSON");
        match tokio::time::timeout(PATIENCE, self.to.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Left),
            Err(_) => Err(Gone::Slow),
        }
    }

    /// Waits for the next closed tick.
    async fn tick(&mut self) -> Result<(), Gone> {
        tokio::select! {
            moved = self.closed.changed() => moved.map_err(|_| Gone::Left),
            () = self.to.closed() => Err(Gone::Left),
        }
    }

    async fn snapshot(&self, shower: &Shower<'_>, as_of: Tick, differences: &[Arc<Difference>]) -> Result<(), Gone> {
        let parts = differences.len().div_ceil(PART).max(1);
        for part in 0..parts {
            let of_part = differences.iter().skip(part * PART).take(PART);
            let differences = of_part.map(|d| shower.difference(d)).collect();
            let last = part + 1 == parts;
            let event = SnapshotEvent { as_of, part, last, differences };
            self.send("snapshot", last.then_some(as_of), &event).await?;
        }
        Ok(())
    }

    async fn changes(&self, shower: &Shower<'_>, filter: &Filter, changes: &TickChanges) -> Result<(), Gone> {
        let shown = |difference: &Option<Arc<Difference>>| difference.as_ref().filter(|d| filter.matches(shower, d)).cloned();
        let asked: Vec<Change> = changes
            .of(shower.id)
            .iter()
            .map(|Change { before, after }| Change { before: shown(before), after: shown(after) })
            .filter(|change| change.before.is_some() || change.after.is_some())
            .collect();
        let parts = asked.len().div_ceil(PART);
        for (part, of_part) in asked.chunks(PART).enumerate() {
            let show = |d: &Option<Arc<Difference>>| d.as_ref().map(|d| shower.difference(d));
            let info = |change: &Change| ChangeInfo { key: shower.key(change.key()), before: show(&change.before), after: show(&change.after) };
            let last = part + 1 == parts;
            let event = ChangeEvent { as_of: changes.tick, part, last, changes: of_part.iter().map(info).collect() };
            self.send("change", last.then_some(changes.tick), &event).await?;
        }
        Ok(())
    }

    /// Ends the stream behind what waits, with the reason.
    fn cut(self) {
        let data = CutEvent {
            code: "too_slow",
            message: "the subscriber read more slowly than the differences changed",
            remedy: "connect again: without Last-Event-ID, or with one too old, it begins with a fresh snapshot",
        };
        let event = Event::default().event("cut").json_data(data).expect("an event is JSON");
        *self.farewell.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
    }
}

/// What a look at the ledger found for a subscriber.
enum Lacks {
    /// Nothing is shown yet.
    Hydrating,
    Snapshot(Vec<Arc<Difference>>),
    Changes(Vec<Arc<TickChanges>>),
    TooOld,
}

/// What a subscriber who knows `told` lacks; `following`: it was told by this subscription, so a gap is a cut.
fn lacks(ledger: &Ledger, id: ComparisonId, told: Option<Tick>, following: bool) -> Lacks {
    if !ledger.hydrated() {
        return Lacks::Hydrating;
    }
    match told.and_then(|told| ledger.changes_after(told)) {
        Some(changes) => Lacks::Changes(changes.filter(|c| !c.of(id).is_empty()).cloned().collect()),
        None if following => Lacks::TooOld,
        None => Lacks::Snapshot(ledger.differences(id, None).cloned().collect()),
    }
}

async fn follow(app: &App, subscriber: &mut Subscriber, id: ComparisonId, filter: &Filter, resume: Option<Tick>) -> Result<(), Gone> {
    let plan: &Plan = &app.plan;
    let (mut told, mut following) = (resume, false);
    let mut progress_due = Instant::now();
    loop {
        subscriber.closed.mark_unchanged();
        let (as_of, info, shower, lacks) = {
            let ledger = app.ledger.read();
            (AsOf::of(&ledger), ComparisonInfo::of(&ledger, id, now_ms()), Shower { plan, id }, lacks(&ledger, id, told, following))
        };
        let tick = as_of.as_of;
        let mut news = false;
        match lacks {
            Lacks::Hydrating => {}
            Lacks::Snapshot(differences) => {
                let asked: Vec<_> = differences.into_iter().filter(|d| filter.matches(&shower, d)).collect();
                subscriber.snapshot(&shower, tick, &asked).await?;
                (told, following, news) = (Some(tick), true, true);
            }
            Lacks::Changes(ticks) => {
                for changes in &ticks {
                    subscriber.changes(&shower, filter, changes).await?;
                }
                news = !ticks.is_empty() || !following;
                (told, following) = (Some(tick), true);
            }
            Lacks::TooOld => return Err(Gone::Slow),
        }
        if news || Instant::now() >= progress_due {
            let id = told.filter(|_| following);
            subscriber.send("progress", id, &ProgressEvent { as_of, comparison: info }).await?;
            progress_due = Instant::now() + PROGRESS;
        }
        subscriber.tick().await?;
    }
}

/// Ends the count of a subscriber whichever way the subscription ends.
struct Counted {
    name: String,
    cut: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        telemetry::SubscriberLeft { comparison: &self.name, cut: self.cut }.emit();
    }
}

/// Both ends of a new subscription, counted.
fn open(app: &App, name: &str) -> (Subscriber, Counted, Response) {
    let (to, events) = mpsc::channel(WAITING);
    let farewell = Farewell::default();
    telemetry::SubscriberCame { comparison: name }.emit();
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    let response = Sse::new(Waiting { events, farewell: farewell.clone() }).keep_alive(keep_alive).into_response();
    (Subscriber { to, farewell, closed: app.ledger.closed() }, Counted { name: name.to_string(), cut: false }, response)
}

/// Subscribes to the differences of a comparison: a snapshot, then the changes of each tick, as server-sent events.
///
/// Events are `snapshot` (in parts), `change`, `progress` and, before the stream ends because it was read too slowly, `cut`.
/// Events have the tick as their id; with `Last-Event-ID` the stream resumes behind it, if that is not too long ago, or
/// begins with a fresh snapshot. The filters of `/differences` hold here, too.
#[utoipa::path(get, path = "/api/v1/comparisons/{name}/subscribe", tag = "differences",
    params(("name" = String, Path, description = "The comparison."), SubscribeQuery,
        ("last-event-id" = Option<u64>, Header, description = "Resume behind this tick.")),
    responses(
        (status = 200, content_type = "text/event-stream", body = ChangeEvent,
            description = "Events without end; the data of `change` is shown here, that of the others is among the schemas."),
        (status = 400, body = Problem, description = "A parameter does not hold."),
        (status = 404, body = Problem, description = "There is no such comparison.")))]
pub async fn subscribe(
    State(app): State<App>,
    Names(name): Names<String>,
    Params(query): Params<SubscribeQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let id = app.comparison(&name)?;
    let filter = Filter::of(&query.into(), &app.plan.comparisons[id])?;
    let resume = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let (mut subscriber, counted, response) = open(&app, &name);
    tokio::spawn(async move {
        let mut counted = counted;
        if let Err(Gone::Slow) = follow(&app, &mut subscriber, id, &filter, resume).await {
            counted.cut = true;
            subscriber.cut();
        }
    });
    Ok(response)
}

/// Subscribes to the states and counts of all comparisons: event `progress`, and what somebody should know: at each tick, at most ten
/// times a second, and every two seconds at least.
#[utoipa::path(get, path = "/api/v1/subscribe", tag = "comparisons",
    responses((status = 200, content_type = "text/event-stream", body = OverviewEvent, description = "Events without end.")))]
pub async fn overview(State(app): State<App>) -> Response {
    let (mut subscriber, counted, response) = open(&app, "*");
    tokio::spawn(async move {
        let _counted = counted;
        loop {
            subscriber.closed.mark_unchanged();
            let event = OverviewEvent::of(&app, &app.ledger.read());
            if subscriber.send("progress", Some(event.as_of.as_of), &event).await.is_err() {
                return;
            }
            tokio::time::sleep(OVERVIEW).await;
            // What is wrong may be that no tick is closed.
            if matches!(tokio::time::timeout(OVERVIEW_STILL, subscriber.tick()).await, Ok(Err(_))) {
                return;
            }
        }
    });
    response
}

impl OverviewEvent {
    fn of(app: &App, ledger: &Ledger) -> OverviewEvent {
        let answer = ComparisonsAnswer::of(ledger);
        OverviewEvent {
            as_of: answer.as_of,
            comparisons: answer.comparisons,
            rejects: ledger.rejects().map(|(_, count)| count).sum(),
            notices: notices(app, ledger),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::fixture::Bench, watchdog::Watched};

    /// Whoever is cut has not read what waits; the reason comes behind it all the same.
    #[tokio::test]
    async fn who_reads_late_still_gets_the_reason_of_the_cut() {
        let mut bench = Bench::new();
        bench.close(1);
        let rows = |_table, _key, _reply| Err("nobody is asked".to_string());
        let app = App::new(bench.ledger.clone(), rows, Watched::default(), crate::processes::Processes::of(&bench.ledger.read().plan().clone()));
        let (subscriber, _counted, response) = open(&app, "orders_in_erp");
        for tick in 0..WAITING as u64 {
            assert!(subscriber.send("change", Some(tick), &tick).await.is_ok());
        }
        assert!(tokio::time::timeout(Duration::from_millis(20), subscriber.send("change", None, &0)).await.is_err(), "all places are taken");
        subscriber.cut();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("the stream ends");
        let body = String::from_utf8(body.to_vec()).expect("events are text");
        let events: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!((events.len(), events.last()), (WAITING + 1, Some(&"cut")), "{body}");
        assert!(body.contains("too_slow"), "{body}");
    }
}
