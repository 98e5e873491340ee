"""The inputs of a run: topics and files that grow, with a record of what went where."""
import json, os, zlib


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def as_bytes(value):
    return value if isinstance(value, bytes) or value is None else compact(value).encode()


class Topic:
    """`parts[p]` has (position after it, key, value) of each record."""

    def __init__(self, broker, name, partitions):
        self.broker, self.name, self.parts = broker, name, [[] for _ in range(partitions)]

    def put(self, key, value, partition=None):
        raw = as_bytes(key)
        if partition is None:
            partition = zlib.crc32(raw or b"") % len(self.parts)

        def delivered(error, message, part=self.parts[partition]):
            if error:
                raise RuntimeError(f"{self.name}: {error}")
            part.append((message.offset() + 1, key, value))

        while True:
            try:
                return self.broker.producer.produce(self.name, as_bytes(value), raw, partition, on_delivery=delivered)
            except BufferError:
                self.broker.producer.poll(0.1)

    def ends(self):
        return {p: part[-1][0] for p, part in enumerate(self.parts) if part}

    def records(self):
        return sum(map(len, self.parts))


class Files:
    """Several files, read one after the other; the last one grows. Each is a partition."""

    def __init__(self, folder, names):
        os.makedirs(folder, exist_ok=True)
        self.files = [open(f"{folder}/{name}", "ab", buffering=0) for name in names]
        self.parts, self.at = [[] for _ in names], [0] * len(names)

    def put(self, key, value, partition=None):
        partition = len(self.files) - 1 if partition is None else partition
        line = as_bytes({"key": key, "value": value} if key is not None else value) + b"\n"
        self.files[partition].write(line)
        self.at[partition] += len(line)
        self.parts[partition].append((self.at[partition], key, value))

    def ends(self):
        return {p: at for p, at in enumerate(self.at) if at}

    def records(self):
        return sum(map(len, self.parts))
