//! What is said about broken files: `tests/broken/*.yaml`, a snapshot each (its README says how to read them).

use super::*;

#[test]
fn broken_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mut cases = list(&folder).unwrap();
    cases.sort();
    assert!(cases.len() >= 40);
    for path in cases {
        let text = read(&path);
        let mut files = vec![
            ("config.yaml".to_string(), read(&folder.join("base/config.yaml"))),
            ("dataflows/base.yaml".to_string(), read(&folder.join("base/dataflows/base.yaml"))),
        ];
        let mut parts = text.split("#=== ");
        let first = parts.next().unwrap();
        if !first.is_empty() {
            files.push(("dataflows/case.yaml".to_string(), first.to_string()));
        }
        for part in parts {
            let (name, body) = part.split_once('\n').unwrap();
            match files.iter_mut().find(|(known, _)| known == name) {
                Some((_, text)) => *text = body.to_string(),
                None => files.push((name.to_string(), body.to_string())),
            }
        }
        let refs: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let problems = check_texts(refs[0], &refs[1..], &|_| None, Need::Connections).problems;
        assert!(!problems.is_empty(), "{} is not broken", path.display());
        assert!(problems.list().iter().all(|p| p.line > 0 && p.column > 0));
        for problem in problems.list() {
            assert!(problem.hint.is_some(), "{}: nothing to do about: {}", path.display(), problem.message);
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(folder.join("snapshots"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, problems.render(false)));
    }
}
