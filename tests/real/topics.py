"""Reads topics to their end, as a `read_committed` reader does that waits for nothing.

  topics.py BROKER TOPIC [partition] [offset] [headers]   prints a line for each record: these, its key and its value, with tabs between"""
import sys, time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition


def committed(address, topics, seconds=60):
    """By topic, (partition, offset, headers, key, value) in the order of partitions; a topic that is not there has none."""
    consumer = Consumer({
        "bootstrap.servers": address, "group.id": "reader", "isolation.level": "read_committed", "enable.auto.commit": False,
        "enable.partition.eof": True, "fetch.wait.max.ms": 20, "log_level": 2})
    listed = consumer.list_topics(timeout=30).topics
    parts = [TopicPartition(topic, p, OFFSET_BEGINNING) for topic in topics if topic in listed for p in listed[topic].partitions]
    found, open_ = {topic: [] for topic in topics}, {(p.topic, p.partition) for p in parts}
    consumer.assign(parts)
    deadline = time.time() + seconds
    while open_:
        for message in consumer.consume(2000, 0.05):
            if message.error():
                if message.error().name() != "_PARTITION_EOF":
                    raise KafkaException(message.error())
                open_.discard((message.topic(), message.partition()))
            else:
                headers = {name: value.decode() for name, value in message.headers() or []}
                found[message.topic()].append((message.partition(), message.offset(), headers, message.key(), message.value()))
        if time.time() > deadline:
            raise TimeoutError(f"reading {open_}")
    consumer.close()
    return found


def main():
    address, topic, *shown = sys.argv[1:]
    text = lambda of: "null" if of is None else of.decode(errors="replace")
    for partition, offset, headers, key, value in committed(address, [topic])[topic]:
        told = {"partition": f"Partition:{partition}", "offset": f"Offset:{offset}", "headers": ",".join(f"{n}:{v}" for n, v in headers.items())}
        print(*(told[what] for what in shown), text(key), text(value), sep="\t")


if __name__ == "__main__":
    main()
