"""Rules on GPU memory: weights and KV cache against what a GPU has. All of it is estimated.

Weights per GPU are `parameters x bytes / (TP x PP)`. The KV cache of one token is
`2 x KV heads per GPU x head size x layers / PP x bytes`; multi-head latent attention keeps one vector of
`kv_lora_rank` per layer, which TP does not divide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compiler.errors import Problem, error, nearest, warning
from compiler.facts import parameters
from compiler.flags import canonical
from compiler.model import Config, Model, Role
from compiler.placement import Placement
from compiler.rules.nodes import VIRTUAL

GPU_MEMORY_GB: Mapping[str, float] = {
    "A10": 24, "A100": 80, "A100-40GB": 40, "A30": 24, "A40": 48, "B100": 192, "B200": 180, "B300": 288, "GB200": 186,
    "GB300": 279, "GH200": 96, "H100": 80, "H20": 96, "H200": 141, "H800": 80, "L4": 24, "L40": 48, "L40S": 48,
    "T4": 16, "V100": 32,
}  # fmt: skip
"""GPU kind -> memory in GB, from NVIDIA's data sheets; `system.gpu.memory_gb` goes first."""
BYTES_OF: Mapping[str, float] = {
    "fp8": 1,
    "int8": 1,
    "w8a8": 1,
    "awq": 0.5,
    "gptq": 0.5,
    "int4": 0.5,
    "fp4": 0.5,
}
"""Part of a quantisation's name -> bytes per weight; anything else counts 2."""
MOST_USED = 0.9
"""Share of a GPU's memory that engines use unless told otherwise."""
LENGTH = ("max_model_len", "context_length")
SEQUENCES = ("max_num_seqs", "max_running_requests")
SHARE = ("gpu_memory_utilization", "mem_fraction_static")
"""Flags of vLLM and of SGLang: the longest sequence, sequences at a time, share of the memory to use."""


def memory(config: Config, placement: Placement) -> Iterable[Problem]:
    """An error only when the weights alone cannot fit; estimates of the rest are a warning."""
    gpu, count = config.system.gpu, parameters(config.model)
    if count is None or config.model.synthetic:
        return
    available = gpu.memory_gb or GPU_MEMORY_GB.get((gpu.kind or "").upper().removeprefix("NVIDIA "))
    if available is None:
        yield from _unknown(gpu.kind) if config.engine == "real" else ()
        return
    for name, role in config.roles.items():
        split = role.tensor_parallel_size * role.pipeline_parallel_size
        weights = count * _bytes_per_weight(config, role) / split / 1e9
        key, tp = f"{name}.tensor_parallel_size", role.tensor_parallel_size
        shown = f"about {weights:.1f} GB of weights per GPU, {gpu.kind or 'the GPU'} has {available:g} GB"
        if weights > available and not config.model.num_experts:
            yield error("memory", key, tp, shown, f"raise {name} TP or PP, or use a quantised model")
        elif weights > MOST_USED * available:
            yield warning(
                "memory", key, tp, f"{shown}; little is left for the KV cache", f"raise {name} TP or PP"
            )
        else:
            yield from _cache(config.model, name, role, weights, available)


def _unknown(kind: str | None) -> Iterable[Problem]:
    """A kind that nobody said the memory of: the rest of the rule cannot be asked."""
    if kind is None or kind == VIRTUAL:
        return
    meant = nearest(kind.upper(), GPU_MEMORY_GB)
    guess = f"did you mean {' or '.join(map(repr, meant))}? else " if meant else ""
    reason = "the memory of this GPU is not known, so nothing is checked against it"
    yield warning("memory", "system.gpu.kind", kind, reason, f"{guess}set system.gpu.memory_gb")


def _cache(model: Model, name: str, role: Role, weights: float, available: float) -> Iterable[Problem]:
    """Room for the longest sequence, and for as many of them as the engine may hold at a time."""
    (length_key, length), (sequences_key, sequences) = _given(role, LENGTH), _given(role, SEQUENCES)
    token = _bytes_per_token(model, role)
    if not _is_count(length) or token is None:
        return
    share = _given(role, SHARE)[1]
    used = share if isinstance(share, int | float) and 0 < share <= 1 else MOST_USED
    room = used * available - weights
    one = token * length / 1e9
    left = f"{max(room, 0):.1f} GB are left by the weights per GPU"
    if one > room:
        reason = f"a sequence of this length needs about {one:.1f} GB of KV cache, {left}"
        yield warning(
            "memory", f"{name}.args.{length_key}", length, reason, f"shorten it, or raise {name} TP or PP"
        )
    elif _is_count(sequences) and one * sequences > room:
        reason = f"as many sequences of {length_key} {length} need about {one * sequences:.1f} GB of KV cache, {left}"
        hint = f"about {int(room / one)} fit; more wait or are computed again"
        yield warning("memory", f"{name}.args.{sequences_key}", sequences, reason, hint)


def _given(role: Role, names: Iterable[str]) -> tuple[str, Any]:
    """The first of some flags that a role's args give: its key there, and its value."""
    spelled = {canonical(str(key)): str(key) for key in role.args}
    key = next((spelled[name] for name in names if name in spelled), "")
    return key, role.args.get(key)


def _is_count(value: object) -> bool:
    """A whole number that a float can hold; a larger one is no length of anything."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53


def _bytes_per_token(model: Model, role: Role) -> float | None:
    """KV cache of one token on one GPU; null when facts are missing."""
    layers, heads = model.num_hidden_layers, model.num_attention_heads
    size = 1 if "8" in str(_given(role, ("kv_cache_dtype",))[1]) else 2
    if layers is None:
        return None
    if model.kv_lora_rank:
        return model.kv_lora_rank * layers / role.pipeline_parallel_size * size
    shared = model.num_key_value_heads or heads
    head = model.head_dim or (model.hidden_size // heads if model.hidden_size and heads else None)
    if shared is None or head is None:
        return None
    return (
        2
        * -(-shared // role.attention_tensor_parallel_size)
        * head
        * layers
        / role.pipeline_parallel_size
        * size
    )


def _bytes_per_weight(config: Config, role: Role) -> float:
    words = [str(role.args.get(key, "")) for key in ("quantization", "dtype")] + [config.model.id]
    text = " ".join(words).lower()
    return next((size for part, size in BYTES_OF.items() if part in text), 2.0)
