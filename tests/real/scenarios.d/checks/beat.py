"""Something that always moves, so that time passes for tables that are quiet: a source is known as far as its connection is."""
from checks.base import Check, Truth, one, upsert


class Beat(Check):
    name = "beat"
    topics = {"beat_topic": 1}
    files = {"beat_file": ["beat_file.ndjson"]}
    keys = {"beats": ["id"], "file_beats": ["id"]}
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
  beat_file:
    connection: files
    files: [beat_file.ndjson]
    format: upsert-json
    key: [id]
    columns: { id: bigint, n: bigint }
targets:
  beats: { key: [id], from: beat_topic, fields: { id: id, n: n } }
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

    def model(self, logs):
        truth = Truth()
        for target, source in (("beats", "beat_topic"), ("file_beats", "beat_file")):
            truth.tables[target] = one(upsert(logs[source], ["id"]))
        return truth
