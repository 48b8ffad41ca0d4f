"""Rules on sizes and GPU slices: TP x PP x DP against the GPUs there are."""

from __future__ import annotations

from collections.abc import Iterable

from compiler.catalogue import catalogue
from compiler.errors import Problem, error
from compiler.model import DP_ATTENTION, Config, Role
from compiler.placement import Placement, nodes_per_worker


def tp_pp_fits(config: Config, placement: Placement) -> Iterable[Problem]:
    """Source: NVIDIA CloudAI's constraint tp_times_pp_le_gpus_per_node; data parallel counts too here."""
    available = config.system.gpus_per_node
    if not config.constraints.tp_times_pp_le_gpus_per_node:
        return
    for name, role in config.roles.items():
        if role.world_size > available:
            reason = f"{_a(name)} worker needs {_product(role)} GPUs, a node has {available}"
            hint = "lower the sizes, or constraints.tp_times_pp_le_gpus_per_node=false for a worker over several nodes"
            yield error("tp-pp-gpus", _largest(name, role), getattr(role, _largest_size(role)), reason, hint)


def whole_nodes(config: Config, placement: Placement) -> Iterable[Problem]:
    """A worker larger than a node has one GPU list per node, each the whole node."""
    available = config.system.gpus_per_node
    for name, role in config.roles.items():
        span, count = nodes_per_worker(role, available), role.num_nodes or 1
        if span == 1 or config.constraints.tp_times_pp_le_gpus_per_node:
            continue
        if role.world_size % available:
            reason = f"{_a(name)} worker of {_product(role)} GPUs does not fill whole nodes of {available}"
            hint = f"use a multiple of {available}"
            yield error("worker-larger-than-node", _largest(name, role), role.world_size, reason, hint)
        if count % span:
            reason = f"{_a(name)} worker spans {span} nodes, which does not divide {count}"
            yield error(
                "worker-larger-than-node",
                f"{name}.num_nodes",
                count,
                reason,
                f"set {name}.num_nodes={span} or a multiple",
            )
        chosen = config.backend.engines.get(config.engine)
        is_spread = role.data_parallel_size > 1 and not role.has_dp_attention
        if is_spread and chosen is not None and not chosen.data_parallel_over_nodes:
            reason = f"servix does not know how {config.backend.name} spreads data parallel ranks over nodes"
            key = f"{name}.data_parallel_size"
            hint = f"set {key}=1, and use more workers"
            if DP_ATTENTION in catalogue(tuple(chosen.catalogues)).flags:
                hint += f", or +{name}.args.{DP_ATTENTION}=true"
            yield error("worker-larger-than-node", key, role.data_parallel_size, reason, hint)
        if role.workers_per_node > 1:
            reason = f"{_a(name)} worker spans {span} nodes, so a node cannot hold several"
            key = f"{name}.workers_per_node"
            yield error("worker-larger-than-node", key, role.workers_per_node, reason, f"set {key}=1")


def gpus_per_node(config: Config, placement: Placement) -> Iterable[Problem]:
    """On a shared node the sum counts all workers of both roles. Source: CloudAI's constraint check."""
    available = config.system.gpus_per_node
    if any(role.world_size > available for role in config.roles.values()) and (
        config.constraints.tp_times_pp_le_gpus_per_node
    ):
        return  # told by tp-pp-gpus; a sum over it would only confuse
    needs = {
        name: role.workers_per_node * min(role.world_size, available) for name, role in config.roles.items()
    }
    for name, role in config.roles.items():
        if role.world_size <= available < needs[name]:
            count = role.workers_per_node
            reason = (
                f"{count} {name} workers of {_product(role)} GPUs need {needs[name]}, a node has {available}"
            )
            key = f"{name}.workers_per_node"
            yield error(
                "gpus-per-node",
                key,
                role.workers_per_node,
                reason,
                f"at most {available // role.world_size} fit",
            )
    total = sum(needs.values())
    if config.topology == "shared" and total > available and max(needs.values()) <= available:
        parts = " + ".join(f"{number} {name}" for name, number in needs.items())
        reason = f"roles on one node need {parts} = {total} GPUs, a node has {available}"
        yield error(
            "gpus-per-node",
            "topology",
            "shared",
            reason,
            "lower TP, PP, DP or workers_per_node, or use topology=separate",
        )


def prefill_tp(config: Config, placement: Placement) -> Iterable[Problem]:
    """Source: CloudAI's constraint prefill_tp_le_decode_tp."""
    if config.topology == "aggregated" or not config.constraints.prefill_tp_le_decode_tp:
        return
    prefill, decode = config.prefill.tensor_parallel_size, config.decode.tensor_parallel_size
    if prefill > decode:
        reason = f"prefill TP {prefill} is more than decode TP {decode}"
        hint = f"set decode.tensor_parallel_size={prefill}, or constraints.prefill_tp_le_decode_tp=false"
        yield error("prefill-tp", "prefill.tensor_parallel_size", prefill, reason, hint)


def gpu_ids(config: Config, placement: Placement) -> Iterable[Problem]:
    """Explicit GPU lists hold exactly what the role's workers on one node need."""
    available = config.system.gpus_per_node
    given = {name: role for name, role in config.roles.items() if role.gpu_ids is not None}
    for name, role in given.items():
        key, ids = f"{name}.gpu_ids", role.gpu_ids or []
        need = role.workers_per_node * min(role.world_size, available)
        if len(set(ids)) != len(ids):
            yield error("gpu-ids", key, ids, f"holds GPU {_repeated(ids)} twice", "name each GPU once")
        elif len(ids) != need:
            reason = f"holds {len(ids)} GPUs, the {name} workers on a node need {need}"
            yield error("gpu-ids", key, ids, reason, f"name {need} GPUs, or leave it out")
        outside = sorted({gpu for gpu in ids if gpu >= available})
        if outside:
            yield error(
                "gpu-ids",
                key,
                ids,
                f"GPU {outside[0]} is not on a node of {available}",
                f"use 0 to {available - 1}",
            )
    if config.topology == "shared" and len(given) == 1:
        (name,) = given
        other = "decode" if name == "prefill" else "prefill"
        reason = f"both roles share the nodes, and only {name} names its GPUs"
        yield error(
            "gpu-ids", f"{name}.gpu_ids", given[name].gpu_ids, reason, f"set {other}.gpu_ids too, or neither"
        )


def gpu_overlap(config: Config, placement: Placement) -> Iterable[Problem]:
    """Only explicit lists can overlap: slices of the compiler's own are next to each other."""
    if config.topology != "shared":
        return
    first, second = config.decode.gpu_ids, config.prefill.gpu_ids
    both = sorted(set(first or []) & set(second or []))
    if both:
        reason = f"GPU {', '.join(map(str, both))} is in decode.gpu_ids too, and both roles share the nodes"
        yield error("gpu-overlap", "prefill.gpu_ids", second, reason, "give each role GPUs of its own")


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _sizes(role: Role) -> dict[str, str]:
    """Sizes whose product is the world size -> their short names."""
    sizes = {"tensor_parallel_size": "TP", "pipeline_parallel_size": "PP"}
    return sizes if role.has_dp_attention else sizes | {"data_parallel_size": "DP"}


def _product(role: Role) -> str:
    shown = [f"{short} {getattr(role, key)}" for key, short in _sizes(role).items() if getattr(role, key) > 1]
    return f"{' x '.join(shown)} = {role.world_size}" if len(shown) > 1 else str(role.world_size)


def _largest_size(role: Role) -> str:
    return max(_sizes(role), key=lambda size: int(getattr(role, size)))


def _largest(name: str, role: Role) -> str:
    return f"{name}.{_largest_size(role)}"


def _repeated(ids: list[int]) -> int:
    return next(gpu for gpu in ids if ids.count(gpu) > 1)
