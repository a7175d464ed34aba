"""Reading the files: the samples load, any bytes load or are refused, sidecar.yaml's rules name line and fix."""
# ruff: noqa: E501 - a row of a table is read as one line

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.settings.load import load_settings, read_bytes, read_pins
from sidecar.settings.pins import Pins
from sidecar.settings.problems import ConfigError, UnreadableError

PROVIDER = "providers:\n  p: {dialect: openai, base_url: 'https://api.example/v1'}\n"
SECRET = "hunter2-canary"


# --- the samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings_name", "pins_name"), [("sidecar.yaml", "pins.yaml"), ("sidecar-full.yaml", "pins-full.yaml")]
)
def test_the_samples_load(config, settings_name, pins_name):
    loaded = load_settings(config / settings_name, env={})
    assert loaded.pins_path == config / pins_name
    pins = read_pins(loaded.pins_path.read_bytes(), str(loaded.pins_path), loaded)
    assert set(pins.pins) > {"chat.core", "chat.auto"}
    assert read_pins(loaded.pins_path.read_bytes(), pins_name, None).models.keys() == pins.models.keys()


def test_the_first_sample_in_detail(config):
    loaded = load_settings(config / "sidecar.yaml")
    assert loaded.listen == (("127.0.0.1", 4010),)
    assert loaded.admin_listen == ("127.0.0.1", 4011)
    assert loaded.probe_listen is None
    assert loaded.default_provider == {"openai": "openai", "anthropic": "anthropic", "gemini": "gemini"}
    assert loaded.providers["openai"].base_url == "http://127.0.0.1:4020/v1"
    assert loaded.events.path == str(config / "events.jsonl")
    assert loaded.warnings == ()
    assert (loaded.limits.body, loaded.limits.in_flight, loaded.drain.grace) == (32 * 1024**2, 512, 25)


def test_the_full_sample_in_detail(config):
    loaded = load_settings(config / "sidecar-full.yaml", env={"OPENAI_EU_KEY": "x"})
    assert loaded.probe_listen == ("127.0.0.1", 4012)
    assert loaded.pins_last_good == config / "last-good/pins.yaml"
    assert loaded.allowed_hosts == {"my-app.local"}
    assert loaded.providers["openai-eu"].api_key_env == "OPENAI_EU_KEY"
    assert [p.default for p in loaded.providers.values()] == [True, False]
    assert (loaded.events.path, loaded.log.path, loaded.audit.path) == ("-", "-", str(config / "audit.jsonl"))
    assert loaded.fleet.deadline == 0.005
    assert {warning.path for warning in loaded.warnings} <= {"fleet", "otel"}


def test_a_yaml_file_and_its_json_twin_are_the_same(config):
    import yaml

    data = (config / "pins-full.yaml").read_bytes()
    twin = json.dumps(yaml.safe_load(data), default=str).encode()
    one, other = read_pins(data, "a.yaml", None), read_pins(twin, "a.json", None)
    assert (one.models, one.pins, one.aliases) == (other.models, other.pins, other.aliases)
    assert one.sha256 != other.sha256


# --- sidecar.yaml ----------------------------------------------------------------------------------------------------

BAD = [
    ("no providers", "pins: p.yaml\n", 1, "", "`providers` is missing", "add `providers:`"),
    ("no pins", PROVIDER, 1, "", "`pins` is missing", "--pins"),
    ("empty providers", "pins: p\nproviders: {}\n", 2, "providers", "is empty", "at least 1"),
    ("reserved", "pins: p\nproviders:\n  v1: {dialect: openai, base_url: 'https://h'}\n", 3, "providers.v1", "a path of ours", "another name"),
    ("unsafe name", "pins: p\nproviders:\n  a/b: {dialect: openai, base_url: 'https://h'}\n", 3, "providers.a/b", "cannot stand in a path", "letters"),
    ("api_key", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', api_key: " + SECRET + "}\n", 3, "providers.a.api_key", "unknown key", "api_key_env"),
    ("key pasted", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', api_key_env: sk-" + SECRET + "}\n", 3, "providers.a.api_key_env", "not the name of an environment variable", "never the key"),
    ("two keys", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', api_key_env: A, api_key_file: b}\n", 3, "providers.a", "both", "keep one"),
    ("dialect", "pins: p\nproviders:\n  a: {dialect: azure, base_url: 'https://h'}\n", 3, "providers.a.dialect", '"azure"', "`openai` or `anthropic` or `gemini`"),
    ("no base_url", "pins: p\nproviders:\n  a: {dialect: openai}\n", 3, "providers.a", "`base_url` is missing", "SDK"),
    ("password in URL", f"pins: p\nproviders:\n  a: {{dialect: openai, base_url: 'https://u:{SECRET}@h'}}\n", 3, "providers.a.base_url", "user name", "api_key_env"),
    ("two defaults", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', default: true}\n  b: {dialect: openai, base_url: 'https://i', default: true}\n", 4, "providers.b.default", "`a` is already the default", "one provider"),
    ("own listener", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://localhost:4010/v1'}\n", 3, "providers.a.base_url", "own listener", "provider's own address"),
    ("own listener, v6", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://[::1]:4010/v1'}\n", 3, "providers.a.base_url", "own listener", "provider's own address"),
    ("own admin", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://127.0.0.2:4011'}\n", 3, "providers.a.base_url", "own listener", "provider's own address"),
    ("own probe", "probe: {listen: '0.0.0.0:4012'}\npins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://localhost:4012'}\n", 4, "providers.a.base_url", "own listener", "provider's own address"),
    ("unspecified host", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://0.0.0.0:4010'}\n", 3, "providers.a.base_url", "own listener", "provider's own address"),
    ("same port twice", "admin: {listen: '127.0.0.1:4010'}\npins: p\n" + PROVIDER, 1, "admin.listen", "taken by `listen`", "another port"),
    ("same port, all hosts", "probe: {listen: '0.0.0.0:4011'}\npins: p\n" + PROVIDER, 1, "probe.listen", "taken by `admin`", "another port"),
    ("listen empty", "listen: []\npins: p\n" + PROVIDER, 1, "listen", "is empty", "at least 1"),
    ("listen no list", "listen: '127.0.0.1:1'\npins: p\n" + PROVIDER, 1, "listen", "not a list", "[a, b]"),
    ("listen", "listen: ['4010']\npins: p\n" + PROVIDER, 1, "listen[0]", "no port", "127.0.0.1:4010"),
    ("allowed host", "allowed_hosts: ['http://x/']\npins: p\n" + PROVIDER, 1, "allowed_hosts[0]", "not a host name", "bare name"),
    ("size", "limits: {body: 16MB}\npins: p\n" + PROVIDER, 1, "limits.body", '"16MB" is not a size', "32MiB"),
    ("drain", "drain: {idle: 2}\npins: p\n" + PROVIDER, 1, "drain.idle", "needs a unit", "2s"),
    ("user_id", "events: {path: e, user_id: md5}\npins: p\n" + PROVIDER, 1, "events.user_id", '"md5"', "`sha256` or `raw` or `none`"),
    ("tls file", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', tls: {ca_file: nowhere.pem}}\n", 3, "providers.a.tls.ca_file", "does not exist", "PEM"),
    ("tls key", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', tls: {client_key: sidecar.yaml}}\n", 3, "providers.a.tls.client_key", "without its certificate", "client_cert"),
    ("unknown", "pins: p\nlisten_on: x\n" + PROVIDER, 2, "listen_on", "unknown key", "`listen`"),
    ("monotonic", "monotonic: yes\npins: p\n" + PROVIDER, 1, "monotonic", '"yes"', "`true` or `false`"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "path", "message", "fix"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_bad_settings(settings_at, tmp_path, text, line, path, message, fix):
    with pytest.raises(ConfigError) as caught:
        settings_at(text)
    problem = caught.value.problems[0]
    assert (problem.file, problem.line, problem.path) == (str(tmp_path / "sidecar.yaml"), line, path)
    assert message in problem.message
    assert fix in problem.fix
    assert SECRET not in str(caught.value)


WARNED = [
    ("key unset", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', api_key_env: NOPE}\n", "providers.a.api_key_env", "not set"),
    ("key file", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://h', api_key_file: nowhere}\n", "providers.a.api_key_file", "does not exist yet"),
    ("plain http", "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://gateway.internal/v1'}\n", "providers.a.base_url", "plain http"),
    ("open to all", "listen: ['0.0.0.0:4010']\npins: p\n" + PROVIDER, "listen[0]", "other machines"),
    ("open admin", "admin: {listen: '0.0.0.0:4011'}\npins: p\n" + PROVIDER, "admin.listen", "other machines"),
    ("maybe ourselves", "probe: {listen: '0.0.0.0:4012'}\npins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://gateway.internal:4012/v1'}\n", "providers.a.base_url", "same port"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "message"), [row[1:] for row in WARNED], ids=[r[0] for r in WARNED])
def test_warned_settings(settings_at, text, path, message):
    (warning,) = settings_at(text).warnings
    assert (warning.severity, warning.path) == ("warning", path)
    assert message in warning.message


def test_an_absent_extra_is_a_named_warning(settings_at, monkeypatch):
    monkeypatch.setattr("sidecar.settings.staticcheck._installed", lambda name: False)
    text = "otel: {endpoint: 'http://127.0.0.1:4318'}\nfleet: {url: 'redis://h'}\npins: p\n" + PROVIDER
    assert [w.fix for w in settings_at(text).warnings] == [
        "pip install 'model-sidecar[fleet]'",
        "pip install 'model-sidecar[otel]'",
    ]


def test_loopback_addresses_of_two_families_do_not_collide(settings_at):
    loaded = settings_at("listen: ['127.0.0.1:4010', '[::1]:4010']\npins: p\n" + PROVIDER)
    assert loaded.listen == (("127.0.0.1", 4010), ("::1", 4010))


def test_any_free_port_collides_with_nothing(settings_at):
    text = "listen: ['127.0.0.1:0']\nadmin: {listen: '127.0.0.1:0'}\npins: p\n" + PROVIDER
    assert settings_at(text).admin_listen == ("127.0.0.1", 0)


def test_overrides_beat_the_file(settings_at, tmp_path):
    text = "listen: ['127.0.0.1:1']\nadmin: {listen: '127.0.0.1:2'}\npins: p\n" + PROVIDER
    loaded = settings_at(text, listen="127.0.0.1:3, [::1]:3", admin_listen="127.0.0.1:4", pins="elsewhere.yaml")
    assert loaded.listen == (("127.0.0.1", 3), ("::1", 3))
    assert loaded.admin_listen == ("127.0.0.1", 4)
    assert loaded.pins_path == Path.cwd() / "elsewhere.yaml"
    assert settings_at(text).pins_path == tmp_path / "p"
    assert settings_at(PROVIDER, pins="x").pins_path.name == "x"


def test_a_bad_override_names_its_flag(settings_at):
    with pytest.raises(ConfigError) as caught:
        settings_at("pins: p\n" + PROVIDER, listen="4010", admin_listen="x")
    assert [problem.file for problem in caught.value.problems[:2]] == ["--listen", "--admin-listen"]


def test_a_provider_at_the_overridden_listener_is_refused(settings_at):
    text = "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'http://127.0.0.1:5555/v1'}\n"
    assert settings_at(text)
    with pytest.raises(ConfigError, match="own listener"):
        settings_at(text, listen="127.0.0.1:5555")


def test_the_first_provider_of_a_dialect_is_its_default(settings_at):
    text = "pins: p\nproviders:\n  a: {dialect: openai, base_url: 'https://a/v1/'}\n  b: {dialect: openai, base_url: 'https://b'}\n"
    loaded = settings_at(text)
    assert loaded.default_provider == {"openai": "a"}
    assert loaded.providers["a"].base_url == "https://a/v1"
    assert loaded.keyless == {"b"}


def test_settings_show_no_secret(settings_at):
    loaded = settings_at(
        f"""
        pins: p
        providers:
          a: {{dialect: openai, base_url: 'https://h', proxy: 'http://u:{SECRET}@proxy:1'}}
        events: {{path: '-', salt: {SECRET}}}
        fleet: {{url: 'redis://:{SECRET}@h'}}
        otel: {{endpoint: 'http://u:{SECRET}@h'}}
        """
    )
    assert SECRET not in repr(loaded)
    assert SECRET not in " ".join(map(str, loaded.warnings))
    assert loaded.events.salt == SECRET


def test_settings_are_frozen(settings_at):
    loaded = settings_at("pins: p\n" + PROVIDER)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.monotonic = True
    with pytest.raises(AttributeError):
        loaded.limits.body = 1


# --- bytes and files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "device", "huge", "loop"])
def test_files_that_cannot_be_read(tmp_path, kind):
    path = tmp_path / "x.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(50 * 1024 * 1024)
    elif kind == "loop":
        path.symlink_to(path)
    with pytest.raises(UnreadableError) as caught:
        read_bytes(path)
    (problem,) = caught.value.problems
    assert problem.file == str(path)
    assert problem.fix


def test_a_file_that_grows_while_it_is_read_is_cut_above_the_limit(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"x" * 100)
    assert read_bytes(path, 100) == b"x" * 100
    with pytest.raises(UnreadableError):
        read_bytes(path, 99)


PIN_LINES = [
    "unlisted: pass", "unlisted: reject", "generation: 1", "models:", "  a-002: {provider: openai}", "  b-002:", "    provider: p",
    "pins:", "  x:", "    stable: a-002", "    fallback: [b-002]", "    variants: {v: {model: b-002, percent: 5}}", "aliases:",
    "  y: a-002", "  y: y", "  é: x", "    policy: {}", "    hedge: {after: p95}", "- a", "? a", ": b", "'", "[", "{", "}", "]", "&a", "*a", "# x",
]  # fmt: skip


def loads_or_refuses(data, file):
    try:
        pins = read_pins(data, file, None)
    except ConfigError as error:
        assert error.problems
        assert all(problem.message for problem in error.problems)
        str(error).encode()
    else:
        assert isinstance(pins, Pins)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(PIN_LINES), max_size=14))
@example(["unlisted: pass"])
def test_any_lines_are_pins_or_a_config_error(lines):
    loads_or_refuses("\n".join(lines).encode(), "pins.yaml")


@settings(max_examples=200)
@given(st.binary(max_size=300), st.sampled_from(["p.yaml", "p.json"]))
def test_any_bytes_are_pins_or_a_config_error(data, file):
    loads_or_refuses(data, file)


@pytest.fixture(scope="module")
def sample_bytes():
    return (Path(__file__).parents[2] / "config" / "pins-full.yaml").read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_sample_is_pins_or_a_config_error(sample_bytes, data):
    at = data.draw(st.integers(0, len(sample_bytes)))
    cut = data.draw(st.integers(0, 40))
    put = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"\n", b": ", b"- ", b"[", b"{", b"'", b"~", b"-1", b"1e9"])
    )
    loads_or_refuses(sample_bytes[:at] + put + sample_bytes[at + cut :], "pins.yaml")


keys = st.sampled_from(
    [
        "version",
        "generation",
        "unlisted",
        "defaults",
        "models",
        "pins",
        "aliases",
        "stable",
        "variants",
        "percent",
        "start",
        "model",
        "policy",
        "prefer",
        "fallback",
        "hedge",
        "after",
        "cache",
        "ttl",
        "budget",
        "scope",
        "timeouts",
        "provider",
        "price",
        "input",
        "output",
        "retires",
        "a-002",
        "x",
    ]
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a-002", "pass", "p95", "1h", "x", "2027-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=300)
@given(st.dictionaries(keys, values, max_size=7))
def test_any_json_is_pins_or_a_config_error(value):
    loads_or_refuses(json.dumps(value).encode(), "p.json")
    loads_or_refuses(json.dumps({**value, "unlisted": "pass"}).encode(), "p.json")


@pytest.mark.parametrize(("file", "most"), [("pins.json", 0.1), ("pins.yaml", 1.0)])
def test_two_thousand_names_load_soon(file, most):
    """The promise is about 10 ms (JSON) and under 100 ms (YAML); the benchmarks measure it."""
    models = {
        f"gpt-{n}-2025-11-02": {"provider": "openai", "context": 128000, "price": {"input": 1.25, "output": 10}}
        for n in range(200)
    }
    pins = {f"chat.{n}": {"stable": f"gpt-{n % 200}-2025-11-02"} for n in range(2000)}
    data = json.dumps({"generation": 1, "unlisted": "reject", "models": models, "pins": pins}, indent=1).encode()
    best = 9.0
    for _ in range(5):
        begin = time.perf_counter()
        loaded = read_pins(data, file, None)
        best = min(best, time.perf_counter() - begin)
    assert len(loaded.pins) == 2000
    assert best < most
