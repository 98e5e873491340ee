"""Types that each side spells in its own way, keys of two columns, and logs that only append."""
from checks.base import Check, Truth, cents, compact, one, upsert


class Prices(Check):
    name = "prices"
    topics = {"prices_list": 2, "prices_shelf": 1, "prices_look": 2}
    keys = {"prices_wanted": ["sku", "size"], "prices_agree": ["sku", "size"], "prices_looks": ["sku"]}
    outputs = [("prices.wanted", "prices_wanted", "upsert-json"), ("prices.agree", "prices_agree", "upsert-json"), ("prices.looks", "prices_looks", "upsert-json")]
    flow = """
dataflow: prices
sources:
  prices_list:
    connection: bus
    topic: PREFIX.prices_list
    format: upsert-json
    key: [sku, size]
    columns: { sku: varchar, size: int, price: "decimal(10,2)", since: date, sold: bool }
  prices_shelf:
    connection: bus
    topic: PREFIX.prices_shelf
    format: upsert-json
    key: [sku, size]
    columns: { sku: varchar, size: bigint, price: "decimal(18,4)", since: timestamp, sold: bool }
  prices_look:
    connection: bus
    topic: PREFIX.prices_look
    format: json
    columns: { sku: varchar, seconds: int }
targets:
  prices_wanted:
    key: [sku, size]
    from: prices_list
    fields: { sku: sku, size: size, price: price, since: since, sold: sold }
  prices_looks:
    key: [sku]
    sql: SELECT sku, count(*) AS looks, sum(seconds) AS seconds FROM prices_look GROUP BY sku
comparisons:
  prices_agree: { expected: prices_wanted, actual: prices_shelf, fields: [price, since, sold], grace: 1s }
outputs:
  - { table: prices_wanted, connection: bus, topic: PREFIX.out.prices.wanted, format: upsert-json }
  - { differences: prices_agree, connection: bus, topic: PREFIX.out.prices.agree, format: upsert-json }
  - { table: prices_looks, connection: bus, topic: PREFIX.out.prices.looks, format: upsert-json }
"""

    def set_up(self):
        for _ in range(self.rng.randrange(80, 200)):
            self.some()

    def change(self):
        for _ in range(self.rng.randrange(40, 160)):
            self.some()

    def some(self):
        rng = self.rng
        sku, size = rng.choice(["a", "b,c", 'd"e', "ü", ""]), rng.randrange(30)
        price, since, sold = rng.randrange(100000), f"2026-03-{rng.randrange(1, 29):02}", rng.choice([True, False, None])
        key, gone = {"sku": sku, "size": size}, rng.random() < 0.15
        spelt = rng.choice([cents(price), price // 100 if price % 100 == 0 else cents(price) + "0", float(cents(price))])
        self.put("prices_list", key, None if gone else {"price": spelt, "since": since, "sold": sold})
        if rng.random() < 0.85:
            wrong = rng.random() < 0.1
            row = {"price": cents(price * 100 + wrong, 4), "since": f"{since}T00:00:00", "sold": sold if rng.random() < 0.95 else None}
            self.put("prices_shelf", key, None if gone else row)
        self.put("prices_look", None, {"sku": sku, "seconds": rng.randrange(60)}, rng.randrange(2))

    def model(self, logs):
        truth = Truth()
        wanted = {}
        for key, row in upsert(logs["prices_list"], ["sku", "size"]).items():
            price = row["price"]
            text = f"{price:.2f}" if isinstance(price, (int, float)) else price[: price.index(".") + 3]
            wanted[key] = {**row, "price": text}
        actual = upsert(logs["prices_shelf"], ["sku", "size"])
        sides = {}
        for key, row in actual.items():
            sides[key] = dict(row)
            if key in wanted:
                if row["price"] == wanted[key]["price"] + "00":
                    sides[key]["price"] = wanted[key]["price"]
                if row["since"] == wanted[key]["since"] + "T00:00:00":
                    sides[key]["since"] = wanted[key]["since"]
        truth.tables["prices_wanted"] = one(wanted)
        truth.compare("prices_agree", one(wanted), one(sides), {name: name for name in ("price", "since", "sold")})
        looks = {}
        for part in logs["prices_look"]:
            for _, _, value in part:
                n, seconds = looks.get(value["sku"], (0, 0))
                looks[value["sku"]] = (n + 1, seconds + value["seconds"])
        truth.tables["prices_looks"] = one({(sku,): {"sku": sku, "looks": n, "seconds": seconds} for sku, (n, seconds) in looks.items()})
        return truth
