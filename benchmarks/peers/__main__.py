"""`python -m benchmarks.peers` installs what is missing and lists the peers; `try NAME` starts one and asks it."""

from __future__ import annotations

import argparse
import sys

from benchmarks import load
from benchmarks.lab import Lab, cpu_us_per_chunk, cpu_us_per_request, sound, target
from benchmarks.peers import CACHE, PEERS, Peer, survey
from benchmarks.provider import Script
from benchmarks.systems import Running

REQUESTS = 500


def table() -> int:
    """Each with its version, or why it is skipped."""
    print(f"Installing what is missing into {CACHE} ...", file=sys.stderr)
    for peer in PEERS:
        system = survey(peer)
        print(f"{peer.name:<12} {f'skipped: {system.skipped}' if system.skipped else system.version}", flush=True)
    return 0


def few(running: Running, where: load.Target) -> None:
    sound(load.run(lambda: load.closed(where, connections=1, requests=5)), running.name)


def ask(lab: Lab, running: Running, warm_up: int) -> None:
    """One plain request and one stream, then what each costs."""
    lab.script(Script(chunks=20))
    for where in (target(running), target(running, stream=True)):
        few(running, where)  # what is loaded at the first request is nobody's latency
    plain = sound(load.run(lambda: load.closed(target(running), connections=1, requests=1)), running.name)
    print(f"plain: 200 in {plain.latency_s[0] * 1000:.1f} ms")
    tally = sound(
        load.run(lambda: load.streams(target(running, stream=True), concurrent=1), precise=True), running.name
    )
    late_ms = sorted(s * 1000 for s in tally.chunk_s)
    print(f"stream: 200, {tally.chunks} of 21 events, on their way for {late_ms[len(late_ms) // 2]:.2f} ms (median)")
    cpu_us_per_request(running, warm_up)
    print(f"CPU of a request: {cpu_us_per_request(running, REQUESTS):.0f} µs (of {REQUESTS}, after {warm_up})")
    lab.script(Script(chunks=100, gap_ms=5))
    print(f"CPU of an event: {cpu_us_per_chunk(running):.0f} µs (16 streams of 100, their requests included)")
    print(f"memory: {running.process.memory_mib():.0f} MiB")


def attempt(peer: Peer) -> int:
    system = survey(peer)
    if system.skipped:
        print(f"{peer.name} is skipped: {system.skipped}", file=sys.stderr)
        return 1
    print(f"{peer.name} {system.version}: {peer.setup}")
    with Lab() as lab:
        started = peer.start(lab.place(peer.name), lab.provider.port, cores=lab.measured)
        with lab.running(started) as (running,):
            ask(lab, running, peer.warm_up)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    trying = commands.add_parser("try", help="start one peer, ask it, and print what a request costs it")
    trying.add_argument("name", choices=[peer.name for peer in PEERS])
    given = parser.parse_args()
    if given.command == "try":
        return attempt(next(peer for peer in PEERS if peer.name == given.name))
    return table()


if __name__ == "__main__":
    sys.exit(main())
