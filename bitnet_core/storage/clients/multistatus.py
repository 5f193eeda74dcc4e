"""What a WebDAV server says about the members of a folder: a PROPFIND's XML, read as the untrusted text it is."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

ASK = (
    b'<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/>'
    b"<D:getcontentlength/><D:getlastmodified/><D:quota-available-bytes/></D:prop></D:propfind>"
)
"""The body of the request: the properties of a `Member`."""
_DEEPEST = 32
_MOST_ELEMENTS = 1 << 20
"""More than a response of the largest size has, whose members take a few hundred bytes each."""
_MOST_DIGITS = 18


@dataclass(frozen=True)
class Member:
    """A file or a folder. `href` is as the server wrote it; None stands for what it did not say."""

    href: str
    is_folder: bool
    size: int | None
    modified: float | None
    free_bytes: int | None


def members(body: bytes) -> list[Member]:
    """The members in a response, the folder itself among them. ValueError if it is not such a response."""
    root = _parsed(body)
    if root.tag != "{DAV:}multistatus":
        raise ValueError("it is not a multistatus")
    return [found for one in root.iterfind("{DAV:}response") for found in _member(one)]


def _member(response: Element) -> Iterator[Member]:
    # Each property stands once with a value; those that the server lacks stand empty beside a 404.
    texts = {one.tag: one.text.strip() for one in response.iterfind("*/*/*") if one.text and one.text.strip()}
    if href := (response.findtext("{DAV:}href") or "").strip():
        yield Member(
            href,
            response.find("*/*/{DAV:}resourcetype/{DAV:}collection") is not None,
            _whole(texts.get("{DAV:}getcontentlength", "")),
            _seconds(texts.get("{DAV:}getlastmodified", "")),
            _whole(texts.get("{DAV:}quota-available-bytes", "")),
        )


def _whole(text: str) -> int | None:
    # Nextcloud says -1 to -3 for a quota that it does not know or that has no end.
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _seconds(date: str) -> float | None:
    with contextlib.suppress(ValueError, OverflowError):
        return parsedate_to_datetime(date).timestamp()
    return None


def _parsed(body: bytes) -> Element:
    """The root element. ValueError for what is not XML, and for a document type, which could define entities."""
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    depth = count = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _DEEPEST or count > _MOST_ELEMENTS:
            raise ValueError("its elements are too deep or too many")
        builder.start(f"{{{tag}" if "}" in tag else tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return builder.close()
