"""Writes catalogues/metrics/*.json: the metrics a result can hold, under the ids that results carry.

Three sources: the tool's own list (AIPerf, which is installed, from its registry; GenAI-Perf from the source in
its wheel, never imported), the results recorded in tests/data, and what servix derives. The ids are made by the
functions that read the tools' reports, so a gate is checked against what a result will really be asked for.

    python tools/metrics.py                     both; the wheel is downloaded into --wheels
    python tools/metrics.py --check aiperf      writes nothing, exits 1 where a file would change
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from catalogue_static import Sources  # noqa: E402
from recorded import Made, record, wheel  # noqa: E402

from launchers.results import aiperf as aiperf_reader  # noqa: E402
from launchers.results import genai_perf as genai_perf_reader  # noqa: E402
from launchers.results.metrics import STATISTICS, derived, metric_id  # noqa: E402

FOLDER = ROOT / "catalogues" / "metrics"
RECORDED = ROOT / "tests" / "data"
SCHEMA = "servix.metrics/1"
SCALAR = ("",)
"""The one statistic of a scalar: its id stands alone."""
GENAI_PERF = "0.0.16"
Named = Iterator[tuple[str, str, tuple[str, ...]]]
"""What the tool calls a metric, its unit, and its statistics."""


def aiperf() -> Named:
    """Records are distributions, what is told of a whole run is a scalar."""
    from aiperf.analysis.sweepline import SWEEP_LINE_METRIC_SPECS, SweepLineStats
    from aiperf.common.enums import MetricFlags, MetricType
    from aiperf.metrics.metric_registry import MetricRegistry
    from aiperf.metrics.types.network_adjusted_metrics import NETWORK_ADJUSTED_SOURCES

    spread = {"network_rtt", *NETWORK_ADJUSTED_SOURCES}
    for tag in MetricRegistry.all_tags():
        metric = MetricRegistry.get_class(tag)
        if metric.flags & MetricFlags.INTERNAL:
            continue
        unit = str(metric.display_unit or metric.unit)
        yield tag, unit, STATISTICS if metric.type is MetricType.RECORD or tag in spread else SCALAR
        if metric.flags & MetricFlags.PERCENTILE_INCLUDES_FAILED_REQUESTS:
            yield f"adj_{tag}", unit, STATISTICS
    for spec in SWEEP_LINE_METRIC_SPECS:
        yield spec.tag, spec.unit, tuple(SweepLineStats._fields)


def genai_perf(folder: Path, offline: bool) -> Named:
    """The metrics that its CSV exporter writes for language models."""
    inside = (
        "genai_perf/metrics/metrics.py",
        "genai_perf/metrics/llm_metrics.py",
        "genai_perf/export_data/csv_exporter.py",
    )
    sources = Sources(wheel("genai-perf", GENAI_PERF, folder, offline), inside)
    header = next(
        ast.literal_eval(node.value)
        for node in ast.walk(sources.modules[inside[2]])
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REQUEST_METRICS_HEADER"
    )
    for module in inside[:2]:
        for node in ast.walk(sources.modules[module]):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
                statistics = SCALAR if "SYSTEM" in target else tuple(header[1:])
                yield from ((name, unit, statistics) for name, unit in _metadata(node.value))


def _metadata(node: ast.expr) -> Iterator[tuple[str, str]]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "MetricMetadata":
            name, unit = (ast.literal_eval(argument) for argument in call.args)
            yield name, unit


@dataclass(frozen=True)
class Tool:
    """How the list of one tool is made. `recorded` gives the metrics of every recorded result."""

    package: str
    version: Callable[[], str]
    listed: Callable[[Path, bool], Named]
    recorded: Callable[[], Iterable[Iterable[str]]]


def recorded_aiperf() -> Iterator[Iterable[str]]:
    for path in sorted(RECORDED.glob(f"*/{aiperf_reader.SUMMARY}")):
        yield aiperf_reader.metrics_of(json.loads(path.read_text(encoding="utf-8")))


def recorded_genai_perf() -> Iterator[Iterable[str]]:
    for path in sorted(RECORDED.glob(f"*/{genai_perf_reader.TABLES}")):
        yield genai_perf_reader.read(path.parent).metrics


TOOLS = {
    "aiperf": Tool("aiperf", lambda: version("aiperf"), lambda *_: aiperf(), recorded_aiperf),
    "genai_perf": Tool("genai-perf", lambda: GENAI_PERF, genai_perf, recorded_genai_perf),
}


def generate(name: str, wheels: Path, offline: bool) -> Made:
    """One list. Raises OSError, subprocess.CalledProcessError or PackageNotFoundError without the tool."""
    tool = TOOLS[name]
    found: dict[str, set[str]] = {}
    for called, unit, statistics in tool.listed(wheels, offline):
        found.setdefault(metric_id(called, unit), set()).update(statistics)
    for metrics in tool.recorded():
        for key in metrics:
            ours, _, statistic = key.partition(".")
            found.setdefault(ours, set()).add(statistic)
    scalars = {ours: 1.0 for ours, statistics in found.items() if "" in statistics}
    for ours in derived(scalars, gpus=1, concurrency=1):
        found.setdefault(ours, set()).add("")
    number = tool.version()
    source = f"{tool.package} {number}: its own list of metrics, the results in tests/data, and what servix derives"
    head = {"schema": SCHEMA, "tool": name, "version": number, "source": source}
    return Made(f"{name}-{number}.json", _text(head, found), f"{len(found)} metrics")


def _text(head: dict[str, str], found: dict[str, set[str]]) -> str:
    """One line per metric, sorted; its statistics in the order results have them, "" for the id alone."""
    order = ("", *STATISTICS)
    top = [f'  "{name}": {json.dumps(value)},' for name, value in head.items()]
    lines = [f'    "{ours}": {json.dumps(sorted(found[ours], key=order.index))}' for ours in sorted(found)]
    return "\n".join(["{", *top, '  "metrics": {', ",\n".join(lines), "  }", "}", ""])


if __name__ == "__main__":
    sys.exit(record(__doc__ or "", TOOLS, FOLDER, generate))
