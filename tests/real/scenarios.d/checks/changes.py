"""Debezium's change events: keys that change, tombstones, truncates, values that were not sent; tables without a key."""
import collections

from checks.base import UNKNOWN, Check, Truth, event, one


class Stock(Check):
    """Two tables as a connector tells of them."""

    name = "stock"
    topics = {"stock_shop": 1, "stock_depot": 1}
    keys = {"stock_wanted": ["id"], "stock_agrees": ["id"]}
    outputs = [("stock.wanted", "stock_wanted", "upsert-json"), ("stock.agrees", "stock_agrees", "upsert-json")]
    flow = """
dataflow: stock
sources:
  stock_shop:
    connection: bus
    topic: PREFIX.stock_shop
    format: debezium-json
    key: [id]
    columns: { id: bigint, name: varchar, qty: int, body: varchar }
  stock_depot:
    connection: bus
    topic: PREFIX.stock_depot
    format: debezium-json
    key: [id]
    columns: { id: bigint, name: varchar, qty: int, body: varchar }
targets:
  stock_wanted: { key: [id], from: stock_shop, fields: { id: id, name: name, qty: qty, body: body } }
comparisons:
  stock_agrees: { expected: stock_wanted, actual: stock_depot, grace: 1s }
outputs:
  - { table: stock_wanted, connection: bus, topic: PREFIX.out.stock.wanted, format: upsert-json }
  - { differences: stock_agrees, connection: bus, topic: PREFIX.out.stock.agrees, format: upsert-json }
"""
    SOURCES = ("stock_shop", "stock_depot")

    def set_up(self):
        for id in range(self.rng.randrange(60, 150)):
            row = self.row(id)
            for source in self.SOURCES:
                self.put(source, {"id": id}, event("r", None, row))

    def change(self):
        for _ in range(self.rng.randrange(60, 200)):
            events = self.some(self.rng.randrange(200))
            for source in self.SOURCES:
                # What one of them lacks is a difference.
                for key, value in events if self.rng.random() < 0.95 else events[1:]:
                    self.put(source, key, value)
        if self.rng.random() < 0.3:
            for source in self.SOURCES:
                self.put(source, None, event("t", None, None))
                self.put(source, {"id": 7}, event("c", None, self.row(7)))

    def row(self, id):
        rng = self.rng
        return {"id": id, "name": rng.choice(["lamp", "chair", "desk"]), "qty": rng.randrange(9), "body": rng.choice(["long text", "other text", None])}

    def some(self, id):
        rng, key, way = self.rng, {"id": id}, self.rng.random()
        # Under REPLICA IDENTITY DEFAULT a deleted row is invented but for its key.
        gone = [(key, event("d", {"id": id, "name": "", "qty": 0, "body": ""}, None)), (key, None)]
        if way < 0.15:
            return gone
        if way < 0.3:
            other = rng.randrange(200)
            return gone + [({"id": other}, event("c", None, self.row(other)))]
        if way < 0.6:
            return [(key, event("u", None, {**self.row(id), "body": UNKNOWN}))]
        return [(key, event(rng.choice("cur"), None, self.row(id)))]

    @staticmethod
    def fold(parts):
        rows = {}
        for _, named, value in parts[0]:
            if value is None:
                rows.pop((named["id"],), None)
            elif value["op"] == "t":
                rows.clear()
            elif value["op"] == "d":
                rows.pop((value["before"]["id"],), None)
            else:
                row = value["after"]
                key = (row["id"],)
                rows[key] = {name: rows.get(key, {}).get(name, UNKNOWN) if it == UNKNOWN else it for name, it in row.items()}
        return rows

    def model(self, logs):
        truth = Truth()
        wanted, actual = (self.fold(logs[source]) for source in self.SOURCES)
        truth.tables["stock_wanted"] = one(wanted)
        truth.compare("stock_agrees", one(wanted), one(actual), {name: name for name in ("name", "qty", "body")})
        return truth


class Scans(Check):
    """Equal rows are counted; a row that is not there can't be taken away."""

    name = "scans"
    topics = {"scans_scan": 2}
    keys = {"scans": ["sku", "bin"]}
    outputs = [("scans", "scans", "upsert-json")]
    flow = """
dataflow: scans
sources:
  scans_scan:
    connection: bus
    topic: PREFIX.scans_scan
    format: debezium-json
    key: none
    columns: { sku: varchar, bin: int }
targets:
  scans:
    key: [sku, bin]
    sql: SELECT sku, bin, count(*) AS n FROM scans_scan GROUP BY sku, bin
outputs:
  - { table: scans, connection: bus, topic: PREFIX.out.scans, format: upsert-json }
"""

    def set_up(self):
        for _ in range(self.rng.randrange(100, 250)):
            self.add(event("r", None, self.row()))

    def change(self):
        for _ in range(self.rng.randrange(50, 200)):
            way = self.rng.random()
            if way < 0.5:
                self.add(event("c", None, self.row()))
            elif way < 0.75:
                self.add(event("d", self.row(), None))
                self.add(None)
            else:
                self.add(event("u", self.row(), self.row()))

    def row(self):
        return {"sku": self.rng.choice("abcdefgh"), "bin": self.rng.randrange(6)}

    def add(self, value):
        self.put("scans_scan", None, value, self.rng.randrange(2))

    def model(self, logs):
        truth, rows = Truth(), collections.Counter()
        for part in logs["scans_scan"]:
            for _, _, value in part:
                if value:
                    for image, n in (("before", -1), ("after", 1)):
                        if value[image]:
                            rows[value[image]["sku"], value[image]["bin"]] += n
        truth.tables["scans"] = one({key: {"sku": key[0], "bin": key[1], "n": n} for key, n in rows.items() if n > 0})
        for (sku, bin), n in rows.items():
            if n < 0:
                truth.rejects["scans_scan", "ROW_NOT_FOUND", f'["{sku}",{bin}]'] += 1
        return truth
