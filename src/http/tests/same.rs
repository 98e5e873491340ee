//! What a subscriber knows is what is answered.

use super::*;

/// Whoever applies the snapshot and the changes has at every progress event what `/differences` answers, to the letter:
/// nothing that is told of a difference changes without a `change`.
#[tokio::test]
async fn a_subscriber_always_has_what_differences_answers() {
    // Through SQL, or with a key that is not the source's: rejects hold back all keys.
    let mut plan = crate::ledger::fixture::plan();
    if let crate::plan::Mapping::Fields(mapping) = &mut plan.targets[0].mapping {
        mapping.fields[0].on_null = crate::plan::NullPolicy::Drop;
    }
    let mut bench = Bench::of(plan);
    bench.read(CRM, 50_000).read(ERP, 50_000).close(1);
    let app = app(&bench);
    let mut events = Events::open(&app, "", None).await;
    let mut known: std::collections::BTreeMap<String, Json> = Default::default();
    let (mut reasons, mut compared) = (BTreeSet::new(), 0);
    let start = bench.sealed.wall_ms;
    for step in 0u64..40 {
        let id = (step % 7) as i64;
        let time = 50_000 + step as i64 * 10_000;
        match step % 5 {
            0 => _ = bench.change(id, Some((row("open", Some(step as i64)), Side::Absent)), Some(time), None),
            1 => {
                // A record that could not be decoded: nobody knows which key it has in the target.
                let (reject, _) = bench.reject(1000 + step as i64, 1).report.rejects.last_mut().expect("it was put there");
                (reject.target, reject.keyed) = (None, false);
            }
            2 => _ = bench.change(id, Some((Side::Rejected, row("open", Some(1)))), Some(time), None),
            3 => _ = bench.change(id, Some((row("open", None), row("hold", Some(1)))), Some(time), None),
            _ => _ = bench.read(CRM, time - 20_000).read(ERP, time - 15_000),
        }
        // From here on it stands still for a while, then a source is in trouble, with other words every time.
        if step > 10 {
            bench.sealed.wall_ms = start + step as i64 * 30_000;
        }
        bench.sealed.sources[ERP].trouble = (25..30).contains(&step).then(|| format!("the broker is away since {step} s"));
        bench.close(10 + step);
        let (_, answer) = get_json(&app, "/api/v1/comparisons/orders_in_erp/differences").await;
        let mut asked: Vec<Json> = answer["differences"].as_array().unwrap().clone();
        asked.sort_by_key(|d| d["key"].as_str().map(str::to_string));
        assert_eq!(answer["total"], json!(asked.len()));
        for event in events.waiting().await {
            match event.name.as_str() {
                "snapshot" => known = event.data["differences"].as_array().unwrap().iter().map(|d| (d["key"].as_str().unwrap().into(), d.clone())).collect(),
                "change" => event.data["changes"].as_array().unwrap().iter().for_each(|change| {
                    let key = change["key"].as_str().unwrap().to_string();
                    assert_eq!(known.get(&key).unwrap_or(&Json::Null), &change["before"], "tick {}", event.data["as_of"]);
                    if change["after"].is_null() {
                        known.remove(&key)
                    } else {
                        known.insert(key, change["after"].clone())
                    };
                }),
                _ => {
                    // Ticks without news tell no progress of their own; what stands is that of the last one that did.
                    assert_eq!(known.values().cloned().collect::<Vec<_>>(), asked, "step {step}");
                    compared += 1;
                }
            }
        }
        assert_eq!(known.values().cloned().collect::<Vec<_>>(), asked, "step {step}");
        reasons.extend(asked.iter().filter_map(|d| d["held_back_by"].as_str().map(str::to_string)));
        reasons.extend(answer["held_back"].as_str().map(|text| text.chars().filter(|c| !c.is_ascii_digit()).collect()));
    }
    assert!(compared > 20, "{compared}");
    for reason in ["rejected_side", "unknown_field", "comparison"] {
        assert!(reasons.contains(reason), "{reason} was never seen: {reasons:?}");
    }
    let said = |what: &str| assert!(reasons.iter().any(|r| r.contains(what)), "{what} was never said: {reasons:?}");
    said("rejects stand among the rows");
    said("the expected side is known up to");
    said("stale: source sales_order of the actual side: the broker is away");
}
