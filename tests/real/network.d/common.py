"""What the checks of tests/real/network share: data that grows, clusters in network namespaces, and what is said of them."""
import json, os, random, subprocess, sys, time

here = sys.argv[1]
sys.path.append(here)
from processes import SILENCE, Process, cluster_file, until

state, tieout = os.environ["STATE"], os.environ["TIEOUT"]
seed = int(os.environ.get("SEED", "1"))
rng = random.Random(seed)
SALES, SHOPS = 15_000, 400
# Within so many seconds each cut is noticed, also by a machine that stands still for some of them; the quickest one within a second
# and a half beside what a silence may last: the pulse that came last, and the turn of whoever listens.
NOTICED, QUICKEST = SILENCE + 13, SILENCE + 1.5
config, data = f"{here}/network.d/config.yaml", f"{state}/data"
log = open(f"{state}/tieout.log", "a")
BEGUN, faults = time.time(), []


def say(text):
    print(f"{time.time() - BEGUN:6.1f} s  {text}", flush=True)


def must(what, holds, said=""):
    faults.extend([what] * (not holds))
    say(what if holds else f"FAULT {what}: {said}")


def grow(n):
    """Sales, shops and what is booked: mostly alike, and not always in order."""
    os.makedirs(data, exist_ok=True)
    with open(f"{data}/sale.ndjson", "a") as sale, open(f"{data}/shop.ndjson", "a") as shop, open(f"{data}/booked.ndjson", "a") as booked:
        put = lambda file, key, value: file.write(json.dumps({"key": {"id": key}, "value": value}) + "\n")
        for _ in range(max(1, n // 40)):
            at = rng.randrange(SHOPS)
            put(shop, at, {"id": at, "region": f"r{at % 17}"})
        for _ in range(n):
            at, amount = rng.randrange(SALES), f"{rng.randrange(100000) / 100:.2f}"
            shop_of, state_of = at * 7 % SHOPS, rng.choice(["open", "paid", "draft"])
            put(sale, at, None if rng.random() < 0.05 else {"id": at, "shop": shop_of, "amount": amount, "state": state_of})
            if rng.random() < 0.95:
                put(booked, at, None if state_of == "draft" else {"id": at, "amount": amount, "region": f"r{shop_of % 17}"})


def command(*args, of=config):
    return [tieout, "run", "--config", of, *args]


def environment(name):
    return dict(os.environ, TIEOUT_DATA=data, TIEOUT_STATE=f"{state}/{name}")


class Cluster:
    def __init__(self, wire, of, name, *args, config=config):
        file = cluster_file(f"{state}/{name}.yaml", [f"{address}:7400" for address in wire.addresses[:of]])
        whole = lambda n: wire.within(n, command("--cluster", file, "--process", str(n), *args, of=config))
        self.wire = wire
        self.processes = [Process(whole(n), environment(f"{name}.state"), log, f"{name}.{n} ") for n in range(of)]

    def ends(self, seconds):
        until(lambda: all(p.status() is not None for p in self.processes), seconds)
        return [p.status() for p in self.processes]

    def said(self):
        return "".join(f"--- {p.name}\n{''.join(p.said[-5:])}" for p in self.processes)

    def get(self, n, path):
        address = self.processes[n].address
        done = subprocess.run(self.wire.within(n, ["curl", "-s", "--max-time", "20", f"http://{address}{path}"]), capture_output=True, text=True)
        return done.stdout

    def ready(self, seconds=40):
        ready = lambda n: self.processes[n].address and '"ready":true' in self.get(n, "/readyz").replace(" ", "")
        return until(lambda: all(ready(n) for n in range(len(self.processes))), seconds, 0.1)

    def kill(self):
        for process in self.processes:
            process.kill()
