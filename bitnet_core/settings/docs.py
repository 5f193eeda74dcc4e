"""Writes `.env.example` and docs/settings.md from the registry of settings (`make docs`)."""

from pathlib import Path

from bitnet_core.settings.kinds import Setting
from bitnet_core.settings.registry import SECTIONS

_INTRO = """# Settings

Generated from `bitnet_core/settings/registry.py` by `make docs`; change it there.

A value comes from the first of these places that has one: the command line (`--set KD_TAU=1.1`,
`make train KD_TAU=1.1`), the process environment, the experiment's `.env`, `.env` in the working folder, the default.
Empty means unset. `${NAME}` stands for another value, `${NAME:-text}` for the text if there is none. A relative path
in a `.env` is relative to that file. A `.env` may be a named pipe, and `--env <(command)` works: a pipe is read once.
A `.env` that can't be read is an error. It may have 1 MiB; a value may have 30,000 characters and lead through 100
references. `bitnet config` shows every value and where it came from.
`bitnet config --check` reports every problem, and which settings have no effect yet.
"""


def env_example() -> str:
    """The text of `.env.example`: every name with its default, help, bounds and unit, by section."""
    out = [
        "# Every setting of bitnet-tui with its default. Copy this file to .env and keep the lines that you change.",
        "# Empty = unset.",
    ]
    for section, settings in SECTIONS.items():
        out += ["", f"# --- {section} ---"]
        for setting in settings:
            any_text = setting.kind == "text" and not setting.choices
            allowed = "" if any_text else f" ({_allowed(setting)})"
            out += [f"# {setting.help}{allowed}", f"{setting.name}={setting.default}"]
    return "\n".join(out) + "\n"


def settings_page() -> str:
    """The text of docs/settings.md: one table per section."""
    out = [_INTRO.strip()]
    for section, settings in SECTIONS.items():
        out += ["", f"## {section}", "", "| name | default | allowed | what it is |", "|---|---|---|---|"]
        for setting in settings:
            default = f"`{setting.default}`" if setting.default else "(unset)"
            allowed = "secret" if setting.secret else _allowed(setting)
            out.append(f"| `{setting.name}` | {default} | {allowed} | {setting.help} |")
    return "\n".join(out) + "\n"


def _allowed(setting: Setting) -> str:
    return f"{setting.allowed()}, {setting.unit}" if setting.unit else setting.allowed()


def main() -> None:
    """Write both files into the working folder. A test fails when they differ from the registry."""
    Path(".env.example").write_text(env_example(), encoding="utf-8")
    Path("docs/settings.md").write_text(settings_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
