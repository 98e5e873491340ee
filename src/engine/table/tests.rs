//! The table against maps: upserts, weights, both sides.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use save::Keeps::{Keys, Nothing, Values};

use crate::{
    engine::{Give, Tick},
    row::{Value as V, pack_row},
};

fn key(k: u8) -> Vec<u8> {
    vec![1, b'k', k]
}

fn run(changes: &[(Op, u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (op, k, value) in changes {
        change::push_with(&mut out, *op, 5, &key(*k), value);
    }
    out
}

#[derive(Clone, Debug)]
enum Act {
    Apply(usize, Op, u8, u8, bool),
    Close,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let op = prop_oneof![4 => Just(Op::Set), 2 => Just(Op::Clear), 1 => Just(Op::Reject), 1 => Just(Op::Merge)];
    let act = prop_oneof![
        9 => (0..2usize, op, 0..12u8, 0..3u8, any::<bool>()).prop_map(|(s, o, k, v, long)| Act::Apply(s, o, k, v, long)),
        1 => Just(Act::Close),
    ];
    prop::collection::vec(act, 0..200)
}

fn packed(v: u8, long: bool) -> Vec<u8> {
    pack_row(&[V::Text(if long { format!("{v}").repeat(900) } else { format!("{v}") })])
}

proptest! {
    /// The oracle is two maps; it can catch lost, stale and invented values, wrong sharing and wrong net changes.
    #[test]
    fn the_table_is_two_maps(acts in acts()) {
        let mut table = Table::new(vec![Type::Varchar(0)], true, true);
        let mut model: [BTreeMap<u8, Option<Vec<u8>>>; 2] = Default::default();
        let mut shown: BTreeMap<Vec<u8>, Sides> = BTreeMap::new();
        let mut rows: BTreeMap<Vec<u8>, Value> = BTreeMap::new();
        for act in acts.into_iter().chain([Act::Close]) {
            match act {
                Act::Apply(side, op, k, v, long) => {
                    let value = if op == Op::Reject { change::pack_reject(&Reject { source: 0, code: "KEY_MISSING", cause: format!("{v}"), key: None, partition: 0, offset: 0, target: None, keyed: true }) } else { packed(v, long) };
                    table.apply_all(side, &run(&[(op, k, value.clone())]));
                    match op {
                        Op::Set => { model[side].insert(k, Some(value)); }
                        Op::Merge => { if matches!(model[side].get(&k), Some(Some(_))) { model[side].insert(k, Some(value)); } }
                        Op::Reject => { model[side].insert(k, None); }
                        _ => { model[side].remove(&k); }
                    }
                }
                Act::Close => {
                    let closed = table.close();
                    for change in closed.differences {
                        match change.now {
                            Some(now) => { shown.insert(change.key.to_vec(), now); }
                            // Or a side came and went.
                            None => prop_assert!(shown.remove(&change.key.to_vec()).is_some() || change.actual_time.max(change.expected_time) == 5),
                        }
                    }
                    for (key, before, after) in closed.rows {
                        prop_assert_eq!(rows.remove(&key.to_vec()).unwrap_or(Value::Absent), before);
                        if after != Value::Absent { rows.insert(key.to_vec(), after); }
                    }
                    let mut expected = BTreeMap::new();
                    for k in 0..12u8 {
                        let side = |s: usize| match model[s].get(&k) { None => Side::Absent, Some(None) => Side::Rejected, Some(Some(v)) => Side::Row(v.clone().into()) };
                        let (e, a) = (side(0), side(1));
                        let nothing = |s: &Side| matches!(s, Side::Absent | Side::Rejected);
                        if e != a && !(nothing(&e) && nothing(&a)) { expected.insert(key(k), Sides { expected: e, actual: a }); }
                        let held = match table.get(0, &key(k)) { Value::Row(r) => Some(Some(r.to_vec())), Value::Absent => None, _ => Some(None) };
                        prop_assert_eq!(held, model[0].get(&k).cloned());
                    }
                    prop_assert_eq!(&shown, &expected);
                    for (s, rows) in model.iter().enumerate() { prop_assert_eq!(table.rows(s), rows.values().flatten().count() as u64); }
                }
            }
        }
    }

    #[test]
    fn weights_in_any_order_give_the_rows_that_stay(changes in prop::collection::vec((0..4u8, 0..3u8), 0..40), seed in any::<u64>()) {
        let mut table = Table::new(vec![Type::Varchar(0)], true, false);
        let mut all: Vec<(Op, u8, Vec<u8>)> = Vec::new();
        let mut model: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
        for (i, (k, v)) in changes.iter().enumerate() {
            all.push((Op::Add, *k, packed(*v, false)));
            if i % 3 == 0 { all.push((Op::Subtract, *k, packed(*v, false))); } else { model.entry(*k).or_default().push(packed(*v, false)); }
        }
        let n = all.len().max(1);
        for i in 0..all.len() { all.swap(i, (seed.rotate_left(i as u32) as usize) % n); }
        table.apply_all(EXPECTED, &run(&all));
        table.close();
        for k in 0..4 {
            let mut expected = model.remove(&k).unwrap_or_default();
            expected.sort();
            let found = match table.get(EXPECTED, &key(k)) { Value::Absent => vec![], Value::Row(r) => vec![r.to_vec()], Value::Many(rows) => rows.iter().map(|r| r.to_vec()).collect(), Value::Reject(_) | Value::Written => unreachable!() };
            prop_assert_eq!(found, expected);
        }
    }
}

#[derive(Clone, Debug)]
enum Saving {
    Apply(usize, Op, u8, u8),
    Close,
    Begin(bool),
    Some(usize),
    /// Close, copy the rest, and look.
    Cut,
}

fn savings() -> impl Strategy<Value = Vec<Saving>> {
    let op = prop_oneof![4 => Just(Op::Set), 3 => Just(Op::Clear), 1 => Just(Op::Reject), 1 => Just(Op::Truncate)];
    let act = prop_oneof![
        20 => (0..2usize, op, 0..10u8, 0..3u8).prop_map(|(s, o, k, v)| Saving::Apply(s, o, k, v)),
        4 => Just(Saving::Close),
        2 => any::<bool>().prop_map(Saving::Begin),
        6 => (0..4usize).prop_map(Saving::Some),
        2 => Just(Saving::Cut),
    ];
    prop::collection::vec(act, 0..250)
}

proptest! {
    /// Whatever changes while it is copied: what is restored is what stood at the cut, on the sides that are kept.
    #[test]
    fn what_was_saved_bit_by_bit_is_the_table_as_of_the_cut(acts in savings(), sides in prop::sample::select(vec![[Values, Values], [Values, Nothing], [Nothing, Values], [Keys, Values], [Keys, Nothing]])) {
        let fresh = || { let mut table = Table::new(vec![Type::Varchar(0)], true, true); (0..2).for_each(|side| table.keep(side, sides[side])); table };
        let mut table = fresh();
        let (mut chain, mut under_way) = (Vec::new(), false);
        for act in acts {
            match act {
                Saving::Apply(side, op, k, v) => {
                    let value = if op == Op::Reject { change::pack_reject(&Reject { source: 0, code: "KEY_MISSING", cause: format!("{v}"), key: None, partition: 0, offset: 0, target: None, keyed: true }) } else if v == 2 { pack_row(&[V::Unknown]) } else { packed(v, false) };
                    table.apply_all(side, &run(&[(op, k, value)]));
                }
                Saving::Close => { table.close(); }
                Saving::Begin(all) if !under_way => {
                    let all = all || chain.is_empty();
                    if all { chain.clear(); }
                    table.begin_save(all);
                    under_way = true;
                }
                Saving::Some(slots) if under_way => { table.save_some(slots, &mut chain); }
                Saving::Cut if under_way => {
                    under_way = false;
                    table.close();
                    table.save_rest(&mut chain, |_| {});
                    let mut again = fresh();
                    let runs = save::restore(&chain, |_| true, &Give::whole(0), None).expect("it was saved");
                    for side in [EXPECTED, ACTUAL] { again.apply_all(side, &runs[side]); }
                    again.close();
                    for k in 0..10u8 {
                        for side in [EXPECTED, ACTUAL] {
                            let kept = if sides[side] == Values { table.get(side, &key(k)) } else { Value::Absent };
                            prop_assert_eq!(again.get(side, &key(k)), kept, "key {} side {}", k, side);
                        }
                    }
                    if sides[EXPECTED] == Keys {
                        let give = Give { keys: true, ..Give::whole(0)[EXPECTED].clone() };
                        again.was_written(&save::restore(&chain, |_| true, &[give], None).expect("it was saved")[0]);
                        for k in 0..10u8 {
                            let there = matches!(table.get(EXPECTED, &key(k)), Value::Row(_));
                            prop_assert_eq!(again.written.keys.contains(&*key(k)), there, "key {}", k);
                        }
                    }
                    // What goes on from a restored table goes on from what is kept of it.
                    if sides == [Values, Values] {
                        again.is_saved();
                        table = again;
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn bytes_that_nobody_saved_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        save::restore(&bytes, |_| true, &Give::whole(0), None);
    }
}

#[test]
fn truncate_clears_one_side() {
    let mut table = Table::new(vec![Type::Varchar(0)], true, false);
    for side in [EXPECTED, ACTUAL] {
        table.apply_all(side, &run(&[(Op::Set, 1, packed(1, false)), (Op::Set, 2, packed(2, true))]));
    }
    assert!(table.close().differences.is_empty());
    table.apply_all(ACTUAL, &run(&[(Op::Truncate, 0, vec![])]));
    assert_eq!(table.close().differences.len(), 2);
    assert_eq!((table.rows(EXPECTED), table.rows(ACTUAL)), (2, 0));
}

#[test]
fn unknown_fields_are_taken_from_the_row_that_stands_and_make_no_difference() {
    let mut table = Table::new(vec![Type::Varchar(0), Type::Int(64)], true, false);
    table.apply_all(EXPECTED, &run(&[(Op::Set, 1, pack_row(&[V::Unknown, V::Int(1)]))]));
    table.apply_all(ACTUAL, &run(&[(Op::Set, 1, pack_row(&[V::Text("x".into()), V::Int(1)]))]));
    assert!(table.close().differences.is_empty(), "an unknown value makes no difference");
    table.apply_all(ACTUAL, &run(&[(Op::Set, 1, pack_row(&[V::Unknown, V::Int(2)]))]));
    assert_eq!(table.close().differences.len(), 1);
    assert_eq!(table.get(ACTUAL, &key(1)), Value::Row(pack_row(&[V::Text("x".into()), V::Int(2)]).into()));
}

proptest! {
    /// A table that counts is a map from rows to numbers: what is below zero is one reject and no row; and a checkpoint keeps it.
    #[test]
    fn a_table_that_counts_is_a_multiset(acts in prop::collection::vec((0..8u8, 0..4u8, any::<bool>()), 0..120)) {
        let row = |k: u8| pack_row(&[V::Int(i64::from(k)), V::Null]);
        let key = |k: u8| [&[counted::ROW][..], &row(k)].concat();
        let types = vec![Type::Int(32), Type::Varchar(0)];
        let fresh = || { let mut table = Table::new(types.clone(), false, true).counting(3); table.keep(EXPECTED, Values); table };
        let (mut table, mut model) = (fresh(), BTreeMap::<u8, i64>::new());
        let (mut shown, mut rejects) = (BTreeMap::<Vec<u8>, i64>::new(), BTreeMap::<String, i64>::new());
        let mut chain = Vec::new();
        for (what, k, cut) in acts {
            let mut run = Vec::new();
            match what {
                0..4 => { *model.entry(k).or_default() += 1; change::push_with(&mut run, Op::Gain, 5, &key(k), &[]); }
                4..7 => { *model.entry(k).or_default() -= 1; change::push_with(&mut run, Op::Lose, 5, &key(k), &[2, 8]); }
                _ if k == 0 => { model.clear(); change::push_with(&mut run, Op::Truncate, 5, &[], &[]); }
                _ => {}
            }
            table.apply_all(EXPECTED, &run);
            if !cut { continue }
            let closed = table.close();
            for (key, before, after) in &closed.rows {
                let (row, weight) = counted::net(key, before, after);
                *shown.entry(row.to_vec()).or_default() += weight as i64;
            }
            for (reject, weight) in closed.rejects {
                prop_assert_eq!((reject.source, reject.code, reject.partition, reject.offset), (3, "ROW_NOT_FOUND", 1, 4));
                *rejects.entry(reject.key.unwrap_or_default()).or_default() += weight;
            }
            shown.retain(|_, n| *n != 0);
            rejects.retain(|_, n| *n != 0);
            prop_assert_eq!(&shown, &model.iter().filter(|(_, n)| **n > 0).map(|(k, n)| (row(*k), *n)).collect());
            prop_assert_eq!(&rejects, &model.iter().filter(|(_, n)| **n < 0).map(|(k, _)| (format!("[{k},null]"), 1)).collect());
            prop_assert_eq!(table.rows(EXPECTED) as i64, shown.values().sum::<i64>());
            if k == 1 {
                table.begin_save(chain.is_empty());
                table.save_rest(&mut chain, |_| {});
                let mut again = fresh();
                let runs = save::restore(&chain, |_| true, &Give::whole(0), None).expect("it was saved");
                again.apply_all(EXPECTED, &runs[EXPECTED]);
                let stands = again.close().rejects.into_iter().fold(BTreeMap::new(), |mut all, (reject, weight)| {
                    *all.entry(reject.key.unwrap_or_default()).or_insert(0) += weight;
                    all
                });
                prop_assert_eq!(&stands.into_iter().filter(|(_, n)| *n != 0).collect::<BTreeMap<String, i64>>(), &rejects);
                again.is_saved();
                prop_assert_eq!(again.rows(EXPECTED), table.rows(EXPECTED));
                table = again;
            }
        }
    }
}

/// A side that is computed in another way than what was written of it: what the rows were is not known, that they were is.
#[test]
fn what_was_written_and_does_not_come_again_goes() {
    let mut table = Table::new(vec![Type::Int(64)], false, true);
    let row = |n| pack_row(&[V::Int(n)]);
    table.blind(true);
    table.was_written(&run(&(1..=5).map(|k| (Op::Set, k, vec![])).collect::<Vec<_>>()));
    table.was_written(&run(&[(Op::Clear, 5, vec![])]));
    // 1 comes again, 2 with two rows, 3 for a moment, 6 is new.
    table.apply_all(
        EXPECTED,
        &run(&[(Op::Add, 1, row(1)), (Op::Add, 2, row(1)), (Op::Add, 2, row(2)), (Op::Add, 3, row(1)), (Op::Subtract, 3, row(1)), (Op::Add, 6, row(1))]),
    );
    let said = |table: &mut Table, tick: Tick, gone: bool| {
        let mut closed = table.close();
        table.tell_of_written(&mut closed, tick);
        if gone {
            closed.rows.extend(table.gone());
        }
        let name = |value: &Value| match value {
            Value::Absent => "none",
            Value::Row(_) => "row",
            Value::Many(_) => "rows",
            Value::Reject(_) => "reject",
            Value::Written => "written",
        };
        let mut said: Vec<String> = closed.rows.iter().map(|(k, before, after)| format!("{} {} {}", k[k.len() - 1], name(before), name(after))).collect();
        said.sort();
        said
    };
    assert_eq!(said(&mut table, 10, false), ["1 written row", "2 written rows", "6 none row"]);
    table.blind(false);
    table.whole_at(11);
    // What comes after the tick with which it is whole comes after what was written is gone.
    table.apply_all(EXPECTED, &run(&[(Op::Add, 4, row(4))]));
    assert_eq!(said(&mut table, 12, true), ["3 written none", "4 none row", "4 written none"]);
    table.apply_all(EXPECTED, &run(&[(Op::Subtract, 4, row(4))]));
    assert_eq!(said(&mut table, 13, false), ["4 row none"]);
}
