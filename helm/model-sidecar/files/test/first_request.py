"""What `helm test` runs, in the sidecar's own image: one request through a sidecar to the bundled fake provider.

First the namespace's own settings and pin file are checked, where they are mounted. Then a sidecar with a pin of its
own answers one chat completion, and must say which model served. Nothing is written: the root is read-only.
"""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

APPS = Path("/etc/model-sidecar")
OURS = Path(__file__).parent
PROVIDER = "http://127.0.0.1:4020"
PROXY = "http://127.0.0.1:4010"
ADMIN = "http://127.0.0.1:4011"
NAME, MODEL = "chat.test", "gpt-5.4-2025-11-02"
LIMIT_S = 60.0


def check_apps_files() -> None:
    """Does the sidecar of this image read what the apps' sidecars mount?"""
    pins = sorted(APPS.glob("pins/pins.*"))
    if not pins or not (APPS / "config" / "sidecar.yaml").exists():
        print("this namespace has no apps' files: nothing to check", flush=True)
        return
    command = ["sidecar", "pins", "check", str(pins[0]), "--config", str(APPS / "config" / "sidecar.yaml")]
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(f"the live pin file is not good: exit code {done.returncode}")


def wait_for(url: str) -> None:
    """Until it answers, and not with an error of its own."""
    ends = time.monotonic() + LIMIT_S
    while time.monotonic() < ends:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit(f"{url} does not answer after {LIMIT_S:g} s: see the lines above")


def ask() -> None:
    """One chat completion by the pin's name."""
    body = json.dumps({"model": NAME, "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"content-type": "application/json", "authorization": "Bearer of-a-test"}
    request = urllib.request.Request(f"{PROXY}/v1/chat/completions", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        served, generation = answer.headers["x-sidecar-model"], answer.headers["x-sidecar-generation"]
        reached = json.load(answer)["model"]
    if served != MODEL or reached != MODEL:
        sys.exit(f"{NAME} means {MODEL}: the sidecar says {served}, the provider was asked for {reached}")
    print(f"asked for {NAME}: served by {served}, generation {generation}", flush=True)


def main() -> None:
    """All of it; ends with a sentence and exit code 1 where something is wrong."""
    check_apps_files()
    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        del os.environ[name]
    started = []
    try:
        started.append(subprocess.Popen(["sidecar", "provider", "--listen", PROVIDER.removeprefix("http://")]))
        started.append(subprocess.Popen(["sidecar", "serve", "--config", str(OURS / "sidecar.yaml")]))
        wait_for(PROVIDER)
        wait_for(f"{ADMIN}/readyz")
        ask()
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
