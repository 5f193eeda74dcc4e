"""Where a host is: on this machine, or on its own network."""

import contextlib
import ipaddress
import socket


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at a host, which is an address or a name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_local(host: str) -> bool:
    """Whether a host belongs to this machine or to its own network."""
    # The system also takes 134744072, 0x8080808 and 8.526344 for 8.8.8.8.
    with contextlib.suppress(OSError, ValueError):
        host = socket.inet_ntoa(socket.inet_aton(host))
    try:
        found = ipaddress.ip_address(host)
    except ValueError:  # a name; names on the internet have a dot
        return "." not in host or host.lower().endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_loopback or found.is_private or found.is_link_local
