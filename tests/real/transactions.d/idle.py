"""Sources whose topics end with the marker of a producer's transaction are idle, and not stuck, though they go through a gate.
Started by tests/real/transactions after its check."""
import json, os, signal, subprocess, sys, time

from confluent_kafka import Producer

here, state = sys.argv[1], os.environ["STATE"]
sys.path.append(here)
from processes import ask, until

faults = 0
# Twice the bound of stuck_after, with that of the transactions, and some.
LONG = 8


def must(what, holds, said=""):
    global faults
    faults += not holds
    print(what if holds else f"FAULT {what}: {said}", flush=True)


def start():
    env = dict(os.environ, TIEOUT_STATE=f"{state}/idle")
    command = [os.environ["TIEOUT"], "run", "--config", f"{here}/transactions.d/idle/config.yaml"]
    hears = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=open(f"{state}/idle.log", "a"), preexec_fn=hears)


def produced(name, *rows):
    """An upstream transaction, of which everything comes in one transaction of the producer."""
    def put(topic, key, value):
        producer.produce(f"idle.{topic}", json.dumps(value), json.dumps(key), 0)

    at = lambda order: f"{name}:{name * 1000 + order}"
    producer.begin_transaction()
    put("transaction", {"id": at(0)}, {"status": "BEGIN", "id": at(0), "ts_ms": int(time.time() * 1000)})
    for order, (id, balance) in enumerate(rows, 1):
        of = {"id": at(order), "total_order": order, "data_collection_order": order}
        put("account", {"id": id}, {"op": "u", "before": None, "after": {"id": id, "balance": balance}, "source": {"ts_ms": int(time.time() * 1000)}, "transaction": of})
    collections = [{"data_collection": "public.account", "event_count": len(rows)}]
    put("transaction", {"id": at(99)}, {"status": "END", "id": at(99), "event_count": len(rows), "data_collections": collections, "ts_ms": int(time.time() * 1000)})
    producer.commit_transaction()


def shown(id):
    return json.loads(ask(f"api/v1/targets/balances/rows/{id}")[1] or "{}").get("row")


def idle(what):
    """Nothing is said to be stuck for so long, nor is the time counted in which it did not run."""
    child.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    child.send_signal(signal.SIGCONT)
    said, deadline = [], time.time() + LONG
    while time.time() < deadline:
        _, text = ask("readyz")
        said += [text] if "STUCK" in text else []
        time.sleep(0.2)
    must(what, not said, said[:1])


for topic in ("transaction", "account", "quiet"):
    command = [f"{here}/stand", "kafka", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", os.environ["KAFKA_BOOTSTRAP"]]
    subprocess.run([*command, "--create", "--topic", f"idle.{topic}", "--partitions", "1"], check=True, stdout=subprocess.DEVNULL)
producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "transactional.id": "upstream"})
producer.init_transactions()
produced(1, (1, 10), (2, 20))
child = start()
must("what comes in a producer's transactions is read", until(lambda: ask("readyz")[0] == 200, 60), ask("readyz"))
idle("and its end is no message that is waited for")
produced(2, (1, 11))
must("more of it comes", until(lambda: shown(1) == {"id": 1, "balance": 11}, 60), shown(1))
idle("and is idle again")
child.send_signal(signal.SIGINT)
must("it stops in order", child.wait(60) == 0, child.returncode)
child = start()
must("it starts again", until(lambda: ask("readyz")[0] == 200 and shown(2) == {"id": 2, "balance": 20}, 60), ask("readyz"))
idle("and is idle behind the last message that it knows")
must("nobody was told otherwise", "STUCK" not in open(f"{state}/idle.log").read(), open(f"{state}/idle.log").read()[-800:])
# What stands behind a transaction that its producer does not end is there, and nobody may read it.
caught_up = lambda: {source["name"]: source["caught_up"] for source in json.loads(ask("api/v1/sources")[1])["sources"]}
must("what is read to its end has caught up", until(lambda: caught_up()["account"], 60), caught_up())
producer.begin_transaction()
producer.produce("idle.quiet", json.dumps({"op": "r", "before": None, "after": {"id": 1, "balance": 1}, "source": {"ts_ms": 1}}), json.dumps({"id": 1}), 0)
producer.flush()
began = time.time()
must("what a producer holds back has not", until(lambda: not caught_up()["quiet"], 30), caught_up())
named = lambda: "PARTITION_STUCK: partition 0 of source quiet" in ask("readyz")[1] and "has not ended" in ask("readyz")[1]
must("and is named", until(named, 30), ask("readyz"))
must(f"after {time.time() - began:.1f} s, with a bound of 2 s and 1 s of transactions", time.time() - began < 15)
child.send_signal(signal.SIGINT)
child.wait(60)
child, seen = start(), []
must("it starts while it is held back", until(lambda: ask("api/v1/sources")[0] == 200, 60))
deadline = time.time() + 3
while time.time() < deadline:
    seen.append(caught_up()["quiet"])
must("and is not taken for read at any moment", not any(seen), seen)
producer.commit_transaction()
must("when it is over all is well", until(lambda: ask("readyz")[0] == 200 and caught_up()["quiet"], 60), ask("readyz"))
child.send_signal(signal.SIGINT)
must("and it stops", child.wait(60) == 0, child.returncode)
sys.exit(faults > 0)
