"""The command `bitnet-tui`, which `python -m bitnet_tui` starts, too."""

import sys


def main() -> int:
    """Run the app. Ctrl-C may come while its modules are still being imported."""
    try:
        from bitnet_tui.start import main as run

        return run()
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        from bitnet_core.errors import lacks_package

        if not (lacking := lacks_package(error)):
            raise
        sys.stderr.write(f"bitnet-tui: {lacking}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
