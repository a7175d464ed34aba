"""HTML and SVG as text in which everything is escaped that isn't already markup."""

from __future__ import annotations

from html import escape
from typing import TypeAlias


class Html(str):
    """Finished markup. Plain strings become it only through `el` and `join`, which escape them."""

    __slots__ = ()


Content: TypeAlias = "str | float | Html | None"


def el(name: str, *content: Content, **attributes: str | float | None) -> Html:
    """`<name ...>content</name>`. In attributes' names `_` stands for `-`; `class_` is `class`; None is left out.

    An attribute that is True stands without a value; other numbers are written with at most two decimals.
    """
    said = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    return Html(f"<{name}{said}>{''.join(map(_text, content))}</{name}>")


def join(*content: Content) -> Html:
    """One after the other, each on a line of its own."""
    return Html("\n".join(map(_text, content)))


def short(value: float) -> str:
    """A coordinate: at most two decimals, no zeros at the end."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _text(content: Content) -> str:
    if content is None:
        return ""
    if isinstance(content, Html):
        return content
    return escape(content if isinstance(content, str) else short(content))


def _attribute(name: str, value: str | float | None) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{escape(value if isinstance(value, str) else short(value))}"'
