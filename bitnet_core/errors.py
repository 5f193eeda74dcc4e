"""Errors that are the user's or the world's, not ours: one sentence that names the thing and the fix."""


class BitnetError(Exception):
    """`str(error)` is the whole message; it is shown as it is, without a traceback."""

    exit_code = 1


class UsageError(BitnetError):
    """The call or the settings are wrong; no work was started."""

    exit_code = 2


class Stopped(BitnetError):
    """The user stopped the stage; what it had made is kept."""

    exit_code = 130
