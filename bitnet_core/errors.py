"""Errors that are not bugs: a mistake of the user or a failure outside. One sentence names the thing and the fix."""


class BitnetError(Exception):
    """`str(error)` is the complete message. It is shown as it is, without a traceback."""

    exit_code = 1


class UsageError(BitnetError):
    """The command or the settings are wrong. No work was started."""

    exit_code = 2


class Stopped(BitnetError):
    """The user stopped the stage. Its work is kept."""

    exit_code = 130
