"""Forms: where the model's field may stand, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import multipart
from sidecar.dialects.drafts import splice
from sidecar.errors import RefusedError

TYPE = "multipart/form-data; boundary=B"
FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'


def field(name: str, value: bytes) -> bytes:
    return b'Content-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value


def form(*parts: bytes, end: bytes = b"--B--\r\n") -> bytes:
    return b"".join(b"--B\r\n" + part + b"\r\n" for part in parts) + end


def rewritten(body: bytes, content_type: str = TYPE, header: str | None = None, required: bool = True) -> bytes:
    found = multipart.parts(body, content_type)
    asked = multipart.model_edits(body, content_type, found, header=header, required=required)
    return splice(body, asked.edits, {asked.name: "new"} if asked.name else {})


MODEL, NEW = field("model", b"old"), field("model", b"new")
SOUND = FILE + b"\x00\r\n--Bx\r\n\r\n--C\r\n\xff--B"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (form(MODEL, SOUND), form(NEW, SOUND)),
        (form(SOUND, MODEL), form(SOUND, NEW)),
        (form(field("prompt", b"x"), MODEL, SOUND), form(field("prompt", b"x"), NEW, SOUND)),
        (b"preamble\r\n" + form(MODEL), b"preamble\r\n" + form(NEW)),
        (form(MODEL, end=b"--B--"), form(NEW, end=b"--B--")),
        (form(MODEL, end=b"--B--\r\nepilogue"), form(NEW, end=b"--B--\r\nepilogue")),
        (form(SOUND, field("capability", b"c"), MODEL), form(SOUND, NEW)),
        (form(MODEL, SOUND, field("capability", b"c")), form(NEW, SOUND)),
        (
            form(field("capability", b"c"), SOUND),
            form(b'content-disposition: form-data; name="model"\r\n\r\nnew', SOUND),
        ),
    ],
)
def test_only_the_models_value_changes(before: bytes, after: bytes) -> None:
    assert rewritten(before) == after


def test_a_header_puts_a_field_in() -> None:
    assert rewritten(form(SOUND), header="c") == form(b'content-disposition: form-data; name="model"\r\n\r\nnew', SOUND)
    assert rewritten(form(SOUND, MODEL), header="c") == form(SOUND, NEW)


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="B"',
        "Multipart/Form-Data;BOUNDARY=B; charset=utf-8",
        'multipart/form-data; charset="a;b"; boundary=B',
    ],
)
def test_spellings_of_the_boundary(content_type: str) -> None:
    assert rewritten(form(MODEL), content_type) == form(NEW)


@pytest.mark.parametrize(
    "part",
    [
        b"content-disposition:form-data;name=model\r\n\r\nold",
        b'Content-Type: text/plain\r\nCONTENT-DISPOSITION: form-data; x="y"; name="model"\r\n\r\nold',
        b'Content-Disposition: form-data;\r\n name="model"\r\n\r\nold',
    ],
)
def test_spellings_of_a_field(part: bytes) -> None:
    assert rewritten(form(part)) == form(part[:-3] + b"new")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (form(MODEL, MODEL), TYPE),
        (form(field("capability", b"a"), field("capability", b"b"), MODEL), TYPE),
        (form(SOUND), TYPE),
        (form(field("model", b"")), TYPE),
        (form(field("model", b"\xff")), TYPE),
        (form(field("model", b"a\r\nb")), TYPE),
        (form(field("model", b"x" * 1000)), TYPE),
        (form(MODEL, end=b""), TYPE),
        (form(MODEL)[:-6], TYPE),
        (form(MODEL, end=b"--B"), TYPE),
        (b"", TYPE),
        (b"nothing of the kind", TYPE),
        (form(MODEL), "multipart/form-data"),
        (form(MODEL), 'multipart/form-data; boundary=""'),
        (form(MODEL), "multipart/form-data; boundary=C"),
        (b"--B\r\nno headers end\r\n--B--\r\n", TYPE),
        (form(FILE.replace(b'"file"', b'"model"') + b"x"), TYPE),
    ],
)
def test_refused(body: bytes, content_type: str) -> None:
    with pytest.raises(RefusedError):
        rewritten(body, content_type)


def test_optional() -> None:
    assert rewritten(form(SOUND), required=False) == form(SOUND)


@given(st.binary(max_size=200), st.sampled_from([0, 1, 2]))
def test_a_files_bytes_stay(content: bytes, place: int) -> None:
    content = content.replace(b"--B", b"--A")
    parts, after = [FILE + content, field("x", b"y")], [FILE + content, field("x", b"y")]
    parts.insert(place, MODEL)
    after.insert(place, NEW)
    assert rewritten(form(*parts)) == form(*after)


def test_a_head_tells_a_field_once_it_is_whole() -> None:
    whole = form(field("purpose", b"fine-tune"), SOUND)
    told = [multipart.peek(whole[:n], TYPE, "purpose") for n in range(len(whole) + 1)]
    first = told.index("fine-tune")
    assert set(told[:first]) == {None}
    assert set(told[first:]) == {"fine-tune"}
