"""Addresses of servers as they are typed: one without a scheme gets the likely one."""

import re

from bitnet_core.network.hosts import is_local

_BARE = re.compile(r"(\[[\da-fA-F:.]+\]|[\w-]+(?:\.[\w-]+)*)(?::(\d{1,5}))?(?:/\S*)?")
_CLEARLY = re.compile(r"https?://\S+|(?:\[[\da-fA-F:]+\]|[\w-]+(?:\.[\w-]+)*):\d{2,5}(?:/\S*)?")

COLON = r":(?!\d+(?:/|$))"
"""The sign between a label and a value; what has a port behind a colon is a host."""
ADDED = "Without http:// or https://, it gets the likelier of the two."


def is_address(name: str) -> bool:
    """Whether a setting is the address of an HTTP server."""
    return name.endswith("_URL")


def looks_like_one(text: str) -> bool:
    """Whether a text can hardly be anything but an address: it has a scheme or a port."""
    return _CLEARLY.fullmatch(text) is not None


def scheme(text: str) -> str:
    """The scheme to put before an address; empty if it has one, or if the text is not an address.

    `http://` for this machine and its own network, unless the port is that of HTTPS. All else gets `https://`: a key
    must not cross the internet unencrypted.
    """
    found = _BARE.fullmatch(text)
    if found is None:
        return ""
    host, port = found.groups()
    return "http://" if port != "443" and is_local(host.strip("[]")) else "https://"
