#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Runs the scenarios against two brokers and compares what the clients got.

run_diff.py HOST_A[:PORT] HOST_B[:PORT] [NAME...]: A is the plain broker, B the one behind the engine.
NAME selects scenarios by a part of their name.  Last line "N passed, N failed"; exit code 0 only if none
failed and at least one ran.  --list names the scenarios.
"""

import argparse
import concurrent.futures
import importlib
import os
import pathlib
import sys
import time
import traceback

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import harness  # noqa: E402

WORKERS = 12


def address(text):
    host, _, port = text.partition(":")
    return host, int(port or 1883)


def load():
    for f in sorted((HERE / "scenarios").glob("[a-z]*.py")):
        importlib.import_module(f"scenarios.{f.stem}")
    return harness.SCENARIOS


def run_one(name, func, broker, rid):
    """A scenario against one broker: (events, problems, seconds)."""
    run = harness.Run(name, *broker, rid)
    begin = time.monotonic()
    try:
        func(run)
    except harness.Failure as e:
        run.problems.append(str(e))
    except Exception:  # a scenario must never end the whole run
        run.problems.append(traceback.format_exc(limit=-4))
    finally:
        run.close()
    return run.events, run.problems, time.monotonic() - begin


def judge(a, b):
    """Lines that say what is wrong, none if nothing is."""
    lines = []
    for side, result in (("A", a), ("B", b)):
        for text in result[1][:5]:
            lines += [f"{side}: {line}" for line in text.rstrip().splitlines()]
    if not lines and not a[0]:
        return ["nothing was recorded"]
    return lines + harness.difference(a[0], b[0])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("a", nargs="?", default="127.0.0.1")
    parser.add_argument("b", nargs="?", default="127.0.0.1")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--limit", type=int, default=240, help="seconds for everything")
    args = parser.parse_args()
    chosen = {n: f for n, f in load().items()
              if not args.names or any(part in n for part in args.names)}
    if args.list:
        print("\n".join(sorted(chosen)))
        return 0
    brokers = address(args.a), address(args.b)
    rid = f"r{os.getpid() % 0x10000:04x}"
    passed = failed = 0
    begin = time.monotonic()
    pool = concurrent.futures.ThreadPoolExecutor(WORKERS)
    # scenarios that wait for time-outs are declared slow: first, so that the others fill the time
    order = sorted(chosen, key=lambda n: (not getattr(chosen[n], "slow", False), n))
    alone = [n for n in order if getattr(chosen[n], "alone", False)]
    order = [n for n in order if n not in alone]
    jobs = {n: [pool.submit(run_one, n, chosen[n], br, rid) for br in brokers] for n in order}
    for name in sorted(order) + alone:
        if name in alone:
            jobs[name] = [pool.submit(run_one, name, chosen[name], br, rid) for br in brokers]
        try:
            left = max(0.1, begin + args.limit - time.monotonic())
            results = [j.result(timeout=left) for j in jobs[name]]
            lines = judge(*results)
            spent = f"{results[0][2]:.1f} s, {results[1][2]:.1f} s"
        except concurrent.futures.TimeoutError:
            lines, spent = [f"not finished {args.limit} s after the start"], "-"
        passed, failed = passed + (not lines), failed + bool(lines)
        print(f"  {name:<24} {'DIFFERS' if lines else 'equal'} ({spent})", flush=True)
        for line in lines[:40]:
            print(f"      {line}")
        if len(lines) > 40:
            print(f"      and {len(lines) - 40} lines more")
    print(f"{passed} passed, {failed} failed", flush=True)
    os._exit(1 if failed or not passed else 0)  # threads of scenarios that hang do not hold it up


if __name__ == "__main__":
    sys.exit(main())
