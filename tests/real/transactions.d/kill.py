"""Feeds tieout, kills it again and again, and at last lets it finish. Started by tests/real/transactions."""
import json, os, random, signal, subprocess, sys, threading, time

here = sys.argv[1]
kills, broker_every, seed = (int(os.environ.get(n, d)) for n, d in (("KILLS", "20"), ("BROKER", "5"), ("SEED", "1")))
state, data = os.environ["STATE"], os.environ["TIEOUT_DATA"]
rng, feed_rng = random.Random(seed), random.Random(seed + 1)
POINTS = ["before-produce", "before-commit", "produced", "after-commit", "checkpoint-write", "checkpoint-rename"]
KEYS = 25_000
os.makedirs(data, exist_ok=True)
files = {name: open(f"{data}/{name}.ndjson", "a") for name in ("plan", "payment")}


def put(name, key, row):
    files[name].write(json.dumps({"key": {"id": key}, "value": row}) + "\n")


def some(n):
    for _ in range(n):
        key = feed_rng.randrange(KEYS + 500)
        amount, word = feed_rng.randrange(1000), feed_rng.choice(["open", "open", "closed", "draft"])
        row = None if feed_rng.random() < 0.1 else {"id": key, "amount": amount, "state": word}
        put("plan", key, row)
        if feed_rng.random() < 0.9:
            put("payment", key, row and {"id": key, "amount": amount * 2, "state": word})
    for file in files.values():
        file.flush()


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
    command = [os.environ["TIEOUT"], "run", "--config", f"{here}/transactions.d/config.yaml"]
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
        if broker_every and n % broker_every == broker_every - 1:
            time.sleep(rng.uniform(0.5, 3))
            subprocess.run([f"{here}/stand", "kill", "broker"], check=True)
            time.sleep(rng.choice([0, 1, 15]))
            subprocess.run([f"{here}/stand", "again", "broker"], check=True)
            count["broker"] += 1
        try:
            child.wait(8 if point else rng.uniform(0.2, 4))
        except subprocess.TimeoutExpired:
            point = None
            if rng.random() < 0.1:
                child.send_signal(signal.SIGINT)
                code = child.wait(60)
                # Before it serves HTTP it hears nothing, and a failpoint may be on the way out.
                assert code in (0, -signal.SIGINT, -signal.SIGABRT), f"asked to stop, it ended with {code}"
                count["stopped"] += 1
                continue
            child.kill()
            child.wait()
        else:
            assert child.returncode == -signal.SIGABRT, f"it ended by itself with {child.returncode}"
        name = point or "at random"
        count[name] = count.get(name, 0) + 1
        n += 1
        print(f"\r{n} kills", end="", file=sys.stderr, flush=True)
finally:
    done.set()
    feeder.join()
print(file=sys.stderr)
child = start()
ends = {name: os.path.getsize(f"{data}/{name}.ndjson") for name in files}
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
