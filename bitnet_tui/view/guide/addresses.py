"""Addresses of servers as they are typed: one without a scheme gets the likely one."""

import re

_BARE = re.compile(r"(\[[\da-fA-F:.]+\]|[\w-]+(?:\.[\w-]+)*)(?::(\d{1,5}))?(?:/\S*)?")
_NEAR = re.compile(r"\[.*|\d+(?:\.\d+){3}|localhost", re.IGNORECASE)
"""Hosts that are most likely reached without TLS."""


def is_address(name: str) -> bool:
    """Whether a setting is the address of an HTTP server."""
    return name.endswith("_URL")


def scheme(text: str) -> str:
    """What to put before an address without a scheme; empty if it has one, or is no address.

    `http://` for an IP, localhost or a port but that of HTTPS, else `https://`.
    """
    found = _BARE.fullmatch(text)
    if found is None:
        return ""
    host, port = found.groups()
    return "http://" if port not in (None, "443") or (port is None and _NEAR.fullmatch(host)) else "https://"
