//! What encryption costs between two processes of a cluster: connections as they are and encrypted, in turn, in one go.
//!
//! `cargo bench --bench cluster`. Both processes are in this one, over loopback, so everything that two machines would do is done
//! here, by the same cores. *one way*: what a link carries in one direction, MiB/s, and the CPU seconds of both ends for a GiB;
//! *both ways*: in both at once, their sum; *there and back*: 64 bytes and an answer, the median; *dataflow*: changes of two
//! sources over two processes of one worker each, until the last tick is closed everywhere, changes/s, of which half go to the
//! other process. The median of the rounds (`-- --rounds 5`).

#[path = "harness.rs"]
mod harness;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::unbounded;
use harness::{cpu_seconds, median, number};
use tieout::{
    cluster::{Alike, Link, Mesh},
    config::{self, Need},
    engine::{Chunk, Command, Payload, workers::Workers},
    plan::{Plan, cluster::Cluster},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: usize = 1 << 20;
/// As much as timely writes in one go.
const PIECE: usize = 64 << 10;
const TURNS: usize = 20_000;
const TICKS: u64 = 200;
const CHANGES: u64 = 5_000;

const DATAFLOW: &str = "
dataflow: spread
sources:
  orders: { connection: bus, topic: o, format: upsert-json, key: [id], columns: { id: bigint, customer: bigint, amount: bigint } }
  booked: { connection: bus, topic: b, format: upsert-json, key: [id], columns: { id: bigint, amount: bigint } }
targets:
  expected: { key: [id], sql: 'select o.id as id, o.amount as amount from orders o join (select customer, count(*) as n from orders group by customer) t on t.customer = o.customer' }
comparisons:
  booked_orders: { expected: expected, actual: booked }
";

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().name("end".into()).spawn(body).expect("a thread starts")
}

fn clusters(encryption: &str) -> Vec<Cluster> {
    let held: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let list: Vec<String> = held.iter().map(|l| l.local_addr().expect("it is bound").to_string()).collect();
    let file = format!("name: bench\nsecret: ${{env:SECRET}}\nprocesses: [{}]\nencryption: {encryption}\n", list.join(", "));
    let env = |_: &str| Some("nobody knows this secret".to_string());
    (0..2).map(|index| config::cluster_text(("cluster.yaml", &file), &env, Some(index)).unwrap_or_else(|problems| panic!("{problems}"))).collect()
}

fn meshes(encryption: &str) -> Vec<Mesh> {
    let alike = Alike { threads: 1, plan: "p".into() };
    let connect = |cluster: Cluster| {
        let alike = alike.clone();
        spawn(move || Mesh::connect(&cluster, &alike, |lost| panic!("{lost}")).unwrap_or_else(|error| panic!("{error}")))
    };
    let joins: Vec<_> = clusters(encryption).into_iter().map(connect).collect();
    joins.into_iter().map(|join| join.join().expect("no panic")).collect()
}

fn leave(meshes: Vec<Mesh>) {
    let leaving: Vec<_> = meshes.into_iter().map(|mesh| spawn(move || mesh.leave())).collect();
    leaving.into_iter().for_each(|leaving| leaving.join().expect("no panic"));
}

/// Sends and receives so many bytes over each pair of ends.
fn carry(ends: Vec<(Link, Link)>, bytes: usize) {
    let mut threads = Vec::new();
    for (mut from, mut to) in ends {
        threads.push(spawn(move || {
            let piece: Vec<u8> = (0..PIECE).map(|at| at as u8 | 1).collect();
            (0..bytes / PIECE).for_each(|_| from.write_all(&piece).expect("it is taken"));
        }));
        threads.push(spawn(move || {
            let (mut buffer, mut read) = (vec![0; MIB], 0);
            while read < bytes {
                read += to.read(&mut buffer).expect("it comes");
            }
        }));
    }
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

fn there_and_back(mut near: Link, mut far: Link) -> f64 {
    let answers = spawn(move || {
        let mut said = [0; 64];
        for _ in 0..TURNS {
            far.read_exact(&mut said).expect("it comes");
            far.write_all(&said).expect("it is taken");
        }
    });
    let mut said = [1; 64];
    let turns = (0..TURNS).map(|_| {
        let began = Instant::now();
        near.write_all(&said).expect("it is taken");
        near.read_exact(&mut said).expect("it comes");
        began.elapsed().as_secs_f64() * 1e6
    });
    let turns = median(turns.collect());
    answers.join().expect("no panic");
    turns
}

/// Changes per second of a dataflow over both processes, the payloads made beforehand.
fn dataflow(mut meshes: Vec<Mesh>) -> f64 {
    let plan =
        config::load_texts(("bench.yaml", "connections: { bus: { kind: kafka, brokers: b } }"), &[("spread.yaml", DATAFLOW)], &|_| None, Need::Connections);
    let plan: Arc<Plan> = Arc::new(plan.unwrap_or_else(|problems| panic!("{problems}")));
    let (to, reports) = unbounded();
    let processes: Vec<_> = (0..2_usize)
        .map(|process| {
            let (plan, to, links) = (Arc::clone(&plan), to.clone(), meshes[process].links());
            spawn(move || {
                let chunks: Vec<Chunk> = (0..TICKS)
                    .map(|tick| {
                        let text = |n: u64| {
                            let id = (tick * CHANGES + n) % 100_000;
                            (format!(r#"{{"id":{id}}}"#), format!(r#"{{"id":{id},"customer":{},"amount":{tick}}}"#, id % 1000))
                        };
                        let texts: Vec<(String, String)> = (0..CHANGES).map(text).collect();
                        let messages: Vec<(Option<&[u8]>, Option<&[u8]>)> = texts.iter().map(|(k, v)| (Some(k.as_bytes()), Some(v.as_bytes()))).collect();
                        let offset = (tick * CHANGES) as i64;
                        let payload = Payload::messages(&messages, offset, Some(1_000));
                        Chunk { source: process, partition: 0, payload, source_time: None, next: offset + CHANGES as i64 }
                    })
                    .collect();
                let workers = Workers::start_among(plan, to, process, links).expect("the connections hold");
                let began = Instant::now();
                for (seq, chunk) in chunks.into_iter().enumerate() {
                    workers.chunk(chunk, seq as u64, None);
                    workers.all(&Command::Seal { tick: seq as u64 + 1, hold: false, shown: false });
                }
                (workers, began)
            })
        })
        .collect();
    let workers: Vec<(Workers, Instant)> = processes.into_iter().map(|process| process.join().expect("no panic")).collect();
    let began = workers.iter().map(|(_, began)| *began).min().expect("two");
    for _ in 0..2 * TICKS {
        reports.recv_timeout(Duration::from_secs(120)).expect("every worker reports every tick");
    }
    let took = began.elapsed().as_secs_f64();
    let stopping: Vec<_> = workers.into_iter().map(|(workers, _)| spawn(|| workers.stop().expect("no worker panicked"))).collect();
    stopping.into_iter().for_each(|stopping| stopping.join().expect("no panic"));
    leave(meshes);
    (2 * TICKS * CHANGES) as f64 / took
}

fn main() {
    let (rounds, mib) = (number("rounds", 3), number("mib", 1024) as usize);
    let mut measured: [[Vec<f64>; 5]; 2] = Default::default();
    for _ in 0..rounds {
        for (of, encryption) in measured.iter_mut().zip(["none", "tls"]) {
            let mut all = meshes(encryption);
            let mut ends: Vec<Link> = all.iter_mut().flat_map(|mesh| mesh.links().into_iter().flatten()).collect();
            let (b, a) = (ends.pop().expect("two"), ends.pop().expect("two"));
            let clone = |link: &Link| timely::communication::allocator::zero_copy::stream::Stream::try_clone(link).expect("a socket");
            let (began, cpu) = (Instant::now(), cpu_seconds());
            carry(vec![(clone(&a), clone(&b))], mib * MIB);
            of[0].push(mib as f64 / began.elapsed().as_secs_f64());
            of[1].push((cpu_seconds() - cpu) / mib as f64 * 1024.0);
            let began = Instant::now();
            carry(vec![(clone(&a), clone(&b)), (clone(&b), clone(&a))], mib / 2 * MIB);
            of[2].push(mib as f64 / began.elapsed().as_secs_f64());
            of[3].push(there_and_back(a, b));
            leave(all);
            of[4].push(dataflow(meshes(encryption)));
        }
    }
    println!(
        "{:<12} {:>14} {:>12} {:>16} {:>18} {:>18}",
        "encryption", "one way MiB/s", "CPU s/GiB", "both ways MiB/s", "there and back µs", "dataflow changes/s"
    );
    for (name, of) in ["none", "tls"].iter().zip(measured) {
        let [one, cpu, both, turn, flow] = of.map(median);
        println!("{name:<12} {one:>14.0} {cpu:>12.2} {both:>16.0} {turn:>18.1} {flow:>18.0}");
    }
}
