"""Records that can't be decoded or mapped, and good ones that follow."""
from checks.base import REJECTED, Check, Truth, one


class Lab(Check):
    name = "lab"
    topics = {"lab_sample": 2, "lab_result": 1}
    keys = {"lab_wanted": ["id"], "lab_agrees": ["id"]}
    outputs = [("lab.wanted", "lab_wanted", "upsert-json"), ("lab.agrees", "lab_agrees", "upsert-json")]
    flow = """
dataflow: lab
sources:
  lab_sample:
    connection: bus
    topic: PREFIX.lab_sample
    format: upsert-json
    key: [id]
    columns: { id: bigint, value: int, kind: varchar }
  lab_result:
    connection: bus
    topic: PREFIX.lab_result
    format: upsert-json
    key: [id]
    columns: { id: bigint, value: int, kind: varchar }
targets:
  lab_wanted:
    key: [id]
    from: lab_sample
    fields:
      id: id
      value: { value: value, on_null: reject }
      kind: { case: kind, when: { a: blood, b: water } }
comparisons:
  lab_agrees: { expected: lab_wanted, actual: lab_result, grace: 1s }
outputs:
  - { table: lab_wanted, connection: bus, topic: PREFIX.out.lab.wanted, format: upsert-json }
  - { differences: lab_agrees, connection: bus, topic: PREFIX.out.lab.agrees, format: upsert-json }
"""
    KINDS = {"a": "blood", "b": "water"}

    def set_up(self):
        for id in range(self.rng.randrange(60, 150)):
            self.some(id)

    def change(self):
        for _ in range(self.rng.randrange(40, 160)):
            self.some(self.rng.randrange(160))

    def some(self, id):
        rng, key, n = self.rng, {"id": id}, self.rng.randrange(100)
        kind = rng.choice("ab")
        good = {"value": n, "kind": kind}
        bad = [{"value": "many", "kind": kind}, {"value": 2**40, "kind": kind}, {"value": n, "kind": "z"}, {"value": None, "kind": kind}, b'{"value":']
        self.put("lab_sample", key, rng.choices([good, None, rng.choice(bad)], [70, 12, 18])[0])
        good = {"value": n, "kind": self.KINDS[kind]}
        self.put("lab_result", key, rng.choices([good, None, rng.choice([bad[0], bad[4]])], [85, 10, 5])[0])

    @staticmethod
    def undecodable(value):
        if isinstance(value, bytes):
            return "DECODE_FAILED"
        if isinstance(value["value"], str):
            return "TYPE_MISMATCH"
        return "VALUE_OUT_OF_RANGE" if value["value"] is not None and value["value"] >= 2**31 else None

    def model(self, logs):
        truth, sides = Truth(), {}
        for source in self.topics:
            rows = sides[source] = {}
            for part in logs[source]:
                for _, named, value in part:
                    key, code = (named["id"],), None
                    rows.pop(key, None)
                    if value is None:
                        continue
                    code = self.undecodable(value)
                    if not code and source == "lab_sample":
                        code = "NULL_VALUE" if value["value"] is None else None if value["kind"] in self.KINDS else "MAPPING_NOT_FOUND"
                    if code:
                        rows[key] = code
                    else:
                        kind = self.KINDS[value["kind"]] if source == "lab_sample" else value["kind"]
                        rows[key] = {"id": named["id"], "value": value["value"], "kind": kind}
            for key, row in rows.items():
                if isinstance(row, str):
                    truth.rejects[source, row, str(key[0])] += 1
        good = {key: row for key, row in sides["lab_sample"].items() if not isinstance(row, str)}
        truth.tables["lab_wanted"] = one(good)
        wanted, actual = ({key: REJECTED if isinstance(row, str) else [row] for key, row in sides[source].items()} for source in self.topics)
        truth.compare("lab_agrees", wanted, actual, {"value": "value", "kind": "kind"})
        return truth
