"""What is generated from the registry of settings: `.env.example` and docs/settings.md."""

from bitnet_core.settings import REGISTRY


def env_example() -> str:
    """The text of `.env.example`: every name with its default, help, bounds and unit, by section."""
    out = [
        "# Every setting of bitnet-tui, with its default. Copy to .env and keep what you change.",
        "# Empty = unset.",
    ]
    section = ""
    for setting in REGISTRY.values():
        if setting.section != section:
            section = setting.section
            out += ["", f"# --- {section} ---"]
        notes = [setting.help]
        if setting.kind != "text" or setting.choices:
            notes.append(f"({setting.allowed()}{', ' + setting.unit if setting.unit else ''})")
        out += [f"# {' '.join(notes)}", f"{setting.name}={setting.default}"]
    return "\n".join(out) + "\n"


def settings_table() -> str:
    """The Markdown table of docs/settings.md."""
    out: list[str] = []
    section = ""
    for setting in REGISTRY.values():
        if setting.section != section:
            section = setting.section
            out += ["", f"## {section}", "", "| name | default | allowed | what it is |", "|---|---|---|---|"]
        default = f"`{setting.default}`" if setting.default else "(unset)"
        allowed = "secret" if setting.secret else setting.allowed() + (f", {setting.unit}" if setting.unit else "")
        out.append(f"| `{setting.name}` | {default} | {allowed} | {setting.help} |")
    return "\n".join(out).strip() + "\n"
