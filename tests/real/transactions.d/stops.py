"""Contradictions that must stop a start, or a run, by their names. Started by tests/real/transactions after its check."""
import json, os, shutil, signal, socket, subprocess, sys, time

from confluent_kafka import Producer

here, state = sys.argv[1], os.environ["STATE"]
sys.path.append(here)
from processes import ask
from topics import committed

TOPIC = "tieout-progress-transactions"
faults = 0


def hears():
    # A shell that runs this in the background has it ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(data_dir, log, port_by_one=0, failpoint=None, more=()):
    host, port = os.environ["TIEOUT_LISTEN"].rsplit(":", 1)
    env = dict(os.environ, TIEOUT_STATE=data_dir, TIEOUT_LISTEN=f"{host}:{int(port) + port_by_one}")
    if failpoint:
        env["TIEOUT_FAILPOINT"] = failpoint
    command = [os.environ["TIEOUT"], "run", "--config", os.environ["CONFIG"], *more]
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=open(log, "w"), preexec_fn=hears)


def topics(*args):
    command = [f"{here}/stand", "kafka", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", os.environ["KAFKA_BOOTSTRAP"], *args]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stops(what, child, log, code):
    global faults
    try:
        status = child.wait(90)
    except subprocess.TimeoutExpired:
        child.kill()
        status = "still running"
    said = open(log).read()
    ok = status == 78 and code in said
    faults += not ok
    print(f"{what}: {code}" if ok else f"FAULT {what}: ended with {status}, and did not say {code}:\n{said[-800:]}")


def grow():
    with open(f"{os.environ['TIEOUT_DATA']}/plan.ndjson", "a") as file:
        for n in range(20):
            file.write('{"key":{"id":%d},"value":{"id":%d,"amount":%d,"state":"open"}}\n' % (n, n, int(time.time() * 1000)))


def command(*args, data_dir=None):
    env = dict(os.environ, **({"TIEOUT_STATE": data_dir} if data_dir else {}))
    done = subprocess.run([os.environ["TIEOUT"], *args, "--config", os.environ["CONFIG"]], env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def must(what, holds, said=""):
    global faults
    faults += not holds
    print(what if holds else f"FAULT {what}: {said}")


def until(holds, seconds=60, then=lambda: None):
    deadline = time.time() + seconds
    while time.time() < deadline:
        if holds():
            return True
        then()
        time.sleep(0.2)
    return False


own, other = os.environ["TIEOUT_STATE"], f"{state}/other"
# A transaction that a dead one left open, and that the next start is not to end.
for attempt in range(20):
    child = start(own, f"{state}/open.log", failpoint="produced:100")
    while child.poll() is None:
        grow()
        time.sleep(0.3)
    listed = command("sink", "transactions", "list")
    said = command("sink", "transactions", "abort")
    # Unless the broker was faster, on a machine that was slow.
    if "out.wanted " in listed[1] and "free again" in said[1]:
        break
must("a dead one's transaction is listed", listed[0] == 0 and "Ongoing" in listed[1] and "this id" in listed[1], listed)
must("it is ended", said[0] == 0 and "free again" in said[1], said)
said = command("sink", "transactions", "list")
must("nothing is held back then", "no partition is held back" in said[1] and "Ongoing" not in said[1], said)
child = start(own, f"{state}/living.log")
must("it runs", until(lambda: ask("readyz")[0] == 200), ask("readyz"))
said = command("sink", "transactions", "abort")
must("one that lives is left alone", said[0] == 75 and "STATE_IN_USE" in said[2], said)
child.send_signal(signal.SIGINT)
must("it wrote what the dead one had not", child.wait(60) == 0, child.returncode)
# Brokers that are away for longer than a transaction may take.
child = start(own, f"{state}/away.log")
must("it is ready", until(lambda: ask("readyz")[0] == 200))
subprocess.run([f"{here}/stand", "kill", "broker"], check=True)
began = time.time()
stuck = lambda: "SINK_STUCK" in ask("readyz")[1] and 'tieout_stuck{code="SINK_STUCK",name="bus"} 1' in ask("metrics")[1]
must("outputs that are not written are not ready", until(stuck, then=grow), ask("readyz"))
seconds = time.time() - began
must(f"and seen to be so after {seconds:.1f} s, with a bound of 5 s", seconds < 20, open(f"{state}/away.log").read()[-800:])
time.sleep(max(0, began + 15 - time.time()))
must("the reason is named", "written to bus for" in ask("readyz")[1] and "Connection refused" in ask("readyz")[1], ask("readyz"))
subprocess.run([f"{here}/stand", "again", "broker"], check=True)
must("it is ready again", until(lambda: ask("readyz")[0] == 200 and 'name="bus"} 1' not in ask("metrics")[1]), ask("readyz"))
child.send_signal(signal.SIGINT)
must("and everything is written", child.wait(60) == 0, child.returncode)
# A predecessor that was only asleep.
sleeper = start(own, f"{state}/sleeper.log")
must("it is there", until(lambda: ask("readyz")[0] == 200), ask("readyz"))
sleeper.send_signal(signal.SIGSTOP)
shutil.copytree(own, other)
successor = start(other, f"{state}/successor.log", 1)
must("its successor is there", until(lambda: ask("readyz", 1)[0] == 200), ask("readyz", 1))
grow()
time.sleep(2)
sleeper.send_signal(signal.SIGCONT)
stops("a zombie", sleeper, f"{state}/sleeper.log", "SINK_FENCED")
if successor.poll() is not None:
    faults += 1
    print(f"FAULT the successor ended with {successor.returncode}:\n{open(f'{state}/successor.log').read()[-800:]}")
else:
    successor.send_signal(signal.SIGINT)
    code = successor.wait(60)
    faults += code != 0
    print(f"its successor went on, and ended with {code}")
# Another run, until the beginning of the progress records is gone.
child = start(other, f"{state}/again.log")
must("it goes on", until(lambda: ask("readyz")[0] == 200), ask("readyz"))
time.sleep(3)
child.send_signal(signal.SIGINT)
faults += child.wait(60) != 0
# Another disk, and only the end of the progress records.
stops("no checkpoint", start(f"{state}/empty", f"{state}/gap.log"), f"{state}/gap.log", "PROGRESS_GAP")
def configure(*args, topic=TOPIC):
    command = [f"{here}/stand", "kafka", "kafka.admin.ConfigCommand", "--bootstrap-server", os.environ["KAFKA_BOOTSTRAP"]]
    subprocess.run([*command, "--alter", "--entity-type", "topics", "--entity-name", topic, *args], check=True, capture_output=True)


configure("--add-config", "cleanup.policy=compact")
stops("a compacted progress topic", start(other, f"{state}/compacted.log"), f"{state}/compacted.log", "PROGRESS_COMPACTED")
configure("--add-config", "cleanup.policy=delete,retention.ms=3600000")
child = start(other, f"{state}/retention.log")
must("it goes on with a retention", until(lambda: ask("readyz")[0] == 200), ask("readyz"))
child.send_signal(signal.SIGINT)
faults += child.wait(60) != 0
must("a progress topic with a retention is warned of", "retention.ms is 3600000" in open(f"{state}/retention.log").read())
# An output topic is removed, and another one is there by its name before anybody noticed.
child = start(other, f"{state}/replaced.log")
must("it is ready before its topic is replaced", until(lambda: ask("readyz")[0] == 200))
topics("--delete", "--topic", "out.wanted")
topics("--create", "--topic", "out.wanted", "--partitions", "3")
grow()
stops("an output topic that is another one while it is written", child, f"{state}/replaced.log", "OUTPUT_GONE")
for again in ("", ", again"):
    stops("an output topic that was removed" + again, start(other, f"{state}/gone.log"), f"{state}/gone.log", "OUTPUT_GONE")


def anew(what):
    """The way on that these stops name."""
    child = start(other, f"{state}/fresh.log", more=["--fresh"])
    must(f"{what}: it begins anew", until(lambda: child.poll() is not None or ask("readyz")[0] == 200) and child.poll() is None, open(f"{state}/fresh.log").read()[-800:])
    child.send_signal(signal.SIGINT)
    must(f"{what}: and that is whole", child.wait(60) == 0, child.returncode)
    child = start(other, f"{state}/onwards.log")
    must(f"{what}: and goes on", until(lambda: child.poll() is not None or ask("readyz")[0] == 200) and child.poll() is None, open(f"{state}/onwards.log").read()[-800:])
    child.send_signal(signal.SIGINT)
    must(f"{what}: to its end", child.wait(60) == 0, child.returncode)


def say(**changed):
    """A progress record as nobody writes it."""
    last = json.loads(committed(os.environ["KAFKA_BOOTSTRAP"], [TOPIC])[TOPIC][-1][4])
    producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]})
    producer.produce(TOPIC, json.dumps({**last, "begins": False, "before": last["tick"], "ticks": [], **changed}), "transactions", 0)
    producer.flush()


anew("an output topic that was removed")
say(before=5)
stops("a record that is lacking", start(other, f"{state}/torn.log"), f"{state}/torn.log", "PROGRESS_GAP")
anew("a record that is lacking")
say(mends=[{"topic": "out.wanted", "partition": 7, "from": 0, "end": 9, "records": 3}])
stops("records that are to be written again, and gone", start(other, f"{state}/pieces.log"), f"{state}/pieces.log", "PROGRESS_GAP")
with socket.create_server(("127.0.0.1", int(os.environ["TIEOUT_LISTEN"].rsplit(":", 1)[1]))):
    failed = start(other, f"{state}/failed.log", more=["--fresh"])
    must("a start anew that fails has begun nothing", failed.wait(60) not in (0, None), failed.returncode)
stops("they are still named", start(other, f"{state}/pieces.log"), f"{state}/pieces.log", "PROGRESS_GAP")
anew("records that are gone")
# What the topic will not take later either.
configure("--add-config", "max.message.bytes=300", topic="out.wanted")
grow()
stops("records that are too large for their topic", start(other, f"{state}/large.log"), f"{state}/large.log", "NOT_DELIVERED")
must("it names the topic", "topic `out.wanted` of connection `bus`" in open(f"{state}/large.log").read(), open(f"{state}/large.log").read()[-800:])
configure("--delete-config", "max.message.bytes", topic="out.wanted")
with open(f"{state}/delete.json", "w") as file:
    json.dump({"partitions": [{"topic": TOPIC, "partition": 0, "offset": -1}], "version": 1}, file)
command_ = [f"{here}/stand", "kafka", "org.apache.kafka.tools.DeleteRecordsCommand", "--bootstrap-server", os.environ["KAFKA_BOOTSTRAP"]]
subprocess.run([*command_, "--offset-json-file", f"{state}/delete.json"], check=True, capture_output=True)
stops("an emptied progress topic", start(other, f"{state}/emptied.log"), f"{state}/emptied.log", "PROGRESS_LOST")
anew("an emptied progress topic")
topics("--alter", "--topic", TOPIC, "--partitions", "2")
stops("two partitions", start(other, f"{state}/partitions.log"), f"{state}/partitions.log", "PROGRESS_PARTITIONS")
topics("--delete", "--topic", TOPIC)
time.sleep(2)
stops("no progress topic", start(other, f"{state}/lost.log"), f"{state}/lost.log", "PROGRESS_LOST")
anew("no progress topic")
sys.exit(faults > 0)
