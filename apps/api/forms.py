"""Forms (``multipart/form-data``), read into memory that the limit of bodies bounds: no file is made.

A form that breaks off is none: what is cut in the middle of an image would otherwise look like a damaged one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from apps.api.problems import Problem

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 8
MAX_TEXT_BYTES = 8 << 20
"""Most bytes of a field that is no file: 16,000 points fit in one."""


@dataclass
class Part:
    """One field of a form.

    Attributes:
        name: of the field.
        is_file: whether it has a file name; the name itself is not kept.
        data: its content.
    """

    name: str = ""
    is_file: bool = False
    data: bytearray = field(default_factory=bytearray)


async def read_form(content_type: str, chunks: AsyncIterator[bytes]) -> list[Part]:
    """The fields of a form, in order.

    Args:
        content_type: the header, with the boundary.
        chunks: of the body.

    Raises:
        Problem: 400 ``form_invalid``; 413 for a text that is too long.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise _invalid("its Content-Type has no boundary")
    reader = _Reader()
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError:
        raise _invalid("it does not follow the format") from None
    if not reader.whole:
        raise _invalid("it breaks off")
    return reader.parts


class _Reader:
    """Gathers what the parser finds."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.whole = False
        self._header, self._value = b"", b""
        self._disposition = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise _invalid(f"it has more than {MAX_PARTS} fields")
        self.parts.append(Part())
        self._disposition = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise _invalid("a field has no name")
        self.parts[-1].name = options[b"name"].decode("utf-8", "replace")
        self.parts[-1].is_file = b"filename" in options

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.data += data[start:end]
        if not part.is_file and len(part.data) > MAX_TEXT_BYTES:
            raise Problem(
                413,
                "field_too_large",
                f"a text field is larger than {MAX_TEXT_BYTES:,} bytes",
                field=part.name[:80],
                allowed={"max_bytes": MAX_TEXT_BYTES},
                headers={"Connection": "close"},
            )

    def _end(self) -> None:
        self.whole = True


def _invalid(why: str) -> Problem:
    return Problem(400, "form_invalid", f"the form cannot be read: {why}")
