//! What goes into which transaction, against a list in place of Kafka.

use std::sync::Mutex;

use super::*;
use crate::sink::{
    progress::Chain,
    tests::{change, plan, tick},
};

type Written = Arc<Mutex<Vec<(Vec<Outgoing>, Progress)>>>;

/// Writes into a list, as many transactions as it may.
struct List(Written, usize);

impl Transact for List {
    fn write(&mut self, records: &[Outgoing], progress: &Progress, _: &mut Tell<'_>) -> Result<(), SinkError> {
        let mut list = self.0.lock().unwrap();
        if list.len() == self.1 {
            return Err(SinkError { code: "NOT_DELIVERED", message: "full".into(), remedy: "none".into(), retry: true });
        }
        list.push((records.to_vec(), progress.clone()));
        Ok(())
    }
}

fn writer(list: &Written, may: usize, from: From) -> Result<ExactWriter, SinkError> {
    let exact = Exact { connection: 0, chain: None, to: Box::new(List(list.clone(), may)), run: "r".into(), cluster: None, topics: BTreeMap::new() };
    let plan = plan(crate::plan::Format::UpsertJson);
    let (exact, from) = exact.begin(from, "p")?;
    let mut writer = ExactWriter::new(&plan, exact, from, "p", Arc::default());
    (writer.part_records, writer.part_bytes) = (4, 500);
    Ok(writer)
}

/// Ticks with so many new rows each.
fn ticks(rows: &[i64]) -> Vec<Arc<TickOutput>> {
    let mut id = 0;
    let of = |(n, rows): (usize, &i64)| {
        id += rows;
        tick(n as Tick + 1, true, (id - rows..id).rev().map(|id| change(id, None, Some("a"))).collect())
    };
    rows.iter().enumerate().map(of).collect()
}

fn run(writer: Result<ExactWriter, SinkError>, ticks: &[Arc<TickOutput>]) -> Result<(), SinkError> {
    let mut writer = writer?;
    let (send, receive) = crossbeam_channel::unbounded();
    ticks.iter().for_each(|tick| send.send(tick.clone()).unwrap());
    drop(send);
    writer.run(&receive)
}

/// Keys of the records and where they stand.
fn shown(list: &Written) -> Vec<(u64, u64, bool, Vec<(Tick, String)>)> {
    let of = |(records, p): &(Vec<Outgoing>, Progress)| {
        (p.tick, p.part, p.more, records.iter().map(|r| (r.tick, String::from_utf8(r.record.key.clone()).unwrap())).collect())
    };
    list.lock().unwrap().iter().map(of).collect()
}

fn flat(list: &Written) -> Vec<(Tick, String)> {
    shown(list).into_iter().flat_map(|(.., records)| records).collect()
}

#[test]
fn ticks_that_wait_together_share_a_transaction_and_large_ones_are_cut() {
    let list = Written::default();
    run(writer(&list, 99, From { begins: true, ..From::default() }), &ticks(&[1, 2, 0, 10, 1])).unwrap();
    let what: Vec<_> = shown(&list).into_iter().map(|(tick, part, more, records)| (tick, part, more, records.len())).collect();
    assert_eq!(what, [(0, 0, false, 0), (3, 0, false, 3), (4, 0, true, 4), (4, 1, true, 4), (4, 2, false, 2), (5, 0, false, 1)]);
    let progress: Vec<Progress> = list.lock().unwrap().iter().map(|(_, p)| p.clone()).collect();
    let chain = Chain::of(&progress).unwrap().unwrap();
    assert_eq!((chain.base, chain.last, chain.partly, chain.after(0).len()), (0, 5, None, 5));
    // In the order of keys, though the rows came the other way round.
    let four: Vec<String> = flat(&list).into_iter().filter(|(tick, _)| *tick == 4).map(|(_, key)| key).collect();
    assert!(four.is_sorted(), "{four:?}");
}

/// A tick of rows of such lengths, about.
fn large(tick_: Tick, lengths: &[usize]) -> Arc<TickOutput> {
    let row = |(id, length): (usize, &usize)| change(id as i64, None, Some(&"x".repeat(*length)));
    tick(tick_, true, lengths.iter().enumerate().map(row).collect())
}

#[test]
fn large_rows_are_cut_by_their_bytes() {
    let list = Written::default();
    let all = [large(1, &[300, 300, 10, 10, 10, 10, 10, 900, 300]), large(2, &[900]), large(3, &[900, 900])];
    run(writer(&list, 99, From { begins: true, ..From::default() }), &all).unwrap();
    let of = |(records, p): &(Vec<Outgoing>, Progress)| (p.tick, p.part, p.more, p.done, records.len());
    let what: Vec<_> = list.lock().unwrap().iter().map(of).collect();
    let first = [(1, 0, true, 1, 1), (1, 1, true, 4, 3), (1, 2, true, 7, 3), (1, 3, true, 8, 1), (1, 4, false, 0, 1)];
    assert_eq!(what[1..], [&first[..], &[(2, 0, false, 0, 1), (3, 0, true, 1, 1), (3, 1, false, 0, 1)]].concat());
}

#[test]
fn wherever_it_ends_the_next_run_goes_on_there() {
    let mut all = ticks(&[1, 2, 0, 10, 1]);
    all.push(large(6, &[300, 300, 10, 10, 10, 10, 10, 900, 300]));
    let whole = Written::default();
    run(writer(&whole, 99, From { begins: true, ..From::default() }), &all).unwrap();
    let transactions = shown(&whole).len();
    for may in 0..transactions {
        let list = Written::default();
        let ended = run(writer(&list, may, From { begins: true, ..From::default() }), &all);
        assert!(ended.is_err(), "{may}");
        let progress: Vec<Progress> = list.lock().unwrap().iter().map(|(_, p)| p.clone()).collect();
        let from = match Chain::of(&progress).unwrap() {
            Some(chain) => From { written: chain.last, partly: chain.partly, begins: false },
            None => From { begins: true, ..From::default() },
        };
        run(writer(&list, 99, from), &all).unwrap();
        assert_eq!(flat(&list), flat(&whole), "{may}");
        let progress: Vec<Progress> = list.lock().unwrap().iter().map(|(_, p)| p.clone()).collect();
        let chain = Chain::of(&progress).unwrap().unwrap();
        assert_eq!((chain.last, chain.partly, chain.after(0).len()), (6, None, 6), "{may}");
    }
}
