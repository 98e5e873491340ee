"""How the program under test is started and ended, and asked. Whoever tests several processes changes this file."""
import json, os, resource, signal, subprocess, threading, time, urllib.error, urllib.request

TRY_AGAIN = 75


class Fault(Exception):
    """Something is not as it should be."""


def ready_to_hear():
    # A shell that runs this in the background has it ignored; a file that grows too large is an error, and no signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Program:
    """One deployment: started, tended as a supervisor does it, killed, stopped, asked over HTTP."""

    def __init__(self, binary, config, env, log):
        self.binary, self.config, self.env, self.log = binary, config, dict(os.environ, **env), open(log, "a", buffering=1)
        self.child, self.address, self.how = None, None, {}
        self.counts = {}  # what happened to it, by name
        self.said = []  # of all its lives

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # ---- its life -----------------------------------------------------------------------------------------------

    def start(self, workers=None, failpoint=None, fresh=False):
        """`failpoint`: NAME:CHANCE, where it ends itself in this life."""
        assert self.child is None
        self.how = {"workers": workers, "failpoint": failpoint, "fresh": fresh}
        command = [self.binary, "run", "--config", self.config, "--listen", "127.0.0.1:0"]
        command += ["--workers", str(workers)] if workers else []
        command += ["--fresh"] if fresh else []
        env = dict(self.env, TIEOUT_FAILPOINT=failpoint) if failpoint else self.env
        self.log.write(f"--- started: {' '.join(command[3:])} {failpoint or ''}\n")
        self.address = None
        self.child = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=ready_to_hear)
        threading.Thread(target=self.hear, args=(self.child.stdout,), daemon=True).start()

    def hear(self, pipe):
        for line in pipe:
            self.log.write(line)
            self.said.append(line)
            if "http://" in line and self.child and self.child.stdout is pipe:
                self.address = self.address or line.split("http://")[1].split()[0].split("/")[0]

    def tend(self):
        """What a supervisor does: whoever ended for a reason that passes is started again."""
        status = self.child.poll()
        if status is None:
            return
        self.child.wait()
        self.child = None
        if status == TRY_AGAIN:
            self.count("ended with 75")
            time.sleep(0.2)
        elif status == -signal.SIGABRT and self.how["failpoint"]:
            self.count(self.how["failpoint"].split(":")[0])
            self.how["failpoint"] = None
        else:
            raise Fault(f"it ended by itself with {status}")
        # What was to be made anew was either begun anew, or is begun again.
        self.start(**self.how)

    def kill(self):
        """kill -9, wherever it is."""
        self.tend()
        self.child.kill()
        self.child.wait()
        self.child = None
        self.count("killed")

    def stop(self, patience=60):
        """Asks it to stop, and expects that it stops well."""
        deadline = time.time() + patience
        while True:
            self.tend()
            # Before it serves HTTP it hears nothing.
            if self.address:
                break
            if time.time() > deadline:
                raise Fault("it does not begin to serve")
            time.sleep(0.02)
        self.child.send_signal(signal.SIGINT)
        try:
            status = self.child.wait(max(1, deadline - time.time()))
        except subprocess.TimeoutExpired:
            raise Fault(f"it did not stop within {patience} s") from None
        self.child = None
        if status == -signal.SIGABRT and self.how["failpoint"]:
            return self.count(self.how["failpoint"].split(":")[0])
        if status == TRY_AGAIN:
            return self.count("ended with 75")
        if status != 0:
            raise Fault(f"asked to stop, it ended with {status}")
        self.count("stopped")

    def pause(self):
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)
        self.count("asleep")

    def file_bytes_max(self, most):
        """No file may grow beyond so many bytes, as on a disk that is full; `None`: there is room again."""
        resource.prlimit(self.child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY if most is None else most, resource.RLIM_INFINITY))

    def end(self):
        """At the end of everything, whatever the state."""
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    # ---- what it says -------------------------------------------------------------------------------------------

    def ask(self, path):
        """Status and text of an answer; (0, "") if nobody answers."""
        if not self.address:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def get(self, path, patience=30):
        """The JSON of an answer with status 200."""
        return json.loads(self.until(path, lambda status, text: status == 200, patience))

    def until(self, path, holds, patience):
        deadline = time.time() + patience
        while True:
            self.tend()
            status, text = self.ask(path)
            if holds(status, text):
                return text
            if time.time() > deadline:
                raise Fault(f"{path} still answers {status} {text[:1500]}")
            time.sleep(0.05)

    def ready(self, patience=60):
        self.until("/readyz", lambda status, _: status == 200, patience)

    def command(self, *args, env=None):
        """One of its other commands: status and what it said."""
        done = subprocess.run([self.binary, *args, "--config", self.config], env=dict(self.env, **(env or {})), capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def last_words(self, lines=25):
        return "".join(self.said[-lines:])
