"""Holds TensorZero's embedded gateway. Run by the Python of its environment: `tensorzero_host.py tensorzero.toml`.

It prints `base <URL>`, the base for clients of OpenAI's API, and sleeps. This is the function that the package's own
`patch_openai_client` starts the gateway with.
"""

import signal
import sys

from tensorzero.tensorzero import _start_http_gateway  # type: ignore[import-not-found,unused-ignore]


def main() -> None:
    gateway = _start_http_gateway(
        config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    print(f"base {gateway.base_url}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
