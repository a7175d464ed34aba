"""Starting: how fast and how small, flags and variables, and what is said where it can't."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sidecar import __version__
from tests.harness import CONFIG
from tests.process.kit import PINS, SIDECAR, call, chat, command, listening, ready, rss_mib, serve, serve_once, wait

FLAGS = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A copy of config/, since running there would write there."""
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def test_version() -> None:
    said = subprocess.run([SIDECAR, "--version"], capture_output=True, text=True, check=True, timeout=10)
    assert said.stdout == f"sidecar {__version__}\n"


def test_start_to_ready_and_memory_at_rest(config: Path, record_property: Callable[[str, object], None]) -> None:
    """The promises are 1 s and 64 MiB; asserted are ten times the one and twice the other."""
    began = time.monotonic()
    with command(config, "serve", "--config", str(config / "sidecar.yaml"), *FLAGS) as process:
        process.addresses = wait(lambda: listening(process))
        assert ready(process) == 200
        took_s = time.monotonic() - began
        record_property("ready_ms", round(took_s * 1000))
        time.sleep(0.6)  # one poll of the files
        memory = rss_mib(process.popen.pid)
        record_property("rss_mib", round(memory, 1))
        assert took_s < 10
        assert memory < 128


def test_flags_beat_variables_and_variables_beat_the_file(base_url: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(PINS.replace("generation: 7", "generation: 70"))
    (tmp_path / "third.yaml").write_text(PINS.replace("generation: 7", "generation: 71"))
    env = {"SIDECAR_LISTEN": "127.0.0.2:0", "SIDECAR_ADMIN_LISTEN": "127.0.0.3:0", "SIDECAR_PINS": "other.yaml"}
    with serve(tmp_path, base_url, env=env) as process:
        assert process.url.startswith("http://127.0.0.2:")
        assert process.admin.startswith("http://127.0.0.3:")
        assert chat(process).headers["x-sidecar-generation"] == "70"
    words = ["--listen", "127.0.0.4:0", "--admin-listen", "127.0.0.5:0", "--pins", "third.yaml"]
    with serve(tmp_path, base_url, *words, env=env) as process:
        assert process.url.startswith("http://127.0.0.4:")
        assert process.admin.startswith("http://127.0.0.5:")
        assert chat(process).headers["x-sidecar-generation"] == "71"


def test_the_settings_file_by_variable_or_in_the_working_directory(config: Path, tmp_path: Path) -> None:
    with command(tmp_path, "serve", *FLAGS, env={"SIDECAR_CONFIG": str(config / "sidecar.yaml")}) as process:
        wait(lambda: listening(process))
    with command(config, "serve", *FLAGS) as process:
        wait(lambda: listening(process))


def test_the_full_sample_starts_as_it_stands(config: Path, tmp_path: Path) -> None:
    """But for the probe's port, which no flag sets and a test can't count on."""
    full = config / "sidecar-full.yaml"
    full.write_text(full.read_text().replace("127.0.0.1:4012", "127.0.0.1:0"))
    with command(tmp_path, "serve", "--config", str(full), *FLAGS) as process:
        process.addresses = wait(lambda: listening(process))
        assert ready(process) == 200
        shown = call(f"{process.admin}/pins").json()
        assert (shown["generation"], shown["path"]) == (42, str(config / "pins-full.yaml"))
        assert "inactive" not in shown
        assert shown["names"]["chat.core"]["hedge"]
        assert process.warned("fleet_away")
        assert process.warned("OPENAI_EU_KEY")
        probe = f"http://{process.addresses['probe'][0]}"
        assert call(f"{probe}/readyz", headers={"host": "kubelet.example"}).status == 200
    assert (config / "audit.jsonl").exists()


def test_ipv6_and_several_listeners(base_url: str, tmp_path: Path) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with serve(tmp_path, base_url, "--listen", "[::1]:0, 127.0.0.1:0") as process:
        six, four = process.addresses["listen"]
        assert re.fullmatch(r"\[::1\]:\d+", six)
        for address in (six, four):
            answer = call(f"http://{address}/v1/chat/completions", {"model": "chat.core", "messages": []})
            assert "x-sidecar-request-id" in answer.headers


# --- where it can't start --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--listen", "--admin-listen"])
def test_a_port_in_use(config: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        words = FLAGS.copy()
        words[words.index(flag) + 1] = address
        code, said = serve_once(config, ["--config", str(config / "sidecar.yaml"), *words])
    assert code == 1
    last = said.strip().splitlines()[-1]
    assert f"cannot listen on {address}" in last
    assert "in use" in last
    assert "Traceback" not in said


def test_an_address_that_is_not_ours(config: Path) -> None:
    words = ["--config", str(config / "sidecar.yaml"), "--listen", "192.0.2.1:0"]
    code, said = serve_once(config, words)
    assert code == 1
    assert "cannot listen on 192.0.2.1:0" in said


def test_every_problem_of_the_settings_is_told_at_once(config: Path) -> None:
    path = config / "sidecar.yaml"
    text = path.read_text().replace("dialect: openai", "dialect: opnai").replace("admin:", "admim:")
    path.write_text(text.replace("path: events.jsonl", "path: 7"))
    code, said = serve_once(config, [])
    assert code == 2
    problems = said.strip().splitlines()
    assert len(problems) == 3
    assert all(re.match(rf"{re.escape('sidecar.yaml')}:\d+: .* — fix: ", line) for line in problems), problems


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file"),
        (["--config", "."], "is not a file"),
        (["--listen", "nonsense"], "nonsense"),
        (["--listen", "127.0.0.1:99999"], "99999"),
    ],
)
def test_bad_arguments(config: Path, words: list[str], says: str) -> None:
    code, said = serve_once(config, words)
    assert (code, says in said) == (2, True), said
    assert "Traceback" not in said


def test_a_variable_that_is_wrong(config: Path) -> None:
    code, said = serve_once(config, [], {"SIDECAR_LISTEN": "nonsense"})
    assert (code, "nonsense" in said) == (2, True), said


def test_a_provider_that_is_our_own_listener_is_refused(config: Path) -> None:
    settings = yaml.safe_load((config / "sidecar.yaml").read_text())
    settings["providers"]["openai"]["base_url"] = "http://localhost:4010/v1"
    (config / "sidecar.yaml").write_text(yaml.safe_dump(settings))
    assert serve_once(config, [])[0] == 2


def test_an_unusable_pin_file_is_no_reason_to_end(base_url: str, tmp_path: Path) -> None:
    with serve(tmp_path, base_url, pins="version: 2") as process:
        assert ready(process) == 503
        assert chat(process).headers["x-sidecar-error"] == "sidecar_no_target"
        (tmp_path / "pins.yaml").write_text(PINS)
        wait(lambda: ready(process) == 200)
        assert chat(process).status == 200


@pytest.mark.parametrize("how", ["flag", "variable", "off"])
def test_exact_tokens_are_counted_where_that_is_asked_for(how: str, base_url: str, tmp_path: Path) -> None:
    """The same word a thousand times: one token each, though it has ten bytes."""
    words = ["--exact-tokens"] if how == "flag" else []
    env = {"SIDECAR_EXACT_TOKENS": "1"} if how == "variable" else {}
    pins = PINS.replace("gpt-a-2026-01-01: {", "gpt-5.4-2025-11-02: {context: 128000, ").replace(
        "gpt-a-2026-01-01}", "gpt-5.4-2025-11-02}"
    )
    with serve(tmp_path, base_url, *words, env=env, pins=pins) as process:
        assert chat(process, messages=[{"role": "user", "content": " including" * 1000}]).status == 200
        lines = wait(lambda: [li for li in (tmp_path / "events.jsonl").read_text().splitlines() if '"request"' in li])
        (tokens,) = json.loads(lines[0])["inputs"]["sizes"].values()
        assert tokens == (pytest.approx(2521, abs=30) if how == "off" else pytest.approx(1007, abs=5))
