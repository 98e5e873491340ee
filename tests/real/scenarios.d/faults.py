"""Scenarios: what happens to the program, its disk, its broker and its inputs while these grow."""
import json, os, time

# Of the broker's properties and the deployment's, see run.py.
TRANSACTION_SECONDS, SESSION_SECONDS = 3, 9


class Scenario:
    """`fault` strikes three times: during both changes, and after them. `anew`: outputs are begun again on the way;
    `without`: checks that it says nothing about; `cut_off`: the broker is behind the wire that can be cut; `keep`: so many
    checkpoints are kept; `heard`: what tieout says in its log in one of the seeds, if the fault came
    that it is for: that takes a moment which nobody can choose."""

    anew, without, cut_off, keep, heard = False, (), False, None, None

    def __init__(self, name=None):
        self.name = name or type(self).name

    def workers(self, run, time):
        return 2

    def fault(self, run, time):
        pass


class Quiet(Scenario):
    name = "none"


class Stop(Scenario):
    name = "stop"

    def fault(self, run, time):
        # Some stops come before it has shown anything.
        if run.rng.random() < 0.6:
            run.program.ready()
        run.program.stop()
        run.start()


class Kill(Scenario):
    """kill -9 at random, once or twice, mostly while it is at work."""

    name = "kill"

    def fault(self, run, time):
        for _ in range(run.rng.choice([1, 2])):
            run.pause(run.rng.choice([0, 0.3, 1]))
            run.program.kill()
            run.start()


class KillAt(Scenario):
    """It ends itself at a failpoint, as kill -9 would, and is started again."""

    def __init__(self, point, chances, without_kafka=False):
        super().__init__(f"kill-at-{point}")
        self.point, self.chances = point, chances

    def fault(self, run, time_):
        program = run.program
        program.stop() if run.rng.random() < 0.3 else program.kill()
        run.start(failpoint=f"{self.point}:{run.rng.choice(self.chances)}")
        was, deadline = program.counts.get(self.point, 0), time.time() + 8
        while program.counts.get(self.point, 0) == was and time.time() < deadline:
            program.tend()
            time.sleep(0.02)
        if program.counts.get(self.point, 0) == was:
            program.count(f"{self.point} not reached")
            program.kill()
            run.start()


class Workers(Scenario):
    """Another number of workers, after a stop or a kill; of a cluster, of processes, too."""

    name = "workers"
    NUMBERS = [1, 2, 4, 1, 3, 2]

    def workers(self, run, time):
        return self.NUMBERS[(run.seed + time) % len(self.NUMBERS)]

    def fault(self, run, time):
        run.program.kill() if run.rng.random() < 0.5 else run.program.stop()
        run.start(workers=self.workers(run, time + 1), processes=run.rng.choice([1, 2, 3]) if run.processes > 1 else None)


class Asleep(Scenario):
    """It hangs without dying, for longer than a transaction may take, and goes on; of a cluster, the others end meanwhile."""

    name = "asleep"

    def fault(self, run, time_):
        run.program.tend()
        run.program.pause()
        time.sleep(TRANSACTION_SECONDS + 2 if time_ == 1 else run.rng.uniform(0.2, 1))
        run.program.resume()


class BrokerRestart(Scenario):
    """The broker is killed with -9, and comes back; sometimes tieout ends meanwhile, too."""

    name = "broker-restart"

    def fault(self, run, time_):
        if time_ == 1:
            kill = run.rng.random() < 0.5
            run.together(lambda: run.broker.stand("kill", "broker"))
            if kill:
                run.program.tend()
                run.program.kill()
                run.start()
            run.pause(run.rng.uniform(0, 1.5))
            run.together(lambda: run.broker.stand("again", "broker"))
        elif run.rng.random() < 0.5:
            run.program.kill()
            run.start()


class BrokerDies(Scenario):
    """The broker is killed in the moment in which tieout ends itself in a transaction, which times out before it is back; or
    somewhere at work, perhaps in a commit, and comes back at once. It may leave out the ends of such transactions."""

    name, heard = "broker-dies", "TRANSACTION_HANGING"

    def fault(self, run, time_):
        if time_ == 2:
            return
        # Not while another run still sets its inputs up.
        run.together(lambda: None)
        program, deadline = run.program, time.time() + 20
        if time_ == 1:
            run.pause(run.rng.uniform(0, 0.6))
            run.broker.die()
            if run.rng.random() < 0.5:
                program.kill()
                run.start()
            return run.together(lambda: run.broker.restart(0))
        program.kill()
        run.start(failpoint=f"produced:{run.rng.choice([1000, 1000, 200])}")
        # The first one writes.
        while program.children[0].status() is None and time.time() < deadline:
            time.sleep(0.0005)
        run.broker.die()
        run.together(lambda: run.broker.restart(TRANSACTION_SECONDS + 1))
        program.tend()
        if program.how["failpoint"]:
            program.kill()
            run.start()


class BrokerAsleep(Scenario):
    """The broker does not answer for longer than a transaction may take, and goes on."""

    name = "broker-asleep"

    def fault(self, run, time_):
        if time_ == 1:
            run.together(lambda: run.broker.sleep(TRANSACTION_SECONDS + 3))


class BrokerOut(Scenario):
    """The broker sleeps for so long that its cluster takes it out: for a moment there is no broker at all."""

    name = "broker-out"

    def fault(self, run, time_):
        if time_ == 1:
            run.together(lambda: run.broker.sleep(SESSION_SECONDS + 4))


class Cut(Scenario):
    """The wire to the broker is cut for a while; inputs grow behind it."""

    name = "wire-cut"
    cut_off = True

    def fault(self, run, time_):
        run.wire.cut()
        run.pause(run.rng.choice([0.1, 1]))
        if run.rng.random() < 0.3:
            run.program.tend()
            run.program.kill()
            run.start()
        run.wire.mend()


class Silent(Scenario):
    """Nothing comes through to the broker for longer than a transaction may take, and nobody is told."""

    name = "wire-silent"
    cut_off = True

    def fault(self, run, time_):
        run.wire.swallow()
        run.pause(TRANSACTION_SECONDS + 3 if time_ == 1 else run.rng.choice([0.1, 1]))
        run.wire.mend()


class Again(Scenario):
    """Ranges of the inputs come again, with and without a kill."""

    name = "replayed"

    def fault(self, run, time_):
        run.feeding.join()
        for check in run.checks:
            if check.replays:
                check.replay()
        run.feed()
        if run.rng.random() < 0.5:
            run.pause(run.rng.uniform(0, 0.3))
            run.program.kill()
            run.start()
        run.feeding.join()


class DiskFull(Scenario):
    """No file can grow for a while: no checkpoint is taken. Then there is room again, or it is killed before."""

    name = "disk-full"
    # What can't write its output has to stop.
    without = ("archive",)

    def fault(self, run, time_):
        run.program.ready()
        run.program.file_bytes_max(512)
        run.says("CHECKPOINT_UNWRITABLE", 20)
        if run.rng.random() < 0.5:
            run.program.kill()
            run.sound()
            run.start()
        else:
            run.program.file_bytes_max(None)


class Damaged(Scenario):
    """The newest checkpoint is damaged while it is down; one before it is used."""

    name = "damaged"
    keep = 5

    def fault(self, run, time_):
        run.program.ready()
        run.checkpoints(2)
        run.program.kill() if run.rng.random() < 0.5 else run.program.stop()
        newest = run.manifests()[-1]
        entries = json.loads(open(newest).readline())["entries"]
        # The chain's first file is needed by those before it, too.
        target = f"{run.folder}/state/checkpoints/{entries[-1]['name']}" if len(entries) > 1 and run.rng.random() < 0.7 else newest
        with open(target, "r+b") as file:
            size = os.path.getsize(target)
            at = run.rng.randrange(size)
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
            if run.rng.random() < 0.3:
                file.truncate(at)
        run.damaged.add(newest)
        run.start()
        run.says("CHECKPOINT_DAMAGED", 30)


class Fresh(Scenario):
    """Everything is read from the beginning again, and written anew."""

    name = "fresh"
    anew = True
    keep = 1000

    def fault(self, run, time_):
        run.program.kill() if run.rng.random() < 0.5 else run.program.stop()
        run.start(fresh=True)
        # Until it has begun anew, a start that is tried again has to begin anew, too.
        run.program.ready()
        run.program.how["fresh"] = False


class Mixed(Scenario):
    """Another one of these each time."""

    name = "mixed"

    def fault(self, run, time_):
        run.rng.choice([Stop(), Kill(), Workers(), Asleep(), Again(), KillAt("produced", [1000, 200]), KillAt("checkpoint-rename", [300])]).fault(run, time_)


ALL = [
    Quiet(), Stop(), Kill(),
    *[KillAt(point, [1000, 200, 50]) for point in ("before-produce", "before-commit", "produced", "after-commit")],
    *[KillAt(point, [1000, 300]) for point in ("checkpoint-write", "checkpoint-rename")],
    KillAt("log-file", [100, 10]), KillAt("sink-file", [1000, 100]),
    Workers(), Asleep(), BrokerRestart(), BrokerDies(), BrokerAsleep(), BrokerOut(), Cut(), Silent(), Again(), DiskFull(), Damaged(), Fresh(), Mixed(),
]
