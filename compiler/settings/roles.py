"""Roles, the checks on their sizes, and the model they serve. Part of `model`."""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.kinds import STRICT, Arguments, Count, Env, Flag, GpuIds, NodeCount, Nodes, Text, Words

DP_ATTENTION = "enable_dp_attention"
"""Flag of SGLang."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The workers of one role (`prefill`, `decode` or `aggregated`)."""

    __pydantic_config__ = STRICT

    num_nodes: NodeCount | None = None
    """Nodes this role uses; null: the allocation's number where the topology makes it unambiguous, else 1."""
    nodes: Nodes | None = None
    """Names of those nodes; null: chosen by the compiler."""
    workers_per_node: Count = 1
    tensor_parallel_size: Count = 1
    pipeline_parallel_size: Count = 1
    data_parallel_size: Count = 1
    gpu_ids: GpuIds | None = None
    """GPU indices on each of the role's nodes, for all its workers there; null: chosen by the compiler."""
    args: Arguments = field(default_factory=dict)
    """Engine flags, snake_case."""
    extra_args: Words = field(default_factory=list)
    """Engine words passed as they are, after everything else."""
    env: Env = field(default_factory=dict)

    @property
    def has_dp_attention(self) -> bool:
        """SGLang's DP attention: data parallel ranks are groups of the tensor parallel ones."""
        given = {name.replace("-", "_"): value for name, value in self.args.items()}
        return given.get(DP_ATTENTION) is True or f"--{DP_ATTENTION.replace('_', '-')}" in self.extra_args

    @property
    def attention_tensor_parallel_size(self) -> int:
        """Ranks that share the heads of one attention: TP, or TP / DP with DP attention."""
        groups = self.data_parallel_size if self.has_dp_attention else 1
        return max(1, self.tensor_parallel_size // groups)

    @property
    def tensor_times_data_parallel_size(self) -> int:
        """TP x DP: ranks of one pipeline stage. With DP attention those are the TP ranks."""
        return self.tensor_parallel_size * (1 if self.has_dp_attention else self.data_parallel_size)

    @property
    def world_size(self) -> int:
        """GPUs of one worker: TP x PP x DP, or TP x PP with DP attention."""
        return self.tensor_times_data_parallel_size * self.pipeline_parallel_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Checks taken over from the source documents; each can be lifted."""

    __pydantic_config__ = STRICT

    prefill_tp_le_decode_tp: Flag = True
    tp_times_pp_le_gpus_per_node: Flag = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is served. Static facts carry the names of Hugging Face's config.json."""

    __pydantic_config__ = STRICT

    id: Text
    """Hugging Face id, and the name under which the model is served."""
    revision: Text | None = None
    path: Text | None = None
    """Directory of the weights; null: the hub id is passed to the engine."""
    tokenizer: Text | None = None
    """Tokenizer for the load generator; null: the path, else the id."""
    synthetic: Flag = False
    """Has no weights: only the mocker can serve it."""
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    num_hidden_layers: Count | None = None
    hidden_size: Count | None = None
    head_dim: Count | None = None
    intermediate_size: Count | None = None
    moe_intermediate_size: Count | None = None
    num_experts: Count | None = None
    kv_lora_rank: Count | None = None
    """Set for multi-head latent attention, whose KV heads are not split."""
    vocab_size: Count | None = None
    max_position_embeddings: Count | None = None

    @property
    def source(self) -> str:
        """What an engine loads: the path where one is given, else the hub id."""
        return self.path or self.id
