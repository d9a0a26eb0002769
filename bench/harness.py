"""The shared runner of the benches: one process a system, systems interleaved in rounds, one table or one JSON object.

A bench is a script that names its cases and systems and gives one function, `prepare`:

    from harness import Bench, System, Unavailable

    def prepare(system: str, case: str, quick: bool):
        ...set up, check the answer (raise to report a null row)...
        return lambda: {"us": microseconds_of_one_round()}

    if __name__ == "__main__":
        Bench("ragged", prepare, cases=["short", "long"], metrics={"us": "lower"},
              systems=[System("kseq", packages=("kseq", "numpy")), System("torch", packages=("torch",))]).main()

`prepare` runs in the system's own process, started with the system's environment, so it imports what it measures
inside itself. What it returns is called once a round and gives that round's value of every metric. A round's value
should itself be a median (see `median_us`); the table reports the median, 10th and 90th percentile over rounds.
"""

import argparse
import dataclasses
import fnmatch
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time


class Unavailable(Exception):
    """The system cannot do the case; the message is the reason shown in its null row."""


@dataclasses.dataclass(frozen=True)
class System:
    """A contestant: its name, the environment of its process, the packages whose versions the report states."""

    name: str
    env: dict = dataclasses.field(default_factory=dict)
    packages: tuple = ()


def median_us(call, steps, warmup=20):
    """Median time of `call()` in microseconds over `steps` calls, each timed on its own, after `warmup` calls."""
    for _ in range(warmup):
        call()
    times = []
    clock = time.perf_counter_ns
    for _ in range(steps):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times) / 1e3


def percentile(values, q):
    """The `q`-th percentile of a list, linear between neighbours, without NumPy (the parent imports none)."""
    values = sorted(values)
    place = (len(values) - 1) * q / 100
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)


class Bench:
    """A named set of cases, systems and metrics, and the command line that runs it.

    Args:
        name: The subject, as in `bench_<name>.py`.
        prepare: `prepare(system_name, case, quick) -> measure`, `measure() -> {metric: value}`; see the module.
        cases: Case names.
        systems: `System`s in the order of the table.
        metrics: Metric name to "lower" or "higher", whichever is better.
        baseline: The system that the table's ratio column divides by; the first one that answered if not given.
        rounds: (full, quick) numbers of rounds.
        timeout: Seconds that one answer of a worker may take before it is ended and reported.
        has: `has(system_name, case)`, False where a pair is not part of the bench at all (no row).
    """

    def __init__(self, name, prepare, *, cases, systems, metrics, baseline=None, rounds=(9, 3), timeout=600, has=None):
        self.name, self.prepare, self.cases, self.systems = name, prepare, list(cases), list(systems)
        self.metrics, self.baseline, self.rounds, self.timeout = metrics, baseline, rounds, timeout
        self.has = has or (lambda system, case: True)

    def main(self, argv=None):
        """Parse the command line and run; in a worker process, serve the parent instead."""
        parser = argparse.ArgumentParser(prog=f"bench_{self.name}.py", description=f"The {self.name} bench.")
        parser.add_argument("--quick", action="store_true", help="fewer rounds")
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("--only", action="append", metavar="CASE", help="a case or a glob of cases; repeatable")
        parser.add_argument("--systems", action="append", metavar="SYSTEM", help="a system or a glob; repeatable")
        parser.add_argument("--worker", metavar="SYSTEM", help=argparse.SUPPRESS)
        args = parser.parse_args(argv)
        if args.worker:
            return serve(args.worker, self.prepare, args.quick)
        cases = choose(parser, "--only", args.only, self.cases)
        names = choose(parser, "--systems", args.systems, [system.name for system in self.systems])
        systems = [system for system in self.systems if system.name in names]
        report = self.run(cases, systems, args.quick)
        if args.json:
            print(json.dumps(report))
        else:
            print_table(report, self.baseline)

    def run(self, cases, systems, quick=False):
        """Measure `systems` on `cases`; returns the report, the object that `--json` prints."""
        machine = describe_machine(systems)
        workers = {system.name: Worker(system, quick, self.timeout) for system in systems}
        rows = []
        try:
            for case in cases:
                rows += self.run_case(case, {n: w for n, w in workers.items() if self.has(n, case)}, quick)
        finally:
            for worker in workers.values():
                worker.close()
            progress("")
        return {"bench": self.name, "machine": machine, "rows": rows}

    def run_case(self, case, workers, quick):
        """The rows of one case: every system prepares, then the systems take turns, never two at once."""
        reasons, values = {}, {name: {metric: [] for metric in self.metrics} for name in workers}
        for name, worker in workers.items():
            progress(f"{case}: {name} prepares")
            reasons[name] = worker.ask("prepare", case).get("reason")
        rounds = self.rounds[1 if quick else 0]
        order = list(workers)
        for turn in range(rounds):
            for name in order:
                if reasons[name] is not None:
                    continue
                progress(f"{case}: round {turn + 1}/{rounds}, {name}")
                answer = workers[name].ask("time", case)
                reasons[name] = answer.get("reason")
                for metric, value in answer.get("values", {}).items():
                    values[name][metric].append(value)
            order = order[1:] + order[:1]  # nobody always runs after the same neighbour
        for worker in workers.values():
            worker.ask("drop", case)
        return [
            make_row(case, name, metric, values[name][metric], better, reasons[name])
            for name in workers
            for metric, better in self.metrics.items()
        ]


def make_row(case, system, metric, values, better, reason):
    """One row of the report; a system that failed at any point has no value, so half a run is never quoted."""
    row = {"case": case, "system": system, "metric": metric, "value": None}
    if reason is None and not values:
        reason = f"the system does not report {metric}"
    if reason is None:
        row.update(value=statistics.median(values), lo=percentile(values, 10), hi=percentile(values, 90))
    row.update(runs=len(values), better=better)
    if reason is not None:
        row["reason"] = reason
    return row


class Worker:
    """The parent's end of one system's process: the script itself with `--worker`, told by lines of JSON what to do.

    A process that ends or overruns its time is reported as the reason and started again for the next case.
    """

    def __init__(self, system, quick, timeout):
        self.system, self.quick, self.timeout = system, quick, timeout
        self.process = self.log = None

    def start(self):
        command = [sys.executable, os.path.abspath(sys.argv[0]), "--worker", self.system.name]
        self.log = tempfile.TemporaryFile()  # noqa: SIM115  # a file, not a pipe, which somebody would have to drain
        self.process = subprocess.Popen(
            command + ["--quick"] * self.quick,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env={**os.environ, **self.system.env},
            text=True,
        )

    def ask(self, do, case):
        """Send one request and wait for its answer: a dict, with "reason" where it failed."""
        if self.process is None:
            if do == "drop":
                return {}
            self.start()
        overran = threading.Event()
        timer = threading.Timer(self.timeout, lambda: (overran.set(), self.process.kill()))
        timer.start()
        try:
            self.process.stdin.write(json.dumps({"do": do, "case": case}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        reason = f"no answer in {self.timeout} s" if overran.is_set() else self.last_words()
        self.close()
        return {"reason": reason}

    def last_words(self):
        """Why the process ended: its status and the last line it wrote."""
        status = self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines() or ["nothing on stderr"]
        return f"the process ended with status {status}: {lines[-1][:200]}"

    def close(self):
        if self.process is None:
            return
        try:
            self.process.stdin.close()  # end of input: the worker leaves
            self.process.wait(timeout=5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()
        self.process = None


def serve(system, prepare, quick):
    """The worker's loop: answer requests from stdin on the real stdout, which nothing else can write to."""
    replies = os.fdopen(os.dup(1), "w")
    requests = os.fdopen(os.dup(0), "r")
    os.dup2(2, 1)  # libraries that print, in Python or C, print to stderr
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    ready = {}
    for line in requests:
        request = json.loads(line)
        case, answer = request["case"], {}
        try:
            if request["do"] == "prepare":
                ready[case] = prepare(system, case, quick)
            elif request["do"] == "time":
                answer["values"] = {metric: float(value) for metric, value in ready[case]().items()}
            else:
                ready.pop(case, None)
        except Exception as error:  # a system that fails is a row, not the end of the run
            ready.pop(case, None)
            answer["reason"] = explain(error)
        replies.write(json.dumps(answer) + "\n")
        replies.flush()


def explain(error):
    """An exception as one line."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, Unavailable):
        return text
    if isinstance(error, ModuleNotFoundError):
        return f"not installed: {error.name or text}"
    return f"{type(error).__name__}: {text}"


def choose(parser, flag, patterns, names):
    """The names that match any pattern, exactly or as a glob in which brackets are plain characters."""
    if not patterns:
        return names
    matched = set()
    for pattern in patterns:
        hits = [name for name in names if fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))]
        if not hits:
            parser.error(f"{flag} {pattern} matches none of: {', '.join(names)}")
        matched.update(hits)
    return [name for name in names if name in matched]


def describe_machine(systems):
    """What the numbers depend on: processor, load before the run, Python and the versions of every peer."""
    packages = sorted({package for system in systems for package in system.packages})
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages},
        "env": {system.name: system.env for system in systems if system.env},
    }


def cpu_name():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def version(package):
    """The installed version, also of a package that comes for the processor alone under another name."""
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def progress(text):
    """One line on stderr, overwritten by the next, and only where somebody watches."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def print_table(report, baseline=None):
    """The report as text: a block a case, each system's ratio to the baseline beside its value."""
    machine = report["machine"]
    print(f"{report['bench']}: {machine['cpu']}, {machine['cores']} cores, load {machine['load']}")
    print(", ".join(f"{name} {number or 'not installed'}" for name, number in machine["versions"].items()))
    rows = report["rows"]
    width = max([len(row["system"]) for row in rows] + [6])
    groups = dict.fromkeys((row["case"], row["metric"]) for row in rows)
    for case, metric in groups:
        group = [row for row in rows if (row["case"], row["metric"]) == (case, metric)]
        answered = [row for row in group if row["value"] is not None]
        base = next((row for row in answered if row["system"] == baseline), answered[0] if answered else None)
        print(f"\n{case}  {metric} ({group[0]['better']} is better)")
        print(f"  {'system':{width}} {'median':>12} {'10%':>12} {'90%':>12} {'ratio':>7}")
        for row in group:
            if row["value"] is None:
                print(f"  {row['system']:{width}} {'-':>12} {row['reason']}")
                continue
            numbers = " ".join(
                f"{row[key]:>12,.4g}" if row[key] < 1000 else f"{row[key]:>12,.0f}" for key in ROW_NUMBERS
            )
            ratio = f"{row['value'] / base['value']:>7.2f}" if base["value"] else ""
            print(f"  {row['system']:{width}} {numbers} {ratio}")


ROW_NUMBERS = ("value", "lo", "hi")
