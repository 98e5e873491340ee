//! Answers against the description that is served: whatever a route says, it says as `/api/v1/openapi.json` has it.

use super::*;

/// What of a value is not as its schema says; a keyword that is not known here is a fault, too, so that none is passed over.
fn faults(api: &Json, schema: &Json, value: &Json, at: &str, out: &mut Vec<String>) {
    const SAYS_NOTHING: [&str; 6] = ["description", "format", "title", "example", "examples", "default"];
    let Some(schema) = schema.as_object() else { return out.push(format!("{at}: {schema} is no schema")) };
    for (keyword, says) in schema {
        let holds = match keyword.as_str() {
            "$ref" => match api.pointer(says.as_str().unwrap().trim_start_matches('#')) {
                Some(schema) => {
                    faults(api, schema, value, at, out);
                    true
                }
                None => false,
            },
            "type" => {
                let is = |name: &Json| match name.as_str().unwrap() {
                    "null" => value.is_null(),
                    "boolean" => value.is_boolean(),
                    "string" => value.is_string(),
                    "number" => value.is_number(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "array" => value.is_array(),
                    "object" => value.is_object(),
                    _ => false,
                };
                says.as_array().map_or_else(|| is(says), |names| names.iter().any(is))
            }
            "enum" => says.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|n| n >= says.as_f64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|items| items.len() <= says.as_u64().unwrap() as usize),
            "required" => says.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
            "properties" => {
                for (name, schema) in says.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        faults(api, schema, value, &format!("{at}/{name}"), out);
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema.get("properties").and_then(Json::as_object);
                let others = value.as_object().into_iter().flatten().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                let mut others = others.peekable();
                let any = others.peek().is_some();
                if says.is_object() {
                    others.for_each(|(name, value)| faults(api, says, value, &format!("{at}/{name}"), out));
                }
                *says != json!(false) || !any
            }
            "propertyNames" => {
                let names = value.as_object().into_iter().flatten().map(|(name, _)| Json::from(name.as_str()));
                names.for_each(|name| faults(api, says, &name, &format!("{at}/{name} as a name"), out));
                true
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    faults(api, says, item, &format!("{at}/{i}"), out);
                }
                true
            }
            "allOf" => {
                says.as_array().unwrap().iter().for_each(|schema| faults(api, schema, value, at, out));
                true
            }
            "oneOf" | "anyOf" => {
                let holds = |schema: &&Json| {
                    let mut found = Vec::new();
                    faults(api, schema, value, at, &mut found);
                    found.is_empty()
                };
                let hold = says.as_array().unwrap().iter().filter(holds).count();
                hold == 1 || (hold > 1 && keyword == "anyOf")
            }
            known if SAYS_NOTHING.contains(&known) => true,
            _ => false,
        };
        if !holds {
            out.push(format!("{at}: {keyword} {says} does not hold for {value}"));
        }
    }
}

/// The names that an object may have: those of its schema, and of what that is made of.
fn declared(api: &Json, schema: &Json, names: &mut BTreeSet<String>) {
    if let Some(reference) = schema.get("$ref") {
        declared(api, api.pointer(reference.as_str().unwrap().trim_start_matches('#')).unwrap(), names);
    }
    schema.get("allOf").and_then(Json::as_array).into_iter().flatten().for_each(|part| declared(api, part, names));
    names.extend(schema.get("properties").and_then(Json::as_object).into_iter().flatten().map(|(name, _)| name.clone()));
}

fn check(api: &Json, schema: &Json, value: &Json, at: &str) {
    let (mut found, mut names) = (Vec::new(), BTreeSet::new());
    faults(api, schema, value, at, &mut found);
    declared(api, schema, &mut names);
    if !names.is_empty() {
        let said = value.as_object().into_iter().flatten().filter(|(name, _)| !names.contains(*name));
        found.extend(said.map(|(name, _)| format!("{at}: `{name}` is not described")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Asks and holds the answer against what is described for the route, the status and the media type.
async fn ask(app: &App, api: &Json, route: &str, path: &str, status: u16) {
    let response = get_with(app, path, &[]).await;
    assert_eq!(response.status().as_u16(), status, "{path}");
    let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().split(';').next().unwrap().to_string();
    let described = &api["paths"][route]["get"]["responses"][status.to_string()];
    assert!(described["description"].as_str().is_some_and(|d| !d.is_empty()), "{route} {status} is not described");
    let schema = &described["content"][&kind]["schema"];
    assert!(schema.is_object(), "{route} {status} has no {kind}: {described}");
    if kind == "text/event-stream" {
        return;
    }
    let text = text(response).await;
    match kind.as_str() {
        "application/json" | "application/problem+json" => check(api, schema, &serde_json::from_str(&text).unwrap(), path),
        "application/x-ndjson" => text.lines().for_each(|line| check(api, schema, &serde_json::from_str(line).unwrap(), path)),
        _ => check(api, schema, &Json::from(text), path),
    }
}

/// A ledger in every state that an answer can show.
fn states() -> Vec<Bench> {
    let running = bench();
    let mut hydrating = Bench::new();
    hydrating.sealed.hydrated = false;
    hydrating.change(1, Some((row("open", Some(1)), Side::Absent)), Some(1), None);
    hydrating.close(1);
    let mut rejected = bench();
    let rows = [row("open", Some(1)), row("hold", None)].map(|side| match side {
        Side::Row(row) => row,
        _ => unreachable!(),
    });
    rejected.change(4, Some((Side::Rejected, row("open", Some(100)))), Some(100_000), None);
    rejected.change(5, Some((Side::Duplicate(rows.to_vec()), Side::Rejected)), Some(100_000), None);
    rejected.change(6, Some((row("open", None), row("hold", Some(1)))), Some(900_000), None);
    rejected.sealed.sources[ERP].positions = vec![(0, 17), (1, 18)];
    rejected.close(11);
    let mut stale = bench();
    stale.sealed.sources[ERP].trouble = Some("the broker is away".into());
    stale.close(11);
    let mut nothing_read = Bench::new();
    nothing_read.change(1, Some((row("open", Some(1)), Side::Absent)), None, None);
    nothing_read.close(1);
    vec![running, hydrating, rejected, stale, nothing_read]
}

#[tokio::test]
async fn every_answer_is_as_it_is_described() {
    let (_, api) = get_json(&app(&bench()), "/api/v1/openapi.json").await;
    for bench in states() {
        let app = app(&bench);
        let hydrated = bench.sealed.hydrated;
        let sound = bench.sealed.sources[ERP].trouble.is_none();
        let of_rows = if hydrated { 200 } else { 503 };
        let comparison = "/api/v1/comparisons/orders_in_erp";
        let mut asked = BTreeSet::new();
        for (route, path, status) in [
            ("/", "/", 200),
            ("/livez", "/livez", 200),
            ("/readyz", "/readyz", if hydrated && sound { 200 } else { 503 }),
            ("/metrics", "/metrics", 200),
            ("/api/v1/openapi.json", "/api/v1/openapi.json", 200),
            ("/api/v1/comparisons", "/api/v1/comparisons", 200),
            ("/api/v1/comparisons/{name}", comparison, 200),
            ("/api/v1/comparisons/{name}", "/api/v1/comparisons/other", 404),
            ("/api/v1/comparisons/{name}", "/api/v1/comparisons/%ff", 400),
            ("/api/v1/comparisons/{name}/differences", &format!("{comparison}/differences"), 200),
            ("/api/v1/comparisons/{name}/differences", &format!("{comparison}/differences?limit=1&kind=missing"), 200),
            ("/api/v1/comparisons/{name}/differences", &format!("{comparison}/differences?key_prefix=1"), 200),
            ("/api/v1/comparisons/{name}/differences", &format!("{comparison}/differences?format=ndjson"), 200),
            ("/api/v1/comparisons/{name}/differences", &format!("{comparison}/differences?format=csv"), 200),
            ("/api/v1/comparisons/{name}/differences", &format!("{comparison}/differences?limit=0"), 400),
            ("/api/v1/comparisons/{name}/differences", "/api/v1/comparisons/other/differences", 404),
            ("/api/v1/comparisons/{name}/subscribe", &format!("{comparison}/subscribe"), 200),
            ("/api/v1/comparisons/{name}/subscribe", &format!("{comparison}/subscribe?kind=x"), 400),
            ("/api/v1/comparisons/{name}/subscribe", "/api/v1/comparisons/other/subscribe", 404),
            ("/api/v1/subscribe", "/api/v1/subscribe", 200),
            ("/api/v1/targets/{name}/rows/{key}", "/api/v1/targets/expected_order/rows/1", of_rows),
            ("/api/v1/targets/{name}/rows/{key}", "/api/v1/targets/expected_order/rows/2", of_rows),
            ("/api/v1/targets/{name}/rows/{key}", "/api/v1/targets/expected_order/rows/9", 503),
            ("/api/v1/targets/{name}/rows/{key}", "/api/v1/targets/expected_order/rows/x", 400),
            ("/api/v1/targets/{name}/rows/{key}", "/api/v1/targets/other/rows/1", 404),
            ("/api/v1/sources", "/api/v1/sources", 200),
            ("/api/v1/processes", "/api/v1/processes", 200),
            ("/api/v1/rejects", "/api/v1/rejects", 200),
            ("/api/v1/rejects", "/api/v1/rejects?source=other", 404),
            ("/api/v1/rejects", "/api/v1/rejects?limit=-1", 400),
            ("/api/v1/graph", "/api/v1/graph", 200),
        ] {
            ask(&app, &api, route, path, status).await;
            asked.insert(route);
        }
        assert!(routes().iter().all(|(route, _)| asked.contains(route)), "a route is not asked");
    }
}

#[tokio::test]
async fn every_event_is_as_it_is_described() {
    let (_, api) = get_json(&app(&bench()), "/api/v1/openapi.json").await;
    for mut bench in states() {
        let app = app(&bench);
        let mut events = Events::open(&app, "", None).await;
        let mut seen = BTreeSet::new();
        for tick in 100..104 {
            bench.change(1, (tick % 2 == 0).then(|| (row("x", Some(1)), Side::Absent)), Some(100_000), None);
            bench.close(tick);
            for event in events.waiting().await {
                let schema = match event.name.as_str() {
                    "snapshot" => "SnapshotEvent",
                    "change" => "ChangeEvent",
                    "progress" => "ProgressEvent",
                    other => panic!("`{other}` is no event"),
                };
                check(&api, &json!({ "$ref": format!("#/components/schemas/{schema}") }), &event.data, schema);
                seen.insert(schema);
            }
        }
        assert!(seen.contains("ProgressEvent") && (!bench.sealed.hydrated || seen.len() == 3), "{seen:?}");
    }
    let response = get_with(&app(&bench()), "/api/v1/subscribe", &[]).await;
    let mut events = Events { body: response.into_body().into_data_stream(), buffer: String::new() };
    let schema = &api["paths"]["/api/v1/subscribe"]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"];
    check(&api, schema, &events.next().await.unwrap().data, "overview");
    assert!(api.pointer("/components/schemas/CutEvent").is_some());
}

/// No path can be written to, and each says so as described; a broken ledger the same.
#[tokio::test]
async fn problems_of_every_path_are_described() {
    let (_, api) = get_json(&app(&bench()), "/api/v1/openapi.json").await;
    let mut bench = bench();
    let app = app(&bench);
    let filled = |route: &str| route.replace("{name}", "orders_in_erp").replace("{key}", "1");
    for (route, _) in routes() {
        let post = Request::post(filled(route)).body(Body::empty()).unwrap();
        let response = router(app.clone()).oneshot(post).await.unwrap();
        assert_eq!(response.status(), 405, "{route}");
        let schema = &api["paths"][route]["get"]["responses"]["405"]["content"]["application/problem+json"]["schema"];
        check(&api, schema, &serde_json::from_str(&text(response).await).unwrap(), route);
    }
    bench.reject(1, -1);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.close(11))).unwrap_err();
    for (route, _) in routes() {
        ask(&app, &api, route, &filled(route), 500).await;
    }
}
