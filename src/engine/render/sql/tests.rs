//! Every closed tick of every kind of query equals a from-scratch evaluation, for random changes, tick cuts and workers.
//!
//! The oracle is plain loops over plain structs and shares nothing with the engine but the values' types. It can't catch
//! what both sides misunderstand in SQL; its expectations are written from the standard.

mod oracle;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock, Mutex},
};

use differential_dataflow::input::InputSession;
use proptest::prelude::*;
use timely::dataflow::ProbeHandle;

use self::oracle::{Database, QUERIES, Row, T, U, X};
use super::*;
use crate::{
    engine::sql::{CatalogTable, plan},
    row::{self, Column, Type, Value},
};

const TABLES: [TableRef; 3] = [TableRef::Source(0), TableRef::Source(1), TableRef::Target(0)];

fn catalog() -> Vec<CatalogTable> {
    let tables: [(&str, &[(&str, Type)]); 3] = [
        ("t", &[("id", Type::Int(64)), ("k", Type::Int(32)), ("v", Type::Decimal(10, 2)), ("s", Type::Varchar(0)), ("d", Type::Double)]),
        ("u", &[("id", Type::Int(64)), ("k", Type::Int(64)), ("w", Type::Int(64)), ("s", Type::Varchar(10))]),
        ("x", &[("k", Type::Int(32)), ("n", Type::Varchar(0)), ("g", Type::Uuid), ("b", Type::Bool)]),
    ];
    let columns = |list: &[(&str, Type)]| list.iter().map(|(name, ty)| Column { name: name.to_string(), ty: *ty }).collect();
    tables.iter().zip(TABLES).map(|((name, list), table)| CatalogTable { name: name.to_string(), table, columns: columns(list) }).collect()
}

/// A change: a row of a table comes or goes, so many times.
type Change = (usize, Vec<u8>, isize);

#[derive(Clone, Debug)]
enum Edit {
    SetT(T),
    DropT(i64),
    SetU(U),
    DropU(i64),
    /// `x` is a bag without key.
    AddX(X),
    /// Takes out the n-th row of `x`, if there are so many.
    TakeX(usize),
}

fn number(n: Option<i64>) -> Value {
    n.map_or(Value::Null, Value::Int)
}

fn text(t: Option<&str>) -> Value {
    t.map_or(Value::Null, |t| Value::Text(t.into()))
}

fn packed_t(t: &T) -> Vec<u8> {
    row::pack_row(&[Value::Int(t.id), number(t.k), t.v.map_or(Value::Null, |v| Value::Decimal(v.into())), text(t.s), t.d.map_or(Value::Null, Value::Double)])
}

fn packed_u(u: &U) -> Vec<u8> {
    row::pack_row(&[Value::Int(u.id), number(u.k), number(u.w), text(u.s)])
}

fn packed_x(x: &X) -> Vec<u8> {
    row::pack_row(&[number(x.k), text(x.n), Value::Uuid([x.g; 16]), x.b.map_or(Value::Null, Value::Bool)])
}

/// Applies an edit to the oracle's tables; gives the changes that the engine is told.
fn apply(edit: &Edit, database: &mut Database) -> Vec<Change> {
    match edit {
        Edit::SetT(new) => {
            let mut changes = apply(&Edit::DropT(new.id), database);
            database.t.push(new.clone());
            changes.push((0, packed_t(new), 1));
            changes
        }
        Edit::DropT(id) => match database.t.iter().position(|t| t.id == *id) {
            Some(at) => vec![(0, packed_t(&database.t.remove(at)), -1)],
            None => Vec::new(),
        },
        Edit::SetU(new) => {
            let mut changes = apply(&Edit::DropU(new.id), database);
            database.u.push(new.clone());
            changes.push((1, packed_u(new), 1));
            changes
        }
        Edit::DropU(id) => match database.u.iter().position(|u| u.id == *id) {
            Some(at) => vec![(1, packed_u(&database.u.remove(at)), -1)],
            None => Vec::new(),
        },
        Edit::AddX(new) => {
            database.x.push(new.clone());
            vec![(2, packed_x(new), 1)]
        }
        Edit::TakeX(at) if *at < database.x.len() => vec![(2, packed_x(&database.x.remove(*at)), -1)],
        Edit::TakeX(_) => Vec::new(),
    }
}

/// A bag of rows as text, and how many rows have no value.
type Answer = (BTreeMap<String, isize>, isize);

fn answer(rows: &[Row]) -> BTreeMap<String, isize> {
    let mut bag = BTreeMap::new();
    for row in rows {
        *bag.entry(format!("{row:?}")).or_insert(0) += 1;
    }
    bag
}

/// Runs all queries over changes by tick; gives their answers at every tick in `0..=ticks`.
fn engine(plans: &[SqlPlan], changes: &[(u64, Change)], ticks: u64, workers: usize, stride: u64) -> Vec<Vec<Answer>> {
    type Updates<D> = Arc<Mutex<Vec<(usize, D, u64, isize)>>>;
    let (rows, errors): (Updates<Vec<u8>>, Updates<RowError>) = Default::default();
    let (rows_of, errors_of) = (rows.clone(), errors.clone());
    let (plans_of, changes_of) = (plans.to_vec(), changes.to_vec());
    let guards = timely::execute(timely::Config::process(workers), move |worker| {
        let probe = ProbeHandle::new();
        let mut sessions: Vec<InputSession<u64, Vec<u8>, isize>> = (0..TABLES.len()).map(|_| InputSession::new()).collect();
        worker.dataflow::<u64, _, _>(|scope| {
            let inputs: HashMap<TableRef, Rows> = TABLES.iter().zip(&mut sessions).map(|(table, session)| (*table, session.to_collection(scope))).collect();
            for (i, plan) in plans_of.iter().enumerate() {
                let (good, bad) = render_sql(scope, plan, &inputs);
                let (rows, errors) = (rows_of.clone(), errors_of.clone());
                good.inspect(move |(row, tick, weight)| rows.lock().unwrap().push((i, row.clone(), *tick, *weight))).probe_with(&probe);
                bad.inspect(move |(error, tick, weight)| errors.lock().unwrap().push((i, error.clone(), *tick, *weight))).probe_with(&probe);
            }
        });
        // Changes arrive at whatever worker; ticks are closed several at once.
        let mut closed = 0;
        while closed <= ticks {
            let next = closed + stride;
            for (at, (tick, (table, row, weight))) in changes_of.iter().enumerate() {
                if (closed..next).contains(tick) && at % worker.peers() == worker.index() {
                    sessions[*table].update_at(row.clone(), *tick, *weight);
                }
            }
            for session in &mut sessions {
                session.advance_to(next);
                session.flush();
            }
            worker.step_while(|| probe.less_than(&next));
            closed = next;
        }
    });
    guards.expect("workers start").join().into_iter().for_each(|outcome| outcome.expect("a worker ends well"));
    let (rows, errors) = (rows.lock().unwrap(), errors.lock().unwrap());
    let at_tick = |query: usize, tick: u64| {
        let mut bag: BTreeMap<String, isize> = BTreeMap::new();
        for (_, row, _, weight) in rows.iter().filter(|(q, _, at, _)| *q == query && *at <= tick) {
            *bag.entry(format!("{:?}", row::values(row, &plans[query].columns))).or_insert(0) += weight;
        }
        bag.retain(|_, weight| *weight != 0);
        let mut failed: BTreeMap<&RowError, isize> = BTreeMap::new();
        for (_, error, _, weight) in errors.iter().filter(|(q, _, at, _)| *q == query && *at <= tick) {
            *failed.entry(error).or_insert(0) += weight;
        }
        assert!(failed.values().all(|weight| *weight >= 0), "an error was taken back that never was: {failed:?}");
        (bag, failed.values().sum())
    };
    (0..=ticks).map(|tick| (0..plans.len()).map(|query| at_tick(query, tick)).collect()).collect()
}

fn edits() -> impl Strategy<Value = Vec<(u64, Edit)>> {
    let (k, s) = (proptest::option::weighted(0.8, 0i64..4), proptest::option::weighted(0.8, proptest::sample::select(vec!["", "a", "b", "C"])));
    let v = proptest::option::weighted(0.8, proptest::sample::select(vec![-150i64, 0, 5, 100, 250, 99_999_999]));
    let d = proptest::option::weighted(0.8, (-40i64..40).prop_map(|n| n as f64 / 8.0));
    let set_t = (0i64..8, k.clone(), v, s.clone(), d).prop_map(|(id, k, v, s, d)| Edit::SetT(T { id, k, v, s, d }));
    let w = proptest::option::weighted(0.8, -2i64..5);
    let set_u = (0i64..6, k.clone(), w, s.clone()).prop_map(|(id, k, w, s)| Edit::SetU(U { id, k, w, s }));
    let add_x = (k, s, 0u8..3, proptest::option::of(any::<bool>())).prop_map(|(k, n, g, b)| Edit::AddX(X { k, n, g, b }));
    let edit = prop_oneof![
        4 => set_t,
        1 => (0i64..8).prop_map(Edit::DropT),
        4 => set_u,
        1 => (0i64..6).prop_map(Edit::DropU),
        2 => add_x,
        2 => (0usize..5).prop_map(Edit::TakeX),
    ];
    proptest::collection::vec((1u64..8, edit), 0..40)
}

static PLANS: LazyLock<Vec<SqlPlan>> = LazyLock::new(|| {
    let catalog = catalog();
    QUERIES.iter().map(|(sql, _)| plan(sql, &catalog).unwrap_or_else(|problems| panic!("{sql}: {problems:?}"))).collect()
});

fn check(edits: Vec<(u64, Edit)>, workers: usize, stride: u64) -> Result<(), TestCaseError> {
    let ticks = 8;
    let plans = &*PLANS;
    let (mut database, mut changes, mut snapshots) = (Database::default(), Vec::new(), vec![Database::default()]);
    for tick in 1..=ticks {
        for (_, edit) in edits.iter().filter(|(at, _)| *at == tick) {
            changes.extend(apply(edit, &mut database).into_iter().map(|change| (tick, change)));
        }
        snapshots.push(database.clone());
    }
    let found = engine(plans, &changes, ticks, workers, stride);
    for (tick, (found, snapshot)) in found.iter().zip(&snapshots).enumerate() {
        for (((sql, oracle), found), plan) in QUERIES.iter().zip(found).zip(plans) {
            let (rows, errors) = oracle(snapshot);
            let expected = (answer(&rows), errors);
            prop_assert_eq!(found, &expected, "\n{}\n{}at tick {}, {} workers, on {:#?}", sql, plan.explain(), tick, workers, snapshot);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_tick_equals_the_oracle(edits in edits(), workers in 1usize..4, stride in 1u64..4) {
        check(edits, workers, stride)?;
    }
}

/// The comparison above would be empty words for a query that never has a row.
#[test]
fn every_query_has_rows_on_some_data() {
    let t = |id, k, v, s, d| Edit::SetT(T { id, k, v, s, d });
    let u = |id, k, w, s| Edit::SetU(U { id, k, w, s });
    let x = |k, n, b| Edit::AddX(X { k, n, g: 1, b });
    let edits = vec![
        t(0, Some(1), Some(150), Some("a"), Some(0.5)),
        t(1, Some(2), Some(-5), Some("b"), None),
        t(2, None, None, Some("a"), Some(1.5)),
        t(3, Some(1), Some(250), None, None),
        t(4, Some(0), Some(100), Some("C"), Some(2.0)),
        u(0, Some(1), Some(3), Some("b")),
        u(1, Some(1), Some(4), Some("a")),
        u(2, Some(3), Some(0), None),
        u(3, None, Some(1), Some("C")),
        u(4, Some(2), Some(4), Some("b")),
        x(Some(1), Some("a"), Some(true)),
        x(Some(1), Some("a"), None),
        x(Some(3), Some("b"), Some(false)),
        x(None, None, None),
        x(Some(2), Some("C"), None),
    ];
    let edits: Vec<(u64, Edit)> = edits.into_iter().map(|edit| (1, edit)).collect();
    check(edits.clone(), 2, 1).expect("the engine agrees");
    let mut database = Database::default();
    edits.iter().for_each(|(_, edit)| drop(apply(edit, &mut database)));
    // A NULL in the list of NOT IN leaves nothing.
    let empty: Vec<&str> = QUERIES.iter().filter(|(_, oracle)| oracle(&database).0.is_empty()).map(|(sql, _)| *sql).collect();
    assert_eq!(empty, ["SELECT k, n FROM x WHERE k NOT IN (SELECT k FROM t)", "SELECT id FROM t WHERE false"]);
    let without_null: Vec<(u64, Edit)> = edits.into_iter().filter(|(_, edit)| !matches!(edit, Edit::SetT(T { k: None, .. }))).collect();
    check(without_null, 1, 1).expect("the engine agrees");
}

#[test]
fn unknown_values_reject_their_row() {
    let catalog = catalog();
    let plans: Vec<SqlPlan> = ["SELECT id, s FROM t", "SELECT id, k FROM t"].iter().map(|sql| plan(sql, &catalog).unwrap()).collect();
    let row = row::pack_row(&[Value::Int(1), Value::Int(2), Value::Null, Value::Unknown, Value::Null]);
    let found = engine(&plans, &[(1, (0, row.clone(), 1)), (3, (0, row, -1))], 3, 1, 1);
    assert_eq!(found[1][0], (BTreeMap::new(), 1));
    assert_eq!(found[1][1], (BTreeMap::from([("[Int(1), Int(2)]".to_string(), 1)]), 0));
    assert_eq!(found[3][0], (BTreeMap::new(), 0));
}

#[test]
fn a_sum_that_overflows_is_an_error_until_it_fits() {
    let catalog = catalog();
    let plans = vec![plan("SELECT s, sum(w) AS total FROM u GROUP BY s", &catalog).unwrap()];
    let row = |id| row::pack_row(&[Value::Int(id), Value::Null, Value::Int(i64::MAX), Value::Text("a".into())]);
    let found = engine(&plans, &[(1, (1, row(1), 1)), (2, (1, row(2), 1)), (3, (1, row(1), -1))], 3, 2, 1);
    let one = (BTreeMap::from([(format!("[Text(\"a\"), Int({})]", i64::MAX), 1)]), 0);
    assert_eq!(found[1][0], one);
    assert_eq!(found[2][0], (BTreeMap::new(), 1));
    assert_eq!(found[3][0], one);
}
