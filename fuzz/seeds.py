"""Writes seeds of the fuzz targets: of the formats from the captured events, the distinct small messages, key and value by a line
feed; of `avro` the schema and the message without its head; of `config` from the example and the broken files, the configuration and the dataflows by `#===`."""
import base64, hashlib, json, pathlib

here = pathlib.Path(__file__).parent


def write(target, seed):
    folder = here / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    seed = seed if isinstance(seed, bytes) else seed.encode()
    (folder / hashlib.sha1(seed).hexdigest()[:16]).write_bytes(seed)


for target in ["debezium_json", "upsert_json"]:
    for file in sorted(f for f in (here.parent / "tests/samples/debezium").glob("*/*.ndjson") if f.parent.name != "avro"):
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

samples = here.parent / "tests/samples/debezium/avro"
schemas = json.loads((samples / "schemas.json").read_text())
for line in (samples / "01-customer-and-types.ndjson").read_text().splitlines():
    for side in "key", "value":
        message = base64.b64decode(json.loads(line)[side]["base64"])
        write("avro", json.dumps(schemas[str(int.from_bytes(message[1:5], "big"))]).encode() + b"\n" + message[5:])
row = {"type": "record", "name": "R", "fields": [{"name": "id", "type": ["null", "int"]}, {"name": "name", "type": {"type": "enum", "name": "E", "symbols": ["a", "b"]}},
       {"name": "u", "type": {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}}, {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}},
       {"name": "j", "type": {"type": "map", "values": ["float", "R"]}}, {"name": "ai", "type": {"type": "array", "items": ["null", "long"]}}]}
write("avro", json.dumps(row).encode() + b"\n\x02\x06\x02" + bytes(range(16)) + b"\x80\x02\x02\x02k\0\0\0\x80?\0\x03\x06\x02\x04\0\0")

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
