"""Writes seeds of the fuzz targets from the captured events: the distinct small messages, key and value by a line feed."""
import hashlib, json, pathlib

here = pathlib.Path(__file__).parent
for target in ["debezium_json", "upsert_json"]:
    folder = here / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted((here.parent / "tests/samples/debezium").glob("*/*.ndjson")):
        # Two of each file: that many shapes there are.
        messages = [json.loads(line) for line in file.read_text().split("\n") if line]
        small = [m for m in messages if m["value"] and len(m["value"]) < 2500][:2]
        for m in small:
            key = m["key"] or ""
            if target == "debezium_json":
                seed = key + "\n" + m["value"]
            else:
                event = json.loads(m["value"])
                row = event.get("after")
                seed = key + "\n" + json.dumps(row, ensure_ascii=False) + "\n" + '{"key":%s,"value":%s}' % (key or "null", json.dumps(row, ensure_ascii=False))
            name = hashlib.sha1(seed.encode()).hexdigest()[:16]
            (folder / name).write_text(seed)
