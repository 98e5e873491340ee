"""How the program under test is started and ended, and asked: one process, or the processes of a cluster."""
import json, os, random, resource, signal, subprocess, sys, time, urllib.error, urllib.request

sys.path.append(os.environ["HERE"])
from processes import TRY_AGAIN, Process, cluster_file, ports

# Failpoints that are reached where logs are read; all others are the leader's.
READERS = ("log-file",)


class Fault(Exception):
    """Something is not as it should be."""


class Program:
    """One deployment: started, tended as a supervisor does it, killed, stopped, asked over HTTP.

    A cluster's processes are each tended by a supervisor of their own. What befalls the program befalls one of them, and which one
    is random; the others end with 75 then, and are started again."""

    def __init__(self, binary, config, env, log, processes=1):
        self.binary, self.config, self.env, self.log, self.processes = binary, config, dict(os.environ, **env), open(log, "a", buffering=1), processes
        self.rng, self.children, self.addresses, self.how, self.asleep, self.fails = random.Random(config), [], {}, {}, None, 0
        self.counts = {}  # what happened to it, by name
        self.said = []  # of all its lives

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # ---- its life -----------------------------------------------------------------------------------------------

    def start(self, workers=None, failpoint=None, fresh=False, processes=None):
        """`failpoint`: NAME:CHANCE, where it ends itself in this life."""
        assert not self.children
        of = processes or self.processes
        self.how = {"workers": workers, "failpoint": failpoint, "fresh": fresh, "processes": of}
        if of not in self.addresses:
            self.addresses[of] = [f"127.0.0.1:{port}" for port in ports(of)]
        self.file = cluster_file(f"{os.path.dirname(self.config)}/cluster-{of}.cluster", self.addresses[of])
        self.fails = self.rng.randrange(of) if (failpoint or "").split(":")[0] in READERS else 0
        self.children = [self.launch(index) for index in range(of)]

    def launch(self, index):
        failpoint = self.how["failpoint"] if index == self.fails else None
        command = [self.binary, "run", "--config", self.config, "--listen", "127.0.0.1:0"]
        command += ["--workers", str(self.how["workers"])] if self.how["workers"] else []
        command += ["--fresh"] if self.how["fresh"] else []
        command += ["--cluster", self.file, "--process", str(index)] if self.how["processes"] > 1 else []
        env = dict(self.env, TIEOUT_FAILPOINT=failpoint) if failpoint else self.env
        name = f"{index} " if self.how["processes"] > 1 else ""
        self.log.write(f"--- {name}started: {' '.join(command[3:])} {failpoint or ''}\n")
        return Process(command, env, self.log, name, also=[self.said])

    def tend(self):
        """What a supervisor does: whoever ended for a reason that passes is started again."""
        for index, child in enumerate(self.children):
            status = child.status()
            if status is None:
                continue
            if status == TRY_AGAIN:
                self.count("ended with 75")
                if len(self.children) == 1:
                    time.sleep(0.2)
            elif status == -signal.SIGABRT and self.how["failpoint"]:
                self.count(self.how["failpoint"].split(":")[0])
                self.how["failpoint"] = None
            else:
                raise Fault(f"process {index} ended by itself with {status}")
            # What was to be made anew was either begun anew, or is begun again.
            self.children[index] = self.launch(index)

    def kill(self):
        """kill -9, wherever it is: of one, or now and then of all at once."""
        self.tend()
        index = self.rng.randrange(len(self.children))
        self.children[index].kill()
        self.count("killed")
        if len(self.children) > 1:
            self.count("killed the leader" if index == 0 else "killed a follower")
            self.rest_ends(index)
        self.end()

    def rest_ends(self, but):
        """Those who had come together with this one end with 75; the others would wait for it."""
        rest = [child for index, child in enumerate(self.children) if index != but]
        joined, deadline = [child for child in rest if child.joined], time.time() + 15
        for child in joined:
            status = child.wait(deadline - time.time())
            if status is None:
                raise Fault(f"process {but} was killed, and {child.name}has not noticed after 15 s")
            if status == -signal.SIGABRT and self.how["failpoint"]:
                self.count(self.how["failpoint"].split(":")[0])
            elif status != TRY_AGAIN:
                raise Fault(f"process {but} was killed, and {child.name}ended with {status}")

    def stop(self, patience=60):
        """Asks it to stop, and expects that it stops well. Whether it has, or was just ending for another reason."""
        deadline = time.time() + patience
        while True:
            self.tend()
            # Before it serves HTTP it hears nothing.
            if all(child.address for child in self.children):
                break
            if time.time() > deadline:
                raise Fault("it does not begin to serve")
            time.sleep(0.02)
        self.rng.choice(self.children).signal(signal.SIGINT)
        found = [child.wait(max(1, deadline - time.time())) for child in self.children]
        if None in found:
            raise Fault(f"it did not stop within {patience} s: {found}")
        self.children = []
        if -signal.SIGABRT in found and self.how["failpoint"]:
            self.count(self.how["failpoint"].split(":")[0])
            return False
        if TRY_AGAIN in found:
            self.count("ended with 75")
            return False
        if any(found):
            raise Fault(f"asked to stop, it ended with {found}")
        self.count("stopped")
        return True

    def pause(self):
        self.asleep = self.rng.randrange(len(self.children))
        self.children[self.asleep].signal(signal.SIGSTOP)

    def resume(self):
        self.children[self.asleep].signal(signal.SIGCONT)
        self.count("asleep")

    def file_bytes_max(self, most):
        """No file may grow beyond so many bytes, as on a disk that is full; `None`: there is room again."""
        for child in self.children:
            resource.prlimit(child.child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if most is None else most, resource.RLIM_INFINITY))

    def end(self):
        """At the end of everything, whatever the state."""
        for child in self.children:
            child.kill()
        self.children = []

    # ---- what it says -------------------------------------------------------------------------------------------

    def ask(self, path, of=None):
        """Status and text of an answer; (0, "") if nobody answers. Any process answers for all; each has metrics of its own."""
        child = of or (self.children[0] if path == "/metrics" else self.rng.choice(self.children))
        if not child.address:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://{child.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def get(self, path, patience=30):
        """The JSON of an answer with status 200."""
        return json.loads(self.until(path, lambda status, text: status == 200, patience))

    def until(self, path, holds, patience, of=None):
        deadline = time.time() + patience
        while True:
            self.tend()
            status, text = self.ask(path, of and of())
            if holds(status, text):
                return text
            if time.time() > deadline:
                raise Fault(f"{path} still answers {status} {text[:1500]}")
            time.sleep(0.05)

    def ready(self, patience=60):
        for index in range(len(self.children)):
            self.until("/readyz", lambda status, _: status == 200, patience, lambda index=index: self.children[index])

    def command(self, *args, env=None):
        """One of its other commands: status and what it said."""
        done = subprocess.run([self.binary, *args, "--config", self.config], env=dict(self.env, **(env or {})), capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def last_words(self, lines=25):
        return "".join(self.said[-lines * max(1, len(self.children)):])
