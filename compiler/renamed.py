"""Names of the source documents and of earlier versions, with a sentence that says what to do now."""

from __future__ import annotations

from collections.abc import Mapping

PACKAGE_HINT = "the first line of the file has to be: # @package _global_"
RENAMED: Mapping[str, str] = {
    "prefill_worker": "the role is called 'prefill'",
    "decode_worker": "the role is called 'decode'",
    "workloads": "choose the load generator with bench=aiperf or bench=genai_perf",
    "docker_image_url": "the image is system.image",
    "cmd_args": "keys are at the top: write aiperf.concurrency, prefill.num_nodes, ...",
    "aiperf_phases": "rounds are listed in 'phases'",
    "aiperf_accuracy": "choose an accuracy run with accuracy=...",
    "extra_env_vars": "environments are system.env, prefill.env, decode.env",
    "extra_container_mounts": "mounts are system.mounts",
    "dse_excluded_args": "lists are data here, never sweeps; a sweep is --multirun key=1,2,3",
    "experiment": (
        "put experiment/NAME.yaml into a folder named by --config-dir, with '# @package _global_' as its first line, "
        "and write experiment=NAME"
    ),
    "node_setup_cmd": "it is node_setup_command",
    "startup_cmd": "it is startup_command",
    "between_phase_cmd": "it is between_phases.command",
}
"""Names of the source documents and of earlier versions -> what to do now."""
