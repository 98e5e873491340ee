"""The broker of all runs: topics, a producer, a reader of what is committed, and how it goes away and comes back."""
import os, signal, socket, subprocess, sys, threading, time

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from topics import committed


class Broker:
    def __init__(self, here, state):
        self.here, self.state = here, state
        self.address = os.environ["KAFKA_BOOTSTRAP"]
        self.admin = AdminClient({"bootstrap.servers": self.address, "log_level": 2})
        self.producer = Producer({"bootstrap.servers": self.address, "enable.idempotence": True, "linger.ms": 1, "delivery.timeout.ms": 300_000, "log_level": 2})

    # ---- topics -------------------------------------------------------------------------------------------------

    def create(self, topics):
        """`topics`: name to number of partitions."""
        made = self.admin.create_topics([NewTopic(name, partitions, 1) for name, partitions in topics.items()], request_timeout=60)
        for future in made.values():
            future.result()

    def named(self, prefix):
        return [name for name in self.admin.list_topics(timeout=30).topics if name.startswith(prefix)]

    def delete(self, topics):
        for future in self.admin.delete_topics(topics, operation_timeout=30).values():
            try:
                future.result()
            except KafkaException:
                pass  # they only take room

    def read(self, topics):
        """What a `read_committed` reader sees: by topic, (partition, offset, headers, key, value) in the order of partitions."""
        return committed(self.address, topics)

    # ---- faults -------------------------------------------------------------------------------------------------

    def stand(self, *args):
        subprocess.run([f"{self.here}/stand", *args], check=True, stdout=subprocess.DEVNULL)

    def pid(self):
        return int(open(f"{self.state}/broker.pid").read())

    def die(self):
        """At once; how it is told that it is away comes after."""
        try:
            os.kill(self.pid(), signal.SIGKILL)
        except (OSError, ValueError):
            pass  # another run was faster

    def restart(self, away):
        self.stand("kill", "broker")
        time.sleep(away)
        self.stand("again", "broker")

    def sleep(self, seconds):
        pid = self.pid()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


class Wire:
    """A listener of the broker's is reached through this, and only through it; it can be cut."""

    def __init__(self, port, to):
        self.to, self.way, self.open_ = to, "open", set()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=200)
        threading.Thread(target=self.accept, daemon=True).start()

    def cut(self):
        """Connections break, and new ones are ended at once."""
        self.way = "cut"
        for one in list(self.open_):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def swallow(self):
        """Nothing comes through, and nobody is told."""
        self.way = "swallow"

    def mend(self):
        """What was swallowed is lost: those connections end."""
        was, self.way = self.way, "open"
        if was == "swallow":
            self.cut()
            self.way = "open"

    def accept(self):
        while True:
            one, _ = self.listener.accept()
            if self.way == "cut":
                one.close()
                continue
            try:
                other = socket.create_connection(("127.0.0.1", self.to), 5)
            except OSError:
                one.close()
                continue
            for source, sink in ((one, other), (other, one)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source, sink):
        self.open_.add(source)
        try:
            while got := source.recv(1 << 16):
                while self.way == "swallow":
                    time.sleep(0.05)
                sink.sendall(got)
        except OSError:
            pass
        finally:
            self.open_.discard(source)
            for one in (source, sink):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
            source.close()
