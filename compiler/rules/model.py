"""Rules on the model: sizes against its heads, layers and experts, memory, context length.

Formulas from the checks of engines and peers: heads and KV heads divide by TP (replicated KV heads: TP divides by
them), layers by PP, experts by EP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from compiler.errors import Problem, error, warning
from compiler.facts import parameters
from compiler.flags import canonical
from compiler.model import Config, Role
from compiler.placement import Placement

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


def heads(config: Config, placement: Placement) -> Iterable[Problem]:
    """Attention heads and KV heads against tensor parallel size."""
    model = config.model
    for name, role in config.roles.items():
        tp, key = role.tensor_parallel_size, f"{name}.tensor_parallel_size"
        if model.num_attention_heads and model.num_attention_heads % tp:
            reason = f"{model.num_attention_heads} attention heads of '{model.id}' do not divide by TP {tp}"
            hint = f"use {_choices(model.num_attention_heads, config.system.gpus_per_node)}"
            yield error("heads", key, tp, reason, hint)
        elif (shared := model.num_key_value_heads) and not model.kv_lora_rank and _uneven(shared, tp):
            reason = f"{shared} KV heads of '{model.id}' can be neither split nor copied evenly over TP {tp}"
            yield error("heads", key, tp, reason, f"use {_choices(shared, config.system.gpus_per_node)}")


def _uneven(shared: int, tp: int) -> bool:
    return bool(shared % tp) if shared >= tp else bool(tp % shared)


def _choices(number: int, most: int) -> str:
    sizes = [size for size in range(1, most + 1) if number % size == 0]
    return " or ".join(", ".join(map(str, sizes)).rsplit(", ", 1))


def layers(config: Config, placement: Placement) -> Iterable[Problem]:
    """Layers against pipeline parallel size."""
    count = config.model.num_hidden_layers
    for name, role in config.roles.items():
        pp, key = role.pipeline_parallel_size, f"{name}.pipeline_parallel_size"
        if count and pp > count:
            reason = f"'{config.model.id}' has {count} layers, fewer than PP {pp}"
            yield error("layers", key, pp, reason, f"at most {count}")
        elif count and count % pp:
            reason = f"{count} layers of '{config.model.id}' do not divide by PP {pp}; stages are uneven"
            yield warning("layers", key, pp, reason)


def experts(config: Config, placement: Placement) -> Iterable[Problem]:
    """Experts against expert parallel size, which is an engine flag."""
    for name, role in config.roles.items():
        given = {canonical(str(key)): (key, value) for key, value in role.args.items()}
        for flag in ("expert_parallel_size", "ep_size", "ep"):
            if flag not in given:
                continue
            key, size = given[flag]
            place, count = f"{name}.args.{key}", config.model.num_experts
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                yield error("experts", place, size, "should be a whole number of at least 1")
            elif count is None and size > 1 and config.model.num_hidden_layers:
                reason = f"'{config.model.id}' is not known to have experts"
                yield warning("experts", place, size, reason, "set model.num_experts if it has")
            elif count and count % size:
                yield error(
                    "experts", place, size, f"{count} experts of '{config.model.id}' do not divide by {size}"
                )
            elif role.world_size % size:
                reason = f"EP {size} does not divide the worker's {role.world_size} GPUs"
                yield error("experts", place, size, reason)


def memory(config: Config, placement: Placement) -> Iterable[Problem]:
    """An error only when the weights alone cannot fit; estimates of the rest are a warning."""
    gpu, count = config.system.gpu, parameters(config.model)
    available = gpu.memory_gb or GPU_MEMORY_GB.get((gpu.kind or "").upper().removeprefix("NVIDIA "))
    if available is None or count is None or config.model.synthetic:
        return
    for name, role in config.roles.items():
        split = role.tensor_parallel_size * role.pipeline_parallel_size
        need = count * _bytes_per_weight(config, role) / split / 1e9
        key, tp = f"{name}.tensor_parallel_size", role.tensor_parallel_size
        shown = f"about {need:.1f} GB of weights per GPU, {gpu.kind or 'the GPU'} has {available:g} GB"
        if need > available and not config.model.num_experts:
            yield error("memory", key, tp, shown, f"raise {name} TP or PP, or use a quantised model")
        elif need > MOST_USED * available:
            yield warning(
                "memory", key, tp, f"{shown}; little is left for the KV cache", f"raise {name} TP or PP"
            )


def _bytes_per_weight(config: Config, role: Role) -> float:
    words = [str(role.args.get(key, "")) for key in ("quantization", "dtype")] + [config.model.id]
    text = " ".join(words).lower()
    return next((size for part, size in BYTES_OF.items() if part in text), 2.0)


def context(config: Config, placement: Placement) -> Iterable[Problem]:
    """Prompt and answer fit the context, which fits what the model was trained for."""
    trained = config.model.max_position_embeddings
    limits: list[tuple[int, str]] = (
        [(trained, f"the model's max_position_embeddings {trained}")] if trained else []
    )
    for name, role in config.roles.items():
        for flag in ("max_model_len", "context_length"):
            value = role.args.get(flag, role.args.get(flag.replace("_", "-")))
            if not isinstance(value, int) or isinstance(value, bool):
                continue
            limits.append((value, f"{name}.args.{flag} {value}"))
            if trained and value > trained:
                reason = f"more than the {trained} positions '{config.model.id}' was trained for"
                yield error("context", f"{name}.args.{flag}", value, reason, f"at most {trained}")
    if not limits:
        return
    limit, said = min(limits)
    for index, phase in enumerate(config.phases or [{}]):
        arguments = config.phase_arguments(phase)
        lengths = [arguments.get("synthetic_input_tokens_mean"), arguments.get("output_tokens_mean")]
        total = sum(value for value in lengths if isinstance(value, int) and not isinstance(value, bool))
        if total > limit:
            key = next(
                (key for key in ("output_tokens_mean", "synthetic_input_tokens_mean") if key in phase), None
            )
            place = f"phases.{index}.{key}" if key else f"{config.bench.name}.output_tokens_mean"
            reason = f"prompt and answer are {total} tokens, more than {said}"
            yield error("context", place, arguments.get("output_tokens_mean"), reason, "ask for fewer tokens")
