"""What tieout is fed with while it is killed: two inputs that grow, as files or as topics."""
import collections, json, os, random, subprocess, threading

state, data, SOURCE = os.environ["STATE"], os.environ["TIEOUT_DATA"], os.environ["SOURCE"]
rng = random.Random(int(os.environ.get("SEED", "1")) + 1)
here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEYS = 25_000


class File:
    """An input that is a file."""

    def __init__(self, name):
        os.makedirs(data, exist_ok=True)
        self.file, self.flush = open(f"{data}/{name}.ndjson", "a"), lambda: self.file.flush()

    def put(self, key, row):
        self.file.write('{"key": %s, "value": %s}\n' % (key, row))

    def end(self):
        self.file.close()
        return [self.file.name, os.path.getsize(self.file.name)]


class Topic:
    """An input that is a topic, through Kafka's own producer; what it did not deliver is not in the topic, and not expected."""

    def __init__(self, name):
        broker = os.environ["KAFKA_BOOTSTRAP" if name == "plan" else "KAFKA_SECOND"]
        command = f"{here}/stand kafka org.apache.kafka.tools.ConsoleProducer --bootstrap-server {broker} --topic in.{name} --timeout 5 "
        command += "--message-send-max-retries 1000000 --max-block-ms 600000 --reader-property parse.key=true --reader-property null.marker=null "
        command += "--command-property delivery.timeout.ms=600000 --command-property linger.ms=5"
        self.child = subprocess.Popen(command.split(), stdin=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL, stderr=open(f"{state}/in.{name}.log", "w"))
        self.flush = self.child.stdin.flush

    def put(self, key, row):
        self.child.stdin.write(f"{key}\t{row}\n")

    def end(self):
        self.child.stdin.close()
        assert self.child.wait(120) == 0
        return None


class Feed(threading.Thread):
    """Both inputs: a backlog at once, and more until it is ended."""

    def __init__(self):
        super().__init__()
        self.inputs = {name: (File if SOURCE == "file" else Topic)(name) for name in ("plan", "payment")}
        self.newest = {name: collections.deque(maxlen=3000) for name in self.inputs}
        self.done = threading.Event()
        # A backlog whose first tick is written in several parts.
        for key in range(KEYS):
            self.put("plan", key, {"id": key, "amount": key, "state": "open"})
            self.put("payment", key, {"id": key, "amount": key * 2, "state": "open"})
        self.some(100)
        self.start()

    def put(self, name, key, row):
        record = (json.dumps({"id": key}), json.dumps(row))
        self.newest[name].append(record)
        self.inputs[name].put(*record)

    def some(self, n):
        for _ in range(n):
            key = rng.randrange(KEYS + 500)
            amount, word = rng.randrange(1000), rng.choice(["open", "open", "closed", "draft"])
            row = None if rng.random() < 0.1 else {"id": key, "amount": amount, "state": word}
            self.put("plan", key, row)
            if rng.random() < 0.9:
                self.put("payment", key, row and {"id": key, "amount": amount * 2, "state": word})
        # Now and then a range comes again, as from a connector that was killed.
        if rng.random() < 0.02:
            for name, newest in self.newest.items():
                first = rng.randrange(len(newest))
                for record in list(newest)[first : first + rng.randrange(1, 300)]:
                    self.inputs[name].put(*record)
        for of in self.inputs.values():
            of.flush()

    def run(self):
        while not self.done.wait(rng.uniform(0.0, 0.1)):
            # Now and then more than fits into one transaction.
            self.some(15_000 if rng.random() < 0.003 else rng.randrange(1, 30))

    def end(self):
        """Nothing more comes; gives what check.py wants to know of each input."""
        self.done.set()
        self.join()
        return {name: of.end() for name, of in self.inputs.items()}
