"""servix: `python run.py topology=shared backend=sglang`. See README.md."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Hydra finds launchers in packages named `hydra_plugins` only; ours lies below launchers/.
sys.path.append(str(ROOT / "launchers"))
# Hydra then raises what is wrong instead of printing it, so that it is told in our form.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra  # noqa: E402

from launchers import main  # noqa: E402

exit_codes: list[int] = []


@hydra.main(version_base="1.3", config_path="config", config_name="config")
def servix(outcome: int) -> None:
    """Told by the launcher how the command ended; Hydra itself would only say that it did."""
    exit_codes.append(main.exit_code(outcome))


if __name__ == "__main__":
    sys.exit(main.run(servix, exit_codes, ROOT / "config", sys.argv[1:]))
