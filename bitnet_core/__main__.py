"""The command `bitnet`, which `python -m bitnet_core` starts, too."""

import sys


def main() -> int:
    """Run the command line. Ctrl-C may come while its modules are still being imported."""
    try:
        from bitnet_core.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return 130
    except ImportError as error:
        from bitnet_core.errors import lacks_package

        if not (lacking := lacks_package(error)):
            raise
        sys.stderr.write(f"bitnet: {lacking}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
