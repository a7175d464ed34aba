"""The command: its arguments, its one line of output, its exit."""

import argparse
import asyncio
import signal
import sys

import aiohttp
import pytest

from sidecar.provider import command

PROGRAM = (
    "import argparse, sys; from sidecar.provider import command; parser = argparse.ArgumentParser();"
    "command.configure(parser); sys.exit(command.run(parser.parse_args()))"
)


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_serves_until_a_signal(tmp_path, number):
    rules = tmp_path / "script.json"
    rules.write_text('[{"fault": "status=503", "match": {"path": "/v1/*"}}]', encoding="utf-8")
    process = await _start("--listen", "127.0.0.1:0", "--pace", "1ms", "--script", str(rules))
    line = (await process.stdout.readline()).decode()
    assert line.startswith("fake provider: listening on http://127.0.0.1:")
    async with aiohttp.ClientSession() as session, session.get(line.split()[-1] + "/v1/models") as answer:
        assert answer.status == 503
    process.send_signal(number)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")


async def test_what_can_not_be_used(tmp_path):
    process = await _start("--listen", "127.0.0.1:0", "--script", str(tmp_path / "absent.yaml"))
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.startswith(b"fake provider: ")
    assert errors.count(b"\n") == 1


@pytest.mark.parametrize("arguments", [["--listen", "4020"], ["--listen", "host:port"], ["--pace", "fast"]])
def test_bad_arguments(arguments, capsys):
    parser = argparse.ArgumentParser()
    command.configure(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert "not" in capsys.readouterr().err
