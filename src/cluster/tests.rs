//! Meshes over real sockets of this machine, strangers at their doors, and any bytes at all.

use std::{
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
};

use proptest::prelude::*;

use super::{hello::Refused, *};
use crate::{plan::cluster::Secret, telemetry};

const SECRET: &str = "a secret of some length";

/// The tests of these names, with connections as they are and with encrypted ones.
macro_rules! both {
    ($($name:ident),*) => {
        mod plain {
            $(#[test] fn $name() { super::$name(false); })*
        }
        mod encrypted {
            $(#[test] fn $name() { super::$name(true); })*
        }
    };
}

both!(
    all_find_each_other_and_agree,
    one_that_does_not_fit_is_named_by_both,
    a_process_that_starts_anew_takes_its_own_place,
    one_that_gives_up_says_why,
    one_that_leaves_waits_for_no_notes,
    who_has_said_farewell_is_not_missed,
    strangers_are_refused_and_keep_nobody_out,
    one_that_dies_or_hangs_is_named,
    one_that_hangs_makes_nobody_else_silent
);

/// Listeners of so many processes, and the clusters that their files describe.
fn cluster(processes: usize, encrypts: bool) -> Vec<(TcpListener, Cluster)> {
    let listeners: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let addresses: Vec<String> = listeners.iter().map(|l| l.local_addr().expect("it is bound").to_string()).collect();
    let of = |(index, listener): (usize, TcpListener)| {
        let cluster = Cluster {
            name: "test".into(),
            secret: Secret::new(SECRET),
            encrypts,
            processes: addresses.clone(),
            index,
            listen: addresses[index].clone(),
            hello_max: Duration::from_secs(1),
            silence_max: Duration::from_secs(2),
            start_max: Duration::from_secs(20),
            strangers_max: 16,
        };
        (listener, cluster)
    };
    listeners.into_iter().enumerate().map(of).collect()
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    std::thread::Builder::new().name("process".into()).spawn(body).expect("a thread starts")
}

fn alike(plan: &str) -> Alike {
    Alike { threads: 1, plan: plan.into() }
}

fn never(lost: Lost) {
    panic!("{lost}");
}

fn join(listener: TcpListener, cluster: Cluster, plan: &'static str) -> JoinHandle<Result<Mesh, MeshError>> {
    spawn(move || Mesh::connect_on(listener, &cluster, &alike(plan), never))
}

/// All of them, since one waits for the others.
fn leave(meshes: Vec<Mesh>) {
    let leaving: Vec<_> = meshes.into_iter().map(|mesh| spawn(move || mesh.leave())).collect();
    leaving.into_iter().for_each(|leaving| leaving.join().expect("no panic"));
}

/// What the second process of two says of itself to the first.
fn card(encrypts: bool) -> Card {
    Card {
        wants: Use::Control,
        encrypts,
        from: 1,
        to: 0,
        processes: 2,
        threads: 1,
        boot: hello::random(),
        cluster: "test".into(),
        version: build::version(),
        plan: "p".into(),
    }
}

fn strangers(code: &str) -> u64 {
    telemetry::metrics().strangers.with_label_values(&[code]).get()
}

fn all_find_each_other_and_agree(encrypts: bool) {
    let joins: Vec<_> = cluster(3, encrypts).into_iter().map(|(listener, cluster)| join(listener, cluster, "p")).collect();
    let mut meshes: Vec<Mesh> = joins.into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
    assert!(meshes.iter().all(|mesh| mesh.run() == meshes[0].run()));
    for (index, mesh) in meshes.iter_mut().enumerate() {
        let links: Vec<bool> = mesh.links().iter().map(Option::is_some).collect();
        assert_eq!(links, (0..3).map(|peer| peer != index).collect::<Vec<_>>());
    }
    meshes[2].say(0, b"from two");
    meshes[1].say(0, &vec![7; 3 << 20]);
    let mut heard: Vec<_> = (0..2).map(|_| meshes[0].notes().recv_timeout(Duration::from_secs(5)).expect("it is heard")).collect();
    heard.sort();
    assert_eq!(heard, [(1, vec![7; 3 << 20]), (2, b"from two".to_vec())]);
    // Longer than anybody may be silent, and nobody is missed; then all leave, and nobody is missed either.
    std::thread::sleep(Duration::from_millis(2500));
    leave(meshes);
}

fn one_that_does_not_fit_is_named_by_both(encrypts: bool) {
    let mut all = cluster(2, encrypts);
    for (_, cluster) in &mut all {
        cluster.start_max = Duration::from_secs(3);
    }
    let joins: Vec<_> = all.into_iter().zip(["plan-a", "plan-b"]).map(|((listener, cluster), plan)| join(listener, cluster, plan)).collect();
    for (index, join) in joins.into_iter().enumerate() {
        let error = join.join().expect("no panic").err().expect("they do not fit");
        let text = error.to_string();
        assert!(error.code == "PEER_DIFFERS" && error.retry && text.contains("plan-a") && text.contains("plan-b"), "{text}");
        assert!(text.contains(&format!("process {}", 1 - index)), "{text}");
    }
}

fn a_process_that_starts_anew_takes_its_own_place(encrypts: bool) {
    let mut all = cluster(3, encrypts);
    let two = all.pop().expect("three").1;
    let one = all.pop().expect("three").1;
    let (listener, zero) = all.pop().expect("three");
    let zero_joins = join(listener, zero, "p");
    // It calls, proves who it is, and is gone, as a process that is killed while it waits for another one.
    let boots: Vec<_> = (0..2)
        .map(|_| {
            let card = Card {
                wants: Use::Control,
                encrypts,
                from: 1,
                to: 0,
                processes: 3,
                threads: 1,
                boot: hello::random(),
                cluster: "test".into(),
                version: build::version(),
                plan: "p".into(),
            };
            dial::call(&one, &card, 0).expect("it is let in")
        })
        .map(|called| called.card.boot)
        .collect();
    assert_eq!(boots[0], boots[1], "the one that was called is the same");
    let bind = |cluster: &Cluster| TcpListener::bind(&cluster.listen).expect("its port is free again");
    let joins = [zero_joins, join(bind(&one), one, "p"), join(bind(&two), two, "p")];
    let meshes: Vec<Mesh> = joins.into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
    assert!(meshes.iter().all(|mesh| mesh.run() == meshes[0].run()));
    leave(meshes);
}

fn one_that_gives_up_says_why(encrypts: bool) {
    let (said, heard) = crossbeam_channel::bounded(1);
    let mut all = cluster(2, encrypts);
    let (listener, one) = all.pop().expect("two");
    let (first, zero) = all.pop().expect("two");
    let zero = spawn(move || Mesh::connect_on(first, &zero, &alike("p"), move |lost| drop(said.send(lost))));
    let one = join(listener, one, "p").join().expect("no panic").expect("it joins");
    let zero = zero.join().expect("no panic").expect("it joins");
    one.give_up(78, "source `orders` is gone");
    let lost = heard.recv_timeout(Duration::from_secs(5)).expect("it is told");
    assert!(lost.peer == 1 && lost.why.contains("source `orders` is gone") && lost.exit == 78, "{lost}");
    one.leave();
    zero.leave();
}

/// Though more is said to it than is taken, and nobody takes anything any more.
fn one_that_leaves_waits_for_no_notes(encrypts: bool) {
    let joins: Vec<_> = cluster(2, encrypts).into_iter().map(|(listener, cluster)| join(listener, cluster, "p")).collect();
    let mut meshes: Vec<Mesh> = joins.into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
    for n in 0..=pulse::NOTES_MAX {
        meshes[1].say(0, &n.to_be_bytes());
    }
    while meshes[0].notes().len() < pulse::NOTES_MAX {
        std::thread::sleep(Duration::from_millis(1));
    }
    let one = meshes.pop().expect("two");
    meshes[0].leave();
    assert_eq!(meshes[0].notes().len(), pulse::NOTES_MAX);
    one.leave();
}

/// Who hears a little later that the run is over does not take it for lost, and goes on to hear that.
fn who_has_said_farewell_is_not_missed(encrypts: bool) {
    let joins: Vec<_> = cluster(2, encrypts).into_iter().map(|(listener, cluster)| join(listener, cluster, "p")).collect();
    let mut meshes: Vec<Mesh> = joins.into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
    let mut link = meshes[1].links().remove(0).expect("to the other one");
    drop(meshes[0].links());
    meshes[0].say(1, b"the run is over");
    meshes.remove(0).leave();
    // The link ends in the middle, and never says so: `never` would panic.
    spawn(move || link.read(&mut [0; 8]));
    assert_eq!(meshes[0].notes().recv_timeout(Duration::from_secs(5)).expect("it is heard").1, b"the run is over");
    std::thread::sleep(Duration::from_millis(500));
    assert!(meshes[0].fate.has_left(0) && !meshes[0].fate.has_lost());
    meshes[0].leave();
}

/// Nothing of this keeps the cluster from coming together, or is let in.
fn strangers_are_refused_and_keep_nobody_out(encrypts: bool) {
    let mut all = cluster(2, encrypts);
    let address = all[0].1.processes[0].clone();
    let (listener, one) = all.pop().expect("two");
    let (first, zero) = all.pop().expect("two");
    let before: Vec<u64> = [door::MALFORMED, door::UNPROVEN, door::SLOW, door::FLOOD].map(strangers).to_vec();
    let zero_joins = join(first, zero, "p");
    // Bytes of no meaning; nothing at all; a hello that never ends; a secret of somebody else.
    let mut noise = TcpStream::connect(&address).expect("it listens");
    let _ = noise.write_all(&[0xff; 4096]);
    let silent = TcpStream::connect(&address).expect("it listens");
    let mut slow = TcpStream::connect(&address).expect("it listens");
    let _ = slow.write_all(&[0, 200, b'T']);
    let other = Cluster { secret: Secret::new("a secret of another length"), hello_max: Duration::from_secs(5), ..one.clone() };
    let card = card(encrypts);
    let refused = dial::call(&other, &card, 0).err().expect("it is refused");
    assert!(refused.why.contains("secret"), "{refused:?}");
    std::thread::sleep(Duration::from_millis(1300));
    // A flood that goes on while the other process comes.
    let on = Arc::new(AtomicBool::new(true));
    let floods: Vec<_> = (0..2)
        .map(|_| {
            let (address, on) = (address.clone(), Arc::clone(&on));
            spawn(move || {
                let mut held = std::collections::VecDeque::new();
                while on.load(Ordering::Relaxed) {
                    held.extend(TcpStream::connect(&address));
                    if held.len() > 200 {
                        held.pop_front();
                    }
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    let one_joins = join(listener, one, "p");
    let meshes: Vec<Mesh> = [zero_joins, one_joins].into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
    on.store(false, Ordering::Relaxed);
    floods.into_iter().for_each(|flood| flood.join().expect("no panic"));
    // The door is open later, too, and lets nobody in.
    let again = dial::call(&Cluster { secret: Secret::new(SECRET), ..other.clone() }, &card, 0).err().expect("it is refused");
    assert!(again.why.contains("runs with others"), "{again:?}");
    let after = [door::MALFORMED, door::UNPROVEN, door::SLOW, door::FLOOD].map(strangers);
    assert!(after.iter().zip(&before).all(|(after, before)| after > before), "{before:?} {after:?}");
    drop((noise, silent, slow));
    leave(meshes);
}

#[test]
fn no_more_than_some_strangers_are_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut door = Door::new(listener, Secret::new(SECRET), Duration::from_secs(5), 8).expect("it opens");
    let held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    assert!(door.look().is_empty());
    assert_eq!(door.strangers(), 8);
    drop(held);
}

/// Who is lost, and why, as the other process notices it.
fn lost_by(encrypts: bool, end: impl FnOnce(Wire, Wire)) -> Lost {
    let mut all = cluster(2, encrypts);
    let (_, one) = all.pop().expect("two");
    let (listener, zero) = all.pop().expect("two");
    let (said, heard) = crossbeam_channel::bounded(1);
    let joins = spawn(move || Mesh::connect_on(listener, &zero, &alike("p"), move |lost| drop(said.send(lost))));
    let card = card(encrypts);
    let mut called = dial::call(&one, &card, 0).expect("it is let in");
    called.control.write_all(&Frame::Roll(hello::run_of("test", &[called.card.boot, card.boot])).bytes()).expect("it is heard");
    let mesh = joins.join().expect("no panic").expect("it joins");
    end(called.control, called.data);
    let lost = heard.recv_timeout(Duration::from_secs(10)).expect("it is noticed");
    mesh.leave();
    lost
}

fn one_that_dies_or_hangs_is_named(encrypts: bool) {
    let died = lost_by(encrypts, |control, data| drop((control, data)));
    assert!(died.code == LOST && died.peer == 1 && died.exit == AGAIN && died.to_string().contains("process 1"), "{died}");
    let began = Instant::now();
    let mut kept = None;
    let hangs = lost_by(encrypts, |control, data| kept = Some((control, data)));
    assert!(hangs.code == SILENT && hangs.peer == 1, "{hangs}");
    assert!((2..20).contains(&began.elapsed().as_secs()), "after {:?}", began.elapsed());
    // What is not read when a connection ends takes with it what was said before: these stay open until they are heard.
    let gave_up = lost_by(encrypts, |mut control, data| {
        control.write_all(&Frame::GivesUp(75, "it lost process 7".into()).bytes()).expect("it is heard");
        kept = Some((control, data));
    });
    assert!(gave_up.why.contains("process 7"), "{gave_up}");
    let nonsense = lost_by(encrypts, |mut control, data| {
        control.write_all(&[9; 100]).expect("it is heard");
        kept = Some((control, data));
    });
    assert_eq!(nonsense.code, LOST);
}

/// Even when so much is said to one that hangs that nothing more can be: nobody takes who waits for it for the one who hangs.
fn one_that_hangs_makes_nobody_else_silent(encrypts: bool) {
    let mut all = cluster(3, encrypts);
    let two = all.pop().expect("three").1;
    let (said, heard) = unbounded();
    let joins: Vec<_> = all
        .into_iter()
        .map(|(listener, cluster)| {
            let (said, index) = (said.clone(), cluster.index);
            spawn(move || Mesh::connect_on(listener, &cluster, &alike("p"), move |lost| drop(said.send((index, lost)))))
        })
        .collect();
    let card = Card {
        wants: Use::Control,
        encrypts,
        from: 2,
        to: 0,
        processes: 3,
        threads: 1,
        boot: hello::random(),
        cluster: "test".into(),
        version: build::version(),
        plan: "p".into(),
    };
    let mut called: Vec<Called> = (0..2).map(|to| dial::call(&two, &card, to).expect("it is let in")).collect();
    let roll = Frame::Roll(hello::run_of("test", &[called[0].card.boot, called[1].card.boot, card.boot])).bytes();
    called.iter_mut().for_each(|called| called.control.write_all(&roll).expect("it is heard"));
    let meshes: Vec<Mesh> = joins.into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
    let fate = Arc::clone(&meshes[0].fate);
    let says = spawn(move || fate.say(2, &Frame::Note(vec![0; 32 << 20])));
    for _ in 0..2 {
        let (index, lost) = heard.recv_timeout(Duration::from_secs(10)).expect("it is noticed");
        assert!(lost.peer == 2 || lost.why.contains("lost process 2"), "process {index}: {lost}");
    }
    says.join().expect("no panic");
    meshes.iter().for_each(Mesh::leave);
}

/// Somebody on the way between the first process and who calls it: where to call, and what passed there.
fn tap(to: &str) -> (String, Arc<std::sync::Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (address, to) = (listener.local_addr().expect("it is bound").to_string(), to.to_string());
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let said = Arc::clone(&heard);
    spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Ok(far) = TcpStream::connect(&to) else { continue };
            let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
            for (mut from, mut to) in [(clone(&near), clone(&far)), (far, near)] {
                let said = Arc::clone(&said);
                spawn(move || {
                    let mut piece = vec![0; 64 << 10];
                    while let Ok(n @ 1..) = from.read(&mut piece) {
                        said.lock().expect("no panic").extend_from_slice(&piece[..n]);
                        if to.write_all(&piece[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (address, heard)
}

#[test]
fn who_listens_on_the_way_reads_nothing_of_what_is_encrypted() {
    for encrypts in [false, true] {
        let mut all = cluster(2, encrypts);
        let (address, heard) = tap(&all[0].1.listen);
        all[1].1.processes[0] = address;
        let joins: Vec<_> = all.into_iter().map(|(listener, cluster)| join(listener, cluster, "p")).collect();
        let mut meshes: Vec<Mesh> = joins.into_iter().map(|join| join.join().expect("no panic").expect("it joins")).collect();
        let mut links: Vec<Link> = meshes.iter_mut().flat_map(|mesh| mesh.links().into_iter().flatten()).collect();
        meshes[0].say(1, &b"said over the control connection".repeat(100));
        links[0].write_all(&b"exchanged by the engine".repeat(100)).expect("it is taken");
        assert_eq!(meshes[1].notes().recv_timeout(Duration::from_secs(5)).expect("it is heard").1.len(), 3200);
        let mut exchanged = vec![0; 2300];
        links[1].read_exact(&mut exchanged).expect("it comes");
        assert!(exchanged.ends_with(b"by the engine"));
        leave(meshes);
        let heard = heard.lock().expect("no panic");
        for words in [&b"said over the control"[..], b"exchanged by"] {
            assert_eq!(heard.windows(words.len()).any(|window| window == words), !encrypts, "{}", String::from_utf8_lossy(words));
        }
    }
}

#[test]
fn one_that_encrypts_and_one_that_does_not_are_told_so() {
    for encrypts in [[true, false], [false, true]] {
        let mut all = cluster(2, false);
        for ((_, cluster), encrypts) in all.iter_mut().zip(encrypts) {
            (cluster.start_max, cluster.encrypts) = (Duration::from_secs(3), encrypts);
        }
        for join in all.into_iter().map(|(listener, cluster)| join(listener, cluster, "p")).collect::<Vec<_>>() {
            let error = join.join().expect("no panic").err().expect("they do not fit");
            let text = error.to_string();
            assert!(error.code == "PEER_DIFFERS" && error.retry && text.contains("`encryption: ") && text.contains("tls`") && text.contains("none`"), "{text}");
        }
    }
}

fn some_card() -> impl Strategy<Value = Card> {
    let numbers = (any::<[bool; 2]>(), any::<[u16; 4]>(), any::<[u8; 16]>());
    (numbers, "[a-zé.-]{0,80}", "[0-9.]{0,20}", "[0-9a-f]{0,32}").prop_map(
        |(([data, encrypts], [from, to, processes, threads], boot), cluster, version, plan)| Card {
            wants: if data { Use::Data } else { Use::Control },
            encrypts,
            from,
            to,
            processes,
            threads,
            boot,
            cluster,
            version,
            plan,
        },
    )
}

proptest! {
    #[test]
    fn what_is_proved_is_read_and_nothing_else(card in some_card(), greeted: [u8; 32], at: prop::sample::Index, bit in 0..8_u8) {
        let secret = Secret::new(SECRET);
        let said = hello::hello(&card, &greeted, &secret);
        prop_assert_eq!(hello::frame_len([said[0], said[1]]), Some(said.len() - 2));
        prop_assert_eq!(hello::read_hello(&said[2..], &greeted, &secret), Ok(card.clone()));
        prop_assert_eq!(hello::read_hello(&said[2..], &greeted, &Secret::new("another secret of a length")), Err(Refused::Unproven));
        prop_assert_eq!(hello::read_hello(&said[2..], &[0; 32], &secret), Err(Refused::Unproven), "a hello of another connection");
        let mut damaged = said[2..].to_vec();
        *at.get_mut(&mut damaged) ^= 1 << bit;
        prop_assert!(hello::read_hello(&damaged, &greeted, &secret).is_err());
        let answer = hello::answer(Verdict::UnderWay, &card, &greeted, &said[2..], &secret);
        prop_assert_eq!(hello::read_answer(&answer[2..], &greeted, &said[2..], &secret), Ok((Verdict::UnderWay, card)));
        prop_assert_eq!(hello::read_answer(&answer[2..], &greeted, &damaged, &secret), Err(Refused::Unproven));
        prop_assert!(hello::read_answer(&said[2..], &greeted, &said[2..], &secret).is_err(), "a hello is no answer");
    }

    #[test]
    fn no_bytes_are_a_panic(bytes: Vec<u8>, greeted: [u8; 32], pieces in prop::collection::vec(1..50_usize, 1..9)) {
        let secret = Secret::new(SECRET);
        let with_magic = [&hello::MAGIC[..], &bytes].concat();
        for bytes in [&bytes, &with_magic] {
            prop_assert!(hello::read_hello(bytes, &greeted, &secret).is_err());
            prop_assert!(hello::read_answer(bytes, &greeted, bytes, &secret).is_err());
            let _ = hello::read_greeting(bytes);
            let mut frames = Frames::default();
            let mut rest = &bytes[..];
            for n in pieces.iter().cycle().take_while(|_| !bytes.is_empty()).take(100) {
                let (now, later) = rest.split_at(rest.len().min(*n));
                frames.feed(now);
                rest = later;
                while let Ok(Some(_)) = frames.next(false) {}
            }
        }
    }

    #[test]
    fn frames_are_read_as_they_were_said(notes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), cut in 1..64_usize) {
        let mut said = vec![Frame::Roll([3; 32]), Frame::Pulse];
        said.extend(notes.into_iter().map(Frame::Note));
        said.extend([Frame::GivesUp(78, "why".into()), Frame::Bye]);
        let bytes: Vec<u8> = said.iter().flat_map(Frame::bytes).collect();
        let (mut frames, mut heard) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(cut) {
            frames.feed(piece);
            while let Some(frame) = frames.next(false).expect("these are frames") {
                heard.push(frame);
            }
        }
        prop_assert_eq!(heard, said);
    }
}
