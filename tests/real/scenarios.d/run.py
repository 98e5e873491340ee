"""Runs every check in every scenario. Started by tests/real/scenarios, which says what can be chosen."""
import glob, json, os, random, shutil, sys, threading, time, traceback

import checks as all_checks
import faults as all_faults
import verify
from broker import Broker, Wire
from program import Fault, Program

HERE, STATE, TIEOUT = os.environ["HERE"], os.environ["STATE"], os.environ["TIEOUT"]
SEEDS, BESIDE = int(os.environ.get("SEEDS", "20")), int(os.environ.get("BESIDE", "3"))
PROCESSES = [int(n) for n in os.environ.get("PROCESSES", "1").split()]
BEGUN = time.time()

CONFIG = """# One run of tests/real/scenarios: seed {seed}, scenario {scenario}.
name: {name}
data_dir: ${{env:TIEOUT_STATE}}
workers: 2
tick: 20ms
stuck_after: 5s
# What comes again here does not always come up to the newest, as it does from connectors.
replay_bound: 8s
checkpoint: {{ interval: 250ms, keep: {keep} }}
connections:
  files: {{ kind: file, dir: "{folder}/data" }}
  out: {{ kind: file, dir: "{folder}/out" }}
  bus: {{ kind: kafka, brokers: "{brokers}", properties: {{ transaction.timeout.ms: "{timeout}", fetch.wait.max.ms: "400" }} }}
"""


def say(text):
    print(f"{time.time() - BEGUN:8.1f} s  {text}", flush=True)


class Together:
    """What happens to all runs of a round at once: done by the last one that comes; those that failed are not waited for."""

    def __init__(self, runs):
        self.runs, self.come, self.turn, self.lock = runs, 0, 0, threading.Condition()
        self.action = None

    def __call__(self, action):
        with self.lock:
            self.come, self.action, turn = self.come + 1, action, self.turn
            if self.come == self.runs:
                return self.act()
            if not self.lock.wait_for(lambda: self.turn > turn, 120):
                raise Fault("the other runs of this round did not come")

    def act(self):
        self.come, self.turn = 0, self.turn + 1
        try:
            self.action()
        finally:
            self.lock.notify_all()

    def leave(self):
        with self.lock:
            self.runs -= 1
            if self.runs and self.come == self.runs:
                self.act()


class Feeding(threading.Thread):
    """Puts what checks want into their logs, bit by bit, in a fair order."""

    def __init__(self, broker, wants, seconds, rng):
        super().__init__(daemon=True)
        self.broker, self.seconds, self.error = broker, seconds, None
        # Each check's records in their order, spread over the whole time.
        spread = [((n + rng.random()) / len(records), at, n, log, record) for at, (log_of, records) in enumerate(wants) for n, (log, record) in self.each(log_of, records)]
        self.records = [(log, record) for _, _, _, log, record in sorted(spread, key=lambda of: of[:3])]
        self.start()

    @staticmethod
    def each(logs, records):
        return enumerate((logs[source], record) for source, *record in records)

    def run(self):
        try:
            slices = 12
            for n in range(slices):
                some = self.records[n * len(self.records) // slices : (n + 1) * len(self.records) // slices]
                for log, record in some:
                    log.put(*record)
                self.broker.producer.flush()
                time.sleep(self.seconds / slices)
        except BaseException as error:
            self.error = error

    def join(self, timeout=240):
        super().join(timeout)
        if self.error:
            raise self.error
        if self.is_alive():
            raise Fault("the broker does not take the inputs")


class Run:
    """One seed in one scenario."""

    def __init__(self, seed, scenario, checks, wire, together, time=""):
        self.seed, self.scenario, self.wire, self.together = seed, scenario, wire, together
        self.rng = random.Random(f"{seed} {scenario.name}")
        self.processes = PROCESSES[seed % len(PROCESSES)]
        self.checks = [check(seed) for check in checks if check.name not in scenario.without]
        self.name = f"s{seed}-{scenario.name}{time}"
        self.prefix, self.folder = f"{self.name}.", f"{STATE}/{self.name}"
        self.faults, self.program, self.compared, self.records, self.damaged = [], None, 0, 0, set()

    # ---- what scenarios use -------------------------------------------------------------------------------------

    def start(self, **how):
        self.program.start(**{"workers": self.number, **how})
        self.number = how.get("workers", self.number)

    def pause(self, seconds):
        """The program is tended meanwhile."""
        until = time.time() + seconds
        while time.time() < until:
            self.program.tend()
            time.sleep(0.02)

    def feed(self, seconds=0.6):
        wants = [(check.logs, check.taken()) for check in self.checks]
        self.feeding = Feeding(self.broker, [want for want in wants if want[1]], seconds, self.rng)

    def beat(self):
        """Now and then something comes, so that time passes for what is quiet."""
        beat = next(check for check in self.checks if check.name == "beat")
        if time.time() > self.beaten + 0.5:
            self.beaten = time.time()
            beat.change()
            self.feed(0)
            self.feeding.join()

    def says(self, word, patience):
        """It says this in the life that it has now, or has said it."""
        deadline = time.time() + patience
        while not any(word in line for line in self.program.said[self.heard :]):
            self.program.tend()
            if time.time() > deadline:
                raise Fault(f"it does not say {word}")
            time.sleep(0.05)
        self.heard = len(self.program.said)

    def manifests(self):
        """Of checkpoints that nobody damaged, the oldest first."""
        return sorted(path for path in glob.glob(f"{self.folder}/state/checkpoints/[0-9]*.json") if path not in self.damaged)

    def checkpoints(self, n):
        """Waits until there are so many."""
        deadline = time.time() + 20
        while len(self.manifests()) < n:
            self.program.tend()
            if time.time() > deadline:
                raise Fault(f"there are not {n} checkpoints after 20 s")
            time.sleep(0.05)

    def covered(self):
        """Waits until what stands is in a checkpoint, so that it can't be forgotten."""
        taken = lambda text: next((int(line.split()[1]) for line in text.splitlines() if line.startswith("tieout_checkpoint_seconds_count")), 0)
        was = taken(self.program.until("/metrics", lambda status, _: status == 200, 30))
        self.program.until("/metrics", lambda _, text: taken(text) >= was + 2, 120)

    def sound(self):
        self.faults += verify.sound(self.program, self.damaged)

    # ---- the steps ----------------------------------------------------------------------------------------------

    def do(self):
        try:
            self.open()
            self.steps()
            self.verify()
        except Fault as fault:
            self.faults.append(str(fault))
        except BaseException:
            self.faults.append(traceback.format_exc())
        finally:
            self.together.leave()
            if self.program:
                self.program.end()
            if not self.faults:
                try:
                    self.broker.delete(self.broker.named(self.prefix) + [f"tieout-progress-{self.name}"])
                except BaseException:
                    pass
                if not os.environ.get("KEEP"):
                    shutil.rmtree(self.folder, ignore_errors=True)

    def open(self):
        self.broker = Broker(HERE, STATE)
        for folder in ("dataflows", "data", "out"):
            os.makedirs(f"{self.folder}/{folder}")
        brokers = os.environ["CUT_BOOTSTRAP"] if self.scenario.cut_off else os.environ["KAFKA_BOOTSTRAP"]
        # With few checkpoints, progress records that nobody needs go; with all of them, all can be compared.
        keep = int(os.environ.get("CHECKPOINTS", 0)) or self.scenario.keep or self.rng.choice([2, 1000])
        text = CONFIG.format(seed=self.seed, scenario=self.scenario.name, name=self.name, folder=self.folder, brokers=brokers, keep=keep,
                             timeout=all_faults.TRANSACTION_SECONDS * 1000)
        open(f"{self.folder}/config.yaml", "w").write(text)
        for check in self.checks:
            open(f"{self.folder}/dataflows/{check.name}.yaml", "w").write(check.flow.strip().replace("PREFIX.", self.prefix) + "\n")
        topics = {f"{self.prefix}{source}": n for check in self.checks for source, n in check.topics.items()}
        # tieout makes those that are lacking, one after the other.
        topics.update({f"{self.prefix}out.{topic}": 2 for check in self.checks for topic, _, _ in check.outputs[1:]})
        self.broker.create(topics)
        for check in self.checks:
            check.open(self.broker, self.prefix, f"{self.folder}/data")
        self.program = Program(TIEOUT, f"{self.folder}/config.yaml", {"TIEOUT_STATE": f"{self.folder}/state"}, f"{self.folder}/tieout.log", self.processes)
        self.heard, self.beaten = 0, 0

    def steps(self):
        for check in self.checks:
            check.set_up()
        self.feed(0.1)
        if self.rng.random() < 0.5:
            self.feeding.join()
        self.number = self.scenario.workers(self, 0)
        self.start()
        self.feeding.join()
        verify.caught_up(self.program, self.checks)
        self.covered()
        for check in self.checks:
            check.observe(self.program)
        for time_, step in enumerate(("change", "change_again", None)):
            if step:
                for check in self.checks:
                    getattr(check, step)()
                self.feed()
                self.pause(self.rng.choice([0, 0.1, 0.4]))
            self.scenario.fault(self, time_)
            self.feeding.join()

    def verify(self):
        program, checks = self.program, self.checks
        verify.caught_up(program, checks)
        for check in checks:
            self.faults += [f"{check.name}: {fault}" for fault in verify.differences(program, check, check.model(verify.everything(check)), self.beat)]
        verify.caught_up(program, checks)
        truths = [check.model(verify.everything(check)) for check in checks]
        order = [of["name"] for of in program.get("/api/v1/sources")["sources"]]
        for check, truth in zip(checks, truths):
            found = verify.rows(program, check, truth, self.rng) + verify.rejects(program, check, truth)
            found += check.verify(program, self.scenario)
            self.faults += [f"{check.name}: {fault}" for fault in found]
        while not program.stop():
            # A cluster that lost one of its own has not taken its last checkpoint.
            self.start()
            verify.caught_up(program, checks)
        self.faults += verify.audit(program, checks) + verify.sound(program, self.damaged)
        faults, by_check, self.compared, self.records = verify.outputs(checks, self.prefix, self.name, self.broker, order, self.rng)
        self.faults += faults + [f"{name}: {fault}" for name, found in by_check.items() for fault in found]
        for check, truth in zip(checks, truths):
            self.faults += [f"{check.name}: {fault}" for fault in verify.files(check, truth, f"{self.folder}/out")]
        self.faults += verify.export(program, checks, truths, f"{self.folder}/export")
        self.faults += [f"it panicked: {line}" for line in program.said if "panicked at" in line]


def rounds(checks, scenarios, seeds):
    """(scenario, seeds) of each round: all of them if they were chosen, else so that each scenario has BESIDE seeds of 20."""
    if os.environ.get("ONLY"):
        return [(scenario, seeds[at : at + BESIDE]) for scenario in scenarios for at in range(0, len(seeds), BESIDE)]
    found = []
    for block in range(0, len(seeds), 20):
        some = seeds[block : block + 20]
        found += [(scenario, [some[(BESIDE * n + k) % len(some)] for k in range(min(BESIDE, len(some)))]) for n, scenario in enumerate(scenarios)]
    return found


def beside(scenario, seeds, checks, wire, time=""):
    """Seeds in a scenario, at the same time."""
    together = Together(len(seeds))
    runs = [Run(seed, scenario, checks, wire, together, time) for seed in seeds]
    lanes = [threading.Thread(target=run.do) for run in runs]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return runs


def once_more(failed, checks, wire):
    """Those that have faults again. What depends on the machine's load does not always come again, but must be looked at."""
    still = []
    for run in failed:
        # Rows that are wrong do not come from a slow machine.
        if any(word in fault for fault in run.faults for word in (" lacking [", " false [", " other (model") if ", states after" not in fault):
            still.append(run)
            continue
        [again] = beside(run.scenario, [run.seed], checks, wire, "-again")
        say(f"seed {run.seed}, scenario {run.scenario.name}, once more: {'FAULT' if again.faults else 'ok; the fault came ONCE, look at it'}")
        still += [run] * bool(again.faults)
    return still


def chosen(all_, variable):
    wanted = os.environ.get(variable, "").replace(",", " ").split()
    names = [one.name for one in all_]
    for name in wanted:
        if name not in names:
            sys.exit(f"{variable}: there is no {name}; there are {', '.join(names)}")
    return [one for one in all_ if not wanted or one.name in wanted]


# How often a scenario is tried again when the fault did not come that it is for.
MORE = 3


def main():
    checks, scenarios = chosen(all_checks.ALL, "CHECK"), chosen(all_faults.ALL, "ONLY")
    checks += [all_checks.Beat] * (all_checks.Beat not in checks)
    seeds = [int(os.environ["SEED"])] if os.environ.get("SEED") else list(range(1, SEEDS + 1))
    wire = Wire(int(os.environ["CUT_PORT"]), int(os.environ["CUT_TO"]))
    pairs, failed, counts, compared, records = {}, [], {}, 0, 0
    unheard = {scenario.name: scenario.heard for scenario in scenarios if scenario.heard}
    plan = rounds(checks, scenarios, seeds)
    for n, (scenario, some) in enumerate(plan, 1):
        begun, tries = time.time(), 0
        runs = beside(scenario, some, checks, wire)
        hears = lambda runs: any(scenario.heard in line for run in runs if run.program for line in run.program.said)
        while scenario.heard and not hears(runs) and not any(run.faults for run in runs) and (tries := tries + 1) <= MORE:
            runs += beside(scenario, some, checks, wire, f"-{tries}")
        what = {}
        for run in runs:
            for check in run.checks:
                pairs[check.name, scenario.name] = pairs.get((check.name, scenario.name), 0) + 1
            for name, times in (run.program.counts if run.program else {}).items():
                what[name] = what.get(name, 0) + times
                counts[name] = counts.get(name, 0) + times
            compared, records = compared + run.compared, records + run.records
        if scenario.heard and hears(runs):
            unheard.pop(scenario.name, None)
        bad = [run for run in runs if run.faults]
        happened = ", ".join(f"{name} {times}" for name, times in what.items())
        say(f"{n:3}/{len(plan)}  {scenario.name:24} seeds {' '.join(f'{run.seed:2}' + f' of {run.processes}' * (run.processes > 1) for run in runs)}  {time.time() - begun:5.1f} s  {'FAULT' if bad else 'ok'}  ({happened})")
        for run in bad:
            failed.append(run)
            print(f"FAULT seed {run.seed}, scenario {scenario.name}, {run.processes} processes: {len(run.faults)} faults")
            for fault in run.faults[:12]:
                print(f"  - {fault[:1500]}")
            if run.program:
                print("  tieout's last words:\n" + "".join(f"    {line}\n" for line in run.program.last_words().splitlines()))
            print(f"  again: {f'PROCESSES={run.processes} ' if run.processes > 1 else ''}SEED={run.seed} ONLY={scenario.name} tests/real/scenarios\n", flush=True)
        if len(failed) >= 5:
            print("enough faults")
            break
    came = len(failed)
    if os.environ.get("AGAIN") and came < 5:
        failed = once_more(failed, checks, wire)
    least, most = min(pairs.values()), max(pairs.values())
    names, of = [check.name for check in checks], [scenario.name for scenario in scenarios]
    lacking = [(check, scenario.name) for check in names for scenario in scenarios if (check, scenario.name) not in pairs and check not in scenario.without]
    print(f"pairs: {len(pairs)} of {len(names)} checks ({', '.join(names)}) in {len(of)} scenarios ({', '.join(of)}), each {least} to {most} times")
    for check, scenario in lacking:
        print(f"NOT COVERED: {check} in {scenario}")
    for name, word in unheard.items():
        print(f"NOT HEARD: {word} in {name}: the fault that it is for did not come, so nothing was shown of it")
    print(f"what happened: {', '.join(f'{name} {times}' for name, times in counts.items())}")
    print(f"{compared} progress records compared with the models, {records} records of outputs; {sum(pairs.values())} checks in {len(seeds)} seeds, {came} runs with faults, {len(failed)} of them twice")
    sys.exit(1 if failed or lacking else 0)


main()
