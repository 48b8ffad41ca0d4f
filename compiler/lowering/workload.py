"""The workload of a point: phases of a load generator, and the accuracy run. Part of `lower`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compiler import flags, late
from compiler.late import MODEL_WORDS, SETTING_WORDS
from compiler.lowering.texts import bash_text, dcgm_url, host, literals, metrics_urls
from compiler.model import AUTO, Config
from compiler.placement import Placement
from compiler.plan import Accuracy, Phase, Workload

ACCURACY_FOLDER = "accuracy"
"""Of an attempt: beside `artifacts`, so that no phase has it."""


def workload_of(config: Config, placement: Placement) -> Workload:
    """The workload of one point."""
    between = config.between_phases
    return Workload(
        tool=config.bench.name,
        version=config.bench.version,
        phases=tuple(_phase(config, placement, phase) for phase in config.phases or [{}]),
        env=literals(config.bench.env),
        unset_env=tuple(config.bench.unset_env),
        needs=tuple(dict.fromkeys([config.bench.command[0], *config.bench.needs])),
        needs_hint=config.bench.needs_hint,
        between_command=bash_text(between.command),
        between_timeout_s=between.timeout_s,
        health_check=between.health_check,
        continue_on_failure=between.continue_on_failure,
        max_error_rate=config.validity.max_error_rate,
        output_length_tolerance=config.validity.output_length_tolerance,
        trial=config.trial,
        isolation=config.isolation,
        accuracy=_accuracy(config),
    )


def _phase(config: Config, placement: Placement, phase: Mapping[str, Any]) -> Phase:
    bench, arguments = config.bench, config.phase_arguments(phase)
    urls = {
        "server_metrics": metrics_urls(config, placement),
        "gpu_telemetry": tuple(dcgm_url(config, node) for node in range(config.num_nodes or 1)),
    }
    for key, found in urls.items():
        if arguments.get(key) == AUTO:
            arguments[key] = list(found)
    name = str(phase.get("name", "main"))
    folder = f"artifacts/{name}" if config.phases else "artifacts"
    fields = _client_fields(config, folder)
    tokenizer = config.model.tokenizer or config.model.source
    pinned = config.model.revision is not None and tokenizer == config.model.id
    absent = [word for key, words in bench.when_null.items() if arguments.get(key) is None for word in words]
    rendered = flags.words(arguments)
    ours = {url for found in urls.values() for url in found}
    return Phase(
        name=name,
        argv=(
            *(
                late.template(word, fields, SETTING_WORDS)
                for word in [*bench.command, *bench.words, *(bench.revision if pinned else [])]
            ),
            *(word if word in ours else late.literal(word) for word in rendered),
            *absent,
            *map(late.literal, bench.extra_args),
        ),
        artifact_dir=folder,
        requests=arguments.get("request_count"),
        concurrency=arguments.get("concurrency"),
        output_tokens=arguments.get("output_tokens_mean"),
        timeout_s=bench.timeout_s,
        random_seed=arguments.get("random_seed"),
    )


def _client_fields(config: Config, folder: str) -> dict[str, str]:
    """What words of a client of the deployment may name; it writes to `folder` of the attempt."""
    address = f"{host(0)}:{config.dynamo.port}"
    return {
        "model": late.literal(config.model.id),
        "url": f"http://{address}",
        "address": address,
        "tokenizer": late.template(config.model.tokenizer or config.model.source, known=MODEL_WORDS),
        "artifact_dir": "{results_dir}/" + folder,
        "revision": late.literal(config.model.revision or ""),
    }


def _accuracy(config: Config) -> Accuracy | None:
    said = config.accuracy
    if said is None:
        return None
    fields = _client_fields(config, ACCURACY_FOLDER)
    fields |= {"endpoint": late.literal(said.endpoint), "result_dir": "{results_dir}"}
    return Accuracy(
        name=said.name,
        argv=tuple(late.template(word, fields, SETTING_WORDS) for word in [*said.entrypoint, *said.cli]),
        setup=bash_text(said.setup_command),
        env=literals(said.env),
        unset_env=tuple(said.unset_env),
        artifact_dir=ACCURACY_FOLDER,
        results=said.results,
        timeout_s=said.timeout_s,
    )
