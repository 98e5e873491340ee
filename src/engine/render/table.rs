//! The stage around a keyed table: parcels of changes in, net changes out when a tick closes.
//!
//! Changes of a tick are applied as they come once nothing earlier can come any more, and kept until then. Chunks of one
//! source are decoded by any worker; their parcels are applied in the order of the chunks, so the last change by position
//! counts whatever the number of workers. A partition is read by one process, so each process numbers its own chunks.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Instant};

use timely::{
    container::CapacityContainerBuilder,
    dataflow::{
        Stream,
        channels::pact::Exchange,
        operators::{Capability, generic::operator::Operator},
    },
};

use crate::engine::{
    Tick,
    buffers::RUNS,
    table::{Closed, Table, Value, change::Parcel, counted},
};

/// A table and what it published, shared by its stage and the worker's loop.
pub struct Stage {
    pub table: Table,
    /// Closed ticks that the worker has not reported yet.
    pub closed: BTreeMap<Tick, Closed>,
    /// Look-ups to answer when their tick is closed, before anything of a later tick is applied.
    pub questions: Vec<Question>,
    /// Nothing of a later tick is applied.
    pub hold: Option<Tick>,
    /// Nanoseconds that the stage has worked.
    pub nanos: u64,
    /// Parcels kept until their turn.
    waiting: BTreeMap<Tick, Vec<Parcel>>,
    /// By input, and by the process that decoded: the next chunk, and parcels that came before their turn.
    turns: BTreeMap<(u32, u32), Turn>,
}

/// A look-up: what a side holds for a key once a tick is closed.
pub struct Question {
    pub tick: Tick,
    pub side: usize,
    pub key: Vec<u8>,
    pub answer: Box<dyn FnOnce(Value)>,
}

#[derive(Default)]
struct Turn {
    next: u64,
    early: BTreeMap<u64, Parcel>,
}

/// Which side an input changes.
pub type InputSide = usize;

impl Stage {
    pub fn new(table: Table) -> Self {
        Stage { table, closed: BTreeMap::new(), questions: Vec::new(), hold: None, nanos: 0, waiting: BTreeMap::new(), turns: BTreeMap::new() }
    }

    /// Bytes of parcels that wait.
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting.values().flatten().chain(self.turns.values().flat_map(|t| t.early.values())).map(|p| p.run.len() as u64).sum()
    }

    /// Answers the look-ups of ticks before `tick`, all of which are closed.
    pub fn answer_before(&mut self, tick: Tick) {
        if self.questions.iter().any(|q| q.tick < tick) {
            for question in std::mem::take(&mut self.questions) {
                if question.tick < tick {
                    (question.answer)(self.table.get(question.side, &question.key));
                } else {
                    self.questions.push(question);
                }
            }
        }
    }

    fn take(&mut self, parcel: Parcel, sides: &[InputSide]) {
        let side = sides[parcel.input as usize];
        let Some(seq) = parcel.seq else { return self.apply(side, parcel) };
        let from = (parcel.input, parcel.process);
        let turn = self.turns.entry(from).or_default();
        if seq != turn.next {
            turn.early.insert(seq, parcel);
            return;
        }
        turn.next += 1;
        self.apply(side, parcel);
        loop {
            let turn = self.turns.entry(from).or_default();
            let Some(parcel) = turn.early.remove(&turn.next) else { return };
            turn.next += 1;
            self.apply(side, parcel);
        }
    }

    fn apply(&mut self, side: usize, parcel: Parcel) {
        self.table.apply_all(side, &parcel.run);
        RUNS.give(parcel.run);
    }
}

/// Net changes of the expected side: key, before, after.
pub type NetRows = Vec<((Vec<u8>, Vec<u8>), u64, isize)>;

/// Renders the stage. The output has the net changes of the expected side as (key, value) with weights, if the table
/// tracks them.
pub fn table<'scope>(name: &str, parcels: Stream<'scope, u64, Vec<Parcel>>, sides: Vec<InputSide>, stage: Rc<RefCell<Stage>>) -> Stream<'scope, u64, NetRows> {
    parcels.unary_frontier::<CapacityContainerBuilder<NetRows>, _, _, _>(Exchange::new(|parcel: &Parcel| parcel.to), name, move |_, _| {
        let mut open: BTreeMap<Tick, Capability<u64>> = BTreeMap::new();
        move |(input, frontier), output| {
            let began = Instant::now();
            let stage = &mut *stage.borrow_mut();
            input.for_each(|cap, data| {
                let tick = *cap.time();
                open.entry(tick).or_insert_with(|| cap.retain(0));
                stage.waiting.entry(tick).or_default().append(data);
            });
            while let Some(tick) = open.keys().next().copied() {
                if frontier.less_than(&tick) || stage.hold.is_some_and(|hold| tick > hold) {
                    break;
                }
                stage.answer_before(tick);
                for parcel in stage.waiting.remove(&tick).unwrap_or_default() {
                    stage.take(parcel, &sides);
                }
                if frontier.less_equal(&tick) {
                    break;
                }
                debug_assert!(stage.turns.values().all(|t| t.early.is_empty()), "every chunk of a closed tick has come");
                let cap = open.remove(&tick).expect("the tick is open");
                let mut closed = stage.table.close();
                if !closed.rows.is_empty() {
                    let mut session = output.session(&cap);
                    let counts = stage.table.counts();
                    for (key, before, after) in &closed.rows {
                        if counts {
                            let (row, weight) = counted::net(key, before, after);
                            if weight != 0 {
                                session.give(((Vec::new(), row.to_vec()), tick, weight));
                            }
                            continue;
                        }
                        for (value, weight) in [(before, -1), (after, 1)] {
                            match value {
                                Value::Row(row) => session.give(((key.to_vec(), row.to_vec()), tick, weight)),
                                Value::Many(rows) => rows.iter().for_each(|row| session.give(((key.to_vec(), row.to_vec()), tick, weight))),
                                Value::Absent | Value::Reject(_) | Value::Written => {}
                            }
                        }
                    }
                }
                // Of outputs only: what reads the table never saw those rows.
                stage.table.tell_of_written(&mut closed, tick);
                stage.closed.insert(tick, closed);
                if let Some(next) = stage.hold.filter(|_| stage.table.is_blind()).map(|hold| hold + 1) {
                    // What it has not looked at is looked at then, whether anything comes or not.
                    open.entry(next).or_insert_with(|| cap.delayed(&next));
                }
            }
            stage.nanos += began.elapsed().as_nanos() as u64;
        }
    })
}
