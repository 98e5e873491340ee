"""One process, and clusters over networks of all kinds: what they export must be alike; a cut must be noticed, and gone on from.
Started by tests/real/network."""
import collections, csv, glob, json, signal, subprocess, sys, time

from common import NOTICED, QUICKEST, SALES, Cluster, command, environment, faults, grow, log, must, rng, say, seed, state
from processes import SILENCE, TRY_AGAIN, until
from wire import Wire


noticed = []


def exported(folder):
    """Everything of an export that is the same for the same inputs."""
    found = {}
    for target in ("wanted", "by_region"):
        found[target] = collections.Counter(json.dumps(json.loads(line), sort_keys=True) for line in open(f"{folder}/targets/{target}.ndjson"))
    rows = csv.DictReader(open(f"{folder}/differences/sales_booked.csv"))
    found["differences"] = collections.Counter((row["key"], row["kind"], row["field"]) for row in rows)
    found["totals"] = open(f"{folder}/totals/sales_booked.csv").read()
    return found


def one_process():
    folder = f"{state}/one"
    subprocess.run(command("--once", "--export", folder), env=environment("one.state"), stdout=log, stderr=log, check=True)
    return exported(folder)


def same(wire, truth, of, name, **how):
    """A cluster reads everything once over such a network."""
    wire.be(**how)
    began = time.time()
    carried, lost = wire.carried, wire.lost
    cluster = Cluster(wire, of, name, "--once", "--export", f"{state}/{name}")
    status = cluster.ends(60)
    took, carried, lost = time.time() - began, wire.carried - carried, wire.lost - lost
    if status != [0] * of:
        must(f"{of} processes, {name}", False, f"they ended with {status}\n{cluster.said()}")
        cluster.kill()
        return
    found = exported(f"{state}/{name}")
    differ = [what for what in truth if truth[what] != found[what]]
    must(f"{of} processes, {name}: as one process says, after {took:.1f} s, {carried} packets and {lost} lost", not differ, f"{differ} differ")


def cut(wire, of, what, sever, mend, names):
    """A link is cut while they run: all end and name who is gone; they go on from the checkpoint, and miss nothing."""
    wire.be(delay=0.005, loss=0.002)
    name = what.replace(" ", "-")
    cluster = Cluster(wire, of, name, "--listen", "127.0.0.1:0")
    if not cluster.ready():
        must(f"{what}: they come together", False, cluster.said())
        return cluster.kill()
    grow(200)
    if of == 2:
        # What comes back soon is no loss.
        wire.cut(0)
        time.sleep(SILENCE / 10)
        wire.mend(0)
        time.sleep(SILENCE + 0.2)
        must(f"{what}: all run on after a moment without it", cluster.ends(0) == [None] * of, cluster.said())
    must(f"{what}: there is a checkpoint", until(lambda: glob.glob(f"{state}/{name}.state/checkpoints/[0-9]*.json"), 30))
    sever()
    began = time.time()
    status = cluster.ends(NOTICED)
    took = time.time() - began
    must(f"{what}: all {of} end with 75 after {took:.1f} s, with a silence of {SILENCE:g} s", status == [TRY_AGAIN] * of, f"{status}, {took:.1f} s\n{cluster.said()}")
    noticed.append(took)
    named = [any(process.has_said(f"process {of_}") for of_ in names(n)) for n, process in enumerate(cluster.processes)]
    must(f"{what}: each says whom it lost", all(named), f"{named}\n{cluster.said()}")
    cluster.kill()
    mend()
    grow(200)
    truth = one_process()
    cluster = Cluster(wire, of, name, "--listen", "127.0.0.1:0")
    if not cluster.ready():
        must(f"{what}: they come together again", False, cluster.said())
        return cluster.kill()
    must(f"{what}: they go on from the checkpoint", cluster.processes[0].has_said("goes on from a checkpoint"), cluster.said())
    asked = rng.randrange(of)
    wanted = sum(truth["differences"].values())
    differences = lambda: [d for d in json.loads(cluster.get(asked, "/api/v1/comparisons/sales_booked/differences?limit=10000") or '{"differences": []}')["differences"]]
    keys = {key for key, _, _ in truth["differences"]}
    same_keys = lambda: {d["key"] for d in differences()} == keys
    must(f"{what}: process {asked} says what one process says, {wanted} fields of {len(keys)} differences", until(same_keys, 20, 0.3),
         f"{len({d['key'] for d in differences()} ^ keys)} keys differ")
    cluster.processes[asked].signal(signal.SIGINT)
    status = cluster.ends(30)
    must(f"{what}: process {asked} is asked to stop, and all end", status == [0] * of, f"{status}\n{cluster.said()}")
    cluster.kill()


def main():
    grow(2 * SALES)
    truth = one_process()
    say(f"one process: {sum(truth['wanted'].values())} rows, {sum(truth['differences'].values())} fields that differ")
    wire = Wire(4, seed)
    try:
        same(wire, truth, 2, "fast")
        same(wire, truth, 2, "far-away", delay=0.04, jitter=0.01)
        same(wire, truth, 2, "lossy", delay=0.005, jitter=0.002, loss=0.02)
        same(wire, truth, 2, "narrow", delay=0.002, rate=1_000_000)
        same(wire, truth, 4, "far-away-and-lossy", delay=0.01, jitter=0.005, loss=0.01)
        one = rng.randrange(2)
        cut(wire, 2, "a link goes down", lambda: wire.cut(one), lambda: wire.mend(one), lambda n: [1 - n])
        other = rng.randrange(4)
        cut(wire, 4, "one of four is cut off", lambda: wire.cut(other), lambda: wire.mend(other), lambda n: [o for o in range(4) if o != n] if n == other else [other])
        cut(wire, 3, "two of three do not reach each other", lambda: wire.swallow(1, 2), lambda: wire.cuts.clear(), lambda n: [1, 2])
    finally:
        wire.close()
    must(f"the quickest of them is noticed within {min(noticed, default=0):.1f} s", min(noticed, default=0) < QUICKEST)
    if faults:
        print(f"{len(faults)} faults")
    sys.exit(len(faults) > 0)


main()
