"""Row by row: a target compared with an actual table, as topics and as files."""
from checks.base import Check, Truth, one, upsert


class Orders(Check):
    """Fields, a filter, a map of values, a default; topics of several partitions."""

    name = "orders"
    topics = {"orders_plan": 3, "orders_payment": 2}
    keys = {"orders_wanted": ["id"], "orders_paid": ["id"]}
    outputs = [
        ("orders.wanted", "orders_wanted", "upsert-json"), ("orders.changes", "orders_wanted", "debezium-json"),
        ("orders.paid", "orders_paid", "upsert-json")]
    flow = """
dataflow: orders
sources:
  orders_plan:
    connection: bus
    topic: PREFIX.orders_plan
    format: upsert-json
    key: [id]
    columns: { id: bigint, amount: bigint, state: varchar, note: varchar }
  orders_payment:
    connection: bus
    topic: PREFIX.orders_payment
    format: upsert-json
    key: [id]
    columns: { id: bigint, amount: bigint, state: varchar }
targets:
  orders_wanted:
    key: [id]
    from: orders_plan
    where: state <> 'draft'
    fields:
      id: id
      amount: amount * 2
      state: { case: state, when: { open: o, closed: c }, else: x }
      note: { value: note, default: none }
comparisons:
  orders_paid:
    expected: orders_wanted
    actual: orders_payment
    fields: [amount, state]
    grace: 1s
outputs:
  - { table: orders_wanted, connection: bus, topic: PREFIX.out.orders.wanted, format: upsert-json }
  - { table: orders_wanted, connection: bus, topic: PREFIX.out.orders.changes, format: debezium-json }
  - { differences: orders_paid, connection: bus, topic: PREFIX.out.orders.paid, format: upsert-json }
"""
    STATES = {"open": "o", "closed": "c", "lost": "x"}
    plan, payment = "orders_plan", "orders_payment"
    wanted, paid = "orders_wanted", "orders_paid"
    # Keys from here on are never touched again: what differs there must stay as it is.
    STILL = 1_000_000

    def set_up(self):
        for id in range(self.rng.randrange(100, 250)):
            self.some(id)
        for id in range(self.STILL, self.STILL + 5):
            self.put(self.plan, {"id": id}, {"amount": id, "state": "open", "note": "still"})

    def change(self):
        for _ in range(self.rng.randrange(40, 160)):
            self.some(self.rng.randrange(300))

    def some(self, id):
        rng = self.rng
        amount, state = rng.randrange(1000), rng.choice(["open", "open", "closed", "draft", "lost"])
        gone = rng.random() < 0.15
        self.put(self.plan, {"id": id}, None if gone else {"amount": amount, "state": state, "note": rng.choice([None, "", "a", "b"])})
        if rng.random() < 0.8:
            wrong = rng.random() < 0.1
            self.put(self.payment, {"id": id}, None if gone else {"amount": amount * 2 + wrong, "state": self.STATES.get(state, "o")})

    def model(self, logs):
        truth = Truth()
        plan, payment = upsert(logs[self.plan], ["id"]), upsert(logs[self.payment], ["id"])
        wanted = {}
        for key, row in plan.items():
            if row["state"] != "draft":
                note = row["note"]
                wanted[key] = {"id": row["id"], "amount": row["amount"] * 2, "state": self.STATES[row["state"]], "note": "none" if note is None else note}
        truth.tables[self.wanted] = one(wanted)
        truth.compare(self.paid, one(wanted), one(payment), {"amount": "amount", "state": "state"})
        return truth

    def still(self, program):
        found = {}
        for id in range(self.STILL, self.STILL + 5):
            for difference in program.get(f"/api/v1/comparisons/{self.paid}/differences?key={id}")["differences"]:
                found[id] = (difference["since"], difference["since_tick"])
        return found

    def observe(self, program):
        self.before = self.still(program)

    def verify(self, program, scenario):
        after = self.still(program)
        if not scenario.anew and after != self.before:
            return [f"since when differences stand was {self.before}, and is {after}"]
        return [] if after.keys() == self.before.keys() else [f"differences stood at {list(self.before)}, and stand at {list(after)}"]


class Archive(Orders):
    """The same with files as inputs, several in a row, and one as output (written at least once)."""

    name = "archive"
    topics = {}
    files = {"archive_plan": ["archive_plan.0.ndjson", "archive_plan.1.ndjson"], "archive_payment": ["archive_payment.ndjson"]}
    keys = {"archive_wanted": ["id"], "archive_paid": ["id"]}
    outputs = [("archive.paid", "archive_paid", "upsert-json"), ("archive.wanted", "archive_wanted", "upsert-json")]
    file_outputs = [("archive_wanted.out.ndjson", "archive_wanted")]
    plan, payment, wanted, paid = "archive_plan", "archive_payment", "archive_wanted", "archive_paid"
    flow = (
        Orders.flow.replace("connection: bus\n    topic: PREFIX.orders_plan", "connection: files\n    files: [archive_plan.0.ndjson, archive_plan.1.ndjson]")
        .replace("connection: bus\n    topic: PREFIX.orders_payment", "connection: files\n    files: [archive_payment.ndjson]")
        .replace("orders.changes, format: debezium-json", "archive.wanted, format: upsert-json")
        .replace("connection: bus, topic: PREFIX.out.orders.wanted", "connection: out, file: archive_wanted.out.ndjson")
        .replace("orders", "archive")
    )

    def set_up(self):
        super().set_up()
        # The first file is there from the beginning, and whole.
        self.pending = [(source, key, value, 0 if source == self.plan and at < 60 else None) for at, (source, key, value, _) in enumerate(self.pending)]

    def replay(self):
        super().replay()
        self.pending = [(source, key, value, None) for source, key, value, _ in self.pending]
