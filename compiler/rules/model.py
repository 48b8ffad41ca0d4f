"""Rules on the model: sizes against its heads, layers and experts, context length.

Formulas from the checks of engines and peers: heads and KV heads divide by TP (replicated KV heads: TP divides by
them), layers by PP, experts by EP.
"""

from __future__ import annotations

from collections.abc import Iterable

from compiler.errors import Problem, error, warning
from compiler.flags import canonical
from compiler.model import Config
from compiler.placement import Placement


def heads(config: Config, placement: Placement) -> Iterable[Problem]:
    """Attention heads and KV heads against tensor parallel size."""
    model = config.model
    for name, role in config.roles.items():
        tp, key = role.attention_tensor_parallel_size, f"{name}.tensor_parallel_size"
        if model.num_attention_heads and model.num_attention_heads % tp:
            reason = f"{model.num_attention_heads} attention heads of '{model.id}' do not divide by TP {tp}"
            hint = f"use {_choices(model.num_attention_heads, config.system.gpus_per_node)}"
            yield error("heads", key, tp, reason, hint)
        elif (shared := model.num_key_value_heads) and not model.kv_lora_rank and _uneven(shared, tp):
            reason = f"{shared} KV heads of '{model.id}' can be neither split nor copied evenly over TP {tp}"
            yield error("heads", key, tp, reason, f"use {_choices(shared, config.system.gpus_per_node)}")


def dp_attention(config: Config, placement: Placement) -> Iterable[Problem]:
    """SGLang's DP attention makes DP groups of the TP ranks."""
    for name, role in config.roles.items():
        tp, dp = role.tensor_parallel_size, role.data_parallel_size
        if role.has_dp_attention and tp % dp:
            reason = f"DP attention makes {dp} groups of the ranks of TP {tp}, which do not divide"
            yield error("dp-attention", f"{name}.data_parallel_size", dp, reason, f"use {_choices(tp, tp)}")


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
    """Experts against expert parallel size, which is an engine flag; vLLM's has no number, it takes TP x DP."""
    for name, role in config.roles.items():
        given = {canonical(str(key)): (key, value) for key, value in role.args.items()}
        key, value = given.get("enable_expert_parallel", ("", None))
        if value is True and config.model.num_experts is None and config.model.num_hidden_layers:
            reason = f"'{config.model.id}' is not known to have experts"
            hint = "leave it out, or set model.num_experts if it has"
            yield warning("experts", f"{name}.args.{key}", value, reason, hint)
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
