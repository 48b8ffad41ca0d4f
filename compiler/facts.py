"""Static facts of the model, read from its `config.json` where the configuration does not say them.

Takes a typed configuration; gives it with the facts filled in. Reads one small file, and only when `model.path` is
a folder of this machine that has one. Never does: overriding what the configuration says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from compiler.model import Config, Model
from compiler.once import once

SERVIX_DIR = Path(__file__).resolve().parent.parent
ALIASES: Mapping[str, tuple[str, ...]] = {
    "num_attention_heads": ("n_head", "num_heads"),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "hidden_size": ("n_embd", "d_model"),
    "max_position_embeddings": ("n_positions", "max_sequence_length"),
    "num_experts": ("num_local_experts", "n_routed_experts"),
}
"""Names that older or other architectures use in config.json."""
FACTS = (
    "num_attention_heads",
    "num_key_value_heads",
    "num_hidden_layers",
    "hidden_size",
    "head_dim",
    "intermediate_size",
    "moe_intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "num_experts",
    "kv_lora_rank",
)
LARGEST = 10_000_000
"""Bytes of a config.json that is still read."""


def with_facts(config: Config) -> Config:
    """The configuration with every fact that only `config.json` knows."""
    if config.model.path is None:
        return config
    model = _filled(config.model, config.model.path.replace("{servix_dir}", str(SERVIX_DIR)))
    return config if model is config.model else replace(config, model=model)


@once
def _filled(model: Model, path: str) -> Model:
    found = _read(str(Path(path) / "config.json"))
    missing: dict[str, Any] = {
        name: found[name] for name in FACTS if getattr(model, name) is None and name in found
    }
    return replace(model, **missing) if missing else model


@lru_cache(maxsize=32)
def _read(path: str) -> Mapping[str, int]:
    """Facts of a config.json that are whole numbers; none when the file is not there or not to be read."""
    try:
        if Path(path).stat().st_size > LARGEST:
            return {}
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    # Models that see or hear keep the language model's facts one level deeper.
    inner = data.get("text_config")
    merged: dict[str, Any] = {**data, **(inner if isinstance(inner, dict) else {})}
    facts: dict[str, int] = {}
    for name in FACTS:
        for spelling in (name, *ALIASES.get(name, ())):
            value = merged.get(spelling)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                facts.setdefault(name, value)
    return facts


def parameters(model: Model) -> int | None:
    """Estimated number of weights of a decoder-only transformer with gated MLPs; null when facts are missing.

    Attention without low-rank projections is assumed, which overestimates models that have them; embeddings are
    counted once. Good to some percent for Llama- and Qwen-like models.
    """
    h, layers, vocabulary = model.hidden_size, model.num_hidden_layers, model.vocab_size
    heads, inner = model.num_attention_heads, model.intermediate_size
    if h is None or layers is None or vocabulary is None or heads is None or inner is None:
        return None
    head = model.head_dim or h // heads
    attention = h * head * (2 * heads + 2 * (model.num_key_value_heads or heads))
    mlp = 3 * h * inner
    if model.num_experts:
        mlp = 3 * h * (model.moe_intermediate_size or inner) * model.num_experts
    return layers * (attention + mlp) + vocabulary * h
