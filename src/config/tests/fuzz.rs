//! Whatever the bytes, loading ends with a plan or with problems whose places are in the file; it never panics.

use proptest::prelude::*;

use super::*;

fn never_panics(config: &str, dataflow: &str) {
    let checked = check_texts(("config.yaml", config), &[("dataflows/a.yaml", dataflow)], &env, Need::Mappings);
    assert_eq!(checked.plan.is_none(), checked.problems.has_errors());
    let rendered = checked.problems.render(false);
    for problem in checked.problems.list() {
        assert!(
            rendered.contains(problem.message.lines().next().unwrap_or_default())
                || problem.message.chars().any(char::is_control)
                || !problem.message.is_ascii(),
            "{rendered}\n{}",
            problem.message
        );
    }
    drop(checked.problems.json().to_string());
}

/// Replaces, inserts and removes pieces of a text, as slips of the hand do.
fn slips() -> impl Strategy<Value = Vec<(usize, usize, String)>> {
    let piece = prop_oneof![
        Just(String::new()),
        Just("\t".to_string()),
        Just("\r\n".to_string()),
        Just("${env:X".to_string()),
        Just("&a ".to_string()),
        Just("*a".to_string()),
        Just("!x ".to_string()),
        Just("|\n".to_string()),
        Just("? ".to_string()),
        Just("---\n".to_string()),
        "[\\[\\]{}:,'\"#|>&*!%@`0-9a-zäß€😀 \n-]{0,4}",
    ];
    prop::collection::vec((any::<usize>(), 0usize..12, piece), 1..6)
}

fn slip(text: &str, slips: &[(usize, usize, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (at, remove, piece) in slips {
        let at = at % (characters.len() + 1);
        let end = (at + remove).min(characters.len());
        characters.splice(at..end, piece.chars());
    }
    characters.into_iter().collect()
}

proptest! {

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        never_panics(&text, &text);
    }

    #[test]
    fn arbitrary_yaml(text in "([a-c*&!|>?\"'\\[\\]{}:,# \n\t-]|: |- |\n  |\\$\\{env:A\\}|ä){0,60}") {
        never_panics(&text, &text);
    }

    #[test]
    fn slips_in_good_files(slips in slips()) {
        never_panics(&slip(CONFIG, &slips), &slip(ORDERS, &slips));
    }
}
