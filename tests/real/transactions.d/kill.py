"""Feeds tieout, kills it again and again, and at last lets it finish. Started by tests/real/transactions."""
import collections, json, os, random, signal, subprocess, sys, threading, time

here = sys.argv[1]
kills, broker_every, seed = (int(os.environ.get(n, d)) for n, d in (("KILLS", "20"), ("BROKER", "5"), ("SEED", "1")))
state, data = os.environ["STATE"], os.environ["TIEOUT_DATA"]
rng, feed_rng = random.Random(seed), random.Random(seed + 1)
POINTS = ["before-produce", "before-commit", "produced", "after-commit", "checkpoint-write", "checkpoint-rename"]
KEYS = 25_000
SOURCE = os.environ["SOURCE"]
BROKERS = [state] if SOURCE == "file" else [state, f"{state}/second"]


class File:
    """An input that is a file."""

    def __init__(self, name):
        os.makedirs(data, exist_ok=True)
        self.file, self.flush = open(f"{data}/{name}.ndjson", "a"), lambda: self.file.flush()

    def put(self, key, row):
        self.file.write('{"key": %s, "value": %s}\n' % (key, row))

    def end(self):
        self.file.close()
        return [self.file.name, os.path.getsize(self.file.name)]


class Topic:
    """An input that is a topic, through Kafka's own producer; what it did not deliver is not in the topic, and not expected."""

    def __init__(self, name):
        broker = os.environ["KAFKA_BOOTSTRAP" if name == "plan" else "KAFKA_SECOND"]
        command = f"{here}/stand kafka org.apache.kafka.tools.ConsoleProducer --bootstrap-server {broker} --topic in.{name} --timeout 5 "
        command += "--message-send-max-retries 1000000 --max-block-ms 600000 --reader-property parse.key=true --reader-property null.marker=null "
        command += "--command-property delivery.timeout.ms=600000 --command-property linger.ms=5"
        self.child = subprocess.Popen(command.split(), stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL, stderr=open(f"{state}/in.{name}.log", "w"))
        self.flush = self.child.stdin.flush

    def put(self, key, row):
        self.child.stdin.write(f"{key}\t{row}\n")

    def end(self):
        self.child.stdin.close()
        assert self.child.wait(120) == 0
        return None


inputs = {name: (File if SOURCE == "file" else Topic)(name) for name in ("plan", "payment")}
newest = {name: collections.deque(maxlen=3000) for name in inputs}


def put(name, key, row):
    record = (json.dumps({"id": key}), json.dumps(row))
    newest[name].append(record)
    inputs[name].put(*record)


def some(n):
    for _ in range(n):
        key = feed_rng.randrange(KEYS + 500)
        amount, word = feed_rng.randrange(1000), feed_rng.choice(["open", "open", "closed", "draft"])
        row = None if feed_rng.random() < 0.1 else {"id": key, "amount": amount, "state": word}
        put("plan", key, row)
        if feed_rng.random() < 0.9:
            put("payment", key, row and {"id": key, "amount": amount * 2, "state": word})
    # Now and then a range comes again, as from a connector that was killed.
    if feed_rng.random() < 0.02:
        for name in inputs:
            first = feed_rng.randrange(len(newest[name]))
            for record in list(newest[name])[first : first + feed_rng.randrange(1, 300)]:
                inputs[name].put(*record)
    for of in inputs.values():
        of.flush()


# A backlog whose first tick is written in several parts.
for key in range(KEYS):
    put("plan", key, {"id": key, "amount": key, "state": "open"})
    put("payment", key, {"id": key, "amount": key * 2, "state": "open"})
some(100)
done = threading.Event()


def feed():
    while not done.wait(feed_rng.uniform(0.0, 0.1)):
        # Now and then more than fits into one transaction.
        some(15_000 if feed_rng.random() < 0.003 else feed_rng.randrange(1, 30))


log = open(f"{state}/tieout.log", "a")


def hears():
    # A shell that runs this in the background has it ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(failpoint=None):
    # All progress records stay, so that all can be checked; FORGET=1 lets them go as usual.
    env = dict(os.environ, TIEOUT_KEEP="2" if os.environ.get("FORGET") else "1000")
    if failpoint:
        env["TIEOUT_FAILPOINT"] = failpoint
    command = [os.environ["TIEOUT"], "run", "--config", os.environ["CONFIG"]]
    return subprocess.Popen(command, env=env, stdout=log, stderr=log, preexec_fn=hears)


feeder = threading.Thread(target=feed)
feeder.start()
count = {"at random": 0, "broker": 0, "stopped": 0}
try:
    n = 0
    while n < kills:
        way = rng.random()
        point = rng.choice(POINTS) if way < 0.5 else None
        chance = 300 if point and point.startswith("checkpoint") else rng.choice([1000, 100, 20])
        child = start(point and f"{point}:{chance}")
        broker = broker_every and n % broker_every == broker_every - 1
        if broker:
            time.sleep(rng.uniform(0.5, 3))
            of = dict(os.environ, STATE=rng.choice(BROKERS))
            subprocess.run([f"{here}/stand", "kill", "broker"], check=True, env=of)
            time.sleep(rng.choice([0, 1, 15]))
            subprocess.run([f"{here}/stand", "again", "broker"], check=True, env=of)
            count["broker"] += 1
        try:
            child.wait(8 if point else rng.uniform(0.2, 4))
        except subprocess.TimeoutExpired:
            point = None
            if rng.random() < 0.1:
                child.send_signal(signal.SIGINT)
                code = child.wait(60)
                # Before it serves HTTP it hears nothing, and a failpoint may be on the way out.
                assert code in (0, -signal.SIGINT, -signal.SIGABRT) or broker and code == os.EX_TEMPFAIL, f"asked to stop, it ended with {code}"
                count["stopped"] += 1
                continue
            child.kill()
            child.wait()
        else:
            # A broker that is away at a start is exit 75, "try again"; a supervisor does.
            away = broker and child.returncode == os.EX_TEMPFAIL
            assert away or child.returncode == -signal.SIGABRT, f"it ended by itself with {child.returncode}"
            point = "broker away" if away else point
        name = point or "at random"
        count[name] = count.get(name, 0) + 1
        n += 1
        print(f"\r{n} kills", end="", file=sys.stderr, flush=True)
finally:
    done.set()
    feeder.join()
print(file=sys.stderr)
ends = {name: of.end() for name, of in inputs.items()}
child = start()
deadline = time.time() + 90
time.sleep(5)
while time.time() < deadline:
    assert child.poll() is None, f"the last run ended by itself with {child.returncode}"
    done_ = subprocess.run(["curl", "-sf", f"http://{os.environ['TIEOUT_LISTEN']}/readyz"], capture_output=True).returncode == 0
    if done_:
        break
    time.sleep(0.2)
time.sleep(3)
child.send_signal(signal.SIGINT)
assert child.wait(60) == 0, child.returncode
json.dump({"kills": count, "ends": ends}, open(f"{state}/kills.json", "w"))
