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

if __name__ == "__main__":
    try:
        from launchers.main import main

        sys.exit(main(ROOT / "config", sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
