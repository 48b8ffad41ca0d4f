"""Which point of a sweep is best, and the file or command that measures it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import results_data
from compiling import CONFIG, plan, run

from compiler.compose import composer
from compiler.pipeline import compile_sweep
from compiler.plan import Point
from launchers import best
from launchers.results import repeats
from launchers.results.result import Result

METRIC = "output_token_throughput_per_s"
MAXIMIZE = (f"objective.metric={METRIC}", "objective.direction=maximize")
MINIMIZE = ("objective.metric=request_latency_ms.avg", "objective.direction=minimize")
Folder = Callable[[Mapping[str, str]], Path]


def points(*arguments: str) -> tuple[Point, ...]:
    made = plan(*arguments)
    assert made.valid
    return made.points


def result_of(point: Point, value: float | None, status: str = "valid") -> Result:
    measured = results_data.measured(status)  # type: ignore[arg-type]
    metrics = {**measured.metrics, METRIC: value or 0.0, "request_latency_ms.avg": value or 0.0}
    if value is None:
        metrics = {}
    return results_data.result(
        replace(measured, metrics=metrics),
        point_digest=str(point.digest),
        point_name=point.name,
        overrides=point.overrides,
        trial=point.workload.trial if point.workload else 1,
    )


def chosen(made: Sequence[Point], values: Sequence[float | None], *bad: int) -> best.Best | None:
    """The best of points with these values; those at `bad` are invalid."""
    results = {
        str(point.digest): result_of(point, value, "invalid" if place in bad else "valid")
        for place, (point, value) in enumerate(zip(made, values, strict=True))
    }
    return best.best(best.entries(made, results, {}))


@pytest.mark.parametrize(
    ("arguments", "values", "bad", "wanted"),
    [
        (MAXIMIZE, (1, 3, 2), (), 1),
        (MINIMIZE, (2, 3, 1), (), 2),
        (MAXIMIZE, (3, 3, 2), (), 0),
        (MINIMIZE, (3, 1, 1), (), 1),
        (MAXIMIZE, (1, 9, 2), (1,), 2),
        (MAXIMIZE, (1, None, 2), (), 2),
        (MAXIMIZE, (None, None, None), (), None),
        (MAXIMIZE, (1, 2, 3), (0, 1, 2), None),
        ((), (1, 2, 3), (), None),
        ((*MAXIMIZE, f"gates=['{METRIC} <= 2']"), (1, 2, 3), (), 1),
        ((*MAXIMIZE, f"gates=['{METRIC} <= 0']"), (1, 2, 3), (), None),
    ],
    ids=[
        *("maximize", "minimize", "tie-maximize", "tie-minimize", "invalid-never-wins", "without-the-metric"),
        *("nothing-measured", "nothing-valid", "no-objective", "a-gate-excludes", "every-gate-fails"),
    ],
)
def test_the_best_point(
    arguments: Sequence[str], values: Sequence[float | None], bad: Sequence[int], wanted: int | None
) -> None:
    made = points("aiperf.concurrency=2,4,8", *arguments)
    found = chosen(made, values, *bad)
    assert (found.point if found else None) == (None if wanted is None else made[wanted])
    if found is not None and wanted is not None:
        assert found.value == values[wanted]
        assert made[wanted].name in best.told(found)


def test_a_point_without_a_result_is_no_candidate() -> None:
    made = points("aiperf.concurrency=2,4", *MAXIMIZE)
    found = best.best(best.entries(made, {str(made[1].digest): result_of(made[1], 1)}, {}))
    assert found is not None
    assert found.point == made[1]


@pytest.mark.parametrize(
    ("values", "bad", "gate", "wanted", "mean"),
    [
        # concurrency 2: trials 1 and 2, then concurrency 4: trials 1 and 2
        ((1, 9, 4, 4), (), 99, 0, 5),
        ((1, 7, 4, 4), (), 99, 0, 4),
        ((1, 9, 4, 4), (1,), 99, 2, 4),
        ((1, 9, 4, 8), (2,), 99, 3, 8),
        ((1, 9, 4, 4), (), 8, 2, 4),
    ],
    ids=["mean", "tie", "one-valid-trial-left", "the-valid-trial-is-shown", "a-gate-takes-all-trials-out"],
)
def test_the_mean_of_valid_trials_decides(
    values: Sequence[float], bad: Sequence[int], gate: float, wanted: int, mean: float
) -> None:
    made = points("aiperf.concurrency=2,4", "trial=1,2", *MAXIMIZE, f"gates=['{METRIC} <= {gate}']")
    found = chosen(made, values, *bad)
    assert found is not None
    assert (found.point, found.value) == (made[wanted], mean)


def test_repeats_are_shown_together() -> None:
    made = points("aiperf.concurrency=2,4", "trial=1,2,3", *MAXIMIZE)
    values = (10, 20, 30, 5, 5, 5)
    results = {str(p.digest): result_of(p, v) for p, v in zip(made, values, strict=True)}
    results[str(made[5].digest)] = result_of(made[5], 5, "invalid")
    groups = [[one.result for one in group] for group in best.repeats(best.entries(made, results, {}))]
    lines = repeats.lines(repeats.spreads(groups))
    assert [line.split(")")[0] for line in lines[1:]] == ["aiperf-c2-r50 (n=3", "aiperf-c4-r50 (n=2"]
    assert lines[1].endswith("20.0 ± 10.0")
    assert lines[2].endswith("5.00 ± 0.00")
    assert len({len(line) for line in lines}) == 1


def test_points_without_repeats_have_no_spread() -> None:
    made = points("aiperf.concurrency=2,4")
    groups = [[result_of(point, 1)] for point in made]
    assert repeats.lines(repeats.spreads(groups)) == []


def words_of(told: str | None) -> list[str]:
    """The words of the command that is told."""
    assert told is not None
    return shlex.split(told)


FILES: Sequence[tuple[str, ...]] = (
    MAXIMIZE,
    (*MAXIMIZE, "aiperf.concurrency=4"),
    ("backend=sglang", "topology=shared", "num_nodes=2", "lmcache=on", "lmcache.chunk_size=128"),
    ("system=slurm", "model=qwen3-0.6b", "decode.tensor_parallel_size=2"),
    ("system=slurm", "engine=mocker", "model=tiny"),
    ("bench=genai_perf", "genai_perf.request_count=60"),
    (
        "+decode.args.max_num_seqs=64",
        "++decode.env.WORD=1e3",
        "+decode.env.TEXT='1e3'",
        "+decode.env.OFF='off'",
    ),
    ("phases=[{name: a}, {name: b, concurrency: 4}]", "between_phases.command='echo \"it''s\" $HOME'"),
    ("aiperf.extra_inputs={ignore_eos: false}", "trial=3", "aiperf.request_rate=0.5"),
    ("+decode.env={A: '1'}", "+decode.env.B=2", "aiperf.random_seed=null"),
    ("search=bisect", "budget=3", "aiperf.concurrency=1,2", f"gates=['{METRIC} >= 1']"),
)


@pytest.mark.parametrize("arguments", FILES, ids=lambda arguments: arguments[0])
def test_the_file_gives_the_same_point(arguments: Sequence[str], tmp_path: Path) -> None:
    """Composed as a user would, by a command of its own."""
    with composer(CONFIG, None, arguments) as made:
        compiled = compile_sweep(made, made.points(arguments)[0])
        assert compiled.valid, compiled.points[0].problems
        point = compiled.points[-1]
        words = words_of(best.reproduced(made, point, tmp_path))
    assert words == ["python", "run.py", "--config-dir", str(tmp_path), "experiment=best"]
    with composer(CONFIG, tmp_path, words[4:]) as again:
        (same,) = compile_sweep(again, again.points(words[4:])[0]).points
    assert same.valid, same.problems
    assert same.digest == point.digest


COMMANDS: Sequence[tuple[str, ...]] = (
    ("~aiperf.ui",),
    ("aiperf.random_seed='${aiperf.concurrency}'", "~aiperf.ui", "+decode.env.TEXT='a b $c'"),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_what_no_file_can_say_is_a_command(arguments: Sequence[str], tmp_path: Path) -> None:
    with composer(CONFIG, None, arguments) as made:
        (point,) = compile_sweep(made, made.points(arguments)[0]).points
        words = words_of(best.reproduced(made, point, tmp_path))
        assert words == ["python", "run.py", *arguments]
        assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_user_s_own_stays_in_the_command(folder: Folder, tmp_path: Path) -> None:
    own = folder({"topology/mine.yaml": "# @package _global_\ntopology: shared\nnum_nodes: 2\n"})
    arguments = ["topology=mine", "hydra.launcher.timeout_min=5", "system=slurm"]
    with composer(CONFIG, own, arguments) as made:
        (point,) = compile_sweep(made, made.points(arguments)[0]).points
        assert point.valid, point.problems
        words = words_of(best.reproduced(made, point, tmp_path))
    assert words[2:] == [
        "--config-dir",
        str(own),
        "topology=mine",
        "system=slurm",
        "hydra.launcher.timeout_min=5",
    ]
    assert not (tmp_path / "experiment").exists()


def test_an_experiment_stays_in_the_command(folder: Folder, tmp_path: Path) -> None:
    own = folder({"experiment/ci.yaml": "# @package _global_\naiperf:\n  concurrency: 4\n"})
    arguments = ["experiment=ci", "trial=2"]
    with composer(CONFIG, own, arguments) as made:
        (point,) = compile_sweep(made, [arguments]).points
        words = words_of(best.reproduced(made, point, tmp_path))
    assert words[2:] == ["--config-dir", str(own), *arguments]


def test_a_folder_that_the_point_does_not_need_is_left_out(folder: Folder, tmp_path: Path) -> None:
    own = folder({"topology/mine.yaml": "# @package _global_\ntopology: shared\n"})
    with composer(CONFIG, own, ["trial=2"]) as made:
        (point,) = compile_sweep(made, [["trial=2"]]).points
        words = words_of(best.reproduced(made, point, tmp_path))
    assert words[2:] == ["--config-dir", str(tmp_path), "experiment=best"]


ZIP = "zip:\n  aiperf.concurrency: [2, 4]\n"
SAMPLE = "sample:\n  count: 2\n  params: {aiperf.concurrency: [2, 4]}\n"
BISECT = f"search: bisect\nbudget: 2\ngates: ['{METRIC} >= 1']\n"
FILES_THAT_CHOOSE = [
    ("zip", ZIP, (), ["zip=null"]),
    ("sample", SAMPLE, (), ["sample.count=0", "sample.params=null"]),
    ("search", BISECT, ("aiperf.concurrency=2,4",), ["search=null", "budget=null"]),
    ("force", "force: true\n", (), ["force=false"]),
    ("detach", "launch:\n  detach: true\n", (), ["launch.detach=false"]),
    ("report", "action: report\n", (), ["action=run"]),
    ("params", "hydra:\n  sweeper:\n    params:\n      zip.trial: '[1,2]'\n", (), ["zip=null"]),
    ("several", f"{ZIP}force: true\n", (), ["force=false", "zip=null"]),
    ("nothing", "trial: 2\n", (), []),
]


@pytest.mark.parametrize(
    ("text", "more", "off"), [row[1:] for row in FILES_THAT_CHOOSE], ids=[row[0] for row in FILES_THAT_CHOOSE]
)
def test_what_an_experiment_does_with_points_is_not_done_again(
    text: str, more: Sequence[str], off: Sequence[str], folder: Folder, tmp_path: Path
) -> None:
    own = folder({"experiment/z.yaml": f"# @package _global_\n{text}"})
    arguments = ["experiment=z", *more]
    with composer(CONFIG, own, arguments) as made:
        compiled = compile_sweep(made, made.points(arguments)[0])
        assert compiled.valid, compiled.points[0].problems
        point = compiled.points[-1]
        words = words_of(best.reproduced(made, point, tmp_path))
    assert words[2:5] == ["--config-dir", str(own), "experiment=z"]
    assert [word for word in words[5:] if "concurrency" not in word] == off
    ran = run([*words[2:], "action=plan", "format=json", f"output_dir={tmp_path}/out"])
    assert ran.code == 0, ran.err
    (same,) = json.loads(ran.out)["points"]
    assert same["digest"] == point.digest


def test_a_command_that_measures_something_else_is_not_told(tmp_path: Path) -> None:
    with composer(CONFIG) as made:
        (point,) = compile_sweep(made, [["~aiperf.ui"]]).points
        assert best.reproduced(made, replace(point, digest="v1-other"), tmp_path) is None
    assert not (tmp_path / "experiment").exists()
