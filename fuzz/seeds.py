"""Writes seeds of the fuzz targets: of the formats from the captured events, the distinct small messages, key and value by a line
feed; of `config` from the example and the broken files, the configuration and the dataflows by `#===`."""
import hashlib, json, pathlib

here = pathlib.Path(__file__).parent


def write(target, seed):
    folder = here / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(seed.encode()).hexdigest()[:16]).write_text(seed)


for target in ["debezium_json", "upsert_json"]:
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
            write(target, seed)

for old in (here / "seeds/config").glob("*"):
    old.unlink()
for config in sorted((here.parent / "dataflows").glob("*/config.yaml")):
    files = [config, *sorted(config.parent.glob("dataflows/*.yaml"))]
    write("config", "\n#===\n".join(f.read_text() for f in files))
broken = here.parent / "tests/broken"
base = {name: (broken / "base" / name).read_text() for name in ["config.yaml", "dataflows/base.yaml"]}
for case in sorted(broken.glob("*.yaml")):
    first, *parts = case.read_text().split("#=== ")
    files = base | ({"dataflows/case.yaml": first} if first else {}) | dict(part.split("\n", 1) for part in parts)
    write("config", "\n#===\n".join(files.values()))
