"""Byte-exact reading of a `multipart/form-data` body that is already in memory (RFC 7578)."""

from __future__ import annotations

import re

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(r'[;\s]name="([^"]*)"')
_FILENAME = re.compile(r'[;\s]filename="([^"]*)"')


def read(content_type: str, body: bytes) -> tuple[dict[str, bytes], dict[str, str]]:
    """The fields by name, and the file names by field name. A field given twice: the last one."""
    fields: dict[str, bytes] = {}
    filenames: dict[str, str] = {}
    boundary = _BOUNDARY.search(content_type)
    if boundary is None:
        return fields, filenames
    for part in (b"\r\n" + body).split(b"\r\n--" + boundary[1].encode())[1:]:
        head, separator, content = part.partition(b"\r\n\r\n")
        disposition = head.decode("utf-8", "replace")
        name = _NAME.search(disposition)
        if not separator or name is None:
            continue
        fields[name[1]] = content
        if filename := _FILENAME.search(disposition):
            filenames[name[1]] = filename[1]
    return fields, filenames
