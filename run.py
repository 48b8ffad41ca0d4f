"""servix: `python run.py topology=shared backend=sglang`. See README.md."""

import gc
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Hydra finds launchers in packages named `hydra_plugins` only; ours lies below launchers/.
sys.path.append(str(ROOT / "launchers"))
# Hydra then raises what is wrong instead of printing it, so that it is told in our form.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

# Importing and compiling make many objects and hardly any garbage: Python would look for it every 700.
gc.set_threshold(200_000)


def wrong_python(reason: str) -> int:
    """Says which Python has what servix needs; gives the exit code of a command that started nothing."""
    activate = ROOT / ".venv" / "bin" / "activate"
    way = f"source {activate}" if activate.exists() else "make install, then source .venv/bin/activate"
    print(f"error: {sys.executable}: {reason}; {way}, then the same command", file=sys.stderr)
    print("nothing was started", file=sys.stderr)
    return 2


def run() -> int:
    """Runs the command; gives its exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - who has not set up .venv may have any Python
        return wrong_python("is older than Python 3.11")
    try:
        from launchers.main import main
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] in ("compiler", "launchers"):
            raise
        return wrong_python(f"has no module {missing.name}")
    return main(ROOT / "config", sys.argv[1:])


if __name__ == "__main__":
    try:
        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(130)
