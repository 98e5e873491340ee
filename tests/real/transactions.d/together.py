"""Feeds a cluster of tieout, and lets one of its processes fail again and again. Started by tests/real/transactions.

In each life so many processes start, by files that differ in ports only. Then one of them is killed, kills itself at a failpoint,
is stopped so that it hangs, is asked to stop, or another cluster of the same name comes up. All the others have to end within
seconds, with the exit code that says why, and naming who is at fault. The next life has another number of processes now and then,
and goes on from the checkpoint."""
import collections, csv, glob, json, os, random, shutil, signal, subprocess, sys, time, urllib.request

here = sys.argv[1]
sys.path.append(here)
from feed import Feed
from processes import SILENCE, TRY_AGAIN, Process, cluster_file, ports, until

wanted, broker_every, seed, most = (int(os.environ.get(n, d)) for n, d in (("KILLS", "20"), ("BROKER", "9"), ("SEED", "1"), ("PROCESSES", "2")))
state = os.environ["STATE"]
rng = random.Random(seed)
POINTS = ["before-produce", "before-commit", "produced", "after-commit", "checkpoint-write", "checkpoint-rename"]
BROKERS = [state] if os.environ["SOURCE"] == "file" else [state, f"{state}/second"]
# How many processes a life has: mostly those asked for.
NUMBERS = [most, most, most, 1, 2, 3, 4]
# Within so many seconds everybody has noticed, though the machine is busy, and stands still now and then.
NOTICED = SILENCE + 15
FENCED = 78
log = open(f"{state}/tieout.log", "a")
count = collections.Counter({"kills": 0})
slowest = collections.Counter()


def wrong(text, life):
    last = lambda process: "".join(process.said[-12:])
    words = "\n".join(f"--- process {at} ({p.status()}):\n{last(p)}" for at, p in enumerate(life.processes))
    sys.exit(f"FAULT in life {Life.lives}, {life.of} processes: {text}\n{words}")


class Life:
    """One cluster, from its start until none of its processes is left."""

    lives, addresses = 0, {}

    def __init__(self, of, data_dir, failpoint=None, fresh_ports=False):
        Life.lives += 1
        self.of, self.data_dir, self.number, self.failpoint = of, data_dir, Life.lives, failpoint
        # The same addresses as before, mostly: what an older life left over must do no harm.
        if fresh_ports or of not in Life.addresses or rng.random() < 0.3:
            Life.addresses[of] = [f"127.0.0.1:{port}" for port in ports(of)]
        self.file = cluster_file(f"{state}/cluster-{self.number}.yaml", Life.addresses[of])
        self.manifests = bool(glob.glob(f"{data_dir}/checkpoints/[0-9]*.json"))
        self.processes = [self.launch(index, failpoint if index == 0 else None) for index in range(of)]

    def launch(self, index, failpoint=None):
        # All progress records stay, so that all can be checked; FORGET=1 lets them go as usual.
        env = dict(os.environ, TIEOUT_STATE=self.data_dir, TIEOUT_KEEP="2" if os.environ.get("FORGET") else "1000")
        if failpoint:
            env["TIEOUT_FAILPOINT"] = failpoint
        command = [os.environ["TIEOUT"], "run", "--config", os.environ["CONFIG"], "--listen", "127.0.0.1:0"]
        command += ["--cluster", self.file, "--process", str(index)] if self.of > 1 else []
        return Process(command, env, log, f"{self.number}.{index} ")

    def others(self, than):
        return [process for index, process in enumerate(self.processes) if index != than]

    def joined(self):
        return all(process.joined or self.of == 1 for process in self.processes)

    def serves(self):
        return all(process.address for process in self.processes)

    def ended_by_itself(self):
        return next((at for at, process in enumerate(self.processes) if process.status() is not None), None)

    def end(self):
        for process in self.processes:
            process.kill()

    def all_end(self, but, by, what, names=None):
        """All but this one end with 75 in time, and say whom they lost. Of a cluster that was coming together nobody has to."""
        joined = {id(process): process.joined for process in self.processes}
        began = time.time()
        rest = self.others(but)
        until(lambda: all(p.status() is not None for p in rest) or (time.time() > began + 1 and not any(p.joined for p in rest)), by)
        took = time.time() - began
        for process in rest:
            status = process.status()
            if status is None and joined[id(process)]:
                wrong(f"{what}: {process.name.strip()} has not noticed after {took:.1f} s", self)
            if status not in (None, TRY_AGAIN):
                wrong(f"{what}: {process.name.strip()} ended with {status}", self)
            if status == TRY_AGAIN and names is not None and joined[id(process)] and not process.has_said(f"process {names}"):
                wrong(f"{what}: {process.name.strip()} does not say that process {names} is lost", self)
        if all(p.status() is not None for p in rest):
            slowest[what] = max(slowest[what], round(took, 2)) if rest else 0
            return True
        return False

    def revive(self):
        """Whoever has ended is started again by its supervisor, while the others wait for it."""
        for index, process in enumerate(self.processes):
            if process.status() is not None:
                self.processes[index] = self.launch(index)
        count["started again alone"] += 1

    def lose(self, index, what, names=None):
        """After this one has gone: the others end; or wait for it, if they had not come together."""
        while not self.all_end(index, NOTICED, what, index if names is None else names):
            self.revive()
            if not until(self.joined, 60):
                if self.ended_by_itself() is not None:
                    continue
                wrong("they do not come together", self)
            time.sleep(rng.uniform(0, 2))
            index = rng.randrange(self.of)
            self.processes[index].kill()
            killed("at random", index)
        self.look()
        self.end()

    def look(self):
        """Who had a checkpoint to go on from did, whatever the number of processes."""
        leader = self.processes[0]
        went_on = leader.has_said("goes on from a checkpoint")
        if leader.has_said("read from the beginning") or (self.manifests and leader.has_said("comparison turned") and not went_on):
            wrong("everything is read again", self)
        count["went on from a checkpoint"] += went_on


def killed(what, index):
    count[what] += 1
    count["the leader" if index == 0 else "a follower"] += 1
    count["kills"] += 1
    print(f"\r{count['kills']} kills", end="", file=sys.stderr, flush=True)


def at_random(life):
    until(lambda: life.ended_by_itself() is not None, rng.uniform(0.2, 5))
    if life.ended_by_itself() is not None:
        if life.failpoint and life.processes[0].status() == -signal.SIGABRT:
            killed(life.failpoint.split(":")[0], 0)
            return life.lose(0, "killed")
        wrong("one ended by itself", life)
    index = rng.randrange(life.of)
    life.processes[index].kill()
    killed("at random", index)
    life.lose(index, "killed")


def at_failpoint(life):
    life.processes[0].wait(8)
    at_random(life)


def broker_away(life):
    """Whoever starts without a broker ends with 75, and the others with it; who runs waits."""
    time.sleep(rng.uniform(0.5, 5))
    of = dict(os.environ, STATE=rng.choice(BROKERS))
    subprocess.run([f"{here}/stand", "kill", "broker"], check=True, env=of)
    time.sleep(rng.choice([0, 1, 15]))
    index = rng.randrange(life.of)
    by_itself = life.ended_by_itself() is not None
    if not by_itself:
        life.processes[index].kill()
        killed("with the broker", index)
    subprocess.run([f"{here}/stand", "again", "broker"], check=True, env=of)
    count["broker"] += 1
    if by_itself and until(lambda: all(p.status() is not None for p in life.processes), SILENCE + 3):
        for process in life.processes:
            if process.status() != TRY_AGAIN:
                wrong(f"without a broker {process.name.strip()} ended with {process.status()}", life)
    life.end()


def asleep(life):
    """One hangs: the others end, and name it. It is killed, or wakes while others have taken over."""
    if not until(life.serves, 60):
        wrong("they do not come together", life)
    time.sleep(rng.uniform(0, 3))
    index = rng.randrange(life.of)
    sleeper = life.processes[index]
    sleeper.signal(signal.SIGSTOP)
    count["stopped (SIGSTOP)"] += 1
    if not life.all_end(index, NOTICED, "hangs", index):
        wrong("nobody noticed that one hangs", life)
    if rng.random() < 0.5:
        sleeper.kill()
        killed("while it hung", index)
        return life.data_dir
    # Who has the folder has it until it is gone: another machine has another one.
    data_dir = copied(life.data_dir) if index == 0 else life.data_dir
    successor = Life(rng.choice(NUMBERS), data_dir, fresh_ports=True)
    if not until(lambda: successor.serves() or successor.ended_by_itself() is not None, 60) or successor.ended_by_itself() is not None:
        wrong("the successor of one that hangs does not start", successor)
    time.sleep(rng.uniform(0, 3))
    sleeper.signal(signal.SIGCONT)
    # One that was alone looks for its successor before it believes that it has one.
    status = sleeper.wait(NOTICED if life.of > 1 else 60)
    if status not in (TRY_AGAIN, FENCED) or (status == FENCED and not sleeper.has_said("SINK_FENCED")):
        wrong(f"one that woke after its cluster had gone: {status}", life)
    count[f"woke, and ended with {status}"] += 1
    at_random(successor)
    return data_dir


def asked(life):
    if not until(life.serves, 60):
        wrong("they do not come together", life)
    time.sleep(rng.uniform(0, 3))
    index = rng.randrange(life.of)
    life.processes[index].signal(signal.SIGINT)
    for process in life.processes:
        status = process.wait(60)
        if status != 0:
            wrong(f"process {index} was asked to stop, and {process.name.strip()} ended with {status}", life)
    count["asked to stop"] += 1
    count["a follower asked" if index else "the leader asked"] += 1
    life.look()


def another(life):
    """A second cluster of the same name comes up elsewhere: the older one is fenced, and ends. On a machine that is slow, the newer
    one may take so long to say that it is there that the older takes its place back; then that one ends, or both."""
    if not until(life.serves, 60):
        wrong("they do not come together", life)
    time.sleep(rng.uniform(0.5, 3))
    newer = Life(rng.choice(NUMBERS), copied(life.data_dir), fresh_ports=True)
    leader = life.processes[0]
    until(lambda: leader.status() is not None or newer.processes[0].status() is not None, 60)
    if newer.processes[0].status() == FENCED and newer.processes[0].has_said("SINK_FENCED"):
        count["took its place back"] += 1
        life.end()
        newer.end()
        shutil.rmtree(newer.data_dir)
        return life.data_dir
    status = leader.status()
    if status != FENCED or not leader.has_said("SINK_FENCED"):
        wrong(f"a newer cluster is there, and the older one's leader: {status}", life)
    for process in life.others(0):
        status = process.wait(NOTICED)
        if status != FENCED or not process.has_said("SINK_FENCED"):
            wrong(f"its leader was fenced, and {process.name.strip()}: {status}", life)
    count["fenced by another cluster"] += 1
    at_random(newer)
    return newer.data_dir


def copied(data_dir):
    """A copy of the folder, for another machine; what is just being written may be in it or not."""
    to = f"{state}/state-{Life.lives + 1}"
    for _ in range(20):
        shutil.rmtree(to, ignore_errors=True)
        try:
            shutil.copytree(data_dir, to)
            return to
        except shutil.Error:
            pass
    sys.exit(f"{data_dir} can't be copied")


def main():
    feed = Feed()
    data_dir, was = os.environ["TIEOUT_STATE"], most
    begun = time.time()
    try:
        while count["kills"] < wanted:
            way = rng.random()
            of = NUMBERS[0] if Life.lives < 2 else rng.choice(NUMBERS)
            count["rescaled"] += of != was
            was = of
            broker = broker_every and Life.lives % broker_every == broker_every - 1
            point = rng.choice(POINTS) if way < 0.35 and not broker else None
            chance = 300 if point and point.startswith("checkpoint") else rng.choice([1000, 100, 20])
            life = Life(of, data_dir, point and f"{point}:{chance}")
            before = data_dir
            if broker:
                broker_away(life)
            elif point:
                at_failpoint(life)
            elif way < 0.65 or of == 1:
                at_random(life)
            elif way < 0.8:
                data_dir = asleep(life)
            elif way < 0.9:
                asked(life)
            else:
                data_dir = another(life)
            if data_dir != before:
                # With all checkpoints that were ever taken, it is large.
                shutil.rmtree(before)
    finally:
        ends = feed.end()
    print(file=sys.stderr)
    # Everything is read, by two numbers of processes, one after the other.
    for of in (3, most):
        life = Life(of, data_dir)
        ready = lambda process: subprocess.run(["curl", "-sf", f"http://{process.address}/readyz"], capture_output=True).returncode == 0
        if not until(lambda: life.ended_by_itself() is not None or (life.serves() and all(map(ready, life.processes))), 90, 0.2):
            wrong("it is not ready", life)
        if life.manifests and not life.processes[0].has_said("goes on from a checkpoint"):
            wrong("what was read before is read again", life)
        time.sleep(3)
        asked(life)
    if data_dir != os.environ["TIEOUT_STATE"]:
        # What comes after this knows one folder only.
        shutil.rmtree(os.environ["TIEOUT_STATE"], ignore_errors=True)
        data_dir = shutil.move(data_dir, os.environ["TIEOUT_STATE"])
    audit = subprocess.run([os.environ["TIEOUT"], "audit", "counts", "--format", "csv", "--config", os.environ["CONFIG"]], capture_output=True, text=True,
                           env=dict(os.environ, TIEOUT_STATE=data_dir), check=True).stdout
    read = collections.Counter()
    for line in csv.DictReader(audit.splitlines()):
        read[line["source"]] += int(line["read"])
    print(f"{Life.lives} lives in {time.time() - begun:.0f} s; noticed within {', '.join(f'{s} s ({what})' for what, s in slowest.items())}")
    told = {name: n for name, n in count.items() if name != "kills"}
    json.dump({"kills": told, "total": count["kills"], "ends": ends, "read": read}, open(f"{state}/kills.json", "w"))


main()
