//! Exchange codecs on the same records: the changes of the reference workload's orders, as workers exchange them.
//!
//! `cargo bench --bench codecs`. One thread; ns per record, the median of nine rounds over 320 thousand records in parcels
//! of 1,024. *build*: from borrowed parts to the container that is exchanged; *serialise*: the container to bytes;
//! *view*: read every record from the bytes without owning it; *owned*: the bytes to vectors of their own.
//!
//! Abomonation is here to be measured and nowhere else. It is unsound (RUSTSEC-2021-0120): it writes structs with their
//! padding and their pointers, relies on a layout that Rust does not promise, ignores alignment, and believes every length
//! it reads, so that a damaged frame is damaged memory.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::{hint::black_box, time::Instant};

use columnar::{Borrow, BorrowedOf, Columnar, FromBytes, Index, Len, Push, bytes::indexed};
use tieout::{
    engine::table::change::{Op, Parcel, push_with, read},
    row::{Field, RowWriter, Type, Value, pack_value, push_key},
};

const RECORDS: usize = 320 * 1024;
const PARCEL: usize = 1024;
const ROUNDS: usize = 9;

/// Operation, source time, key, value: what a change is, in vectors of its own.
type Record = (u8, i64, Vec<u8>, Vec<u8>);

struct Codec {
    name: &'static str,
    /// `[build, serialise, view, owned]` in ns, and bytes a record.
    ns: [Vec<f64>; 4],
    bytes: usize,
}

fn records() -> Vec<Record> {
    let mut seed = 7u64;
    let mut below = |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    (0..RECORDS)
        .map(|n| {
            let (mut key, mut value, mut field) = (Vec::new(), Vec::new(), Vec::new());
            pack_value(&mut field, &Value::Text(format!("SO-{}", below(1_000_000))));
            push_key(&mut key, Type::Varchar(0), Field::Packed(&field), true);
            let mut row = RowWriter::new(&mut value, 6);
            let values = [
                Value::Int(below(100_000) as i64),
                Value::Text(["confirmed", "cancelled", "open"][below(3) as usize].into()),
                Value::Decimal(i128::from(below(10_000_000))),
                Value::Text(["EUR", "USD", "CNY"][below(3) as usize].into()),
                Value::Date(20_000 + below(365) as i32),
                Value::Text(format!("user{}", below(500))),
            ];
            for value in values {
                field.clear();
                pack_value(&mut field, &value);
                row.packed(&field);
            }
            row.finish();
            (0, 1_780_000_000_000 + n as i64, key, value)
        })
        .collect()
}

/// Adds one round: build, serialise, view, owned.
fn round<C>(
    codec: &mut Codec,
    parcels: &[&[Record]],
    build: impl Fn(&[Record]) -> C,
    serialise: impl Fn(&C, &mut Vec<u8>),
    view: impl Fn(&[u8]) -> u64,
    owned: impl Fn(&mut Vec<u8>) -> Vec<Record>,
) {
    let per_record = |began: Instant| began.elapsed().as_nanos() as f64 / RECORDS as f64;
    let began = Instant::now();
    let built: Vec<C> = parcels.iter().map(|p| build(p)).collect();
    codec.ns[0].push(per_record(began));
    let mut bytes: Vec<Vec<u8>> = parcels.iter().map(|_| Vec::with_capacity(PARCEL * 256)).collect();
    for buffer in &mut bytes {
        // The pages are there before the clock starts.
        buffer.resize(PARCEL * 256, 0);
        buffer.clear();
    }
    let began = Instant::now();
    for (built, bytes) in built.iter().zip(&mut bytes) {
        serialise(built, bytes);
    }
    codec.ns[1].push(per_record(began));
    codec.bytes = bytes.iter().map(Vec::len).sum();
    let began = Instant::now();
    black_box(bytes.iter().map(|bytes| view(bytes)).sum::<u64>());
    codec.ns[2].push(per_record(began));
    let began = Instant::now();
    let all: Vec<Vec<Record>> = bytes.iter_mut().map(&owned).collect();
    codec.ns[3].push(per_record(began));
    assert!(all.iter().flatten().eq(parcels.iter().copied().flatten()), "{} gives back what it got", codec.name);
}

/// Something of every part, so that nothing is skipped.
fn touch(op: u8, time: i64, key: &[u8], value: &[u8]) -> u64 {
    u64::from(op) + time as u64 + key.len() as u64 + u64::from(*key.last().unwrap_or(&0)) + value.len() as u64 + u64::from(*value.last().unwrap_or(&0))
}

fn main() {
    let records = records();
    let parcels: Vec<&[Record]> = records.chunks(PARCEL).collect();
    let payload: usize = records.iter().map(|(_, _, key, value)| key.len() + value.len()).sum();
    let mut codecs = ["length-prefixed run", "columnar 0.13", "bincode 1.3", "abomonation 0.7"].map(|name| Codec { name, ns: Default::default(), bytes: 0 });
    for _ in 0..ROUNDS {
        let [run, columnar, bincode, abomonation] = &mut codecs;
        round(
            run,
            &parcels,
            |records| {
                let mut parcel = Parcel { run: Vec::with_capacity(PARCEL * 64), ..Parcel::default() };
                records.iter().for_each(|(_, time, key, value)| push_with(&mut parcel.run, Op::Set, *time, key, value));
                parcel
            },
            // As timely sends it: the parcel by serde, the run as bytes.
            |parcel, out| bincode::serialize_into(out, parcel).expect("memory takes it"),
            |bytes| read(run_of(bytes)).map(|c| touch(c.op as u8, c.time, c.key, c.value)).sum(),
            |bytes| read(run_of(bytes)).map(|c| (c.op as u8, c.time, c.key.to_vec(), c.value.to_vec())).collect(),
        );
        type Columns = <Record as Columnar>::Container;
        fn words(bytes: &[u8]) -> &[u64] {
            // SAFETY: any eight bytes are a u64; `align_to` keeps to the aligned ones, and here all are.
            let (head, words, tail) = unsafe { bytes.align_to::<u64>() };
            assert!(head.is_empty() && tail.is_empty(), "buffers of the bench are aligned");
            words
        }
        round(
            columnar,
            &parcels,
            |records| {
                let mut columns = Columns::default();
                records.iter().for_each(|record| columns.push(record));
                columns
            },
            |columns, out| {
                let mut words = Vec::<u64>::with_capacity(PARCEL * 32);
                indexed::encode(&mut words, &columns.borrow());
                words.iter().for_each(|word| out.extend_from_slice(&word.to_ne_bytes()));
            },
            |bytes| {
                let columns = BorrowedOf::<Record>::from_bytes(&mut indexed::decode(words(bytes)));
                (0..columns.len())
                    .map(|at| {
                        let (op, time, key, value) = columns.get(at);
                        touch(*op, *time, key.as_slice(), value.as_slice())
                    })
                    .sum()
            },
            |bytes| {
                let columns = BorrowedOf::<Record>::from_bytes(&mut indexed::decode(words(bytes)));
                (0..columns.len()).map(|at| Record::into_owned(columns.get(at))).collect()
            },
        );
        round(
            bincode,
            &parcels,
            <[Record]>::to_vec,
            |records, out| bincode::serialize_into(out, records).expect("memory takes it"),
            // There is no view; what there is is the owned form.
            |bytes| {
                bincode::deserialize::<Vec<Record>>(bytes).expect("it was written so").iter().map(|(op, time, key, value)| touch(*op, *time, key, value)).sum()
            },
            |bytes| bincode::deserialize(bytes).expect("it was written so"),
        );
        round(
            abomonation,
            &parcels,
            <[Record]>::to_vec,
            // SAFETY: none that holds in general (see the module); here writer and reader are one binary, the buffers are
            // aligned, and nothing else ever sees the bytes.
            |records, out| unsafe { abomonation::encode(records, out).expect("memory takes it") },
            |bytes| {
                let mut bytes = bytes.to_vec();
                // SAFETY: as above.
                let (records, _) = unsafe { abomonation::decode::<Vec<Record>>(&mut bytes).expect("it was written so") };
                records.iter().map(|(op, time, key, value)| touch(*op, *time, key, value)).sum()
            },
            |bytes| {
                // SAFETY: as above.
                let (records, _) = unsafe { abomonation::decode::<Vec<Record>>(bytes).expect("it was written so") };
                records.clone()
            },
        );
    }
    println!("{RECORDS} records, {:.1} bytes of key and value each, parcels of {PARCEL}; ns per record, medians of {ROUNDS}", payload as f64 / RECORDS as f64);
    println!("{:<22} {:>7} {:>10} {:>7} {:>7} {:>9}", "codec", "build", "serialise", "view", "owned", "B/record");
    for mut codec in codecs {
        for ns in &mut codec.ns {
            ns.sort_by(f64::total_cmp);
        }
        let [build, serialise, view, owned] = codec.ns.map(|ns| ns[ROUNDS / 2]);
        println!("{:<22} {build:>7.1} {serialise:>10.1} {view:>7.1} {owned:>7.1} {:>9.1}", codec.name, codec.bytes as f64 / RECORDS as f64);
    }
}

/// The run within a serialised parcel: what timely hands on is the parcel, its run copied once.
fn run_of(bytes: &[u8]) -> &[u8] {
    let parcel_head = 8 + 4 + 1 + 8;
    &bytes[parcel_head..]
}
