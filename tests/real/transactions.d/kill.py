"""Feeds tieout, kills it again and again, and at last lets it finish. Started by tests/real/transactions."""
import json, os, random, signal, subprocess, sys, time

from feed import Feed

here = sys.argv[1]
kills, broker_every, seed = (int(os.environ.get(n, d)) for n, d in (("KILLS", "20"), ("BROKER", "5"), ("SEED", "1")))
state = os.environ["STATE"]
rng = random.Random(seed)
POINTS = ["before-produce", "before-commit", "produced", "after-commit", "checkpoint-write", "checkpoint-rename"]
BROKERS = [state] if os.environ["SOURCE"] == "file" else [state, f"{state}/second"]
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


def together(child, of, away):
    """The broker dies as tieout does, at a failpoint; a transaction that is open meanwhile may time out before it is back."""
    child.wait()
    os.kill(int(open(f"{of}/broker.pid").read()), signal.SIGKILL)
    env = dict(os.environ, STATE=of)
    subprocess.run([f"{here}/stand", "kill", "broker"], check=True, env=env)
    time.sleep(away)
    subprocess.run([f"{here}/stand", "again", "broker"], check=True, env=env)


feed = Feed()
count = {"at random": 0, "broker": 0, "stopped": 0}
try:
    n, both = 0, 0
    while n < kills:
        way = rng.random()
        point = rng.choice(POINTS) if way < 0.5 else None
        chance = 300 if point and point.startswith("checkpoint") else rng.choice([1000, 100, 20])
        broker = broker_every and n % broker_every == broker_every - 1
        if broker and both <= count["broker"]:
            both, n = both + 1, n + 1
            point, away = [("after-commit", 0), ("produced", 12)][both % 2]
            together(start(f"{point}:10"), rng.choice(BROKERS), away)
            count[f"{point}, and the broker"] = count.get(f"{point}, and the broker", 0) + 1
            continue
        child = start(point and f"{point}:{chance}")
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
    ends = feed.end()
print(file=sys.stderr)
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
count["hanging"] = sum("TRANSACTION_HANGING" in line for line in open(f"{state}/tieout.log"))
json.dump({"kills": count, "ends": ends}, open(f"{state}/kills.json", "w"))
