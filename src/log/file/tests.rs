//! Files that end in half a line, shrink, or become others of their name.

use std::io::Write as _;

use super::*;
use crate::log::View;

const WAIT: Duration = Duration::from_secs(20);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        files.iter().for_each(|(name, text)| folder.write(name, text));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn append(&self, name: &str, text: &str) {
        std::fs::OpenOptions::new().append(true).open(self.0.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn follow(&self, files: &[&str]) -> LogHandle {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        open(0, "s", self.0.path(), &files, &[], Until::Forever, Box::new(|_| None), None)
    }
}

/// The lines that come, until there are so many.
fn lines(log: &LogHandle, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let chunk = log.chunks.recv_timeout(WAIT).unwrap();
        let Payload::Lines { bytes, .. } = chunk.payload else { panic!("a file gives lines") };
        found.extend(String::from_utf8(bytes).unwrap().lines().filter(|line| !line.is_empty()).map(String::from));
    }
    found
}

fn until(log: &LogHandle, so: impl Fn(&View) -> bool) {
    let begun = Instant::now();
    while !so(&log.status.view()) {
        assert!(begun.elapsed() < WAIT, "still {:?}", log.status.view());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ends_with(log: LogHandle, code: &str) {
    while log.chunks.recv_timeout(WAIT).is_ok() {}
    assert_eq!(log.finish().unwrap_err().code, code);
}

#[test]
fn a_last_line_that_nobody_ended_is_read_after_a_while_and_half_a_line_never() {
    let folder = Folder::new(&[("a", "{\"n\":1}\n{\"n\":2}")]);
    let log = folder.follow(&["a"]);
    assert_eq!(lines(&log, 2), [r#"{"n":1}"#, r#"{"n":2}"#]);
    until(&log, |view| view.caught_up);
    // Its end comes later after all, and then a line that is being written.
    folder.append("a", "\n{\"n\":{}");
    until(&log, |view| view.read_bytes == 16 && !view.caught_up && view.behind_bytes == 7);
    std::thread::sleep(TAIL_AFTER * 2);
    let view = log.status.view();
    assert!(!view.caught_up && view.read_bytes == 16, "{view:?}");
    folder.append("a", "}\n");
    assert_eq!(lines(&log, 1), [r#"{"n":{}}"#]);
    until(&log, |view| view.caught_up);
}

#[test]
fn so_is_that_of_an_earlier_file() {
    let folder = Folder::new(&[("a", "{\"n\":1}\n"), ("b", "{\"n\":2}\n")]);
    let log = folder.follow(&["a", "b"]);
    assert_eq!(lines(&log, 2).len(), 2);
    folder.append("a", "{\"n\":{}");
    until(&log, |view| !view.caught_up && view.behind_bytes == 7);
    std::thread::sleep(TAIL_AFTER * 2);
    assert!(!log.status.view().caught_up);
    folder.append("a", "}");
    assert_eq!(lines(&log, 1), [r#"{"n":{}}"#]);
    until(&log, |view| view.caught_up);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let folder = Folder::new(&[("a", "\u{feff}{\"n\":1}"), ("b", "\u{feff}{\"n\":2}\n")]);
    for (file, line) in [("a", r#"{"n":1}"#), ("b", r#"{"n":2}"#)] {
        assert_eq!(lines(&folder.follow(&[file]), 1), [line]);
    }
}

#[test]
fn a_file_that_shrinks_or_is_replaced_is_a_named_stop_also_before_the_last() {
    for (files, which) in [(&["a"][..], "a"), (&["a", "b"], "a"), (&["a", "b"], "b")] {
        let start = || {
            let folder = Folder::new(&[("a", "{\"n\":1}\n"), ("b", "{\"n\":2}\n")]);
            let log = folder.follow(files);
            lines(&log, files.len());
            until(&log, |view| view.caught_up);
            (folder, log)
        };
        let (folder, log) = start();
        folder.write(which, "");
        ends_with(log, "FILE_TRUNCATED");
        let (folder, log) = start();
        folder.write("new", "{\"n\":3}\n{\"n\":4}\n");
        std::fs::rename(folder.0.path().join("new"), folder.0.path().join(which)).unwrap();
        ends_with(log, "FILE_REPLACED");
    }
}
