"""Something that always moves, so that time passes for tables that are quiet: a source is known as far as its connection is, and
what a connector of Debezium writes as far as that connector."""
from checks.base import Check, Truth, event, one, upsert


class Beat(Check):
    name = "beat"
    topics = {"beat_topic": 1, "beat_table": 1}
    files = {"beat_file": ["beat_file.ndjson"]}
    keys = {"beats": ["id"], "file_beats": ["id"], "table_beats": ["id"]}
    outputs = [("beat", "beats", "upsert-json")]
    flow = """
dataflow: beat
sources:
  beat_topic:
    connection: bus
    topic: PREFIX.beat_topic
    format: upsert-json
    key: [id]
    columns: { id: bigint, n: bigint }
  beat_table:
    connection: bus
    topic: PREFIX.beat_table
    format: debezium-json
    key: [id]
    columns: { id: bigint, n: bigint }
  beat_file:
    connection: files
    files: [beat_file.ndjson]
    format: upsert-json
    key: [id]
    columns: { id: bigint, n: bigint }
targets:
  beats: { key: [id], from: beat_topic, fields: { id: id, n: n } }
  table_beats: { key: [id], from: beat_table, fields: { id: id, n: n } }
  file_beats: { key: [id], from: beat_file, fields: { id: id, n: n } }
outputs:
  - { table: beats, connection: bus, topic: PREFIX.out.beat, format: upsert-json }
"""
    n = 0

    def set_up(self):
        self.change()

    def change(self):
        self.n += 1
        for source in ("beat_topic", "beat_file"):
            self.put(source, {"id": 0}, {"n": self.n})
        self.put("beat_table", {"id": 0}, event("u", None, {"id": 0, "n": self.n}))

    def model(self, logs):
        truth = Truth()
        for target, source in (("beats", "beat_topic"), ("file_beats", "beat_file")):
            truth.tables[target] = one(upsert(logs[source], ["id"]))
        truth.tables["table_beats"] = one({(value["after"]["id"],): value["after"] for _, _, value in logs["beat_table"][0]})
        return truth
