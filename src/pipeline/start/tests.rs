//! What a start goes on from, by what checkpoints and progress records say; and each contradiction by its name.

use super::*;
use crate::{
    checkpoint::{
        Folder,
        entries::{self, Kind},
        manifest::EntriesFile,
    },
    config::{self, Need},
    ledger::{LedgerSave, SourceState},
    sink::progress::{Chain, Progress, SourceAt, TickAt},
};

const CONFIG: &str = "connections: { one: { kind: kafka, brokers: 'a:1' }, two: { kind: kafka, brokers: 'b:1' } }";
const DATAFLOW: &str = "
dataflow: d
owner: o@example.com
sources:
  s: { connection: one, topic: t, format: upsert-json, key: [id], columns: { id: bigint } }
targets:
  a: { key: [id], from: s, fields: { id: id } }
  b: { key: [id], from: s, fields: { id: id } }
outputs:
  - { table: a, connection: one, topic: out.a, format: upsert-json }
  - { table: b, connection: two, topic: out.b, format: upsert-json }
";

struct Bench {
    plan: Arc<Plan>,
    dir: tempfile::TempDir,
    folder: Folder,
}

impl Bench {
    fn new() -> Bench {
        let plan = config::load_texts(("config.yaml", CONFIG), &[("d.yaml", DATAFLOW)], &|_| None, Need::Connections).unwrap_or_else(|p| panic!("{p}"));
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        Bench { plan: Arc::new(plan), dir, folder }
    }

    /// A checkpoint of a tick, when this was the newest written one; `bytes` is what its file has.
    fn checkpoint(&self, tick: Tick, written: Tick, bytes: &[u8]) {
        let path = self.folder.new_entries(tick);
        let mut writer = entries::Writer::create(&path).unwrap();
        writer.block(Kind::Table, 0, b"").unwrap();
        let (length, checksum) = writer.finish().unwrap();
        if !bytes.is_empty() {
            std::fs::write(&path, bytes).unwrap();
        }
        let source = SourceState { positions: vec![(0, tick as i64)], identity: Some("t cluster-a".into()), ..SourceState::default() };
        let entries = vec![EntriesFile { name: path.file_name().unwrap().to_string_lossy().into(), bytes: length, checksum: format!("{checksum:032x}") }];
        let manifest = Manifest {
            progress: [("one".into(), written), ("two".into(), written)].into(),
            clusters: [("one".into(), "cluster-a".into())].into(),
            topics: [("one".into(), [("out.a".into(), "topic-1".into())].into())].into(),
            ..Manifest::of(&self.plan, LedgerSave { tick, sources: vec![source], ..LedgerSave::default() }, entries)
        };
        self.folder.publish(&manifest, 9).unwrap();
    }

    /// Progress records of ticks after `base`, up to `last`, one each.
    fn chain(&self, base: Tick, last: Tick) -> Option<Chain> {
        let of = fingerprint(&self.plan);
        self.chain_of(base, last, &of)
    }

    fn chain_of(&self, base: Tick, last: Tick, plan: &str) -> Option<Chain> {
        let at = |tick: Tick| {
            let start = if tick == 1 { vec![(0, 0)] } else { Vec::new() };
            let log = (tick == 2).then(|| "t cluster-a".to_string());
            TickAt { tick, sources: vec![SourceAt { positions: Some(vec![(0, tick as i64)]), start, log, ..SourceAt::default() }], ..TickAt::default() }
        };
        let record = |tick: Tick| Progress { tick, before: tick - 1, plan: plan.into(), ticks: vec![at(tick)], ..Progress::default() };
        Chain::of(&(base + 1..=last).map(record).collect::<Vec<_>>()).unwrap()
    }

    fn choose(&self, one: Option<Chain>, two: Option<Chain>) -> Result<Start, String> {
        let exact = vec![Exact::known(0, one, "cluster-a"), Exact::known(1, two, "cluster-b")];
        choose(&self.plan, Some(self.folder.path()), false, exact).map_err(|failure| failure.to_string())
    }
}

/// The restored tick, those that are made again, and from where each connection is written.
fn shown(start: &Start) -> (Option<Tick>, Vec<Tick>, Vec<From>) {
    let restored = start.restore.as_ref().map(|restore| restore.manifest.tick);
    (restored, start.again.iter().map(|sealed| sealed.tick).collect(), start.exact.iter().map(|(_, from)| *from).collect())
}

fn from(written: Tick) -> From {
    From { written, ..From::default() }
}

#[test]
fn with_nothing_everything_begins() {
    let bench = Bench::new();
    let start = bench.choose(None, None).unwrap();
    let begins = From { begins: true, ..From::default() };
    assert_eq!(shown(&start), (None, vec![], vec![begins, begins]));
    // One that is of no use is still older than what comes.
    bench.checkpoint(6, 6, b"something else");
    assert_eq!(shown(&bench.choose(None, None).unwrap()).0, None);
    assert_eq!((start.last, bench.choose(None, None).unwrap().last), (0, 6));
}

#[test]
fn a_checkpoint_and_the_ticks_since_also_when_one_connection_is_behind() {
    let bench = Bench::new();
    bench.checkpoint(5, 5, b"");
    let start = bench.choose(bench.chain(2, 9), bench.chain(4, 7)).unwrap();
    assert_eq!(shown(&start), (Some(5), vec![6, 7, 8, 9], vec![from(9), from(7)]));
    assert_eq!((start.last, &start.at[0]), (5, &At { positions: vec![(0, 5)], identity: Some("t cluster-a".into()), settled: vec![(0, 9)], ..At::default() }));
}

#[test]
fn without_a_checkpoint_all_ticks_from_where_reading_began() {
    let bench = Bench::new();
    let start = bench.choose(bench.chain(0, 3), bench.chain(0, 2)).unwrap();
    assert_eq!(shown(&start), (None, vec![1, 2, 3], vec![from(3), from(2)]));
    assert_eq!(start.at[0], At { positions: vec![(0, 0)], identity: Some("t cluster-a".into()), settled: vec![(0, 3)], ..At::default() });
}

#[test]
fn a_damaged_checkpoint_is_passed_over_while_the_records_go_back_so_far() {
    let bench = Bench::new();
    bench.checkpoint(3, 3, b"");
    bench.checkpoint(6, 6, b"something else");
    assert_eq!(shown(&bench.choose(bench.chain(2, 8), bench.chain(2, 8)).unwrap()).0, Some(3));
    let error = bench.choose(bench.chain(5, 8), bench.chain(2, 8)).err().unwrap();
    assert!(error.starts_with("PROGRESS_GAP") && error.contains("after tick 5") && error.contains("of tick 3"), "{error}");
}

#[test]
fn contradictions_have_names() {
    let bench = Bench::new();
    let error = bench.choose(bench.chain(4, 8), bench.chain(4, 8)).err().unwrap();
    assert!(error.starts_with("PROGRESS_GAP") && error.contains("there is no checkpoint"), "{error}");
    bench.checkpoint(5, 7, b"");
    for (one, why) in [(bench.chain(2, 6), "the newest is 6"), (None, "there are none")] {
        let error = bench.choose(one, bench.chain(2, 9)).err().unwrap();
        assert!(error.starts_with("PROGRESS_LOST") && error.contains(why), "{error}");
    }
    let elsewhere = vec![Exact::known(0, bench.chain(2, 9), "cluster-c"), Exact::known(1, bench.chain(2, 9), "cluster-b")];
    let error = choose(&bench.plan, Some(bench.folder.path()), false, elsewhere).err().unwrap().to_string();
    assert!(error.starts_with("CLUSTER_CHANGED") && error.contains("cluster-a") && error.contains("cluster-c"), "{error}");
    let with_topic = |id: Option<&str>| {
        let mut one = Exact::known(0, bench.chain(2, 9), "cluster-a");
        one.topics = id.map(|id| ("out.a".into(), id.into())).into_iter().collect();
        let exact = vec![one, Exact::known(1, bench.chain(2, 9), "cluster-b")];
        choose(&bench.plan, Some(bench.folder.path()), false, exact).map(|start| shown(&start).0).map_err(|failure| failure.to_string())
    };
    assert_eq!((with_topic(Some("topic-1")), with_topic(None)), (Ok(Some(5)), Ok(Some(5))));
    // What began anew after that checkpoint does not care what it knew of topics; nor does an output that is written in another way.
    let anew = Progress { tick: 9, begins: true, plan: fingerprint(&bench.plan), ticks: vec![TickAt { tick: 9, ..TickAt::default() }], ..Progress::default() };
    let exact = |plan: &Arc<Plan>, chain: Option<Chain>| {
        let mut one = Exact::known(0, chain.clone(), "cluster-a");
        one.topics = [("out.a".into(), "topic-2".into())].into();
        choose(plan, Some(bench.folder.path()), false, vec![one, Exact::known(1, chain, "cluster-b")]).map(|start| shown(&start).0)
    };
    assert_eq!(exact(&bench.plan, Chain::of(&[anew]).unwrap()).map_err(|failure| failure.to_string()), Ok(None));
    // So does one that was killed before it wrote anything, and one that was started again since then.
    let claim = Progress { begins: true, plan: fingerprint(&bench.plan), ..Progress::default() };
    let again = Progress { begins: false, ..claim.clone() };
    for claims in [vec![claim.clone()], vec![claim, again]] {
        assert_eq!(exact(&bench.plan, Chain::of(&claims).unwrap()).map_err(|failure| failure.to_string()), Ok(None));
    }
    let dataflow = DATAFLOW.replace("topic: out.a, format: upsert-json", "topic: out.a, format: debezium-json");
    let plan = config::load_texts(("config.yaml", CONFIG), &[("d.yaml", &dataflow)], &|_| None, Need::Connections).unwrap_or_else(|p| panic!("{p}"));
    let chain = bench.chain_of(2, 7, &fingerprint(&plan));
    assert_eq!(exact(&Arc::new(plan), chain).map_err(|failure| failure.to_string()), Ok(Some(5)));
    let error = with_topic(Some("topic-2")).unwrap_err();
    assert!(error.starts_with("OUTPUT_GONE") && error.contains("`out.a`"), "{error}");
    let twice = vec![Exact::known(0, None, "cluster-a"), Exact::known(1, None, "cluster-a")];
    let error = choose(&bench.plan, Some(bench.dir.path()), false, twice).err().unwrap().to_string();
    assert!(error.starts_with("CLUSTER_TWICE") && error.contains("`one` and `two`"), "{error}");
}

#[test]
fn another_plan_or_fresh_begins_anew_behind_all_that_was_written() {
    let bench = Bench::new();
    let begins = From { begins: true, ..From::default() };
    let start = bench.choose(bench.chain_of(2, 9, "another"), bench.chain_of(2, 8, "another")).unwrap();
    assert_eq!((shown(&start), start.last), ((None, vec![], vec![begins, begins]), 9));
    bench.checkpoint(12, 9, b"");
    let exact = vec![Exact::known(0, bench.chain(2, 9), "cluster-a"), Exact::known(1, bench.chain(2, 9), "cluster-b")];
    let start = choose(&bench.plan, Some(bench.folder.path()), true, exact).unwrap();
    assert_eq!((shown(&start), start.last), ((None, vec![], vec![begins, begins]), 12));
}

/// The same bench with another mapping of one target.
fn changed(bench: &Bench) -> Arc<Plan> {
    let dataflow = DATAFLOW.replace("a: { key: [id], from: s, fields: { id: id } }", "a: { key: [id], from: s, where: id > 0, fields: { id: id } }");
    let plan = config::load_texts(("config.yaml", CONFIG), &[("d.yaml", &dataflow)], &|_| None, Need::Connections).unwrap_or_else(|p| panic!("{p}"));
    assert_ne!(fingerprint(&plan), fingerprint(&bench.plan));
    Arc::new(plan)
}

#[test]
fn another_mapping_goes_on_from_a_checkpoint_that_knows_all_that_was_written() {
    let bench = Bench::new();
    bench.checkpoint(5, 5, b"");
    let plan = changed(&bench);
    let choose = |one, two| {
        let exact = vec![Exact::known(0, one, "cluster-a"), Exact::known(1, two, "cluster-b")];
        super::choose(&plan, Some(bench.folder.path()), false, exact).map_err(|failure| failure.to_string()).unwrap()
    };
    let start = choose(bench.chain(2, 5), bench.chain(2, 5));
    assert_eq!(shown(&start), (Some(5), vec![], vec![from(5), from(5)]));
    let [again] = &start.rebuild[..] else { panic!("one source is read again: {:?}", start.rebuild) };
    assert_eq!((again.source, &again.until[..], again.sides.len(), again.emptied.len()), (0, &[(0, 5)][..], 1, 1));
    let again = vec![(0, 0, 5)];
    assert_eq!(start.at[0], At { positions: vec![], identity: Some("t cluster-a".into()), settled: vec![(0, 5)], again, ..At::default() });
    // Killed after that, with ticks that follow from the new mapping, it does the same once more, and makes them again.
    let of = fingerprint(&plan);
    let both = |base: Tick, last: Tick| {
        let (old, new) = (bench.chain_of(base, 5, &fingerprint(&bench.plan)), bench.chain_of(5, last, &of));
        old.map(|_| new.unwrap())
    };
    let start = choose(both(2, 8), both(2, 7));
    assert_eq!(shown(&start), (Some(5), vec![6, 7, 8], vec![from(8), from(7)]));
    assert_eq!(start.rebuild.len(), 1);
    // Ticks that are written, are in no checkpoint, and follow from the old mapping can't be made again.
    let begins = From { begins: true, ..From::default() };
    let start = choose(bench.chain(2, 5), bench.chain(2, 6));
    assert_eq!((shown(&start), start.last), ((None, vec![], vec![begins, begins]), 6));
}
