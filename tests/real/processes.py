"""Processes of tieout under test, one or several that run one dataflow together; for the scripts beside this file."""
import os, random, secrets, signal, socket, subprocess, threading, time, urllib.error, urllib.request

TRY_AGAIN = 75
# How long a process of a cluster may be silent, in the cluster files that are written here.
SILENCE = 2.0


def ports(n, host="127.0.0.1"):
    """Ports that nobody listens on at this moment, none of those that the system gives out by itself."""
    found = []
    while len(found) < n:
        port = random.SystemRandom().randrange(12000, 20000)
        with socket.socket() as one:
            try:
                one.bind((host, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def cluster_file(path, addresses, start_max="60s"):
    """Writes the file of a cluster; its secret is in the environment that `Process` gives."""
    listed = "".join(f"  - {address}\n" for address in addresses)
    with open(path, "w") as file:
        file.write(f"name: under-test\nsecret: ${{env:CLUSTER_SECRET}}\nprocesses:\n{listed}silence_max: {SILENCE:g}s\nstart_max: {start_max}\n")
    return path


SECRET = secrets.token_hex(16)


def ready_to_hear():
    # A shell that runs this in the background has it ignored; a file that grows too large is an error, and no signal.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Process:
    """One process, and what it has said; `also` are lists that get its lines, too."""

    def __init__(self, command, env, log, name="", also=()):
        self.said, self.address, self.joined, self.name = [], None, False, name
        self.child = subprocess.Popen(command, env={**env, "CLUSTER_SECRET": SECRET}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      errors="replace", preexec_fn=ready_to_hear)
        self.ear = threading.Thread(target=self.hear, args=(log, [self.said, *also]), daemon=True)
        self.ear.start()

    def hear(self, log, lists):
        for line in self.child.stdout:
            log.write(f"{self.name}{line}")
            for lines in lists:
                lines.append(line)
            if "all processes of the cluster are there" in line:
                self.joined = True
            if "serving http://" in line:
                self.address = self.address or line.split("http://")[1].split()[0].split("/")[0]

    def status(self):
        """None while it runs; what it said before it ended has been heard."""
        status = self.child.poll()
        if status is not None:
            self.ear.join(10)
        return status

    def wait(self, seconds):
        """As `status`, after so many seconds at most."""
        try:
            self.child.wait(max(0, seconds))
        except subprocess.TimeoutExpired:
            return None
        return self.status()

    def signal(self, what):
        self.child.send_signal(what)

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.ear.join(10)

    def has_said(self, *words):
        """A line has all of these."""
        return any(all(word in line for word in words) for line in list(self.said))


def ask(path, beside=0):
    """Status and text of an answer of the process that `TIEOUT_LISTEN` names, or of the one whose port is so many beside it; 0 if there
    is none."""
    host, port = os.environ["TIEOUT_LISTEN"].rsplit(":", 1)
    try:
        answer = urllib.request.urlopen(f"http://{host}:{int(port) + beside}/{path}", timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    except OSError:
        return 0, ""
    return answer.status, answer.read().decode()


def until(holds, seconds, every=0.02):
    """Whether it holds within so many seconds."""
    deadline = time.time() + seconds
    while not holds():
        if time.time() > deadline:
            return False
        time.sleep(every)
    return True
