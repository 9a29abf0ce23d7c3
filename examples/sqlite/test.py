#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unmodified SQLite programs with the preloaded module and without it.

test.py BUILD PROGRAMS [--all]: BUILD is where libseg was built, PROGRAMS what
fetch.sh has made (or "none").  Results have to be the same; times and memory
are printed.  --all: all of threadtest3, and medians of 7 (half an hour).
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

BUILD, PROGRAMS = (os.path.abspath(arg) for arg in sys.argv[1:3])
ALL = "--all" in sys.argv
MODULE = BUILD + "/examples/sqlite/.libs/libseg-sqlite.so"
LIBRARY = BUILD + "/.libs"
failed = []

SQL = """
CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60000)
  INSERT INTO t SELECT i, i*7919 % 60000, printf('%0150d', i) FROM n;
CREATE INDEX ta ON t(a);
BEGIN; UPDATE t SET b=b||'x' WHERE a%3=0; ROLLBACK;
DELETE FROM t WHERE a%5=0;
SELECT count(*), sum(a), sum(length(b)), min(b), max(b) FROM t;
ATTACH ':memory:' AS m;
CREATE TABLE m.c AS SELECT * FROM t ORDER BY a;
SELECT count(*), sum(a) FROM m.c;
PRAGMA page_size=512; VACUUM; PRAGMA integrity_check;
SELECT count(*), sum(a), sum(length(b)), min(b), max(b) FROM t;
PRAGMA page_size=65536; VACUUM; PRAGMA integrity_check;
PRAGMA incremental_vacuum; PRAGMA shrink_memory;
SELECT count(*), sum(a), sum(length(b)), min(b), max(b) FROM t;
"""

# The changed pages take nearly the whole budget, and what rests must make room.
PINNED = """
PRAGMA page_size=4096; PRAGMA cache_spill=off; PRAGMA cache_size=100000;
CREATE TABLE r(a); CREATE TABLE t(a);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
  INSERT INTO r SELECT zeroblob(3000) FROM n;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3690)
  INSERT INTO t SELECT zeroblob(3000) FROM n;
SELECT count(*), sum(length(a)) FROM r;
COMMIT;
SELECT count(*), sum(length(a)) FROM t;
"""

# Against SQLite's rules: a connection is open at the shutdown.
SHUTDOWN = """
import ctypes
lib = ctypes.CDLL("libsqlite3.so.0")
def connect():
    db = ctypes.c_void_p()
    print(lib.sqlite3_open(b":memory:", ctypes.byref(db)), lib.sqlite3_exec(
        db, b"CREATE TABLE t(a); INSERT INTO t VALUES(zeroblob(90000))",
        None, None, None))
    return db
old = connect()
print(lib.sqlite3_shutdown(), lib.sqlite3_close(old))
new = connect()
print(lib.sqlite3_close(new), lib.sqlite3_shutdown())
"""


class Run:
    """One run of a program in an empty directory."""

    def __init__(self, command, preload, budget="64M", text=None, prepare=None):
        environment = dict(os.environ)
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=base) as place:
            report = place + "/report"
            if prepare:
                subprocess.run(prepare, cwd=place, check=True,
                               stdout=subprocess.DEVNULL)
            before = []
            if preload:
                before = ["env", "LD_PRELOAD=" + MODULE,
                          "LIBSEG_SQLITE=budget=%s,report=%s" %
                          (budget, report)]
            environment["LD_LIBRARY_PATH"] = LIBRARY
            done = subprocess.run(
                ["time", "-q", "-o", place + "/time", "-f", "%e %U %S %M"] +
                before + command, cwd=place, env=environment, input=text,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.output, self.status = done.stdout, done.returncode
            wall, user, system, rss = open(place + "/time").read().split()[-4:]
            self.wall = float(wall)
            self.cpu = float(user) + float(system)
            self.rss_mib = int(rss) / 1024
            self.peak_mib = self.refusals = 0
            if os.path.exists(report):
                for line in open(report):
                    found = json.loads(line)
                    self.peak_mib = max(self.peak_mib,
                                        found["peak_charged_bytes"] / 2**20)
                    self.refusals += found["refusals"]
            elif preload:
                failed.append("no report: not preloaded: " + command[0])


def median(runs, what):
    return statistics.median(getattr(run, what) for run in runs)


def compare(name, command, result, times=1, **how):
    """The same result with and without, interleaved; prints both."""
    own, seg = [], []
    for _ in range(times):
        own.append(Run(command, False, **how))
        seg.append(Run(command, True, **how))
    good = True
    for run in own + seg:
        good = good and run.status == 0 and \
            result(run.output) == result(own[0].output) != ""
    ratios = statistics.median(b.wall / a.wall if a.wall else 1
                               for a, b in zip(own, seg))
    cpus = statistics.median(b.cpu / a.cpu if a.cpu else 1
                             for a, b in zip(own, seg))
    print("%s: %-22s %7.2f -> %6.2f s (x%.3f, cpu x%.3f)  RSS %5.0f -> %4.0f "
          "MiB  charged %5.1f" %
          ("PASS" if good else "FAIL", "sqlite/" + name, median(own, "wall"),
           median(seg, "wall"), ratios, cpus, max(r.rss_mib for r in own),
           max(r.rss_mib for r in seg), max(r.peak_mib for r in seg)),
          flush=True)
    if not good:
        failed.append(name)
        print(own[0].output[-1500:], "-- with libseg:", seg[0].output[-1500:])
    return own, seg


def whole(text):
    return text


def line_of(pattern):
    return lambda text: " ".join(re.findall(pattern, text, re.M))


def python_tests():
    for python in ("python3", "/usr/bin/python3"):
        found = subprocess.run(
            [python, "-c", "import test.test_sqlite3 as t, os; print('\\n', *[n[:-3]"
             " for n in sorted(os.listdir(t.__path__[0]))"
             " if n.startswith('test_')])"], capture_output=True, text=True)
        if found.returncode == 0:
            compare("python", [python, "-m", "unittest", "-q"] +
                    ["test.test_sqlite3." + n for n in found.stdout.split("\n")[-2].split()],
                    line_of(r"^Ran \d+ tests|^OK.*|^FAILED.*"))
            return
    print("SKIP: sqlite/python: no Python that has its tests")


def count_operations(runs):
    return sum(int(n) for run in runs for n in re.findall(
        r"says: (\d+) iterations", run.output) + re.findall(
        r"\b[WR] (\d+)", run.output))


def threads():
    program = [PROGRAMS + "/threadtest3"]
    errors = line_of(r"^\d+ errors out of \d+ tests")
    if not ALL:
        compare("threadtest3", program + ["walthread5", "cgt_pager_1",
                                          "lookaside1", "shared1"], errors,
                budget="16M")
        return
    compare("threadtest3", program, errors, budget="32M")
    for name in ("walthread1", "walthread2"):
        own, seg = compare(name, program + [name], errors, times=3)
        print("  operations: x%.3f" %
              (count_operations(seg) / max(1, count_operations(own))))


def speed():
    for page in (4096, 65536):
        compare("speedtest1-%d" % page,
                [PROGRAMS + "/speedtest1", "--verify", "--size",
                 "50" if ALL else "20", "--pagesize", str(page), "x.db"],
                line_of("^Verification Hash: .*"), times=7 if ALL else 3)
    init = [PROGRAMS + "/kvtest", "init", "x.db", "--count", "5000", "--size",
            "12000"]
    for mode in (["--random"], ["--update"]):
        compare("kvtest" + mode[0], [PROGRAMS + "/kvtest", "run", "x.db",
                                     "--count", "20000", "--stats"] + mode,
                line_of("^Database page size: .*|^.*[Cc]hecksum.*"),
                prepare=init)


def main():
    compare("shell", ["sqlite3", "-batch", "x.db"], whole, text=SQL)
    compare("shell-32M", ["sqlite3", "-batch", "x.db"], whole, budget="32M",
            text=SQL)
    # No wait at all, so not for the minute that one may take.
    compare("shell-pinned", ["timeout", "50", "sqlite3", "-batch", "x.db"],
            whole, budget="16M,wait=60000", text=PINNED)
    compare("shutdown", [sys.executable, "-c", SHUTDOWN], whole)
    python_tests()
    if os.path.exists(PROGRAMS + "/threadtest3"):
        speed()
        threads()
    else:
        print("SKIP: sqlite/speedtest1, kvtest, threadtest3: no sources")
    own = Run([BUILD + "/examples/sqlite/many", ".", "own"], False)
    many = Run([BUILD + "/examples/sqlite/many", "."], False)
    good = own.status == many.status == 0
    print("%s: sqlite/many  16 connections of 64 MiB: %.2f -> %.2f s, RSS "
          "%.0f -> %.0f MiB\n%s" %
          ("PASS" if good else "FAIL", own.wall, many.wall, own.rss_mib,
           many.rss_mib, many.output.strip()))
    if not good:
        failed.append("many")
    if failed:
        print("FAILED:", ", ".join(failed))
    return 1 if failed else 0


sys.exit(main())
