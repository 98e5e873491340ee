"""Upstream transactions: money moves between two tables, and no tick shows another sum."""
from checks.base import Check, Truth, event, now_ms, one, upsert


class Bank(Check):
    name = "bank"
    topics = {"bank_transaction": 1, "bank_checking": 1, "bank_saving": 1}
    unlisted = ("bank_transaction",)
    keys = {"bank_total": ["name"], "bank_accounts": ["id"]}
    outputs = [("bank.total", "bank_total", "upsert-json"), ("bank.accounts", "bank_accounts", "upsert-json")]
    flow = """
dataflow: bank
transactions:
  bank_log: { connection: bus, topic: PREFIX.bank_transaction, bound: 60s }
sources:
  bank_checking:
    connection: bus
    topic: PREFIX.bank_checking
    format: debezium-json
    key: [id]
    columns: { id: bigint, balance: bigint }
    transactions: bank_log
    collection: public.checking
  bank_saving:
    connection: bus
    topic: PREFIX.bank_saving
    format: debezium-json
    key: [id]
    columns: { id: bigint, balance: bigint }
    transactions: bank_log
    collection: public.saving
targets:
  bank_total:
    key: [name]
    sql: |
      SELECT 'all' AS name, sum(balance) AS total, count(*) AS n
      FROM (SELECT balance FROM bank_checking UNION ALL SELECT balance FROM bank_saving) AS accounts
  bank_accounts: { key: [id], from: bank_checking, fields: { id: id, balance: balance } }
outputs:
  - { table: bank_total, connection: bus, topic: PREFIX.out.bank.total, format: upsert-json }
  - { table: bank_accounts, connection: bus, topic: PREFIX.out.bank.accounts, format: upsert-json }
"""
    ACCOUNTS = 20
    TABLES = ("checking", "saving")

    def __init__(self, seed):
        super().__init__(seed)
        self.at = 100
        self.balance = {(table, id): 100 for table in self.TABLES for id in range(self.ACCOUNTS)}
        self.again = False

    def set_up(self):
        for (table, id), balance in self.balance.items():
            self.put(f"bank_{table}", {"id": id}, event("r", None, {"id": id, "balance": balance}))
        self.change()

    def change(self):
        for _ in range(self.rng.randrange(20, 60)):
            self.move()

    def move(self):
        """One transaction; PostgreSQL's ids, each with its own place in the log."""
        rng = self.rng
        self.at += 1
        name, place, counts = self.at, self.at * 1000, {}
        touched = rng.sample(sorted(self.balance), rng.randrange(2, 6))
        # What one has less another has more, over both tables.
        for account in touched[1:]:
            much = rng.randrange(1, 20)
            self.balance[touched[0]] -= much
            self.balance[account] += much
        events = []
        for order, (table, id) in enumerate(touched, 1):
            counts[table] = counts.get(table, 0) + 1
            after = {"id": id, "balance": self.balance[table, id]}
            of = {"id": f"{name}:{place + order}", "total_order": order, "data_collection_order": counts[table]}
            events.append((f"bank_{table}", {"id": id}, event("u", None, after, transaction=of)))
        log = lambda status, at, **more: ("bank_transaction", {"id": f"{name}:{at}"}, {"status": status, "id": f"{name}:{at}", "ts_ms": now_ms(), **more})
        collections = [{"data_collection": f"public.{table}", "event_count": n} for table, n in counts.items()]
        begun = log("BEGIN", place, event_count=None, data_collections=None)
        ended = log("END", place + 99, event_count=len(touched), data_collections=collections)
        # The topics are read apart: the end may come before what it ends.
        for source, key, value in [begun, *events, ended] if rng.random() < 0.7 else [begun, ended, *events]:
            self.put(source, key, value)

    def replay(self):
        """The newest range comes again, from where a transaction begins."""
        begins = [at for at, (source, _, value, _) in enumerate(self.sent) if source == "bank_transaction" and value["status"] == "BEGIN"]
        self.pending += self.sent[self.rng.choice(begins[-20:]) :]
        self.again = True

    def model(self, logs):
        truth, tables = Truth(), {}
        for table in self.TABLES:
            rows = tables[table] = {}
            for _, _, value in logs[f"bank_{table}"][0]:
                rows[value["after"]["id"],] = value["after"]
        balances = [row["balance"] for rows in tables.values() for row in rows.values()]
        truth.tables["bank_total"] = one({("all",): {"name": "all", "total": sum(balances), "n": len(balances)}} if balances else {})
        truth.tables["bank_accounts"] = one(tables["checking"])
        return truth

    def tick(self, seen):
        # A range that comes again passes message by message.
        for row in seen.get("bank.total", {}).values():
            if not self.again and row["n"] == 2 * self.ACCOUNTS and row["total"] != 2 * self.ACCOUNTS * 100:
                return [f"the sum is {row['total']}"]
        return []

    def verify(self, program, scenario):
        incomplete = sum("TRANSACTION_INCOMPLETE" in line and "bank_log" in line for line in program.said)
        return [f"{incomplete} transactions went on incomplete"] if incomplete and not self.again else []


class Half(Check):
    """A transaction of which a row is lacking: its keys can't be told, until the row comes."""

    name = "half"
    topics = {"half_transaction": 1, "half_account": 1, "half_posting": 1, "half_book": 1}
    unlisted = ("half_transaction",)
    keys = {"half_wanted": ["id"], "half_booked": ["id"]}
    outputs = [("half.booked", "half_booked", "upsert-json")]
    # A range of it that comes again may be called incomplete until all of it has come.
    replays = False
    flow = """
dataflow: half
transactions:
  half_log: { connection: bus, topic: PREFIX.half_transaction, bound: 1s }
sources:
  half_account:
    connection: bus
    topic: PREFIX.half_account
    format: debezium-json
    key: [id]
    columns: { id: bigint, balance: bigint }
    transactions: half_log
    collection: public.account
  half_posting:
    connection: bus
    topic: PREFIX.half_posting
    format: debezium-json
    key: [id]
    columns: { id: bigint, account: bigint }
    transactions: half_log
    collection: public.posting
  half_book:
    connection: bus
    topic: PREFIX.half_book
    format: upsert-json
    key: [id]
    columns: { id: bigint, balance: bigint }
targets:
  half_wanted: { key: [id], from: half_account, fields: { id: id, balance: balance } }
  half_posted: { key: [id], from: half_posting, fields: { id: id, account: account } }
comparisons:
  half_booked: { expected: half_wanted, actual: half_book, grace: 1s }
outputs:
  - { differences: half_booked, connection: bus, topic: PREFIX.out.half.booked, format: upsert-json }
"""

    def set_up(self):
        self.late = []
        for id in range(10):
            self.put("half_account", {"id": id}, event("r", None, {"id": id, "balance": 1}))
            self.put("half_book", {"id": id}, {"balance": 1 + (id == 0)})

    def change(self):
        self.transaction(1, 10)

    def change_again(self):
        if self.rng.random() < 0.5:
            self.pending += self.late
        self.transaction(2, 20)

    def transaction(self, id, name):
        part = lambda order, nth: {"id": f"{name}:{name}{order}", "total_order": order, "data_collection_order": nth}
        self.put("half_account", {"id": id}, event("u", None, {"id": id, "balance": 5}, transaction=part(1, 1)))
        self.put("half_posting", {"id": name}, event("c", None, {"id": name, "account": id}, transaction=part(2, 1)))
        collections = [{"data_collection": "public.account", "event_count": 1}, {"data_collection": "public.posting", "event_count": 2}]
        self.put("half_transaction", {"id": f"{name}:{name}9"}, {"status": "END", "id": f"{name}:{name}9", "event_count": 3, "ts_ms": now_ms(), "data_collections": collections})
        self.late.append(("half_posting", {"id": name + 1}, event("c", None, {"id": name + 1, "account": id}, transaction=part(3, 2)), None))

    def model(self, logs):
        truth, accounts, whole = Truth(), {}, {0}
        for _, _, value in logs["half_account"][0]:
            accounts[value["after"]["id"],] = value["after"]
        posted = [value["after"] for _, _, value in logs["half_posting"][0]]
        for id in (1, 2):
            # Once a later transaction came in a partition, nothing more of an earlier one is awaited.
            if sum(row["account"] == id for row in posted) == 2 or any(row["account"] > id for row in posted):
                whole.add(id)
        truth.tables["half_wanted"] = one(accounts)
        truth.compare("half_booked", one(accounts), one(upsert(logs["half_book"], ["id"])), {"balance": "balance"})
        for key, (kind, fields, _) in truth.differences["half_booked"].items():
            truth.differences["half_booked"][key] = (kind, fields, key[0] in whole)
        return truth
