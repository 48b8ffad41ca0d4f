"""Overrides -> plain data. The only part of the compiler that knows Hydra and OmegaConf."""

from compiler.compose.composer import Composed, Composer, composer
from compiler.compose.loader import COMPLAINTS, Source

__all__ = ["COMPLAINTS", "Composed", "Composer", "Source", "composer"]
