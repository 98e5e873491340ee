"""Folds what a `read_committed` reader saw, and compares it with the inputs at every progress record."""
import json, os, sys

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


def file_log(name):
    """A file's records by partition (it has one), each with the position after it."""
    next_, out = 0, []
    for line in open(f"{state}/data/{name}.ndjson", "rb"):
        change = json.loads(line)
        next_ += len(line)
        out.append((next_, change["key"]["id"], change["value"]))
    return {0: out}


def topic_log(name):
    out = {}
    for partition, offset, _, key, value in records(f"in.{name}"):
        out.setdefault(partition, []).append((offset + 1, json.loads(key)["id"], json.loads(value)))
    return out


logs = {name: (file_log if os.environ["SOURCE"] == "file" else topic_log)(name) for name in ("plan", "payment")}


class Model:
    """Both inputs up to positions, and what follows from them."""

    def __init__(self):
        self.at = {name: dict.fromkeys(logs[name], 0) for name in logs}
        self.rows = {"plan": {}, "payment": {}}
        self.wanted, self.paid = {}, {}

    def advance(self, name, positions):
        touched = set()
        for partition, log in logs[name].items():
            to, at = positions.get(partition, 0), self.at[name][partition]
            while at < len(log) and log[at][0] <= to:
                _, key, row = log[at]
                self.rows[name][key] = row
                touched.add(key)
                at += 1
            if os.environ["SOURCE"] == "file" and at and log[at - 1][0] != to:
                fault(f"{name}: {to} is not the end of a record")
            self.at[name][partition] = at
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


TOPICS = {name: outputs(f"out.{name}") for name in ("wanted", "paid")}
totals = {"checked": 0, "parts": 0, "claims": 0}


def check(connection, names):
    """Follows the progress records of one connection."""
    model, seen, at = Model(), {name: {} for name in names}, dict.fromkeys(names, 0)
    pending = {name: sorted(TOPICS[name][0]) for name in names}
    last, positions, hydrated = None, [{}, {}], False
    for _, offset, _, _, value in records(f"progress.{connection}"):
        progress = json.loads(value)
        if last is not None and progress["before"] != last and not progress.get("begins"):
            fault(f"{connection}, progress {offset}: before is {progress['before']}, and the one before has {last}")
        last = progress["tick"]
        for tick in progress.get("ticks", []):
            hydrated = tick.get("hydrated", False)
            for source, known in zip(tick["sources"], positions):
                known.update(dict(source.get("positions", [])))
        totals["claims"] += not progress.get("ticks") and not progress.get("part")
        if progress["more"]:
            totals["parts"] += 1
            continue
        for name in names:
            ticks, by_tick = pending[name], TOPICS[name][0]
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
            model.advance(name, known)
        for name in names:
            truth = getattr(model, name)
            if seen[name] != truth:
                lacking = [k for k in truth if k not in seen[name]]
                false = [k for k in seen[name] if k not in truth]
                other = [(k, truth[k], seen[name][k]) for k in truth if k in seen[name] and truth[k] != seen[name][k]]
                fault(f"{name} at progress {offset}, tick {last}: lacking {lacking[:3]} ({len(lacking)}), false {false[:3]} ({len(false)}), other {other[:2]} ({len(other)})")
        totals["checked"] += 1
    for name in names:
        if at[name] != len(pending[name]):
            fault(f"{name}: {len(pending[name]) - at[name]} ticks stand after the last progress record")
    for name, known in zip(logs, positions):
        for partition, log in logs[name].items():
            if known.get(partition) != log[-1][0]:
                fault(f"{connection}: {name} {partition} ends at {log[-1][0]}, and {known.get(partition)} are written")


if os.environ["SOURCE"] == "file":
    check("bus", ["wanted", "paid"])
else:
    check("bus", ["wanted"])
    check("second", ["paid"])
for name, n in told.get("read", {}).items():
    if n != sum(map(len, logs[name].values())):
        fault(f"{name}: {n} messages were read over all lives, and {sum(map(len, logs[name].values()))} are there")
kills = told.get("total") or sum(n for name, n in told["kills"].items() if name not in ("stopped", "broker"))
print(f"kills: {kills} ({', '.join(f'{name} {n}' for name, n in told['kills'].items())})")
n_inputs = sum(len(log) for of in logs.values() for log in of.values())
print(
    f"records: {n_inputs} changes, {TOPICS['wanted'][1]} rows, {TOPICS['paid'][1]} differences; progress records compared with the model: "
    f"{totals['checked']}; parts before a last one: {totals['parts']}; starts: {totals['claims']}"
)
if faults:
    print(f"{len(faults)} faults")
    sys.exit(1)
print("none lost, none twice")
