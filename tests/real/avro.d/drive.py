"""Writes and reads Avro by another implementation, and runs tieout in between. Started by tests/real/avro."""
import atexit, base64, datetime, decimal, http.server, io, json, os, random, signal, ssl, subprocess, sys, threading, time, urllib.error, urllib.request, uuid
import fastavro
from confluent_kafka import Consumer, Producer

here, state, registry, brokers = sys.argv[1], os.environ["STATE"], os.environ["REGISTRY"], os.environ["KAFKA_BOOTSTRAP"]
rng = random.Random(int(os.environ.get("SEED", "1")))
begun = time.time()


def say(text):
    print(f"{time.time() - begun:9.3f} s  {text}", flush=True)


def ask(url, body=None, method=None):
    request = urllib.request.Request(url, json.dumps(body).encode() if body is not None else None, {"content-type": "application/vnd.schemaregistry.v1+json"}, method=method)
    return json.load(urllib.request.urlopen(request, timeout=10))


schemas = {}  # id → parsed, as the registry has it


def register(subject, schema):
    return ask(f"{registry}/subjects/{subject}/versions", {"schema": json.dumps(schema)})["id"]


def write(schema_id, schema, value):
    out = io.BytesIO(b"\0" + schema_id.to_bytes(4, "big"))
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


def read(message):
    """As any client of the registry does it."""
    if message is None:
        return None
    assert message[0] == 0, message[:5]
    schema_id = int.from_bytes(message[1:5], "big")
    if schema_id not in schemas:
        schemas[schema_id] = fastavro.parse_schema(json.loads(ask(f"{registry}/schemas/ids/{schema_id}")["schema"]))
    return fastavro.schemaless_reader(io.BytesIO(message[5:]), schemas[schema_id])


# ---- versions of one table, as Debezium's converter writes them ---------------------------------------------

def decimals(scale):
    return {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": scale, "connect.name": "org.apache.kafka.connect.data.Decimal", "connect.parameters": {"scale": str(scale)}}


ZONED = {"type": "string", "connect.name": "io.debezium.time.ZonedTimestamp"}
DAYS = {"type": "int", "connect.name": "io.debezium.time.Date"}
# name, type: the first is what a table began with; then it was widened, reordered, lost and got columns.
VERSIONS = [
    [("id", "int"), ("name", "string"), ("credit", decimals(2)), ("visits", "int"), ("rate", "float"), ("since", DAYS), ("seen", ZONED), ("ref", {"type": "string", "connect.name": "io.debezium.data.Uuid"}), ("tags", {"type": "array", "items": "string"})],
    [("id", "long"), ("credit", ["null", decimals(4)]), ("name", ["null", "string"]), ("visits", ["null", "long"]), ("rate", "double"), ("note", ["null", "string"]), ("since", {"type": "int", "logicalType": "date"}), ("seen", {"type": "long", "logicalType": "timestamp-micros"}), ("ref", {"type": "string", "logicalType": "uuid"}), ("tags", ["null", {"type": "array", "items": ["null", "string"]}])],
    [("id", "long"), ("note", {"type": "enum", "name": "Note", "symbols": ["good", "bad"]}), ("credit", ["null", decimals(0)]), ("name", "string"), ("extra", {"type": "map", "values": {"type": "array", "items": "long"}}), ("visits", "long"), ("rate", "float"), ("since", ["null", DAYS]), ("seen", ZONED), ("ref", "string"), ("tags", {"type": "array", "items": "string"})],
]


def envelope(fields):
    row = {"type": "record", "name": "Value", "fields": [{"name": n, "type": t} for n, t in fields], "connect.name": "crm.public.account.Value"}
    return {"type": "record", "name": "Envelope", "namespace": "crm.public.account", "fields": [
        {"name": "before", "type": ["null", row], "default": None}, {"name": "after", "type": ["null", "Value"], "default": None},
        {"name": "source", "type": {"type": "record", "name": "Source", "namespace": "io.debezium", "fields": [{"name": "version", "type": "string"}, {"name": "ts_ms", "type": "long"}, {"name": "lsn", "type": ["null", "long"]}]}},
        {"name": "op", "type": "string"}, {"name": "ts_ms", "type": ["null", "long"]}]}


KEY = {"type": "record", "name": "Key", "namespace": "crm.public.account", "fields": [{"name": "id", "type": "long"}], "connect.name": "crm.public.account.Key"}
BOOKED = {"type": "record", "name": "Booked", "fields": [{"name": "credit", "type": ["null", decimals(4)]}]}
versions = [(register("crm.public.account-value", envelope(v)), envelope(v), dict(v)) for v in VERSIONS]
key_id, booked_key, booked_id = register("crm.public.account-key", KEY), register("erp.booked-key", "long"), register("erp.booked-value", BOOKED)
# In order, also when the topic is only being created: the model goes by the order.
producer = Producer({"bootstrap.servers": brokers, "linger.ms": 2, "enable.idempotence": True})
UTC = datetime.timezone.utc
model, booked = {}, {}


def cents(n, scale):
    return decimal.Decimal(n).scaleb(-scale)


def change(key, version):
    """Writes a new row of a key in one of the versions, and keeps what tieout must make of it."""
    schema_id, schema, fields = versions[version]
    optional = lambda name, value: None if isinstance(fields.get(name), list) and rng.random() < 0.2 else value
    seen = datetime.datetime(2026, 1, 1, tzinfo=UTC) + datetime.timedelta(milliseconds=rng.randrange(10**10))
    scale = (2, 4, 0)[version]
    row = {
        "id": key, "name": optional("name", rng.choice(["Ada", "Zoë 日本", ""])), "credit": optional("credit", cents(rng.randrange(-10**9, 10**9), scale)),
        "visits": optional("visits", rng.randrange(2**31 if version == 0 else 2**62)), "rate": rng.randrange(-800, 800) / 8,
        "since": optional("since", rng.randrange(-20000, 40000)), "seen": seen, "ref": uuid.UUID(int=rng.getrandbits(128)),
        "tags": optional("tags", [rng.choice(["a", "b"]) for _ in range(rng.randrange(4))]),
    }
    if version > 0:
        row["note"] = optional("note", rng.choice(["good", "bad"]))
    told = dict(row)
    if version == 1:
        told["since"] = None if row["since"] is None else datetime.date(1970, 1, 1) + datetime.timedelta(days=row["since"])
        told["tags"] = row["tags"] and row["tags"] + [None]
    else:
        told["seen"], told["ref"] = seen.isoformat(timespec="milliseconds").replace("+00:00", "Z"), str(row["ref"])
    if version == 2:
        told["extra"] = {"k": [1, 2]}
    model[key] = {
        **row, "since": None if row["since"] is None else datetime.date(1970, 1, 1) + datetime.timedelta(days=row["since"]),
        "tags": None if row["tags"] is None else json.dumps(told["tags"], separators=(",", ":")),
        "note": row.get("note", "none") if "note" in fields else "none",
    }
    event = {"before": None, "after": told, "op": rng.choice("cur"), "source": {"version": "3", "ts_ms": int(time.time() * 1000), "lsn": None}, "ts_ms": None}
    producer.produce("crm.public.account", write(schema_id, schema, event), write(key_id, KEY, {"id": key}))


def delete(key):
    schema_id, schema, fields = versions[0]
    zero = {"id": key, "name": "", "credit": cents(0, 2), "visits": 0, "rate": 0.0, "since": 0, "seen": "", "ref": "", "tags": []}
    event = {"before": zero, "after": None, "op": "d", "source": {"version": "3", "ts_ms": int(time.time() * 1000), "lsn": 1}, "ts_ms": 1}
    at = write(key_id, KEY, {"id": key})
    producer.produce("crm.public.account", write(schema_id, schema, event), at)
    producer.produce("crm.public.account", None, at)
    model.pop(key, None)


def book(key, credit):
    producer.produce("erp.booked", write(booked_id, BOOKED, {"credit": credit}), write(booked_key, "long", key))
    booked[key] = credit


def some(n, of=(0, 1, 2)):
    for _ in range(n):
        key = rng.randrange(400)
        if rng.random() < 0.15:
            delete(key)
        else:
            change(key, rng.choice(of))
        if key in model and rng.random() < 0.8:
            credit = model[key]["credit"]
            book(key, credit if rng.random() < 0.9 else cents(1, 2))
        producer.poll(0)
    producer.flush(30)


# ---- tieout -------------------------------------------------------------------------------------------------

log = open(f"{state}/tieout.log", "a")


def start():
    child = subprocess.Popen([os.environ["TIEOUT"], "run", "--config", f"{here}/avro.d/config.yaml"], stdout=log, stderr=log)
    # Whatever fails here: it must not run on without us.
    atexit.register(lambda: child.poll() is None and child.kill())
    return child


def answer_to(path):
    try:
        with urllib.request.urlopen(f"http://{os.environ['TIEOUT_LISTEN']}{path}", timeout=10) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return ""


def until(what, holds, seconds=60):
    since = time.time()
    while not holds():
        assert child.poll() is None, f"{what}: tieout ended with {child.returncode}"
        assert time.time() - since < seconds, f"{what}: not after {seconds} s"
        time.sleep(0.05)
    say(f"{what}: after {time.time() - since:.2f} s")


def source(name):
    answer = json.loads(answer_to("/api/v1/sources") or "{}")
    return next((s for s in answer.get("sources", []) if s["name"] == name), {})


class Follower:
    """Reads topics with `read_committed`; the last value of each key."""

    def __init__(self, *topics):
        self.last = {topic: {} for topic in topics}
        self.ids = {}
        self.consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"check-{rng.random()}", "isolation.level": "read_committed", "auto.offset.reset": "earliest", "enable.auto.commit": False, "topic.metadata.refresh.interval.ms": 500})
        self.consumer.subscribe(list(topics))
        self.count = 0

    def read(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            message = self.consumer.poll(0.05)
            if message is None or message.error():
                continue
            key, value, headers = read(message.key()), read(message.value()), dict(message.headers())
            assert set(headers) == {"tieout-tick", "tieout-id", "tieout-mapping"}, headers
            self.count += 1
            if message.topic() == "out.changes" and value is not None:
                value = value["after"]
            if value is None:
                self.last[message.topic()].pop(key["id"], None)
            else:
                self.last[message.topic()][key["id"]] = value


def plain(row):
    return {n: v.isoformat() if isinstance(v, (datetime.datetime, datetime.date)) else str(v) if isinstance(v, (decimal.Decimal, uuid.UUID)) else v for n, v in row.items()}


def same(found, wanted):
    quantised = {key: {**row, "credit": None if row["credit"] is None else row["credit"].quantize(decimal.Decimal("0.0001"))} for key, row in wanted.items()}
    return {k: plain(v) for k, v in found.items()} == {k: plain(v) for k, v in quantised.items()}


def apart(found, wanted):
    for key in sorted(set(found) | set(wanted)):
        if key not in found or key not in wanted or not same({key: found[key]}, {key: wanted[key]}):
            return f"{key}: found {found.get(key)}, wanted {wanted.get(key)}"


def differences():
    keys = set(model) | set(booked)
    return {k for k in keys if (k in model) != (k in booked) or model[k]["credit"] != booked[k]}


def check(what):
    """All three topics say what the model says."""
    since = time.time()
    holds = lambda: same(follower.last["out.wanted"], model) and same(follower.last["out.changes"], model) and set(follower.last["out.balance"]) == differences()
    while not holds():
        assert child.poll() is None, f"{what}: tieout ended with {child.returncode}"
        if time.time() - since > 40:
            sys.exit(f"{what}: wanted {apart(follower.last['out.wanted'], model)}; changes {apart(follower.last['out.changes'], model)}; "
                     f"balance {set(follower.last['out.balance']) ^ differences()}")
        follower.read(0.2)
    say(f"{what}: {len(model)} rows, {len(differences())} differences, {follower.count} records: as the model says")


# Heartbeats are in Avro, too: they tell the time of a table that is quiet.
BEAT = {"type": "record", "name": "Heartbeat", "namespace": "io.debezium.connector.common", "fields": [{"name": "ts_ms", "type": "long"}]}
beat_id = register("__debezium-heartbeat.crm-value", BEAT)


def beat(ms):
    producer.produce("__debezium-heartbeat.crm", write(beat_id, BEAT, {"ts_ms": ms}))
    producer.flush(10)


some(2000, of=(0,))
beat(int(time.time() * 1000))
child = start()
follower = Follower("out.wanted", "out.changes", "out.balance")
check("the first version")
some(2000)
check("three versions in one topic")
mismatched = next(v for v in follower.last["out.balance"].values() if v["kind"] == "mismatched")
# Undetermined: the broker has not answered for a moment.
assert set(mismatched["fields"]) == {"credit"} and mismatched["state"] in ("confirmed", "in_flight", "undetermined"), mismatched

wanted = datetime.datetime.fromtimestamp(time.time() + 2, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told():
    beat(int(time.time() * 1000))
    return source("account").get("known_to") > wanted


until("heartbeats tell the time", told)

# An id that nobody knows, then a good record of the key.
good = write(key_id, KEY, {"id": 7})
producer.produce("crm.public.account", b"\0\0\x0f\xff\xff\2", good)
producer.produce("crm.public.account", b"{}", write(key_id, KEY, {"id": 8}))
producer.flush(10)
until("two rejects", lambda: answer_to("/api/v1/rejects").count('"code"') == 2)
codes = {r["code"]: r for r in json.loads(answer_to("/api/v1/rejects"))["rejects"]}
assert set(codes) == {"SCHEMA_UNKNOWN", "DECODE_FAILED"} and codes["SCHEMA_UNKNOWN"]["key"] == "7" and codes["SCHEMA_UNKNOWN"]["offset"] > 0, codes
change(7, 1), change(8, 2)
producer.flush(10)
check("after good records of their keys")
assert json.loads(answer_to("/api/v1/rejects"))["rejects"] == []

# The registry hangs while a message of a new version comes; the others go on.
pid = int(open(f"{state}/registry.pid").read())
v4 = VERSIONS[1] + [("more", ["null", "string"])]
VERSIONS.append(v4)
new = register("crm.public.account-value", envelope(v4))
os.kill(pid, signal.SIGSTOP)
try:
    key = 401
    row = {"id": key, "name": "late", "credit": cents(5, 4), "visits": 1, "rate": 0.5, "note": None, "since": datetime.date(2026, 1, 2), "seen": datetime.datetime(2026, 1, 2, tzinfo=UTC), "ref": uuid.UUID(int=1), "tags": None, "more": "x"}
    event = {"before": None, "after": row, "op": "c", "source": {"version": "3", "ts_ms": int(time.time() * 1000), "lsn": None}, "ts_ms": None}
    producer.produce("crm.public.account", write(new, envelope(v4), event), write(key_id, KEY, {"id": key}))
    book(key, cents(5, 4))
    producer.flush(10)
    until("a registry that hangs is trouble", lambda: (source("account").get("trouble") or "").startswith("REGISTRY_UNREACHABLE"))
    assert 'tieout_source_trouble{source="account"} 1' in answer_to("/metrics")
    until("the other source is read on", lambda: not source("booked").get("trouble") and source("booked").get("caught_up"))
finally:
    os.kill(pid, signal.SIGCONT)
model[key] = {n: v for n, v in row.items() if n != "more"}
check("after the registry came back")
assert source("account")["trouble"] is None

# Killed, with versions that it must ask for again.
for n in range(3):
    some(300)
    time.sleep(rng.uniform(0.1, 0.8))
    child.kill()
    child.wait()
    some(100)
    child = start()
check("after three kills")
child.send_signal(signal.SIGINT)
assert child.wait(60) == 0, child.returncode

# From here over https, by a relay that asks for a password; the authority is one of our own.
certificate = [f"{state}/registry.crt", f"{state}/registry.key"]
subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-out", certificate[0], "-keyout", certificate[1]], check=True, capture_output=True)


class Relay(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers["authorization"] != "Basic " + base64.b64encode(b"me:secret").decode():
            return self.answer(401, b"Unauthorized")
        body = self.rfile.read(int(self.headers["content-length"] or 0)) or None
        request = urllib.request.Request(registry + self.path, body, {"content-type": "application/json"}, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                self.answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self.answer(error.code, error.read())

    do_POST = do_GET

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


relay = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(*certificate)
relay.socket = tls.wrap_socket(relay.socket, server_side=True)
threading.Thread(target=relay.serve_forever, daemon=True).start()


def run(*more, password="secret", authority=certificate[0]):
    env = dict(os.environ, REGISTRY=f"https://127.0.0.1:{relay.server_port}", PASSWORD=password, SSL_CERT_FILE=authority)
    command = [os.environ["TIEOUT"], "run", "--config", f"{here}/avro.d/again/config.yaml", "--once", *more]
    return subprocess.run(command, env=env, capture_output=True, text=True)


done = run(password="guess")
assert done.returncode == 78 and "REGISTRY_REFUSED" in done.stderr and "secret" not in done.stderr and "guess" not in done.stderr, (done.returncode, done.stderr)
say("a wrong password is a named stop")

# An output whose subject refuses its schema is a named stop; when it does not, tieout reads what it wrote.
register("out.strict-value", {"type": "record", "name": "Other", "fields": [{"name": "n", "type": "long"}]})
ask(f"{registry}/config/out.strict-value", {"compatibility": "FULL"}, "PUT")
done = run()
assert done.returncode == 78 and "SCHEMA_INCOMPATIBLE" in done.stderr and "lower the subject's compatibility" in done.stderr, (done.returncode, done.stderr)
say(done.stderr.strip().splitlines()[-1][:200])
ask(f"{registry}/config/out.strict-value", {"compatibility": "NONE"}, "PUT")
done = run("--export", f"{state}/out")
assert done.returncode == 0, done.stderr
for name in ("differences/both", "rejects"):
    lines = open(f"{state}/out/{name}.csv").read().splitlines()
    assert len(lines) == 1, (name, lines[:5])
sources = json.load(open(f"{state}/out/summary.json"))["sources"]
assert sources["rows"]["applied"] >= len(model) and sources["changes"]["applied"] >= len(model), sources
say("tieout reads its own topics, and both say the same")
