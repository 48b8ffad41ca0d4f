"""Settings as plan text, and names of hosts and addresses in it. Part of `lower`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler import late, quote
from compiler.late import MODEL_WORDS, SETTING_WORDS
from compiler.model import Config
from compiler.placement import Placement


def model_text(config: Config) -> str:
    """What an engine loads, as plan text."""
    path = config.model.path
    return late.template(path, known=MODEL_WORDS) if path else late.literal(config.model.id)


def host(node: int) -> str:
    """What stands for the host name of a node."""
    return f"{{node:{node}}}"


def metrics_urls(config: Config, placement: Placement) -> tuple[str, ...]:
    """Where the frontend and every worker show their metrics."""
    ports = [
        (part.node, part.ports["system"].port)
        for worker in placement.workers
        for part in worker.parts[:1]
        if "system" in part.ports
    ]
    return tuple(f"http://{host(node)}:{port}/metrics" for node, port in [(0, config.dynamo.port), *ports])


def dcgm_url(config: Config, node: int) -> str:
    """Where the exporter of a node shows its metrics."""
    return f"http://{host(node)}:{config.system.dcgm.port}/metrics"


def templated(value: Any, fields: Mapping[str, str] | None = None) -> Any:
    """A templated setting (text, or a tree with text in it) as plan text."""
    if isinstance(value, str):
        return late.template(value, fields, SETTING_WORDS)
    if isinstance(value, Mapping):
        return {str(key): templated(item, fields) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [templated(item, fields) for item in value]
    return value


def literals(env: Mapping[str, str]) -> dict[str, str]:
    """An environment as plan text, every value as it was typed."""
    return {name: late.literal(value) for name, value in env.items()}


def bash_text(command: str | Sequence[str] | None) -> str | None:
    """One text for `bash -c`; placeholders stay outside quotes, since their values are quoted when bound."""
    if command is None or isinstance(command, str):
        return command and late.template(command, known=SETTING_WORDS)
    words = [late.template(word, known=SETTING_WORDS) for word in command]
    return " ".join(
        "".join(
            f"{{{piece}}}" if is_word else late.literal(quote.shell(piece))
            for piece, is_word in late.pieces(word)
        )
        for word in words
    )
