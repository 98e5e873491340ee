//! Answers over HTTP without a socket, over a ledger that the tests feed.

use std::collections::BTreeSet;

use axum::{
    body::{Body, BodyDataStream},
    http::{Request, header},
};
use serde_json::{Value as Json, json};
use tokio_stream::StreamExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    checkpoint::CheckpointError,
    engine::{RowAnswer, RowState, Side},
    ledger::fixture::{Bench, CRM, ERP, row},
    row::{Value, pack_row},
    watchdog::{Stuck, Watched},
};

/// A CRM and an ERP at 100 s and 200 s, and differences: 1 missing, 2 mismatched in amount, 3 unexpected, 20 in flight.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.sealed.wall_ms = answer::now_ms();
    bench.read(CRM, 200_000).read(ERP, 220_000);
    bench
        .change(1, Some((row("open", Some(100)), Side::Absent)), Some(100_000), None)
        .change(2, Some((row("open", Some(150)), row("open", Some(151)))), Some(100_000), None)
        .change(3, Some((Side::Absent, row("hold", Some(5)))), None, Some(100_000))
        .change(20, Some((row("open", Some(100)), row("hold", Some(100)))), Some(200_000), None)
        .reject(77, 1);
    bench.close(10);
    bench
}

fn app(bench: &Bench) -> App {
    let rows = |_table, key: Vec<u8>, reply: crossbeam_channel::Sender<RowAnswer>| {
        let state = match key.as_slice() {
            [0x81, 1] => RowState::Row(pack_row(&[Value::Int(1), Value::Decimal(100), Value::Text("open".into())]).into()),
            [0x81, 9] => return Err("the workers are gone".into()),
            // Nobody answers: the reply is dropped.
            [0x81, 8] => return Ok(()),
            _ => RowState::Absent,
        };
        reply.send(RowAnswer { as_of: 10, state }).map_err(|e| e.to_string())
    };
    App::new(bench.ledger.clone(), rows, Watched::default(), crate::processes::Processes::of(&bench.ledger.read().plan().clone()))
}

async fn get_with(app: &App, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    router(app.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

async fn get_json(app: &App, path: &str) -> (u16, Json) {
    let response = get_with(app, path, &[]).await;
    let status = response.status().as_u16();
    let text = text(response).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}")))
}

fn keys(answer: &Json) -> Vec<&str> {
    answer["differences"].as_array().unwrap().iter().map(|d| d["key"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn comparisons_tell_state_and_counts() {
    let app = app(&bench());
    let (status, answer) = get_json(&app, "/api/v1/comparisons").await;
    assert_eq!((status, &answer["as_of"], &answer["hydrated"]), (200, &json!(10), &json!(true)));
    let comparison = &answer["comparisons"][0];
    assert_eq!(comparison["state"], "open");
    assert_eq!(comparison["differences"]["total"], 4);
    assert_eq!(comparison["differences"]["kinds"]["mismatched"], json!({ "confirmed": 1, "in_flight": 1, "undetermined": 0 }));
    assert_eq!(comparison["actual"]["source_time"], "1970-01-01T00:03:40.000Z");
    let (_, one) = get_json(&app, "/api/v1/comparisons/orders_in_erp").await;
    assert_eq!(one["differences"], comparison["differences"]);
    assert_eq!(one["as_of"], 10);
}

#[tokio::test]
async fn differences_tell_everything_that_is_known() {
    let app = app(&bench());
    let (_, answer) = get_json(&app, "/api/v1/comparisons/orders_in_erp/differences").await;
    assert_eq!(keys(&answer), ["1", "2", "3", "20"]);
    assert_eq!(
        answer["differences"][1],
        json!({
            "key": "2", "key_columns": { "id": 2 }, "kind": "mismatched", "state": "confirmed",
            "fields": { "amount": { "expected": "1.50", "actual": "1.5100" } },
            "expected": { "status": "open", "amount": "1.50" }, "actual": { "status": "open", "amount": "1.5100" },
            "since": "1970-01-01T00:01:40.000Z", "since_tick": 10, "evidence": "deadline",
        })
    );
    assert_eq!(answer["differences"][3]["due"], "1970-01-01T00:03:50.000Z");
    assert_eq!(answer["next"], Json::Null);
}

/// What docs/dataflows.md says of a key of which one side is a reject.
#[tokio::test]
async fn a_rejected_side_is_named() {
    let mut bench = bench();
    bench.change(4, Some((Side::Rejected, row("open", Some(100)))), Some(100_000), None).close(11);
    let (_, answer) = get_json(&app(&bench), "/api/v1/comparisons/orders_in_erp/differences?key=4").await;
    let difference = &answer["differences"][0];
    assert_eq!((&difference["kind"], &difference["state"], &difference["fields"]), (&json!("mismatched"), &json!("undetermined"), &json!({})));
    assert_eq!((&difference["rejected"], &difference["expected"]), (&json!(["expected"]), &Json::Null));
    assert_eq!(difference["held_back_by"], "rejected_side");
}

#[tokio::test]
async fn filters_and_formats() {
    let app = app(&bench());
    let path = |query: &str| format!("/api/v1/comparisons/orders_in_erp/differences?{query}");
    let cases = [
        ("kind=missing", vec!["1"]),
        ("kind=missing,unexpected", vec!["1", "3"]),
        ("state=in_flight", vec!["20"]),
        ("key=3", vec!["3"]),
        ("key=4", vec![]),
        ("key_prefix=2", vec!["2", "20"]),
        ("field=status", vec!["20"]),
        ("field=amount&state=confirmed", vec!["2"]),
    ];
    for (query, want) in cases {
        assert_eq!(keys(&get_json(&app, &path(query)).await.1), want, "{query}");
    }
    let csv = get_with(&app, &path("format=csv&kind=mismatched"), &[]).await;
    assert_eq!(csv.headers()["tieout-as-of"], "10");
    assert_eq!(csv.headers()[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    let since = "1970-01-01T00:01:40.000Z";
    let want = format!(
        "key,kind,state,field,expected,actual,since\n2,mismatched,confirmed,amount,1.50,1.5100,{since}\n\
         20,mismatched,in_flight,status,open,hold,1970-01-01T00:03:20.000Z\n"
    );
    assert_eq!(text(csv).await, want);
    let ndjson = get_with(&app, &path("limit=2"), &[("accept", "application/x-ndjson")]).await;
    let next = ndjson.headers()["tieout-cursor"].to_str().unwrap().to_string();
    assert_eq!(text(ndjson).await.lines().count(), 2);
    assert_eq!(keys(&get_json(&app, &path(&format!("cursor={next}"))).await.1), ["3", "20"]);
}

#[tokio::test]
async fn pages_are_stable_while_differences_come_and_go() {
    let mut bench = bench();
    let app = app(&bench);
    let path = |cursor: &str| format!("/api/v1/comparisons/orders_in_erp/differences?limit=2{cursor}");
    let (_, first) = get_json(&app, &path("")).await;
    assert_eq!(keys(&first), ["1", "2"]);
    // The last key of the page goes, one before it comes, and one behind it.
    bench.change(2, None, None, Some(300_000));
    bench.change(0, Some((row("x", Some(1)), Side::Absent)), Some(100_000), None);
    bench.change(5, Some((row("x", Some(1)), Side::Absent)), Some(100_000), None);
    bench.close(20);
    let (_, second) = get_json(&app, &path(&format!("&cursor={}", first["next"].as_str().unwrap()))).await;
    assert_eq!((keys(&second), &second["as_of"]), (vec!["3", "5"], &json!(20)));
    let (_, third) = get_json(&app, &path(&format!("&cursor={}", second["next"].as_str().unwrap()))).await;
    assert_eq!((keys(&third), &third["next"]), (vec!["20"], &Json::Null));
}

#[tokio::test]
async fn errors_say_what_would_have_been_right() {
    let app = app(&bench());
    let cases = [
        ("/api/v1/comparisons/orders_in_er", 404, "unknown_comparison", "did you mean `orders_in_erp`? known are orders_in_erp"),
        ("/api/v1/comparisons/x/subscribe", 404, "unknown_comparison", "did you mean `orders_in_erp`?"),
        ("/api/v1/targets/expected_orders/rows/1", 404, "unknown_target", "did you mean `expected_order`?"),
        ("/api/v1/targets/expected_order/rows/one", 400, "bad_parameter", "give the value of a one-column key"),
        ("/api/v1/rejects?source=opportunit", 404, "unknown_source", "did you mean `opportunity`?"),
        ("/api/v1/comparison", 404, "unknown_path", "did you mean `/api/v1/comparisons`?"),
        ("/api/v1/comparisons/orders_in_erp/differences?kind=absent", 400, "bad_parameter", "known are missing, unexpected"),
        ("/api/v1/comparisons/orders_in_erp/differences?field=amout", 400, "unknown_field", "did you mean `amount`?"),
        ("/api/v1/comparisons/orders_in_erp/differences?color=red", 400, "bad_parameter", "/api/v1/openapi.json"),
        ("/api/v1/comparisons/orders_in_erp/differences?cursor=zz", 400, "bad_parameter", "pass `next`"),
        // Hex digits, and even a key, are no cursor.
        ("/api/v1/comparisons/orders_in_erp/differences?cursor=", 400, "bad_parameter", "pass `next`"),
        ("/api/v1/comparisons/orders_in_erp/differences?cursor=8102", 400, "bad_parameter", "pass `next`"),
        ("/api/v1/comparisons/orders_in_erp/differences?cursor=0100112233445566778102", 400, "bad_parameter", "pass `next`"),
        ("/api/v1/comparisons/orders_in_erp/differences?limit=100000", 400, "bad_parameter", "format=ndjson"),
        ("/api/v1/comparisons/orders_in_erp/differences?limit=0", 400, "bad_parameter", "1 or more"),
        ("/api/v1/comparisons/orders_in_erp/differences?limit=x", 400, "bad_parameter", "/api/v1/openapi.json"),
        ("/api/v1/rejects?limit=-1", 400, "bad_parameter", "/api/v1/openapi.json"),
        ("/api/v1/comparisons/orders_in_erp/subscribe?state=%ff", 400, "bad_parameter", "known are undetermined"),
        ("/api/v1/comparisons/%ff", 400, "bad_parameter", "UTF-8"),
        ("/api/v1/targets/expected_order/rows/%ff", 400, "bad_parameter", "UTF-8"),
        ("/api/v1/targets/expected_order/rows/8", 503, "no_worker", "readyz"),
        ("/api/v1/targets/expected_order/rows/9", 503, "no_worker", "readyz"),
    ];
    for (path, status, code, remedy) in cases {
        let response = get_with(&app, path, &[]).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json", "{path}");
        assert_eq!(response.headers()["tieout-as-of"], "10", "{path}");
        assert_eq!(response.status().as_u16(), status, "{path}");
        let problem: Json = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(problem["code"], code, "{path}");
        assert!(problem["remedy"].as_str().unwrap().contains(remedy), "{path}: {problem}");
        assert!(!problem["message"].as_str().unwrap().contains("deserialize"), "{path}: {problem}");
        let known = crate::reference::HTTP.iter().any(|(s, c, _)| (*s, *c) == (status, code));
        assert!(known, "{code} is not in docs/reference/codes.md");
    }
    let post = Request::post("/api/v1/sources").body(Body::empty()).unwrap();
    assert_eq!(router(app).oneshot(post).await.unwrap().status(), 405);
}

#[tokio::test]
async fn rows_are_asked_of_a_worker() {
    let app = app(&bench());
    let (_, answer) = get_json(&app, "/api/v1/targets/expected_order/rows/1").await;
    let row = json!({ "id": 1, "amount": "1.00", "status": "open" });
    assert_eq!(answer, json!({ "as_of": 10, "target": "expected_order", "key": "1", "state": "row", "row": row }));
    let (_, answer) = get_json(&app, "/api/v1/targets/expected_order/rows/2").await;
    assert_eq!((&answer["state"], &answer["row"]), (&json!("absent"), &Json::Null));
}

#[tokio::test]
async fn sources_rejects_and_the_graph() {
    let app = app(&bench());
    let (_, sources) = get_json(&app, "/api/v1/sources").await;
    assert_eq!(sources["sources"][0]["source_time"], "1970-01-01T00:03:20.000Z");
    assert_eq!(sources["sources"][1]["read"], 1);
    let (_, rejects) = get_json(&app, "/api/v1/rejects?code=MAPPING_NOT_FOUND").await;
    assert_eq!((&rejects["total"], &rejects["rejects"][0]["target"]), (&json!(1), &json!("expected_order")));
    assert_eq!(get_json(&app, "/api/v1/rejects?code=OTHER").await.1["total"], 0);
    let key = rejects["rejects"][0]["key"].as_str().expect("the fixture's reject has a key");
    assert_eq!(get_json(&app, &format!("/api/v1/rejects?key={key}")).await.1["total"], 1);
    assert_eq!(get_json(&app, "/api/v1/rejects?key=other").await.1["total"], 0);
    let (_, graph) = get_json(&app, "/api/v1/graph").await;
    let text = graph["text"].as_str().unwrap();
    assert!(text.contains("expected_order (expected) + sales_order (actual) ─▶ orders_in_erp"), "{text}");
    let ids: BTreeSet<&str> = graph["nodes"].as_array().unwrap().iter().map(|n| n["id"].as_str().unwrap()).collect();
    for edge in graph["edges"].as_array().unwrap() {
        assert!(ids.contains(edge["from"].as_str().unwrap()) && ids.contains(edge["to"].as_str().unwrap()), "{edge}");
    }
    assert!(graph::Graph::of(&app.plan).dot().starts_with("digraph tieout {"));
}

#[tokio::test]
async fn ready_when_hydrated_and_all_sources_are_read() {
    let mut bench = bench();
    let app = app(&bench);
    assert_eq!(get_json(&app, "/readyz").await.0, 200);
    assert_eq!(get_json(&app, "/livez").await.0, 200);
    bench.sealed.sources[ERP].trouble = Some("the file is gone".into());
    bench.close(11);
    let (status, answer) = get_json(&app, "/readyz").await;
    assert_eq!((status, &answer["reasons"]), (503, &json!(["source sales_order can't be read: the file is gone"])));
    bench.sealed.sources[ERP].trouble = None;
    bench.close(12);
    let stuck = Stuck { code: "SINK_STUCK", name: "bus".into(), text: "what is closed was not written to bus for 40 s".into() };
    app.watched.turn(vec![stuck]);
    let (status, answer) = get_json(&app, "/readyz").await;
    assert_eq!((status, &answer["reasons"]), (503, &json!(["SINK_STUCK: what is closed was not written to bus for 40 s"])));
    app.watched.turn(Vec::new());
    let unwritable = CheckpointError { code: "CHECKPOINT_UNWRITABLE", message: "the disk is full".into(), remedy: "make room".into() };
    app.watched.checkpoint(Some(&unwritable));
    let (status, answer) = get_json(&app, "/readyz").await;
    assert_eq!(
        (status, &answer["reasons"], &answer["warnings"]),
        (200, &json!([]), &json!(["no checkpoint can be taken: CHECKPOINT_UNWRITABLE: the disk is full; make room"]))
    );
    app.watched.checkpoint(None);
    assert_eq!(get_json(&app, "/readyz").await.1["warnings"], json!([]));
    let mut fresh = Bench::new();
    fresh.sealed.sources[CRM].caught_up = true;
    fresh.sealed.hydrated = false;
    fresh.sealed.wall_ms = answer::now_ms();
    fresh.change(1, Some((row("open", Some(1)), Side::Absent)), Some(1), None);
    fresh.close(1);
    let app = self::app(&fresh);
    let (status, answer) = get_json(&app, "/readyz").await;
    assert_eq!((status, &answer["reasons"]), (503, &json!(["hydrating: it is not known yet how much there is to read of sales_order"])));
    assert_eq!(keys(&get_json(&app, "/api/v1/comparisons/orders_in_erp/differences").await.1), Vec::<&str>::new());
    assert_eq!(get_json(&app, "/api/v1/targets/expected_order/rows/1").await.1["code"], "hydrating");
    assert_eq!(get_json(&app, "/api/v1/comparisons").await.1["comparisons"][0]["state"], "hydrating");
}

#[tokio::test]
async fn a_broken_ledger_is_not_spoken_for() {
    let mut bench = bench();
    let app = app(&bench);
    bench.reject(1, -1);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bench.close(11))).unwrap_err();
    for path in ["/api/v1/comparisons", "/livez", "/metrics"] {
        let (status, problem) = get_json(&app, path).await;
        assert_eq!((status, &problem["code"]), (500, &json!("broken_invariant")), "{path}");
    }
}

#[tokio::test]
async fn every_route_is_in_the_description() {
    let described: BTreeSet<String> = <describe::Api as utoipa::OpenApi>::openapi().paths.paths.keys().cloned().collect();
    let routed: BTreeSet<String> = routes().into_iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(described, routed);
    let (_, openapi) = get_json(&app(&bench()), "/api/v1/openapi.json").await;
    let mut references = BTreeSet::new();
    fn walk(json: &Json, references: &mut BTreeSet<String>) {
        match json {
            Json::Object(map) => map.iter().for_each(|(name, value)| {
                if name == "$ref" {
                    references.insert(value.as_str().unwrap().to_string());
                }
                walk(value, references);
            }),
            Json::Array(items) => items.iter().for_each(|item| walk(item, references)),
            _ => {}
        }
    }
    walk(&openapi, &mut references);
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(openapi.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[tokio::test]
async fn the_page_of_metrics_has_the_promised_names() {
    let page = text(get_with(&app(&bench()), "/metrics", &[]).await).await;
    let lines = [
        r#"tieout_differences{comparison="orders_in_erp",kind="missing",state="confirmed"}"#,
        r#"tieout_records_read_total{source="opportunity"}"#,
        r#"tieout_records_applied_total{source="sales_order"}"#,
        r#"tieout_records_filtered_total{source="opportunity"}"#,
        r#"tieout_records_rejected_total{source="opportunity"}"#,
        r#"tieout_frontier_lag_seconds{source="opportunity"}"#,
        r#"tieout_source_time_lag_seconds{source="opportunity"}"#,
        "tieout_tick_seconds_bucket{le=",
        "tieout_state_bytes ",
        "tieout_queue_rows ",
    ];
    for line in lines {
        assert!(page.lines().any(|l| l.starts_with(line)), "{line} is lacking in\n{page}");
    }
}

#[tokio::test]
async fn a_cursor_is_taken_only_as_it_was_given_and_where() {
    let mut plan = crate::ledger::fixture::plan();
    plan.comparisons.push(crate::plan::Comparison { name: "orders_again".into(), ..plan.comparisons[0].clone() });
    let mut bench = Bench::of(plan);
    for id in 1..4 {
        bench.change(id, Some((row("open", Some(1)), Side::Absent)), Some(0), None);
    }
    bench.close(1);
    let app = app(&bench);
    let path = |name: &str, cursor: &str| format!("/api/v1/comparisons/{name}/differences?limit=1&cursor={cursor}");
    let (_, first) = get_json(&app, "/api/v1/comparisons/orders_in_erp/differences?limit=1").await;
    assert_eq!(first["total"], 3);
    let next = first["next"].as_str().unwrap();
    assert_eq!(keys(&get_json(&app, &path("orders_in_erp", next)).await.1), ["2"]);
    let reversed: String = next.chars().rev().collect();
    let changed = format!("{}{}", &next[..next.len() - 1], if next.ends_with('0') { '1' } else { '0' });
    for (name, cursor) in [
        ("orders_again", next),
        ("orders_in_erp", &reversed),
        ("orders_in_erp", &format!("{next}{next}")),
        ("orders_in_erp", &next[..next.len() - 2]),
        ("orders_in_erp", &changed),
    ] {
        let (status, problem) = get_json(&app, &path(name, cursor)).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_parameter")), "{cursor}: {problem}");
        assert!(problem["remedy"].as_str().unwrap().contains("pass `next` of the page before"), "{problem}");
    }
}

/// Events of a subscription, one after the other.
struct Events {
    body: BodyDataStream,
    buffer: String,
}

#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    data: Json,
}

impl Events {
    async fn open(app: &App, query: &str, last_event_id: Option<&str>) -> Events {
        let headers: Vec<(&str, &str)> = last_event_id.map(|id| ("last-event-id", id)).into_iter().collect();
        let response = get_with(app, &format!("/api/v1/comparisons/orders_in_erp/subscribe{query}"), &headers).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Events { body: response.into_body().into_data_stream(), buffer: String::new() }
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let line = |field: &str| event.lines().find_map(|l| l.strip_prefix(field)).map(|l| l.trim().to_string());
                let (name, id, data) = (line("event:"), line("id:"), line("data:"));
                self.buffer = rest.to_string();
                // A comment keeps the connection alive.
                let Some(name) = name else { continue };
                return Some(Event { name, id, data: serde_json::from_str(&data.unwrap()).unwrap() });
            }
            self.buffer += std::str::from_utf8(&self.body.next().await?.unwrap()).unwrap();
        }
    }

    /// What comes until nothing comes for a while.
    async fn waiting(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(20), self.next()).await {
            all.push(event.expect("the stream goes on"));
        }
        all
    }

    /// The next event but progress.
    async fn news(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("the stream goes on");
            if event.name != "progress" {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn a_subscriber_gets_a_snapshot_then_changes_and_progress() {
    let mut bench = bench();
    let app = app(&bench);
    let mut events = Events::open(&app, "", None).await;
    let snapshot = events.next().await.unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.id.as_deref()), ("snapshot", Some("10")));
    assert_eq!(keys(&snapshot.data), ["1", "2", "3", "20"]);
    let progress = events.next().await.unwrap();
    assert_eq!((progress.name.as_str(), &progress.data["as_of"]), ("progress", &json!(10)));
    assert_eq!(progress.data["comparison"]["state"], "open");
    bench.close(20);
    bench.change(1, None, None, Some(300_000)).read(ERP, 300_000);
    bench.close(30);
    let change = events.news().await;
    assert_eq!((change.name.as_str(), change.id.as_deref()), ("change", Some("30")));
    let changes = change.data["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["key"], &changes[0]["after"]), (&json!("1"), &Json::Null));
    assert_eq!((&changes[1]["key"], &changes[1]["after"]["state"]), (&json!("20"), &json!("confirmed")));
    assert_eq!(changes[1]["before"]["state"], "in_flight");
    assert_eq!(events.next().await.unwrap().data["as_of"], 30);
}

#[tokio::test]
async fn a_subscriber_resumes_behind_the_last_event_or_starts_afresh() {
    let mut bench = bench();
    let app = app(&bench);
    for (tick, id) in [(20, 1), (30, 2)] {
        bench.change(id, None, None, Some(210_000));
        bench.close(tick);
    }
    let mut resumed = Events::open(&app, "", Some("20")).await;
    let change = resumed.next().await.unwrap();
    assert_eq!((change.name.as_str(), &change.data["changes"][0]["key"]), ("change", &json!("2")));
    let mut nothing_new = Events::open(&app, "", Some("30")).await;
    assert_eq!(nothing_new.next().await.unwrap().name, "progress");
    for id in ["3", "99", "yesterday"] {
        let mut fresh = Events::open(&app, "", Some(id)).await;
        let snapshot = fresh.next().await.unwrap();
        assert_eq!((snapshot.name.as_str(), keys(&snapshot.data)), ("snapshot", vec!["3", "20"]), "{id}");
    }
}

#[tokio::test]
async fn a_filter_holds_for_a_subscription_and_tells_what_leaves_it() {
    let mut bench = bench();
    let app = app(&bench);
    let mut events = Events::open(&app, "?state=in_flight", None).await;
    assert_eq!(keys(&events.news().await.data), ["20"]);
    bench.change(3, None, None, Some(220_000));
    bench.close(20);
    bench.read(ERP, 300_000);
    bench.close(30);
    let change = events.news().await;
    assert_eq!(change.data["as_of"], 30);
    assert_eq!((&change.data["changes"][0]["key"], &change.data["changes"][0]["after"]), (&json!("20"), &Json::Null));
}

#[tokio::test]
async fn a_large_snapshot_comes_in_parts_and_only_the_last_can_be_resumed_from() {
    let mut bench = Bench::new();
    for id in 0..1200 {
        bench.change(id, Some((row("open", Some(id)), Side::Absent)), Some(0), None);
    }
    bench.close(1);
    let mut events = Events::open(&app(&bench), "", None).await;
    let mut seen = Vec::new();
    for part in 0..3 {
        let event = events.next().await.unwrap();
        assert_eq!((&event.data["part"], &event.data["last"]), (&json!(part), &json!(part == 2)));
        assert_eq!(event.id.is_some(), part == 2);
        seen.extend(keys(&event.data).iter().map(|k| k.parse::<i64>().unwrap()));
    }
    assert!(seen.into_iter().eq(0..1200));
}

#[tokio::test]
async fn while_hydrating_a_subscriber_sees_progress_and_then_the_snapshot() {
    let mut bench = Bench::new();
    bench.sealed.hydrated = false;
    bench.change(1, Some((row("open", Some(1)), Side::Absent)), Some(0), None);
    bench.close(1);
    let mut events = Events::open(&app(&bench), "", Some("77")).await;
    let progress = events.next().await.unwrap();
    assert_eq!((progress.name.as_str(), &progress.data["comparison"]["state"]), ("progress", &json!("hydrating")));
    assert_eq!(progress.id, None, "nothing was told that could be resumed from");
    bench.sealed.hydrated = true;
    bench.close(2);
    assert_eq!(keys(&events.news().await.data), ["1"]);
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_cut_and_the_ledger_never_waits() {
    let mut bench = bench();
    let app = app(&bench);
    let mut events = Events::open(&app, "", None).await;
    assert_eq!(events.next().await.unwrap().name, "snapshot");
    // More changes than the ledger remembers, while nobody reads; every tick is closed all the same.
    for tick in 0..60 {
        for id in 0..2000 {
            bench.change(id, Some((row("open", Some(tick)), Side::Absent)), Some(0), None);
        }
        bench.close(100 + tick as u64);
        tokio::task::yield_now().await;
    }
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!((last.name.as_str(), &last.data["code"]), ("cut", &json!("too_slow")));
}

#[tokio::test]
async fn the_overview_follows_all_comparisons() {
    let mut bench = bench();
    let app = app(&bench);
    let response = get_with(&app, "/api/v1/subscribe", &[]).await;
    let mut events = Events { body: response.into_body().into_data_stream(), buffer: String::new() };
    let first = events.next().await.unwrap();
    assert_eq!((&first.data["as_of"], &first.data["rejects"]), (&json!(10), &json!(1)));
    bench.close(20);
    assert_eq!(events.next().await.unwrap().data["as_of"], 20);
}

#[tokio::test]
async fn it_serves_over_a_socket_until_it_is_stopped() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let app = app(&bench());
    let serving = tokio::spawn(serve(listener, router(app), async move { _ = stopped.await }));
    let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
    // A subscription stays open and must not keep the process from stopping.
    connection.write_all(b"GET /api/v1/subscribe HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    connection.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

mod described;
mod same;

/// Serves a ledger that lives, for a look at the page: `cargo test --lib look_at_the_page -- --ignored`.
#[tokio::test]
#[ignore = "serves until it is stopped"]
async fn look_at_the_page() {
    let address = std::env::var("TIEOUT_LOOK").unwrap_or_else(|_| "127.0.0.1:7171".into());
    let listener = TcpListener::bind(&address).await.unwrap();
    let mut plan = crate::ledger::fixture::plan();
    let mut second = plan.comparisons[0].clone();
    second.name = "invoices_in_ledger".into();
    second.owner = Some("finance@example.com".into());
    second.comment = Some("Every order that is confirmed must stand as an invoice.".into());
    let mut third = second.clone();
    third.name = "shipments_in_warehouse".into();
    third.stale_after = Duration::from_secs(2);
    third.actual = crate::plan::TableRef::Source(2);
    let mut shipment = plan.sources[ERP].clone();
    (shipment.name, shipment.connection) = ("shipment".into(), plan.connections.len());
    plan.connections.push(crate::plan::Connection { name: "wms".into(), ..plan.connections[0].clone() });
    plan.sources.push(shipment);
    plan.comparisons.extend([second, third]);
    let mut bench = Bench::of(plan);
    let app = app(&bench);
    tokio::spawn(serve(listener, router(app), std::future::pending()));
    let start = answer::now_ms();
    let mut seed = 7u64;
    let mut random = move |n: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % n
    };
    bench.reject(4711, 1).reject(9120, 1);
    for n in 0i64.. {
        let now = answer::now_ms();
        bench.sealed.wall_ms = now;
        bench.sealed.sources.iter_mut().for_each(|s| (s.caught_up, s.positions) = (true, vec![(0, n * 311)]));
        (bench.sealed.sources[2].caught_up, bench.sealed.sources[2].behind_bytes) = (false, 48_200_000);
        if n == 0 {
            bench.read(2, now - 90_000);
        }
        let times = [now - 400, now - 1900];
        if n % 10 != 3 {
            bench.read(CRM, times[CRM]).read(ERP, times[ERP]);
        }
        for _ in 0..random(3) {
            let id = 52_000 + random(60) as i64;
            let age = if n < 3 { 45_000 } else { 0 };
            let amount = Some(random(1_000_000) as i64);
            let sides = match random(7) {
                0 => Some((row("confirmed", amount), Side::Absent)),
                1 => Some((row("confirmed", amount), row("confirmed", Some(random(1_000_000) as i64)))),
                2 => Some((row("confirmed", amount), row("hold", amount))),
                3 => Some((Side::Absent, row("open", amount))),
                _ => None,
            };
            bench.change(id, sides, Some(times[CRM] - age), None);
        }
        if n == 1 {
            bench.change(51_007, Some((Side::Rejected, row("open", Some(99)))), Some(start - 100_000), None);
            let two = |side: Side| match side {
                Side::Row(row) => row,
                _ => unreachable!(),
            };
            let claims = Side::Duplicate(vec![two(row("open", Some(100))), two(row("hold", Some(250)))]);
            bench.change(51_003, Some((claims, row("open", Some(100)))), Some(start - 80_000), None);
        }
        bench.close(now as u64);
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
}
