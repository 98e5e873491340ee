"""Folds what a `read_committed` reader saw, and compares it with the inputs at every progress record."""
import json, sys

state = sys.argv[1]
told = json.load(open(f"{state}/kills.json"))
faults = []


def fault(text):
    faults.append(text)
    if len(faults) <= 20:
        print("FAULT", text)


def records(topic):
    for line in open(f"{state}/{topic}.records"):
        if line.startswith("Partition:"):
            partition, offset, headers, key, value = line.rstrip("\n").split("\t")
            headers = dict(h.split(":", 1) for h in headers.split(",") if ":" in h)
            yield int(partition.split(":")[1]), int(offset.split(":")[1]), headers, key, value


def outputs(topic):
    """By tick, key to value; no key twice in a tick, ticks never back in a partition."""
    by_tick, newest, n = {}, {}, 0
    for partition, offset, headers, key, value in records(topic):
        assert set(headers) == {"tieout-tick", "tieout-id", "tieout-mapping"}, headers
        tick, n = int(headers["tieout-tick"]), n + 1
        if tick < newest.get(partition, 0):
            fault(f"{topic} {offset}: tick {tick} after {newest[partition]}")
        newest[partition] = tick
        if key in by_tick.setdefault(tick, {}):
            fault(f"{topic} {offset}: {key} twice in tick {tick}")
        by_tick[tick][key] = value
    return by_tick, n


class Model:
    """Both inputs up to positions, and what follows from them."""

    def __init__(self):
        self.files = {name: open(f"{state}/data/{name}.ndjson", "rb") for name in ("plan", "payment")}
        self.rows = {"plan": {}, "payment": {}}
        self.wanted, self.paid = {}, {}

    def advance(self, name, to):
        file, touched = self.files[name], set()
        while file.tell() < to:
            change = json.loads(file.readline())
            key = change["key"]["id"]
            touched.add(key)
            self.rows[name][key] = change["value"]
        if file.tell() != to:
            fault(f"{name} ends at {file.tell()}, and not at {to}")
        for key in touched:
            plan = self.rows["plan"].get(key)
            wanted = {**plan, "amount": plan["amount"] * 2} if plan and plan["state"] != "draft" else None
            payment, text = self.rows["payment"].get(key), json.dumps({"id": key}, separators=(",", ":"))
            self.wanted.pop(text, None)
            self.paid.pop(text, None)
            if wanted:
                self.wanted[text] = wanted
            if wanted != payment:
                self.paid[text] = "mismatched" if wanted and payment else "missing" if wanted else "unexpected"


wanted, n_wanted = outputs("out.wanted")
paid, n_paid = outputs("out.paid")
model, seen = Model(), {"wanted": {}, "paid": {}}
checked = parts = shown = claims = 0
last, pending = None, {"wanted": sorted(wanted), "paid": sorted(paid)}
at = {"wanted": 0, "paid": 0}
positions = [{}, {}]
hydrated = False
for _, offset, _, _, value in records("tieout-progress-transactions"):
    progress = json.loads(value)
    if last is not None and progress["before"] != last and not progress.get("begins"):
        fault(f"progress {offset}: before is {progress['before']}, and the one before has {last}")
    last = progress["tick"]
    for tick in progress.get("ticks", []):
        hydrated = tick.get("hydrated", False)
        for source, known in zip(tick["sources"], positions):
            known.update(dict(source.get("positions", [])))
    claims += not progress.get("ticks") and not progress.get("part")
    if progress["more"]:
        parts += 1
        continue
    for name, by_tick in (("wanted", wanted), ("paid", paid)):
        ticks = pending[name]
        while at[name] < len(ticks) and ticks[at[name]] <= last:
            for key, row in by_tick[ticks[at[name]]].items():
                if row == "null":
                    if key not in seen[name]:
                        fault(f"{name}: {key} goes at tick {ticks[at[name]]}, and was not there")
                    seen[name].pop(key, None)
                else:
                    seen[name][key] = json.loads(row)["kind"] if name == "paid" else json.loads(row)
            at[name] += 1
    if not hydrated:
        continue
    for name, known in zip(("plan", "payment"), positions):
        model.advance(name, known.get(0, 0))
    shown += 1
    for name, truth in (("wanted", model.wanted), ("paid", model.paid)):
        if seen[name] != truth:
            lacking = [k for k in truth if k not in seen[name]]
            false = [k for k in seen[name] if k not in truth]
            other = [(k, truth[k], seen[name][k]) for k in truth if k in seen[name] and truth[k] != seen[name][k]]
            fault(f"{name} at progress {offset}, tick {last}: lacking {lacking[:3]} ({len(lacking)}), false {false[:3]} ({len(false)}), other {other[:2]} ({len(other)})")
    checked += 1
for name in at:
    if at[name] != len(pending[name]):
        fault(f"{name}: {len(pending[name]) - at[name]} ticks stand after the last progress record")
for (name, end), known in zip(told["ends"].items(), positions):
    if known.get(0) != end:
        fault(f"{name} has {end} bytes, and {known.get(0)} are written")
kills = sum(n for name, n in told["kills"].items() if name not in ("stopped", "broker"))
print(f"kills: {kills} ({', '.join(f'{name} {n}' for name, n in told['kills'].items())})")
print(f"records: {n_wanted} rows, {n_paid} differences; progress records compared with the model: {checked}; parts before a last one: {parts}; starts: {claims}")
if faults:
    print(f"{len(faults)} faults")
    sys.exit(1)
print("none lost, none twice")
