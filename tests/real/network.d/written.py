"""What a cluster writes to a broker is written once, whoever of it is cut off from whom, over a network that loses packets: all reach
the broker, by a way of its own. Its outputs are compared with a model at every progress record. Started by tests/real/network."""
import collections, ctypes, json, os, signal, socket, sys, threading, time

from common import NOTICED, Cluster, config, data, faults, grow, here, must, rng, say, seed, state
from processes import TRY_AGAIN, until
from wire import Wire

sys.path.append(f"{here}/scenarios.d")
from broker import Broker

OF, ROUNDS = 3, int(os.environ.get("ROUNDS", "1"))
NEWNET = 0x40000000


class Bridge:
    """A port of the loopback, reachable at the same address from each namespace."""

    def __init__(self, names, port):
        libc, own = ctypes.CDLL(None, use_errno=True), os.open("/proc/self/ns/net", os.O_RDONLY)
        for name in names:
            # A socket stays in the namespace in which it was made.
            within = os.open(f"/var/run/netns/{name}", os.O_RDONLY)
            for namespace in (within, own):
                if libc.setns(namespace, NEWNET) != 0:
                    sys.exit(f"the namespace {name} can't be entered: {os.strerror(ctypes.get_errno())}")
                if namespace == within:
                    listener = socket.create_server(("127.0.0.1", port))
            threading.Thread(target=self.accept, args=(listener, port), daemon=True).start()

    def accept(self, listener, port):
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:
                near.close()
                continue
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        try:
            while some := a.recv(1 << 16):
                b.sendall(some)
        except OSError:
            pass
        for one in (a, b):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def deployment():
    """As that of the other check, with outputs to the broker, and with all checkpoints kept, so that no progress record goes."""
    folder = f"{state}/bus"
    os.makedirs(f"{folder}/dataflows")
    text = open(config).read().replace("name: network", "name: written").replace("interval: 500ms", "interval: 500ms, keep: 1000")
    bus = f'  bus: {{ kind: kafka, brokers: "{os.environ["KAFKA_BOOTSTRAP"]}", properties: {{ transaction.timeout.ms: "10000" }} }}\n'
    open(f"{folder}/config.yaml", "w").write(text.rstrip() + "\n" + bus)
    flow = open(f"{here}/network.d/dataflows/sales.yaml").read()
    outputs = "outputs:\n  - { table: wanted, connection: bus, topic: out.wanted, format: upsert-json }\n"
    open(f"{folder}/dataflows/sales.yaml", "w").write(flow.rstrip() + "\n" + outputs)
    return f"{folder}/config.yaml"


class Feed(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.over = False
        self.start()

    def run(self):
        while not self.over:
            grow(20)
            time.sleep(0.1)


class Model:
    """What must stand in `wanted`, as the files are read up to some positions."""

    def __init__(self, order):
        self.order, self.at, self.rows, self.wanted = order, collections.Counter(), {name: {} for name in order}, {}
        self.logs = {name: self.log(name) for name in order}
        self.sales = collections.defaultdict(set)

    @staticmethod
    def log(name):
        end, found = 0, []
        for line in open(f"{data}/{name}.ndjson", "rb"):
            end += len(line)
            change = json.loads(line)
            found.append((end, change["key"]["id"], change["value"]))
        return found

    def advance(self, positions):
        touched = set()
        for name in ("sale", "shop"):
            to, log, at = positions[name], self.logs[name], self.at[name]
            while at < len(log) and log[at][0] <= to:
                _, key, row = log[at]
                was = self.rows[name].get(key)
                self.rows[name][key] = row
                if name == "sale":
                    self.sales[(was or {}).get("shop")].discard(key)
                    self.sales[(row or {}).get("shop")].add(key)
                touched |= {key} if name == "sale" else self.sales[key]
                at += 1
            self.at[name] = at
        for key in touched:
            sale = self.rows["sale"].get(key)
            shop = sale and self.rows["shop"].get(sale["shop"])
            self.wanted.pop(key, None)
            if sale and shop and sale["state"] != "draft":
                self.wanted[key] = {"id": key, "amount": sale["amount"], "region": shop["region"]}


def compare(broker, order):
    """Follows the progress records; how many were compared, and what is wrong."""
    found = broker.read(["out.wanted", "tieout-progress-written"])
    by_tick, newest, wrong = collections.defaultdict(dict), {}, []
    for partition, offset, headers, key, value in found["out.wanted"]:
        tick, key = int(headers["tieout-tick"]), json.loads(key)["id"]
        wrong += [f"{offset}: tick {tick} after {newest.get(partition)}"] * (tick < newest.get(partition, 0))
        wrong += [f"{offset}: {key} twice in tick {tick}"] * (key in by_tick[tick])
        newest[partition], by_tick[tick][key] = tick, value and json.loads(value)
    model, seen, positions, last, hydrated, compared = Model(order), {}, dict.fromkeys(order, 0), None, False, 0
    ticks = sorted(by_tick)
    for _, offset, _, _, value in found["tieout-progress-written"]:
        progress = json.loads(value)
        wrong += [f"progress {offset}: before is {progress['before']} and not {last}"] * (last not in (None, progress["before"]) and not progress.get("begins"))
        last = progress["tick"]
        for tick in progress.get("ticks", []):
            hydrated = tick.get("hydrated", False)
            for name, source in zip(order, tick["sources"]):
                positions[name] = dict(source.get("positions", [])).get(0, positions[name])
        if progress["more"]:
            continue
        while ticks and ticks[0] <= last:
            for key, row in by_tick[ticks.pop(0)].items():
                wrong += [f"{key} goes, and was not there"] * (row is None and key not in seen)
                seen.pop(key, None)
                if row is not None:
                    seen[key] = row
        if hydrated:
            model.advance(positions)
            differ = [(key, model.wanted.get(key), seen.get(key)) for key in model.wanted.keys() | seen.keys() if model.wanted.get(key) != seen.get(key)]
            wrong += [f"progress {offset}, tick {last}: {len(differ)} rows differ (key, model, topic), as {differ[:2]}"] * bool(differ)
            compared += 1
    wrong += [f"{len(ticks)} ticks stand behind the last progress record"] * bool(ticks)
    wrong += [f"{name} was read up to {positions[name]} of {model.logs[name][-1][0]}" for name in ("sale", "shop") if positions[name] != model.logs[name][-1][0]]
    return compared, len(found["out.wanted"]), wrong


def main():
    grow(5_000)
    deployed, broker, wire = deployment(), Broker(here, state), Wire(OF, seed)
    broker.create({"out.wanted": 3})
    Bridge(wire.names, int(os.environ["KAFKA_BOOTSTRAP"].rsplit(":", 1)[1]))
    wire.be(delay=0.005, jitter=0.002, loss=0.005)
    pairs = [(a, b) for a in range(OF) for b in range(a)]
    faults_ = [(f"process {n} is cut off", n) for n in range(OF)] + [(f"processes {a} and {b} do not reach each other", (a, b)) for a, b in pairs]
    faults_ += [(f"process {n} is killed", -1 - n) for n in range(OF)]
    feed, cuts = Feed(), 0
    try:
        for what, fault in [one for _ in range(ROUNDS) for one in rng.sample(faults_, len(faults_))]:
            cluster = Cluster(wire, OF, "written", "--listen", "127.0.0.1:0", config=deployed)
            if not cluster.ready():
                must(f"{what}: they come together", False, cluster.said())
                return cluster.kill()
            time.sleep(rng.uniform(0, 1.5))
            if isinstance(fault, tuple):
                wire.swallow(*fault)
            elif fault >= 0:
                wire.cut(fault)
            else:
                cluster.processes[-1 - fault].kill()
            status = cluster.ends(NOTICED)
            expected = [-signal.SIGKILL if isinstance(fault, int) and -1 - fault == n else TRY_AGAIN for n in range(OF)]
            must(f"{what}: the others end, or all do, with 75", status == expected, f"{status}\n{cluster.said()}")
            cluster.kill()
            wire.cuts.clear()
            if isinstance(fault, int) and fault >= 0:
                wire.mend(fault)
            cuts += 1
        cluster = Cluster(wire, OF, "written", "--listen", "127.0.0.1:0", config=deployed)
        must("they come together at the end", cluster.ready(), cluster.said())
        feed.over = True
        feed.join()
        order = [source["name"] for source in json.loads(cluster.get(1, "/api/v1/sources"))["sources"]]
        ends = {name: os.path.getsize(f"{data}/{name}.ndjson") for name in order}
        at = lambda: {s["name"]: sum(s["positions"].values()) for s in json.loads(cluster.get(0, "/api/v1/sources"))["sources"]}
        must("all is read", until(lambda: at() == ends, 30, 0.3), f"{at()} of {ends}")
        cluster.processes[0].signal(signal.SIGINT)
        must("and they stop", cluster.ends(30) == [0] * OF, cluster.said())
        cluster.kill()
        compared, records, wrong = compare(broker, order)
        must(f"after {cuts} cuts and kills {records} rows were written, none lost and none twice, at {compared} progress records", not wrong and compared > cuts, wrong[:5])
    finally:
        feed.over = True
        wire.close()
    say("done")


main()
sys.exit(len(faults) > 0)
