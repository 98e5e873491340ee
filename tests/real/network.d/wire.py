"""Network namespaces, and the wire between them: a device (TUN) in each, whose packets go through this process, which delays,
loses and throttles them as `tc netem` would. The kernel's own TCP is at both ends."""
import fcntl, heapq, os, random, select, struct, subprocess, threading, time

TUNSETIFF, TUN, NO_HEADER = 0x400454CA, 0x0001, 0x1000
# What a slow link holds before it drops, in seconds.
QUEUE_SECONDS = 0.3


def ip(*args):
    subprocess.run(["ip", *args], check=True)


class Wire:
    """`delay` and `jitter` in seconds, each way; `loss`: of one packet; `rate`: bytes per second of each end."""

    def __init__(self, ends, seed=1):
        self.rng = random.Random(seed)
        self.names = [f"tieout-{os.getpid()}-{n}" for n in range(ends)]
        self.addresses = [f"10.77.0.{n + 1}" for n in range(ends)]
        self.fds, self.cuts = [], set()
        self.be()
        for n, name in enumerate(self.names):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            device = f"tt{os.getpid() % 100000}n{n}"
            fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), TUN | NO_HEADER))
            self.fds.append(fd)
            ip("netns", "add", name)
            ip("link", "set", device, "netns", name)
            ip("-n", name, "link", "set", device, "name", "wire")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "address", "add", f"{self.addresses[n]}/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
        self.carried, self.lost, self.closed = 0, 0, False
        self.thread = threading.Thread(target=self.carry, daemon=True)
        self.thread.start()

    def be(self, delay=0.0, jitter=0.0, loss=0.0, rate=None):
        self.how = (delay, jitter, loss, rate)

    def within(self, n, command):
        return ["ip", "netns", "exec", self.names[n], *command]

    def cut(self, n):
        """Its link goes down."""
        ip("-n", self.names[n], "link", "set", "wire", "down")

    def mend(self, n):
        ip("-n", self.names[n], "link", "set", "wire", "up")

    def swallow(self, a, b):
        """Between these two nothing arrives any more, and nobody is told; the others reach both."""
        self.cuts = {(a, b), (b, a)}

    def carry(self):
        poll, place = select.epoll(), {fd: n for n, fd in enumerate(self.fds)}
        for fd in self.fds:
            poll.register(fd, select.EPOLLIN)
        waiting, count, due_of = [], 0, {}
        while not self.closed:
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, to, packet = heapq.heappop(waiting)
                try:
                    os.write(self.fds[to], packet)
                    self.carried += 1
                except OSError:
                    self.lost += 1
            delay, jitter, loss, rate = self.how
            for fd, _ in poll.poll(max(0, min(0.05, waiting[0][0] - now)) if waiting else 0.05):
                for _ in range(64):
                    try:
                        packet = os.read(fd, 65536)
                    except OSError:
                        break
                    to = packet[19] - 1
                    if packet[0] >> 4 != 4 or not 0 <= to < len(self.fds):
                        continue
                    link, now = (place[fd], to), time.monotonic()
                    free = max(now, due_of.get(link[0], 0)) + (len(packet) / rate if rate else 0)
                    if link in self.cuts or self.rng.random() < loss or free > now + QUEUE_SECONDS:
                        self.lost += 1
                        continue
                    due_of[link[0]] = free
                    # In the order in which they went, as on a line.
                    due = max(due_of.get(link, 0), free + delay + self.rng.uniform(0, jitter))
                    due_of[link] = due
                    count += 1
                    heapq.heappush(waiting, (due, count, to, packet))

    def close(self):
        self.closed = True
        self.thread.join()
        for fd in self.fds:
            os.close(fd)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name])
