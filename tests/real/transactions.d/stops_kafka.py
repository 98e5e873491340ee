"""What happens around inputs that are topics: growth, retention, other brokers, other topics of the same name. Started by
tests/real/transactions after its check."""
import json, os, signal, subprocess, sys, time

here, state, own = sys.argv[1], os.environ["STATE"], os.environ["TIEOUT_STATE"]
sys.path.append(here)
from processes import Process, cluster_file, ports, until
from topics import committed

PROCESSES = int(os.environ.get("PROCESSES", "1"))
BUS, SECOND = os.environ["KAFKA_BOOTSTRAP"], os.environ["KAFKA_SECOND"]
faults = 0


def hears():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Cluster:
    """Several processes as if they were one; the first has the address that all ask, the last what is its own in the environment."""

    def __init__(self, log, env, of=PROCESSES, last={}):
        self.file = cluster_file(f"{state}/{log}.cluster", [f"127.0.0.1:{port}" for port in ports(of)])
        command = [os.environ["TIEOUT"], "run", "--config", os.environ["CONFIG"], "--cluster", self.file, "--process"]
        to = open(f"{state}/{log}.log", "w")
        elsewhere = lambda index: ["--listen", "127.0.0.1:0"] if index else []
        own = lambda index: {**os.environ, **env, **(last if index == of - 1 else {})}
        self.processes = [Process([*command, str(index), *elsewhere(index)], own(index), to, f"{index} ") for index in range(of)]

    def send_signal(self, what):
        self.processes[-1].signal(what)

    def wait(self, seconds=60):
        # The leader's counts, unless another one has something to say.
        return next((status for status in [process.wait(seconds) for process in self.processes] if status != 0), 0)

    def kill(self):
        self.processes[-1].kill()


def start(log, **env):
    if PROCESSES > 1:
        return Cluster(log, env)
    command = [os.environ["TIEOUT"], "run", "--config", os.environ["CONFIG"]]
    to = open(f"{state}/{log}.log", "w")
    return subprocess.Popen(command, env={**os.environ, **env}, stdout=to, stderr=to, preexec_fn=hears)


def kafka(tool, broker, *args, text=None):
    command = [f"{here}/stand", "kafka", tool, "--bootstrap-server", broker, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout


def must(what, holds, said=""):
    global faults
    faults += not holds
    print(what if holds else f"FAULT {what}: {said}", flush=True)


def stops(what, child, log, code):
    try:
        status = child.wait(90)
    except subprocess.TimeoutExpired:
        child.kill()
        status = "still running"
    said = open(f"{state}/{log}.log").read()
    must(f"{what}: {code}", status == 78 and code in said, f"ended with {status}:\n{said[-800:]}")


def ends(child):
    child.send_signal(signal.SIGINT)
    return child.wait(60)


def ready():
    deadline = time.time() + 60
    url = f"http://{os.environ['TIEOUT_LISTEN']}/readyz"
    while subprocess.run(["curl", "-sf", url], capture_output=True).returncode != 0:
        if time.time() > deadline:
            return False
        time.sleep(0.1)
    return True


def produce(keys):
    for topic, broker, factor in (("in.plan", BUS, 1), ("in.payment", SECOND, 2)):
        lines = "".join('{"id": %d}\t{"id": %d, "amount": %d, "state": "open"}\n' % (k, k, k * factor) for k in keys)
        kafka("org.apache.kafka.tools.ConsoleProducer", broker, "--topic", topic, "--reader-property", "parse.key=true", text=lines)


def read(topic, broker):
    return committed(broker, [topic])[topic]


def partitions_of(topic, broker):
    return {record[0] for record in read(topic, broker)}


def delete_records(broker, topic, partitions):
    what = {"partitions": [{"topic": topic, "partition": p, "offset": -1} for p in range(partitions)], "version": 1}
    with open(f"{state}/delete.json", "w") as file:
        json.dump(what, file)
    kafka("org.apache.kafka.tools.DeleteRecordsCommand", broker, "--offset-json-file", f"{state}/delete.json")


def lags():
    told = kafka("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", BUS, "--describe", "--group", "tieout-transactions")
    return [line.split()[5] for line in told.splitlines() if " in.plan " in line]


# The group knows what the last checkpoint covers: everything.
must("the group has no lag after a stop", lags() == ["0", "0", "0"], lags())

# Partitions that come while it runs, and a kill before and after they are read.
child = start("grown")
must("it goes on", ready())
for topic, broker in (("in.plan", BUS), ("in.payment", SECOND)):
    kafka("org.apache.kafka.tools.TopicCommand", broker, "--alter", "--topic", topic, "--partitions", "5")
produce(range(100_000, 100_200))
must("new partitions have records", len(partitions_of("in.plan", BUS)) == 5)
time.sleep(6)
child.kill()
child.wait()
produce(range(100_200, 100_400))
child = start("grown")
must("it goes on with more partitions", ready())
time.sleep(2)
child.kill()
child.wait()
# By another name, the same brokers.
child = start("renamed", KAFKA_BOOTSTRAP=BUS.replace("127.0.0.1", "localhost"))
must("it goes on with another broker list", ready())
must("the group knows the new partitions", until(lambda: lags() == ["0"] * 5, 60), lags())
must("and stops when asked", ends(child) == 0)
rows = [json.loads(record[3])["id"] for record in read("out.wanted", BUS)]
fresh = [k for k in rows if k >= 100_000]
must("each new row is written, and once", sorted(fresh) == list(range(100_000, 100_400)), f"{len(fresh)} rows, {len(set(fresh))} keys")
if os.environ.get("STOPS") == "grow":
    sys.exit(faults > 0)

stops("another cluster", start("other", KAFKA_BOOTSTRAP=SECOND, KAFKA_SECOND=BUS), "other", "CLUSTER_CHANGED")
stops("one cluster twice", start("twice", KAFKA_SECOND=BUS, TIEOUT_STATE=f"{state}/twice"), "twice", "CLUSTER_TWICE")
# A process that reads another cluster's topic: nothing of what they read together is shown.
kafka("org.apache.kafka.tools.TopicCommand", SECOND, "--create", "--topic", "in.plan", "--partitions", "5")
before = len(list(read("out.wanted", BUS)))
child = Cluster("differs", {"TIEOUT_NAME": "differs", "TIEOUT_STATE": f"{state}/differs"}, 2, {"KAFKA_BOOTSTRAP": SECOND})
stops("brokers of two clusters", child, "differs", "TOPIC_DIFFERS")
must("and nothing is written of them", len(list(read("out.wanted", BUS))) == before)
# Retention passes while it is down: what the replay, or the reading after it, needs is gone.
child = start("killed")
must("it goes on after wrong brokers were named", ready())
produce(range(100_400, 100_500))
child.kill()
child.wait()
produce(range(100_500, 100_900))
delete_records(SECOND, "in.payment", 5)
stops("retention between runs", start("retention"), "retention", "OFFSET_GONE")
# A way on that is no repair: everything anew.
child = start("fresh", TIEOUT_STATE=f"{state}/fresh")
code = child.wait(60)
must("without its checkpoint it does not go on", code == 78, open(f"{state}/fresh.log").read()[-500:])
# Another topic of the same name, while it runs and between runs.
for topic, broker in (("in.plan", BUS), ("in.payment", SECOND)):
    kafka("org.apache.kafka.tools.TopicCommand", broker, "--delete", "--topic", topic)
time.sleep(2)
for topic, broker in (("in.plan", BUS), ("in.payment", SECOND)):
    kafka("org.apache.kafka.tools.TopicCommand", broker, "--create", "--topic", topic, "--partitions", "5")
stops("another topic between runs", start("replaced"), "replaced", "TOPIC_REPLACED")
sys.exit(faults > 0)
