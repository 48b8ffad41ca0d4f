"""Overrides -> plain data. The only part of the compiler that knows Hydra and OmegaConf."""

from compiler.compose.composer import Composed, Composer, composer
from compiler.compose.loader import COMPLAINTS, Source
from compiler.compose.overlay import Overlay

__all__ = ["COMPLAINTS", "Composed", "Composer", "Overlay", "Source", "composer"]
