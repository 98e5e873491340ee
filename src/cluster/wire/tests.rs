//! Both ends of connections of this machine, with the same key, another one, and somebody in between.

use std::{
    net::TcpListener,
    thread::{Builder, JoinHandle},
};

use super::*;

const KEY: Key = [7; 32];

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new().name("end".into()).spawn(body).expect("a thread starts")
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let dialled = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    (dialled, listener.accept().expect("it was dialled").0)
}

fn ends(key: Option<Key>, other: Option<Key>) -> (Wire, Wire) {
    let (dials, answers) = sockets();
    (Wire::new(dials, key, Side::Dials).expect("OpenSSL"), Wire::new(answers, other, Side::Answers).expect("OpenSSL"))
}

/// A connection whose ends are ready.
fn connected(key: Option<Key>) -> (Wire, Wire) {
    let (mut dials, mut answers) = ends(key, key);
    let other = spawn(move || answers.shake().map(|_| answers));
    assert!(dials.shake().expect("it has the key"));
    (dials, other.join().expect("no panic").expect("it has the key"))
}

/// Bytes that never repeat within what is sent.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|at| ((at ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

#[test]
fn what_is_written_is_read_in_both_directions_at_once() {
    for key in [None, Some(KEY)] {
        let (dials, answers) = connected(key);
        let mut threads = Vec::new();
        for (end, mine, theirs) in [(dials, 1, 2), (answers, 2, 1)] {
            let (mut writes, mut reads) = (end.try_clone().expect("a socket"), end);
            threads.push(spawn(move || {
                // Pieces of all sizes, in turn.
                let (all, mut at) = (bytes(20 << 20, mine), 0);
                for len in (0..).map(|n: usize| (n * n * 7919) % 300_000) {
                    let piece = &all[at..all.len().min(at + len)];
                    writes.write_all(piece).expect("it is taken");
                    at += piece.len();
                    if at == all.len() {
                        break;
                    }
                }
                writes.shutdown(Shutdown::Write).expect("it is open");
            }));
            threads.push(spawn(move || {
                let mut all = Vec::new();
                reads.read_to_end(&mut all).expect("it comes");
                assert!(all == bytes(20 << 20, theirs), "{} bytes came", all.len());
            }));
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    }
}

#[test]
fn who_has_another_key_or_none_gets_nowhere() {
    for (mine, theirs) in [(Some(KEY), Some([8; 32])), (Some([8; 32]), Some(KEY))] {
        let (mut dials, mut answers) = ends(mine, theirs);
        let other = spawn(move || answers.shake());
        assert_eq!(dials.shake().expect_err("it has another key").kind(), ErrorKind::InvalidData);
        assert_eq!(other.join().expect("no panic").expect_err("it has another key").kind(), ErrorKind::InvalidData);
    }
    for said in [&[0xff; 4096][..], b"GET / HTTP/1.0\r\n\r\n", &[22, 3, 1, 0, 5, 1, 0, 0, 1, 0], &[]] {
        let (mut stranger, answers) = sockets();
        let mut answers = Wire::new(answers, Some(KEY), Side::Answers).expect("OpenSSL");
        stranger.write_all(said).expect("it is open");
        stranger.shutdown(Shutdown::Write).expect("it is open");
        let error = answers.shake().expect_err("no key");
        assert!([ErrorKind::InvalidData, ErrorKind::UnexpectedEof].contains(&error.kind()), "{error}");
    }
}

/// Nothing is waited for on a socket that does not wait, and nothing is said twice or lost when it has no room.
#[test]
fn a_socket_that_does_not_wait_is_one_that_does_not_wait() {
    for key in [None, Some(KEY)] {
        let (mut dials, mut answers) = ends(key, key);
        for end in [&dials, &answers] {
            end.set_nonblocking(true).expect("a socket");
        }
        while !(dials.shake().expect("it has the key") & answers.shake().expect("it has the key")) {}
        let mut piece = [0; 1000];
        assert_eq!(answers.read(&mut piece).expect_err("nothing came").kind(), ErrorKind::WouldBlock);
        let (all, mut at, mut heard) = (bytes(30 << 20, 3), 0, Vec::new());
        let mut piece = vec![0; 100_000];
        let mut full = 0;
        while heard.len() < all.len() {
            match dials.write(&all[at..]) {
                Ok(n) => at += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    full += 1;
                    match answers.read(&mut piece) {
                        Ok(n) => heard.extend_from_slice(&piece[..n]),
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                    }
                }
                Err(error) => panic!("{error}"),
            }
            if at == all.len() {
                let _ = dials.flush();
                match answers.read(&mut piece) {
                    Ok(n) => heard.extend_from_slice(&piece[..n]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
        }
        assert!(heard == all && full > 0, "{} bytes, full {full} times", heard.len());
    }
}

/// Somebody in between who changes one byte of the connection, the `at`th that the dialling end sends.
fn changed(at: usize) -> Result<Vec<u8>> {
    let (dials, mut near) = sockets();
    let (mut far, answers) = sockets();
    let (mut from_near, mut from_far) = (near.try_clone()?, far.try_clone()?);
    let changes = spawn(move || {
        let mut passed = 0;
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = from_near.read(&mut piece) {
            if (passed..passed + n).contains(&at) {
                piece[at - passed] ^= 0x10;
            }
            passed += n;
            if far.write_all(&piece[..n]).is_err() {
                break;
            }
        }
        let _ = far.shutdown(Shutdown::Write);
    });
    let passes = spawn(move || {
        let _ = std::io::copy(&mut from_far, &mut near);
        let _ = near.shutdown(Shutdown::Both);
    });
    let says = spawn(move || {
        let mut dials = Wire::new(dials, Some(KEY), Side::Dials)?;
        dials.shake()?;
        dials.write_all(&bytes(5000, 9))?;
        dials.shutdown(Shutdown::Write)
    });
    let mut heard = Vec::new();
    let mut answers = Wire::new(answers, Some(KEY), Side::Answers)?;
    let hears = answers.shake().and_then(|_| answers.read_to_end(&mut heard));
    let _ = answers.shutdown(Shutdown::Both);
    let _ = says.join().expect("no panic");
    changes.join().expect("no panic");
    passes.join().expect("no panic");
    hears.map(|_| heard)
}

#[test]
fn a_changed_byte_is_never_taken_for_what_was_said() {
    assert_eq!(changed(usize::MAX).expect("nothing was changed"), bytes(5000, 9));
    let mut noticed = 0;
    for at in (0..1000).step_by(13).chain([1500, 2500, 4000, 5000]) {
        match changed(at) {
            Err(_) => noticed += 1,
            // A record's outer type and version are not looked at everywhere; a connection that ends early says so above TLS.
            Ok(heard) => assert!(bytes(5000, 9).starts_with(&heard), "byte {at}"),
        }
    }
    assert!(noticed > 60, "only {noticed}");
}
