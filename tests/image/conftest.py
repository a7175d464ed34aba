"""The image of the sources as they are: built once, where that can be done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.image import kit


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kit.Image]:
    """The image, built by tools/image."""
    if reason := kit.missing():
        pytest.skip(reason)
    with kit.image(tmp_path_factory.mktemp("checkout")) as image:
        yield image
