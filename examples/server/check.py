#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""check.py SERVER [--seconds N] [--seed N] [--sanitizer]

Runs seg-server on a folder of random files, under load by wrk, with clients
that check what they get, that stall, and that vanish.  Exit status: 0 all
holds, 1 not so.  --sanitizer: says nothing of the server's memory, which is
mostly the sanitizer's then.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

KIB, MIB = 1024, 1024 * 1024
BUDGET = 8 * MIB
CONNECTION_BYTES = 40 * KIB     # what the daemon has for each
OVERHEAD_BYTES = 4 * MIB        # stacks, malloc, and the like
IDLE_SECONDS = 10               # as in main.c
PATIENCE = 30                   # for what must come; says nothing of speed
failures = []


def check(holds, what):
    print(("     ok: " if holds else " NOT OK: ") + what, flush=True)
    if not holds:
        failures.append(what)


def wait_for(condition, seconds=PATIENCE):
    """Until the condition holds: whether it did in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# ---------------------------------------------------------------- clients

class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body


class Client:
    """One connection.  receive_bytes: a small window, so that most of what
    is sent stays with the server."""

    def __init__(self, port, receive_bytes=0, timeout=PATIENCE):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                   receive_bytes)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.stream = self.socket.makefile("rb")

    def ask(self, path, method="GET", **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}"
                  for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def head(self):
        status = int(self.stream.readline().split()[1])
        headers = {}
        while (line := self.stream.readline().strip()):
            name, value = line.decode().split(":", 1)
            headers[name.lower()] = value.strip()
        return status, headers

    def answer(self, method="GET"):
        status, headers = self.head()
        size = int(headers.get("content-length", 0))
        if method == "HEAD" or status == 304:
            return Answer(status, headers, b"")
        body = self.stream.read(size)
        if len(body) != size:
            raise ConnectionError(f"{len(body)} bytes of {size}")
        return Answer(status, headers, body)

    def get(self, path, method="GET", **headers):
        self.ask(path, method, **headers)
        return self.answer(method)

    def vanish(self):
        """Resets the connection instead of closing it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.stream.close()
        self.socket.close()


def get(port, path, method="GET", **headers):
    client = Client(port)
    try:
        return client.get(path, method, **headers)
    finally:
        client.close()


def stats(port):
    return json.loads(get(port, "/stats").body)


# ----------------------------------------------------------------- folder

class Folder:
    """Random files of 1 KB to 250 KB, some larger, with their checksums."""

    def __init__(self, path, rng):
        self.path, self.rng = path, rng
        self.sums, self.sizes = {}, {}
        os.makedirs(os.path.join(path, "deep", "er"))
        for i in range(300):
            self.write(f"f{i}.bin", int(1000 * 250 ** rng.random()))
        self.usual = list(self.sums)
        for i, size in enumerate((0, 1, 4095, 4096, 4097, 65536, 262143,
                                  262144)):
            self.write(f"deep/er/edge{i}.txt", size)
        self.big = []               # each a page of its own: 1 MB
        for i in range(16):
            self.big.append(f"big{i}.bin")
            self.write(self.big[-1], 1000000)
        self.write("huge.bin", 3 * MIB + 17)
        os.symlink("/etc/passwd", os.path.join(path, "out"))
        os.symlink("/etc", os.path.join(path, "outside"))
        os.symlink("f0.bin", os.path.join(path, "in.bin"))
        os.mkfifo(os.path.join(path, "fifo"))

    def write(self, name, size):
        body = self.rng.randbytes(size)
        at = os.path.join(self.path, name)
        with open(at + ".new", "wb") as file:
            file.write(body)
        os.rename(at + ".new", at)
        self.sums[name] = hashlib.sha256(body).digest()
        self.sizes[name] = size
        return body

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as file:
            return file.read()

    def fits(self, name, body):
        return hashlib.sha256(body).digest() == self.sums[name]


# ----------------------------------------------------------------- server

class Server:
    def __init__(self, program, folder, log):
        self.log = log
        self.process = subprocess.Popen(
            [program, "--root", folder.path, "--budget", str(BUDGET),
             "--port", "0", "--threads", "4"],
            stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("check.py: the server did not start:\n" + self.said())
        self.port = int(re.search(r":(\d+)/", line)[1])
        self.start_bytes = self.memory("VmRSS")

    def memory(self, name):
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(rf"{name}:\s+(\d+)", status.read())[1]) * KIB

    def said(self):
        with open(self.log.name) as log:
            return log.read()


def check_usage(program, folder):
    wrong = [[], ["--root"], ["--root", folder.path, "more"],
             ["--root", folder.path, "--port", "70000"],
             ["--root", folder.path, "--budget", "1K"],
             ["--root", folder.path, "--budget", "12X"],
             ["--root", folder.path, "--threads", "0"],
             ["--root", folder.path, "--bind", "nowhere"],
             ["--root", folder.path, "--log", "all"], ["--none"]]
    missing = ["--root", os.path.join(folder.path, "none")]
    got = [subprocess.run([program] + arguments, capture_output=True,
                          timeout=PATIENCE).returncode
           for arguments in wrong + [missing]]
    check(got == [2] * len(wrong) + [1], f"{len(wrong)} wrong command lines "
          "have status 2; no such folder has 1")
    said = [subprocess.run([program] + arguments, capture_output=True,
                           text=True, timeout=PATIENCE).stderr
            for arguments in wrong[3:9]]
    check(all(f"not {line[3]}: {line[2]}: " in text
              for line, text in zip(wrong[3:9], said)),
          "what is out of its range is named")
    got = subprocess.run([program, "--help"], capture_output=True, text=True,
                         timeout=PATIENCE)
    check(got.returncode == 0 and "usage" in got.stdout, "--help helps")


# ------------------------------------------------------------------ rules

def check_contents(server, folder):
    bad = [name for name in folder.sums
           if not folder.fits(name, get(server.port, "/" + name).body)]
    check(not bad, f"{len(folder.sums)} files as they are on the disk, from "
          f"0 bytes to 3 MiB {bad or ''}")
    check(folder.fits("f0.bin", get(server.port, "/in.bin").body),
          "a link that stays in the folder is followed")


def check_paths(server):
    paths = ["/out", "/outside/passwd", "/../etc/passwd", "/%2e%2e/etc/passwd",
             "/deep/../f0.bin", "/deep//er/edge1.txt", "/./f0.bin", "/deep",
             "/deep/", "/fifo", "/none", "/" + "x" * 2000,
             "/..%2f..%2fetc/passwd"]
    got = {path[:30]: get(server.port, path).status for path in paths}
    check(set(got.values()) == {404},
          f"{len(paths)} paths that lead out, or nowhere, are 404")
    check(get(server.port, "/f0.bin", "POST").status == 405, "POST is 405")


def check_ranges(server, folder):
    def part(name, text):
        return get(server.port, "/" + name, Range="bytes=" + text)

    wrong = []
    for name in ("big0.bin", "f1.bin", "huge.bin"):
        body, size = folder.read(name), folder.sizes[name]
        for _ in range(20):
            a, b = sorted(folder.rng.randrange(size) for _ in range(2))
            for text, first, last in ((f"{a}-{b}", a, b),
                                      (f"{a}-", a, size - 1),
                                      (f"{a}-{size + b}", a, size - 1),
                                      (f"-{a + 1}", size - a - 1, size - 1)):
                got = part(name, text)
                if (got.status != 206 or got.body != body[first:last + 1] or
                        got.headers["content-range"] !=
                        f"bytes {first}-{last}/{size}"):
                    wrong.append((name, text))
    check(not wrong, f"240 ranges, within pages of several segments too "
          f"{wrong or ''}")
    size = folder.sizes["f1.bin"]
    got = part("f1.bin", f"{size}-")
    check(got.status == 416 and
          got.headers["content-range"] == f"bytes */{size}",
          "a range behind the end is 416")
    check(part("f1.bin", "-0").status == 416 and
          part("f1.bin", "5-2").status == part("f1.bin", "0-0,2-3").status ==
          part("f1.bin", "x").status == 200, "odd ranges are ignored")


def check_conditions(server, folder):
    # A file that was just written has no tag yet.
    wait_for(lambda: "etag" in get(server.port, "/f2.bin").headers)
    head = get(server.port, "/f2.bin", "HEAD")
    tag = head.headers.get("etag")
    check(head.status == 200 and
          int(head.headers["content-length"]) == folder.sizes["f2.bin"],
          "HEAD tells the length")
    same = get(server.port, "/f2.bin", If_None_Match=tag)
    check(same.status == 304 and same.headers.get("content-length") in
          (None, str(folder.sizes["f2.bin"])),
          "what the client has already is 304, with no other length")
    check([get(server.port, name, If_None_Match="*").status
           for name in ("/f2.bin", "/huge.bin", "/none")] == [304, 304, 404],
          "any tag is what there is")
    head = get(server.port, "/f2.bin", "HEAD", Range="bytes=0-9")
    check(head.status == 200 and
          int(head.headers["content-length"]) == folder.sizes["f2.bin"],
          "HEAD knows no ranges")
    client = Client(server.port)    # and what follows is in step
    check([client.get(name, If_None_Match=t).status for name, t in
           (("/f2.bin", tag), ("/huge.bin", "*"), ("/f2.bin", '"x"'))] ==
          [304, 304, 200], "nothing is sent behind a 304")
    client.close()
    check([get(server.port, "/f2.bin", Range="bytes=0-9", If_Range=t).status
           for t in (tag, '"other"')] == [206, 200],
          "If-Range with another tag gets the whole file")


def check_changes(server, folder):
    folder.write("changing.bin", 50000)
    get(server.port, "/changing.bin")
    wrong = slow = 0
    for i in range(6):
        if slow:
            break
        before = folder.sums["changing.bin"]
        folder.write("changing.bin", 50000 if i % 2 else 90000)
        start = time.monotonic()
        while True:
            body = get(server.port, "/changing.bin").body
            if folder.fits("changing.bin", body):
                break
            wrong += hashlib.sha256(body).digest() != before
            if time.monotonic() - start > PATIENCE:
                slow += 1
                break
            time.sleep(0.02)
    check(not wrong and not slow, "6 changes of a file noticed, and nothing "
          "between two states was sent")
    os.unlink(os.path.join(folder.path, "changing.bin"))
    check(wait_for(lambda: get(server.port, "/changing.bin").status == 404),
          "a file that is gone is 404")


def check_metrics(server):
    text = get(server.port, "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line[:1] != "#"]
    good = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? \d+$')
    check(len(lines) > 50 and all(good.match(line) for line in lines) and
          len(set(line.split(" ")[0] for line in lines)) == len(lines),
          f"/metrics: {len(lines)} samples, each once")


# ------------------------------------------------------------------- load

class Load:
    """wrk, and at the same time clients that look at what they get."""

    def __init__(self, server, folder, seconds, seed):
        self.server, self.folder = server, folder
        self.seconds, self.seed = seconds, seed
        self.end = 0.0
        self.right = self.wrong = self.refused = self.vanished = 0
        self.most = {"charged": 0, "pinned": 0, "over": 0}
        self.lock = threading.Lock()
        self.threads = []

    def add(self, name, value=1):
        with self.lock:
            setattr(self, name, getattr(self, name) + value)

    def pick(self, rng):
        return self.folder.usual[int(len(self.folder.usual) *
                                     rng.random() ** 3)]

    def checker(self, rng):
        client = Client(self.server.port)
        while time.monotonic() < self.end:
            name = self.pick(rng)
            got = client.get("/" + name)
            if got.status == 503 and "retry-after" in got.headers:
                self.add("refused")
            elif got.status == 200 and self.folder.fits(name, got.body):
                self.add("right")
            else:
                self.add("wrong")
        client.close()

    def vanisher(self, rng):
        while time.monotonic() < self.end:
            client = Client(self.server.port, 4096)
            client.ask("/" + rng.choice(self.folder.big + self.folder.usual))
            client.stream.read1(rng.choice((1, 100, 3000)))
            client.vanish()
            self.add("vanished")

    def watcher(self, rng):
        while time.monotonic() < self.end:
            now = stats(self.server.port)
            charged = now["budget"]["charged_bytes"]
            self.most["charged"] = max(self.most["charged"], charged)
            self.most["pinned"] = max(self.most["pinned"],
                                      now["cache"]["pinned_weight"])
            self.most["over"] += charged > now["budget"]["limit_bytes"]
            time.sleep(0.05)

    def guarded(self, role, rng):
        try:
            role(rng)
        except Exception as error:      # it must not just end
            failures.append(f"{role.__name__}: {error!r}")

    def start(self):
        self.end = time.monotonic() + self.seconds
        for i, role in enumerate((self.checker, self.checker, self.vanisher,
                                  self.vanisher, self.watcher)):
            self.threads.append(threading.Thread(
                target=self.guarded,
                args=(role, random.Random(self.seed + i))))
        for thread in self.threads:
            thread.start()

    def run(self):
        script = os.path.join(self.folder.path, "..", "load.lua")
        with open(script, "w") as file:
            file.write(f"math.randomseed({self.seed})\n"
                       "request = function()\n"
                       "  return wrk.format('GET', string.format("
                       f"'/f%d.bin', {len(self.folder.usual)} * "
                       "math.random() ^ 3))\nend\n")
        self.start()
        out = subprocess.run(
            ["wrk", "-t1", "-c64", f"-d{self.seconds}s", "-s", script,
             f"http://127.0.0.1:{self.server.port}"],
            capture_output=True, text=True, timeout=self.seconds + PATIENCE)
        for thread in self.threads:
            thread.join()
        return out.stdout


def check_load(server, folder, seconds, seed, sanitizer):
    before = stats(server.port)
    stalled = stall(server, folder.big[:2])
    load = Load(server, folder, seconds, seed)
    said = load.run()
    after = stats(server.port)

    def grew(part, name):
        return after[part][name] - before[part][name]

    rate = re.search(r"Requests/sec:\s*(\S+)", said)
    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    hits, misses = (grew("cache", name) for name in
                    ("hits_total", "misses_total"))
    print(f"  wrk: {rate[1] if rate else 'no'} requests a second, "
          f"{errors[1] if errors else 0} refused; hit rate "
          f"{100 * hits / max(hits + misses, 1):.1f} %, "
          f"{grew('cache', 'evictions_total')} evictions, "
          f"{grew('cache', 'reclaims_total')} reclaims at the limit, "
          f"{grew('cache', 'load_waits_total')} waits for another's load")
    check(bool(rate) and "Socket errors" not in said,
          "wrk had no errors of the connection")
    check(load.right > 0 and not load.wrong,
          f"{load.right} files under load had the right checksum "
          f"({load.refused} were refused with Retry-After)")
    check(load.vanished > 0 and grew("server", "cut_total") > 0,
          f"{load.vanished} clients vanished, {grew('server', 'cut_total')} "
          "of them in the middle")
    check(hits > 0 and grew("cache", "evictions_total") +
          grew("cache", "reclaims_total") > 0,
          "the files are more than the cache holds")
    check(not load.most["over"] and after["budget"]["peak_charged_bytes"] <=
          BUDGET, f"charged never above the limit, at most "
          f"{after['budget']['peak_charged_bytes']} of {BUDGET} bytes; "
          f"pinned at most {load.most['pinned']}")
    if not sanitizer:
        check_memory(server, after)
    check_stalled(server, stalled)


def check_memory(server, now):
    own = sum(now[part]["metadata_bytes"] for part in ("pool", "cache"))
    most = server.memory("VmHWM")
    bound = (server.start_bytes + BUDGET + own + 80 * CONNECTION_BYTES +
             OVERHEAD_BYTES)
    check(most <= bound, f"resident at most {most // KIB} KiB: at the start "
          f"{server.start_bytes // KIB}, budget {BUDGET // KIB}, so "
          f"{(most - server.start_bytes - BUDGET) // KIB} on top; allowed "
          f"{(bound - server.start_bytes - BUDGET) // KIB}")


# -------------------------------------------------------- stalled clients

def stall(server, names):
    """Clients that read a byte and no more.  The time is when they began."""
    clients = []
    for name in names:
        client = Client(server.port, 4096)
        client.ask("/" + name)
        client.stream.read1(1)
        clients.append(client)
    return clients


def pinned(server):
    return stats(server.port)["cache"]["pinned_weight"]


def is_quiet(server):
    """No pin, and nothing being sent but the answer to this question."""
    now = stats(server.port)
    return (now["cache"]["pinned_weight"] == 0 and not now["pins"] and
            now["server"]["sending"] == 1)


def check_stalled(server, clients):
    check(wait_for(lambda: is_quiet(server), IDLE_SECONDS + PATIENCE),
          "two clients that stalled were closed, and no pin is left of "
          "them, of those that vanished, and of wrk's")
    for client in clients:
        client.close()


def check_limit(server, folder):
    """Clients that stall on more than the budget."""
    clients, refused = [], 0
    for name in folder.big:
        client = Client(server.port, 4096)
        client.ask("/" + name)
        status, headers = client.head()
        refused += status == 503 and headers["retry-after"] == "1"
        clients.append(client)
    now = stats(server.port)
    check(refused > 0 and now["cache"]["pinned_weight"] > BUDGET / 2,
          f"16 MB asked for by clients that stall: "
          f"{now['cache']['pinned_weight']} bytes are pinned, the other "
          f"{refused} get 503 with Retry-After")
    check(now["refusal"] is not None and len(now["pins"]) > 0,
          "/stats says why, and who holds how much for how long")
    check(folder.fits("huge.bin", get(server.port, "/huge.bin").body),
          "meanwhile, what comes from the disk is sent")
    for i, client in enumerate(clients):
        client.close() if i % 2 else client.vanish()
    check(wait_for(lambda: is_quiet(server)),
          "when they close or vanish, no pin is left")
    bad = [name for name in folder.big
           if not folder.fits(name, get(server.port, "/" + name).body)]
    check(not bad, "and all of these files are sent")


# ------------------------------------------------------------------- page

def check_page(server, folder):
    browser = shutil.which("chromium")
    if not browser:
        print("SKIP: the page: no chromium here")
        return
    home = os.path.join(folder.path, "..", "browser")
    out = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu",
         "--enable-logging=stderr", f"--user-data-dir={home}",
         "--virtual-time-budget=10000", "--dump-dom",
         f"http://127.0.0.1:{server.port}/"],
        capture_output=True, text=True, timeout=60)
    console = [line for line in out.stderr.splitlines() if "CONSOLE" in line]
    check(not console, f"the page says nothing on the console {console or ''}")
    files = re.search(r'data-name="files in memory">([\d,]+)<', out.stdout)
    lines = re.findall(r'<path d="M([^"]*)"', out.stdout)
    check("live, every second" in out.stdout and bool(files) and
          int(files[1].replace(",", "")) > 0,
          f"it shows {files[1] if files else 'no'} files in memory")
    check(len(lines) == 8 and all(line.count("L") >= 3 for line in lines) and
          "NaN" not in out.stdout, "it draws 8 lines")


# -------------------------------------------------------------------- end

def refuses(port):
    """Not even a connection; or one that nobody takes from the queue."""
    try:
        client = Client(port, timeout=0.3)
    except OSError:
        return True
    try:
        client.ask("/f0.bin")
        return not client.stream.readline()
    except OSError:
        return True
    finally:
        client.close()


def check_end(server, folder):
    slow = Client(server.port, 4096)
    slow.ask("/" + folder.big[0])
    status, headers = slow.head()
    stalled = stall(server, folder.big[1:2])
    open_client = Client(server.port)       # keeps its connection
    open_client.get("/f0.bin")
    check(pinned(server) > 0, "when it is told to end, files are being sent")
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: "ending" in server.said())
    check(refuses(server.port), "then it takes no new connection")
    slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    body = slow.stream.read(int(headers["content-length"]))
    check(folder.fits(folder.big[0], body), "a slow client gets all of it")
    try:
        status = server.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        status = None
        server.process.kill()
    said = server.said()
    check("1 cut off" in said, "one that stalled is cut off")
    check("Sanitizer" not in said, "no sanitizer found anything")
    check(status == 0 and "nothing left" in said,
          f"status {status}: no pin, no segment, no byte is left")
    for client in [slow, open_client] + stalled:
        client.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sanitizer", action="store_true")
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        folder = Folder(os.path.join(home, "root"),
                        random.Random(options.seed))
        check_usage(options.server, folder)
        with open(os.path.join(home, "log"), "w") as log:
            server = Server(options.server, folder, log)
            try:
                check_contents(server, folder)
                check_paths(server)
                check_ranges(server, folder)
                check_conditions(server, folder)
                check_changes(server, folder)
                check_metrics(server)
                check_load(server, folder, options.seconds, options.seed,
                           options.sanitizer)
                check_limit(server, folder)
                check_page(server, folder)
                check_end(server, folder)
            finally:
                if server.process.poll() is None:
                    server.process.kill()
                if failures:
                    print("the server said, at last:")
                    for line in server.said().splitlines()[-20:]:
                        print("  " + line[:300])
    print(f"  {time.monotonic() - start:.0f} s, seed {options.seed}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
