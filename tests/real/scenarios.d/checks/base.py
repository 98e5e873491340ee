"""What a check is: inputs that grow in three steps, a dataflow, and a model of its own of what must stand."""
import collections, json, random, time

from logs import Files, Topic, compact

UNKNOWN = "__debezium_unavailable_value"
REJECTED = object()  # in place of a row that nobody knows


class Truth:
    """What must stand, as the inputs are up to some positions."""

    def __init__(self):
        self.tables = {}  # target → key → its rows (several: a duplicate)
        self.differences = {}  # comparison → key → (kind, fields that differ, whether it can be told)
        self.rejects = collections.Counter()  # (source, code, key as text)

    def compare(self, name, expected, actual, fields):
        """`expected` and `actual`: key → rows, or REJECTED. `fields`: name → how the actual side calls it."""
        found = self.differences[name] = {}
        for key in expected.keys() | actual.keys():
            one, other = expected.get(key), actual.get(key)
            known = one is not REJECTED and other is not REJECTED
            if (known and one and len(one) > 1) or (known and other and len(other) > 1):
                found[key] = ("duplicate", {}, True)
            elif one in (None, REJECTED) and other in (None, REJECTED):
                pass  # nothing, or nothing that anybody could read
            elif one is None:
                found[key] = ("unexpected", {}, known)
            elif other is None:
                found[key] = ("missing", {}, known)
            elif not known:
                found[key] = ("mismatched", {}, False)
            else:
                pairs = {name: (one[0][name], other[0][theirs]) for name, theirs in fields.items()}
                differ = {name: {"expected": a, "actual": b} for name, (a, b) in pairs.items() if a != b and UNKNOWN not in (a, b)}
                if differ:
                    found[key] = ("mismatched", differ, all(UNKNOWN not in row[0].values() for row in (one, other)))


class Check:
    """`topics`: source → partitions; `files`: source → names. `keys`: target or comparison → its key columns. `outputs`:
    (topic, what, format), where `what` is a target or a comparison. `unlisted`: logs that are read and are no source."""

    name, flow = None, ""
    topics, files, keys, outputs, unlisted = {}, {}, {}, [], ()
    file_outputs = []  # (file, target)
    replays = True

    def __init__(self, seed):
        self.rng = random.Random(f"{seed} {self.name}")
        self.sent, self.pending, self.logs = [], [], {}

    def open(self, broker, prefix, data):
        self.logs = {source: Topic(broker, f"{prefix}{source}", n) for source, n in self.topics.items()}
        self.logs.update({source: Files(data, names) for source, names in self.files.items()})

    # ---- the steps ----------------------------------------------------------------------------------------------

    def set_up(self):
        raise NotImplementedError

    def change(self):
        raise NotImplementedError

    def change_again(self):
        self.change()

    def put(self, source, key, value, partition=None):
        self.pending.append((source, key, value, partition))

    def taken(self):
        """What the newest step wants to be put, once."""
        self.sent += self.pending
        pending, self.pending = self.pending, []
        return pending

    def replay(self):
        """A range that was put before comes again."""
        first = self.rng.randrange(len(self.sent))
        self.pending += self.sent[first : first + self.rng.randrange(1, 120)]

    # ---- what must stand ----------------------------------------------------------------------------------------

    def model(self, logs):
        """`logs`: source → partitions → (position, key, value) of what was read."""
        raise NotImplementedError

    def observe(self, program):
        """Before the first fault: a look at what must stay."""

    def verify(self, program, scenario):
        """What else holds at the end; gives what is wrong."""
        return []

    def tick(self, seen):
        """What holds of the outputs at each tick; `seen`: topic → key → value. Gives what is wrong."""
        return []


def upsert(parts, key):
    """Key → row, of a log of upsert-json."""
    rows = {}
    for part in parts:
        for _, named, value in part:
            place = tuple(named[column] for column in key)
            rows.pop(place, None)
            if value is not None:
                rows[place] = {**named, **value}
    return rows


def one(rows):
    """As sides of a comparison and tables are given."""
    return {key: [row] for key, row in rows.items()}


def now_ms():
    return int(time.time() * 1000)


def event(op, before, after, **more):
    return {"op": op, "before": before, "after": after, "source": {"ts_ms": now_ms()}, "ts_ms": now_ms(), **more}


def cents(n, places=2):
    sign, n = "-" if n < 0 else "", abs(n)
    return f"{sign}{n // 10**places}.{n % 10**places:0{places}}" if places else f"{sign}{n}"


def key_text(key):
    return str(key[0]) if len(key) == 1 else compact(list(key))


def key_object(columns, key):
    return compact(dict(zip(columns, key)))
