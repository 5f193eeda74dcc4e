"""The command `bitnet-tui`, which `python -m bitnet_tui` starts, too."""

import sys


def main() -> int:
    """Run the app. Ctrl-C may come while its modules are still being imported."""
    try:
        from bitnet_tui.start import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
