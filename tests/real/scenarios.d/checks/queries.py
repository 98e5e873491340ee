"""SQL: aggregates, joins, several rows on one key."""
from checks.base import Check, Truth, cents, one, upsert


class Takings(Check):
    """sum, count, distinct, least and most, by shop, with HAVING; compared with a book."""

    name = "takings"
    topics = {"takings_sale": 2, "takings_book": 1}
    keys = {"takings": ["shop"], "takings_booked": ["shop"]}
    outputs = [("takings", "takings", "upsert-json"), ("takings.booked", "takings_booked", "upsert-json")]
    flow = """
dataflow: takings
sources:
  takings_sale:
    connection: bus
    topic: PREFIX.takings_sale
    format: upsert-json
    key: [id]
    columns: { id: bigint, shop: varchar, amount: "decimal(12,2)", buyer: varchar }
  takings_book:
    connection: bus
    topic: PREFIX.takings_book
    format: upsert-json
    key: [shop]
    columns: { shop: varchar, amount: "decimal(16,4)", n: bigint }
targets:
  takings:
    key: [shop]
    sql: |
      SELECT shop, sum(amount) AS amount, count(*) AS n, count(DISTINCT buyer) AS buyers, min(amount) AS least, max(amount) AS most
      FROM takings_sale WHERE amount >= 0 GROUP BY shop HAVING count(*) > 2
comparisons:
  takings_booked:
    expected: takings
    actual: takings_book
    fields: [amount, n]
    grace: 1s
outputs:
  - { table: takings, connection: bus, topic: PREFIX.out.takings, format: upsert-json }
  - { differences: takings_booked, connection: bus, topic: PREFIX.out.takings.booked, format: upsert-json }
"""

    def set_up(self):
        for id in range(self.rng.randrange(80, 200)):
            self.some(id)
        self.book()

    def change(self):
        for _ in range(self.rng.randrange(40, 160)):
            self.some(self.rng.randrange(250))
        self.book()

    def some(self, id):
        rng = self.rng
        row = {"shop": f"s{rng.randrange(25)}", "amount": cents(rng.randrange(-500, 9000)), "buyer": rng.choice([None, "ann", "bob", "cyd"])}
        self.put("takings_sale", {"id": id}, None if rng.random() < 0.2 else row)

    def book(self):
        """What stands is booked, mostly."""
        rows = {}
        for source, key, value, _ in self.sent + self.pending:
            if source == "takings_sale":
                rows.pop(key["id"], None)
                if value is not None:
                    rows[key["id"]] = value
        shops = {}
        for row in rows.values():
            amount = round(float(row["amount"]) * 100)
            if amount >= 0:
                shops.setdefault(row["shop"], []).append(amount)
        for shop, amounts in shops.items():
            if self.rng.random() < 0.8:
                self.put("takings_book", {"shop": shop}, {"amount": cents(sum(amounts) * 100, 4), "n": len(amounts)})

    def model(self, logs):
        truth, shops = Truth(), {}
        for row in upsert(logs["takings_sale"], ["id"]).values():
            amount = int(row["amount"].replace(".", ""))
            if amount >= 0:
                shops.setdefault((row["shop"],), []).append((amount, row["buyer"]))
        rows = {}
        for shop, sales in shops.items():
            if len(sales) > 2:
                amounts, buyers = [a for a, _ in sales], {b for _, b in sales if b is not None}
                rows[shop] = {
                    "shop": shop[0], "amount": cents(sum(amounts)), "n": len(sales), "buyers": len(buyers), "least": cents(min(amounts)), "most": cents(max(amounts))}
        truth.tables["takings"] = one(rows)
        book = {key: {**row, "amount": row["amount"]} for key, row in upsert(logs["takings_book"], ["shop"]).items()}
        # The sides have their own places after the point, and are equal by value.
        for key, row in book.items():
            if key in rows and row["amount"] == rows[key]["amount"] + "00":
                row["amount"] = rows[key]["amount"]
        truth.compare("takings_booked", one(rows), one(book), {"amount": "amount", "n": "n"})
        return truth


class Deals(Check):
    """A left join, a sum over it, and what no other table has."""

    name = "deals"
    topics = {"deals_account": 1, "deals_deal": 2}
    keys = {"deals_won": ["id"], "deals_by_region": ["region"], "deals_idle": ["id"]}
    outputs = [("deals.won", "deals_won", "upsert-json"), ("deals.by_region", "deals_by_region", "upsert-json"), ("deals.idle", "deals_idle", "upsert-json")]
    flow = """
dataflow: deals
sources:
  deals_account:
    connection: bus
    topic: PREFIX.deals_account
    format: upsert-json
    key: [id]
    columns: { id: bigint, region: varchar }
  deals_deal:
    connection: bus
    topic: PREFIX.deals_deal
    format: upsert-json
    key: [id]
    columns: { id: bigint, account: bigint, amount: bigint, stage: varchar }
targets:
  deals_won:
    key: [id]
    sql: |
      SELECT d.id, coalesce(a.region, 'none') AS region, d.amount
      FROM deals_deal d LEFT JOIN deals_account a ON a.id = d.account WHERE d.stage = 'won'
  deals_by_region:
    key: [region]
    sql: SELECT region, sum(amount) AS amount, count(*) AS n FROM deals_won GROUP BY region
  deals_idle:
    key: [id]
    sql: SELECT a.id, a.region FROM deals_account a WHERE NOT EXISTS (SELECT 1 FROM deals_deal d WHERE d.account = a.id)
outputs:
  - { table: deals_won, connection: bus, topic: PREFIX.out.deals.won, format: upsert-json }
  - { table: deals_by_region, connection: bus, topic: PREFIX.out.deals.by_region, format: upsert-json }
  - { table: deals_idle, connection: bus, topic: PREFIX.out.deals.idle, format: upsert-json }
"""

    def set_up(self):
        for id in range(60):
            self.account(id)
        for id in range(self.rng.randrange(60, 200)):
            self.deal(id)

    def change(self):
        for _ in range(self.rng.randrange(40, 160)):
            if self.rng.random() < 0.2:
                self.account(self.rng.randrange(80))
            else:
                self.deal(self.rng.randrange(250))

    def account(self, id):
        self.put("deals_account", {"id": id}, None if self.rng.random() < 0.1 else {"region": self.rng.choice(["north", "south", "east"])})

    def deal(self, id):
        rng = self.rng
        row = {"account": rng.randrange(90), "amount": rng.randrange(100), "stage": rng.choice(["won", "won", "lost"])}
        self.put("deals_deal", {"id": id}, None if rng.random() < 0.1 else row)

    def model(self, logs):
        truth, regions = Truth(), {}
        accounts, deals = upsert(logs["deals_account"], ["id"]), upsert(logs["deals_deal"], ["id"])
        won = {}
        for key, deal in deals.items():
            if deal["stage"] == "won":
                region = accounts.get((deal["account"],), {"region": "none"})["region"]
                won[key] = {"id": deal["id"], "region": region, "amount": deal["amount"]}
                regions.setdefault((region,), []).append(deal["amount"])
        busy = {deal["account"] for deal in deals.values()}
        truth.tables["deals_won"] = one(won)
        truth.tables["deals_by_region"] = one({key: {"region": key[0], "amount": sum(of), "n": len(of)} for key, of in regions.items()})
        truth.tables["deals_idle"] = one({key: row for key, row in accounts.items() if key[0] not in busy})
        return truth


class Captains(Check):
    """Several rows on one target key are a duplicate."""

    name = "captains"
    topics = {"captains_person": 2, "captains_badge": 1}
    keys = {"captains": ["team"], "captains_badged": ["team"]}
    outputs = [("captains", "captains", "upsert-json"), ("captains.badged", "captains_badged", "upsert-json")]
    flow = """
dataflow: captains
sources:
  captains_person:
    connection: bus
    topic: PREFIX.captains_person
    format: upsert-json
    key: [id]
    columns: { id: bigint, team: varchar, name: varchar }
  captains_badge:
    connection: bus
    topic: PREFIX.captains_badge
    format: upsert-json
    key: [team]
    columns: { team: varchar, name: varchar }
targets:
  captains:
    key: [team]
    from: captains_person
    where: team IS NOT NULL
    fields: { team: lower(team), id: id, name: name }
comparisons:
  captains_badged:
    expected: captains
    actual: captains_badge
    fields: [name]
    grace: 1s
outputs:
  - { table: captains, connection: bus, topic: PREFIX.out.captains, format: upsert-json }
  - { differences: captains_badged, connection: bus, topic: PREFIX.out.captains.badged, format: upsert-json }
"""

    def set_up(self):
        for id in range(self.rng.randrange(40, 90)):
            self.some(id)

    def change(self):
        for _ in range(self.rng.randrange(30, 120)):
            self.some(self.rng.randrange(120))

    def some(self, id):
        rng = self.rng
        team, name = f"t{rng.randrange(150)}", rng.choice(["ann", "bob", "cyd"])
        row = {"team": rng.choice([team, team.upper(), None]), "name": name}
        self.put("captains_person", {"id": id}, None if rng.random() < 0.2 else row)
        if rng.random() < 0.5:
            self.put("captains_badge", {"team": team}, None if rng.random() < 0.2 else {"name": name})

    def model(self, logs):
        truth, teams = Truth(), {}
        for row in upsert(logs["captains_person"], ["id"]).values():
            if row["team"] is not None:
                team = row["team"].lower()
                teams.setdefault((team,), []).append({"team": team, "id": row["id"], "name": row["name"]})
        truth.tables["captains"] = teams
        truth.compare("captains_badged", teams, one(upsert(logs["captains_badge"], ["team"])), {"name": "name"})
        return truth
