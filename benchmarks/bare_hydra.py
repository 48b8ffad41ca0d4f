"""The smallest Hydra program there is: what `action=plan` is compared with."""

import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(_: object) -> None:
    """Does nothing."""


if __name__ == "__main__":
    main()
