//! `/targets/{name}/rows/{key}`: what a target holds for a key. The only answer that a worker gives and not the ledger; it
//! goes through [`RowLookup`], so that HTTP never touches a worker.

use std::time::Duration;

use axum::{Json, extract::State};
use crossbeam_channel::{RecvTimeoutError, Sender};

use crate::{
    engine::{RowAnswer, RowState},
    http::{
        App,
        answer::{RejectInfo, RowAnswerInfo},
        problem::{Names, Problem},
    },
    ledger::show,
    plan::TableRef,
};

/// How long a worker may take; it answers between two steps, so this is long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the workers for a row. The pipeline implements it by sending `Command::Row` to every worker.
pub trait RowLookup: Send + Sync {
    /// Sends the question on its way; must not block. The owner of the key answers on `reply`.
    ///
    /// # Errors
    /// A sentence which says why nobody can be asked.
    fn look_up(&self, table: TableRef, key: Vec<u8>, reply: Sender<RowAnswer>) -> Result<(), String>;
}

impl<F> RowLookup for F
where
    F: Fn(TableRef, Vec<u8>, Sender<RowAnswer>) -> Result<(), String> + Send + Sync,
{
    fn look_up(&self, table: TableRef, key: Vec<u8>, reply: Sender<RowAnswer>) -> Result<(), String> {
        self(table, key, reply)
    }
}

/// The row of a target: what should exist for this key.
#[utoipa::path(get, path = "/api/v1/targets/{name}/rows/{key}", tag = "tables",
    params(("name" = String, Path, description = "The target."),
        ("key" = String, Path, description = "The value of a key of one column; a JSON array for several columns.")),
    responses(
        (status = 200, body = RowAnswerInfo, description = "What the target holds; a key without a row has the state `absent`."),
        (status = 400, body = Problem, description = "That is no key of the target."),
        (status = 404, body = Problem, description = "There is no such target."),
        (status = 503, body = Problem, description = "Hydrating, or no worker answered in time.")))]
pub async fn row(State(app): State<App>, Names((name, key)): Names<(String, String)>) -> Result<Json<RowAnswerInfo>, Problem> {
    let found = app.plan.targets.iter().position(|t| t.name == name);
    let id = found.ok_or_else(|| Problem::unknown("target", &name, app.plan.targets.iter().map(|t| t.name.as_str())))?;
    let table = TableRef::Target(id);
    let hint = "give the value of a one-column key as it is shown, that of several columns as a JSON array";
    let packed = show::parse_table_key(&app.plan, table, &key).map_err(|e| Problem::parameter(e, hint))?;
    if !app.ledger.read().hydrated() {
        return Err(Problem::unavailable("hydrating", "rows are not shown while hydrating", "ask again when /readyz answers 200"));
    }
    let (reply, answer) = crossbeam_channel::bounded(1);
    let stopped = |why: String| Problem::unavailable("no_worker", why, "see /readyz and the log; workers may be stopping");
    app.rows.look_up(table, packed, reply).map_err(stopped)?;
    let answered = tokio::task::spawn_blocking(move || answer.recv_timeout(PATIENCE)).await;
    let RowAnswer { as_of, state } = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(RecvTimeoutError::Timeout)) => {
            let why = format!("the worker that holds the row did not answer within {} s", PATIENCE.as_secs());
            return Err(Problem::unavailable("timeout", why, "ask again; if it persists, see tieout_queue_rows and the log"));
        }
        Ok(Err(RecvTimeoutError::Disconnected)) | Err(_) => {
            return Err(stopped("no worker holds the row: the workers are stopping".into()));
        }
    };
    let reject = match &state {
        RowState::Rejected(reject) => Some(RejectInfo::of(&app.plan, reject, 1)),
        _ => None,
    };
    let name_of = match &state {
        RowState::Absent | RowState::Written => "absent",
        RowState::Row(_) => "row",
        RowState::Duplicate(_) => "duplicate",
        RowState::Rejected(_) => "rejected",
    };
    let row = show::row_state_json(&app.plan.targets[id].columns, &state);
    Ok(Json(RowAnswerInfo { as_of, target: name, key, state: name_of, row, reject }))
}
