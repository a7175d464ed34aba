"""Trouble around the process: standard output, files, descriptors, another user's permissions. It serves on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.process.kit import PINS, Process, call, chat, ready, serve, wait

TO_STDOUT = {"events": {"path": "-"}}


def metric(process: Process, name: str) -> float:
    text = call(f"{process.admin}/metrics").body.decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def served(process: Process, count: int = 1) -> None:
    for _ in range(count):
        assert chat(process).status == 200
    assert ready(process) == 200


def test_events_on_standard_output(base_url: str, tmp_path: Path) -> None:
    with serve(tmp_path, base_url, settings=TO_STDOUT, stdout=subprocess.PIPE) as process:
        served(process)
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        assert process.popen.stdout is not None
        said = process.popen.stdout.read().decode().splitlines()
    assert ['"kind":"swap"' in said[0], '"kind":"request"' in said[1], len(said)] == [True, True, 2]


def test_standard_output_closed(base_url: str, tmp_path: Path) -> None:
    with serve(tmp_path, base_url, settings=TO_STDOUT, stdout=None, preexec_fn=lambda: os.close(1)) as process:
        served(process, 20)
        wait(lambda: metric(process, 'sidecar_sink_errors_total{sink="events"}'))
        process.send(signal.SIGTERM)
        assert process.ended() == 0


def test_nobody_reads_standard_output_any_more(base_url: str, tmp_path: Path) -> None:
    with serve(tmp_path, base_url, settings=TO_STDOUT, stdout=subprocess.PIPE) as process:
        served(process)
        assert process.popen.stdout is not None
        process.popen.stdout.close()
        served(process, 20)
        wait(lambda: metric(process, 'sidecar_sink_errors_total{sink="events"}'))


def test_a_pipe_that_is_full(base_url: str, tmp_path: Path) -> None:
    """Events go to a pipe that nobody empties: they wait in memory up to a bound, and requests don't wait at all."""
    with serve(tmp_path, base_url, settings=TO_STDOUT, stdout=subprocess.PIPE) as process:
        served(process, 150)  # some 150 KiB into 64 KiB
        process.send(signal.SIGTERM)
        assert process.ended() == 0


@pytest.mark.parametrize("sink", ["events", "audit"])
def test_a_sink_that_cannot_be_written(base_url: str, tmp_path: Path, sink: str) -> None:
    settings = {sink: {"path": "no/such/folder/lines.jsonl"}}
    with serve(tmp_path, base_url, settings=settings) as process:
        served(process)
        wait(lambda: process.warned(f"{sink} cannot be written"))
        wait(lambda: metric(process, f'sidecar_sink_errors_total{{sink="{sink}"}}'))


def test_out_of_file_descriptors(base_url: str, tmp_path: Path) -> None:
    """Clients take every descriptor; once they leave it serves, and a pin file swapped meanwhile is in use."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))

    with serve(tmp_path, base_url, preexec_fn=few) as process, contextlib.ExitStack() as stack:
        host, _, port = process.addresses["listen"][0].rpartition(":")
        for _ in range(120):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((host, int(port)), timeout=1))
        fds = Path(f"/proc/{process.popen.pid}/fd")
        wait(lambda: len(list(fds.iterdir())) >= 46)
        (tmp_path / "new.yaml").write_text(PINS.replace("generation: 7", "generation: 8"))
        (tmp_path / "new.yaml").rename(tmp_path / "pins.yaml")
        stack.close()
        wait(lambda: _generation(process) == "8")
        served(process, 5)


def _generation(process: Process) -> str | None:
    with contextlib.suppress(OSError):
        return chat(process).headers.get("x-sidecar-generation")
    return None


def test_a_pin_file_that_may_not_be_read(base_url: str, tmp_path: Path) -> None:
    """A mode that forbids reading, and its repair, change no modification time: it is noticed all the same."""
    with serve(tmp_path, base_url, preexec_fn=_as_if_not_root) as process:
        served(process)
        new = tmp_path / "new.yaml"
        new.write_text(PINS.replace("generation: 7", "generation: 8"))
        new.chmod(0)
        new.rename(tmp_path / "pins.yaml")
        wait(lambda: process.warned("Permission denied"))
        assert _generation(process) == "7"
        (tmp_path / "pins.yaml").chmod(0o644)
        wait(lambda: _generation(process) == "8")
        assert len([1 for line in process.log() if "Permission denied" in line["message"]]) == 1


def _as_if_not_root() -> None:
    """Take root's power over file modes away from what is started next; others don't have it anyway."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
