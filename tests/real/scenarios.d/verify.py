"""Compares what stands with the checks' models: over HTTP, in exports, and in the output topics at progress records."""
import csv, json, os, random, shutil, time
from urllib.parse import quote

from checks.base import UNKNOWN, key_object, key_text
from program import Fault

PROGRESS_LOOKS = int(os.environ.get("LOOKS", "25"))  # progress records that are compared with the model in a run, beside the last one


def lines(what, wanted, found, show=3):
    """How two maps differ, in words; nothing if they do not."""
    lacking = [(k, wanted[k]) for k in wanted if k not in found]
    false = [(k, found[k]) for k in found if k not in wanted]
    other = [(k, wanted[k], found[k]) for k in wanted if k in found and wanted[k] != found[k]]
    if not (lacking or false or other):
        return []
    parts = [f"{len(of)} {word} {of[:show]}" for of, word in ((lacking, "lacking"), (false, "false"), (other, "other (model, tieout)")) if of]
    return [f"{what}: {'; '.join(parts)}"]


def everything(check):
    return {source: log.parts for source, log in check.logs.items()}


# ---- over HTTP ------------------------------------------------------------------------------------------------------

def caught_up(program, checks, patience=180):
    """Waits until all that was put is read, to the last record."""
    wanted = {source: log.ends() for check in checks for source, log in check.logs.items() if source not in check.unlisted}
    deadline = time.time() + patience
    while True:
        answer = program.get("/api/v1/sources", patience)
        at = {of["name"]: {int(p): n for p, n in of["positions"].items()} for of in answer["sources"]}
        behind = {source: (ends, at.get(source)) for source, ends in wanted.items() if any(at.get(source, {}).get(p, 0) < end for p, end in ends.items())}
        if answer["hydrated"] and not behind:
            return
        if time.time() > deadline:
            raise Fault(f"not everything is read after {patience} s: (put, read) {behind}, hydrated {answer['hydrated']}; {program.ask('/readyz')}")
        time.sleep(0.05)


def differences(program, check, truth, beat):
    """Kinds and fields must be right at once, states after a while; `beat` lets time pass."""
    faults, deadline = [], time.time() + 45
    for name, wanted in truth.differences.items():
        told = {key_text(key): (kind, fields) for key, (kind, fields, _) in wanted.items()}
        states = {key_text(key): "confirmed" if clear else "undetermined" for key, (_, _, clear) in wanted.items()}
        while True:
            before = list(program.children)
            answer = program.get(f"/api/v1/comparisons/{name}/differences?limit=10000")["differences"]
            said = {d["key"]: (d["kind"], d["fields"]) for d in answer}
            if said != told and program.children != before and time.time() < deadline:
                # Processes ended meanwhile, and are at their checkpoint again.
                caught_up(program, [check])
                continue
            if said != told:
                faults += lines(f"{name} over HTTP", told, said)
                break
            found = {d["key"]: d["state"] for d in answer}
            if found == states:
                break
            if time.time() > deadline:
                about = program.get(f"/api/v1/comparisons/{name}")
                faults += lines(f"{name}, states after 45 s ({about['state']}, {about['reason']}, {about['held_back']})", states, found)
                break
            beat()
            time.sleep(0.1)
    return faults


def rows(program, check, truth, rng):
    """Some rows looked up, and a key that is not there."""
    faults = []
    for target, table in truth.tables.items():
        # An address ends before an empty text.
        able = [key for key in sorted(table) if key_text(key)]
        for key in rng.sample(able, min(4, len(able))):
            answer = program.get(f"/api/v1/targets/{target}/rows/{quote(key_text(key), safe='')}")
            found = answer["row"] if isinstance(answer["row"], list) else [answer["row"]]
            order = lambda of: sorted(of, key=lambda row: json.dumps(row, sort_keys=True))
            known = [{name: value for name, value in row.items() if value != UNKNOWN} for row in table[key]]
            if order(found) != order(known):
                faults.append(f"{target} {key}: the row is {answer}, and should be {known}")
    return faults


def rejects(program, check, truth):
    found = {}
    for source in check.logs:
        if source not in check.unlisted:
            for reject in program.get(f"/api/v1/rejects?source={source}")["rejects"]:
                place = (source, reject["code"], reject["key"])
                found[place] = found.get(place, 0) + reject["count"]
    return lines("rejects", dict(truth.rejects), found)


# ---- by other commands ----------------------------------------------------------------------------------------------

def audit(program, checks):
    """Every record of every log was read once, and became something."""
    status, out, err = program.command("audit", "counts", "--format", "csv")
    if status != 0:
        return [f"audit counts ended with {status}: {err}"]
    read = {}
    for line in csv.DictReader(out.splitlines()):
        read[line["source"]] = read.get(line["source"], 0) + int(line["read"])
    wanted = {source: log.records() for check in checks for source, log in check.logs.items() if source not in check.unlisted}
    return lines("messages read", wanted, {source: read.get(source) for source in wanted})


def sound(program, damaged=()):
    """All checkpoints are, but for those that were damaged and are still kept: these are named."""
    status, out, err = program.command("checkpoint", "verify")
    kept = sum(os.path.exists(path) for path in damaged)
    right = status == (1 if kept else 0) and out.count("DAMAGED") == kept
    return [] if right else [f"checkpoint verify ended with {status}, {kept} are damaged: {out}{err}"]


def export(program, checks, truths, folder):
    """`run --once` over the same logs says the same."""
    shutil.rmtree(folder, ignore_errors=True)
    status, _, err = program.command("run", "--once", "--export", folder, "--log", "warn", env={"TIEOUT_STATE": folder + ".state"})
    if status != 0:
        return [f"run --once ended with {status}: {err[-1500:]}"]
    faults = []
    for check, truth in zip(checks, truths):
        for target, table in truth.tables.items():
            # An export has null where nobody knows the value.
            known = [{n: None if v == UNKNOWN else v for n, v in row.items()} for of in table.values() for row in of]
            wanted = {json.dumps(row, sort_keys=True): 1 for row in known}
            found = {json.dumps(json.loads(line), sort_keys=True): 1 for line in open(f"{folder}/targets/{target}.ndjson")}
            faults += lines(f"the export of {target}", wanted, found)
        for name, of in truth.differences.items():
            wanted = {(key_text(key), kind, field): 1 for key, (kind, fields, _) in of.items() for field in fields or [""]}
            found = {(line["key"], line["kind"], line["field"]): 1 for line in csv.DictReader(open(f"{folder}/differences/{name}.csv"))}
            faults += lines(f"the export of {name}", wanted, found)
    wanted = sum((truth.rejects for truth in truths), start=type(truths[0].rejects)())
    found = {}
    for line in csv.DictReader(open(f"{folder}/rejects.csv")):
        place = (line["source"], line["code"], line["key"])
        found[place] = found.get(place, 0) + 1
    return faults + lines("the export of rejects", dict(wanted), found)


# ---- the output topics ----------------------------------------------------------------------------------------------

class Outputs:
    """Folds what a `read_committed` reader saw of a check's topics."""

    def __init__(self, check, prefix, records):
        self.check, self.faults, self.seen, self.n = check, [], {}, 0
        self.by_tick = {}
        for topic, what, format in check.outputs:
            self.seen[topic] = {}
            newest, keys = {}, set()
            for partition, offset, headers, key, value in records[f"{prefix}out.{topic}"]:
                self.n += 1
                tick = int(headers["tieout-tick"])
                if tick < newest.get(partition, 0):
                    self.faults.append(f"{topic} {partition}/{offset}: tick {tick} after {newest[partition]}")
                newest[partition] = tick
                place = (tick, key, value is None and format == "debezium-json")
                if place in keys:
                    self.faults.append(f"{topic} {partition}/{offset}: {key} twice in tick {tick}")
                keys.add(place)
                self.by_tick.setdefault(tick, []).append((topic, format, key.decode(), value and json.loads(value)))
        self.ticks = sorted(self.by_tick)
        self.at = 0

    def begin_anew(self):
        """What was written before counts no more."""
        for seen in self.seen.values():
            seen.clear()

    def apply(self, tick):
        """All up to this tick; whether something came."""
        begun = self.at
        while self.at < len(self.ticks) and self.ticks[self.at] <= tick:
            for record in self.by_tick[self.ticks[self.at]]:
                self.record(self.ticks[self.at], *record)
            self.faults += [f"at tick {self.ticks[self.at]}: {fault}" for fault in self.check.tick(self.seen)]
            self.at += 1
        return self.at > begun

    def record(self, tick, topic, format, key, value):
        seen = self.seen[topic]
        if format == "debezium-json":
            if value is None:
                if key in seen:
                    self.faults.append(f"{topic}: a tombstone of {key} at tick {tick}, which was not deleted")
                return
            before, value = value["before"], value["after"]
            if before != seen.get(key):
                self.faults.append(f"{topic}: before {key} at tick {tick} is {before}, and was {seen.get(key)}")
        if value is None and key not in seen:
            self.faults.append(f"{topic}: {key} goes at tick {tick}, and was not there")
        if value is None:
            seen.pop(key, None)
        else:
            seen[key] = (value["kind"], value["fields"]) if "since" in value and "kind" in value else value

    def compare(self, truth, when):
        for topic, what, _ in self.check.outputs:
            columns = self.check.keys[what]
            if what in truth.tables:
                # A key that several rows claim has no row here.
                wanted = {key_object(columns, key): rows[0] for key, rows in truth.tables[what].items() if len(rows) == 1}
                wanted = {key: {n: v for n, v in row.items() if v != UNKNOWN} for key, row in wanted.items()}
            else:
                wanted = {key_object(columns, key): (kind, fields) for key, (kind, fields, _) in truth.differences[what].items()}
            self.faults += lines(f"topic {topic} {when}", wanted, self.seen[topic])


def outputs(checks, prefix, name, broker, order, rng):
    """Follows the progress records; gives faults, and how many were compared. `order`: sources as the plan has them."""
    topics = [f"{prefix}out.{topic}" for check in checks for topic, _, _ in check.outputs]
    progress_topic = f"tieout-progress-{name}"
    records = broker.read(topics + [progress_topic])
    follow = {check.name: Outputs(check, prefix, records) for check in checks}
    chain = [json.loads(value) for _, _, _, _, value in sorted(records[progress_topic], key=lambda of: of[1])]
    faults, last, compared, hydrated = [], None, 0, False
    positions, order = {}, dict(enumerate(order))
    looks = [at for at, of in enumerate(chain) if of.get("ticks") and not of["more"]]
    if not looks:
        return [f"there is nothing to compare in {len(chain)} progress records"], {}, 0, 0
    looks = {looks[-1], *rng.sample(looks, min(PROGRESS_LOOKS, len(looks)))}
    stale = {check.name for check in checks}
    for at, of in enumerate(chain):
        if of.get("begins"):
            for each in follow.values():
                each.begin_anew()
        elif last is not None and of["before"] != last:
            faults.append(f"progress record {at}: before is {of['before']}, and the one before has {last}")
        last = of["tick"]
        for tick in of.get("ticks", []):
            hydrated = tick.get("hydrated", False)
            for place, source in enumerate(tick["sources"]):
                name = order.get(place)
                if "positions" in source and dict(source["positions"]) != positions.get(name):
                    positions[name] = dict(source["positions"])
                    stale.update(check.name for check in checks if name in check.logs)
        if of["more"]:
            continue
        for each in follow.values():
            if each.apply(last):
                stale.add(each.check.name)
        if at not in looks or not hydrated:
            continue
        compared += 1
        for check in checks:
            if check.name in stale:
                logs = {}
                for source, log in check.logs.items():
                    upto = positions.get(source, {})
                    logs[source] = [[record for record in part if record[0] <= upto.get(p, 0)] for p, part in enumerate(log.parts)]
                follow[check.name].compare(check.model(logs), f"at tick {last}")
                stale.discard(check.name)
    by_check = {}
    for each in follow.values():
        if each.at < len(each.ticks):
            each.faults.append(f"{len(each.ticks) - each.at} ticks stand after the last progress record")
        by_check[each.check.name] = each.faults
    return faults, by_check, compared, sum(each.n for each in follow.values())


def files(check, truth, folder):
    """Output files: written at least once, and the last record of a key counts."""
    faults = []
    for name, target in check.file_outputs:
        seen = {}
        for line in open(f"{folder}/{name}"):
            record = json.loads(line)
            seen.pop(json.dumps(record["key"]), None)
            if record["value"] is not None:
                seen[json.dumps(record["key"])] = record["value"]
        wanted = {json.dumps(json.loads(key_object(check.keys[target], key))): rows[0] for key, rows in truth.tables[target].items() if len(rows) == 1}
        faults += lines(f"file {name}", wanted, seen)
    return faults
