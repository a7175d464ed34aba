"""The peers: other people's proxies and gateways, measured in the same run. README.md tells how each is set up."""

from __future__ import annotations

from benchmarks.figures import System
from benchmarks.peers.base import CACHE, Peer, SkippedError
from benchmarks.peers.bifrost import Bifrost
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.litellm import LiteLLM
from benchmarks.peers.nginx import Nginx
from benchmarks.peers.portkey import Portkey
from benchmarks.peers.tensorzero import TensorZero

__all__ = ["CACHE", "PEERS", "Peer", "SkippedError", "survey"]

PEERS: tuple[Peer, ...] = (Nginx(), HAProxy(), TensorZero(), Bifrost(), Portkey(), LiteLLM())


def survey(peer: Peer) -> System:
    """Install the peer, if it isn't, and tell of it: with its version, or why it is skipped."""
    try:
        peer.install()
        return System(peer.name, version=peer.version(), setup=peer.setup)
    except SkippedError as exc:
        return System(peer.name, setup=peer.setup, skipped=str(exc))
