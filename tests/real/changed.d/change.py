"""Changes a dataflow again and again, and compares topics with exports. Started by tests/real/changed."""
import json, os, random, shutil, signal, subprocess, sys

here, state = sys.argv[1], os.environ["STATE"]
sys.path.append(here)
from processes import ask, until
from topics import committed

rng = random.Random(int(os.environ.get("SEED", "1")))
data, flows = os.environ["TIEOUT_DATA"], f"{state}/config/dataflows"
shutil.copytree(f"{here}/transactions.d/dataflows", flows)
shutil.copy(f"{here}/transactions.d/config.yaml", f"{state}/config/config.yaml")
os.makedirs(data)
flow = f"{flows}/{os.listdir(flows)[0]}"
text = open(flow).read()
KEYS = 5_000


def put(name, keys):
    with open(f"{data}/{name}.ndjson", "a") as file:
        for key in keys:
            row = {"id": key, "amount": rng.randrange(1000), "state": rng.choice(["open", "closed", "draft"])}
            value = json.dumps(row) if rng.random() < 0.95 else "null"
            file.write('{"key": {"id": %d}, "value": %s}\n' % (key, value))


def start(failpoint=None):
    env = dict(os.environ, **({"TIEOUT_FAILPOINT": failpoint} if failpoint else {}))
    log = open(f"{state}/tieout.log", "a")
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([os.environ["TIEOUT"], "run", "--config", f"{state}/config/config.yaml"], env=env, stdout=log, stderr=log, preexec_fn=heard)


def ready(child):
    over = lambda: child.poll() is not None or ask("readyz")[0] == 200
    assert until(over, 120) and child.poll() is None, f"it is not ready; it ended with {child.poll()}"


def read(child):
    """Both files are read to their ends."""
    ends = {name: os.path.getsize(f"{data}/{name}.ndjson") for name in ("plan", "payment")}
    at = lambda: {of["name"]: sum(of["positions"].values()) for of in json.loads(ask("api/v1/sources")[1] or '{"sources": []}')["sources"]}
    assert until(lambda: at() == ends, 60), f"{at()} of {ends} is read"


def topic(name):
    """What the topic leaves, by key, and how many records it has."""
    records, left = committed(os.environ["KAFKA_BOOTSTRAP"], [name])[name], {}
    for _, _, _, key, value in records:
        key = key.decode()
        left.pop(key, None)
        if value is not None:
            left[key] = json.loads(value)
    return left, len(records)


def exported():
    out, other = f"{state}/out", f"{state}/once"
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(f"{state}/config", other)
    # Not the outputs.
    lone = f"{other}/dataflows/{os.path.basename(flow)}"
    declared = open(lone).read()
    open(lone, "w").write(declared[: declared.index("outputs:")])
    env = dict(os.environ, TIEOUT_STATE=f"{state}/once.state")
    subprocess.run([os.environ["TIEOUT"], "run", "--config", f"{other}/config.yaml", "--once", "--export", out, "--log", "warn"], env=env, check=True)
    rows = [json.loads(line) for line in open(f"{out}/targets/wanted.ndjson")]
    keys = {line.split(",", 1)[0] for line in open(f"{out}/differences/paid.csv").read().splitlines()[1:]}
    return rows, keys


def holds(what, before):
    """The topics leave what a fresh run exports; how many records were written for it."""
    wanted, n = topic("out.wanted")
    paid, m = topic("out.paid")
    rows, keys = exported()
    # Not in the row any more, or not yet: a row that is not as it was is written again.
    left, right = sorted(map(json.dumps, wanted.values())), sorted(map(json.dumps, rows))
    assert left == right, f"{what}: {len(left)} rows stand in the topic, {len(right)} should; {sorted(set(left) ^ set(right))[:5]}"
    stand = {str(json.loads(key)["id"]) for key in paid}
    assert stand == keys, f"{what}: {len(stand)} differences stand in the topic, {len(keys)} should; {sorted(stand ^ keys)[:5]}"
    print(f"{what}: {len(rows)} rows and {len(keys)} differences, as a fresh run says; {n - before[0]} and {m - before[1]} records were written")
    return n, m


for name in ("plan", "payment"):
    put(name, range(KEYS))
FIELDS = "    from: plan\n    where: state = 'open'\n    fields:\n      id: id\n      amount: amount * 2\n      state: state\n      double: amount * 2\n"
SQL = "    sql: SELECT p.id, p.amount * 2 AS amount, p.state FROM plan p WHERE p.state = 'open'\n"
OTHER_SQL = SQL.replace("p.state = 'open'", "p.state <> 'open'")
SQL_OF_BOTH = SQL.replace("WHERE p.state = 'open'", "JOIN payment y ON y.id = p.id WHERE y.amount < 500")
CHANGES = [
    ("at first", None, None),
    ("another expression", "amount * 2", "amount * 3"),
    ("another filter", "state <> 'draft'", "state <> 'closed'"),
    ("another filter, and killed meanwhile", "state <> 'closed'", "state = 'open'"),
    ("a column more", "      state: state\n", "      state: state\n      double: amount * 2\n"),
    ("fewer columns compared, and killed meanwhile", "    grace: 1s\n", "    fields: [state]\n    grace: 1s\n"),
    ("back again", "amount * 3", "amount * 2"),
    ("as SQL, and killed meanwhile", FIELDS, SQL),
    ("other SQL", SQL, OTHER_SQL),
    ("SQL that reads another table, too, and killed meanwhile", OTHER_SQL, SQL_OF_BOTH),
    ("from records again, of the same shape", SQL_OF_BOTH, FIELDS.replace("      double: amount * 2\n", "")),
]
before = (0, 0)
for what, old, new in CHANGES:
    if old:
        assert old in text, old
        text = text.replace(old, new)
        # The other side has no such column.
        if "double" in text and "fields: [" not in text:
            text = text.replace("    grace: 1s\n", "    fields: [amount, state]\n    grace: 1s\n")
        elif "fields: [state]" in text:
            text = text.replace("    fields: [amount, state]\n", "")
        open(flow, "w").write(text)
    # Some of it while it is down.
    put("plan", rng.sample(range(KEYS), 20))
    put("payment", rng.sample(range(KEYS), 20))
    if "killed" in what:
        for point in ("before-commit:1000", "after-commit:1000", None):
            child = start(point)
            try:
                child.wait(1.5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
    child = start()
    ready(child)
    put("plan", rng.sample(range(KEYS), 20))
    put("payment", rng.sample(range(KEYS), 20))
    read(child)
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 0, child.returncode
    before = holds(what, before)
log = open(f"{state}/tieout.log").read()
assert "read again for this: plan;" in log and "read from the beginning" not in log, "what was not touched was read again"
