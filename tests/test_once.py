"""What is worked out once for all points of a deployment: only of what they have in common, and nothing else read."""

import pytest
from compiling import plan, shared_composer

from compiler.check import RULES
from compiler.lower import _deployment
from compiler.model import Config
from compiler.normalise import normalise
from compiler.once import Answers, once
from compiler.place import place
from compiler.schema import parse
from compiler.served import WORKLOAD, stack_of

ASKED = [
    (),
    ("topology=shared", "backend=sglang", "lmcache=on"),
    ("topology=aggregated", "accuracy=mmlu", "dynamo.discovery=etcd"),
    (
        "engine=real",
        "model=qwen3-0.6b",
        "system=slurm",
        "decode.tensor_parallel_size=2",
        "phases=[{name: a}]",
    ),
]


def configuration(*overrides: str) -> Config:
    composed = shared_composer().compose(overrides)
    assert composed.data is not None
    config, wrong = parse(composed.data)
    assert config is not None, wrong
    return normalise(config)


@pytest.mark.parametrize("overrides", ASKED, ids=lambda words: " ".join(words) or "defaults")
def test_what_is_shared_by_points_reads_nothing_in_which_they_differ(overrides: tuple[str, ...]) -> None:
    config = configuration(*overrides)
    for name in WORKLOAD:
        object.__delattr__(config, name)
    placement = place(config)
    for rule in RULES:
        if rule.of == "stack":
            assert all(problem.code for problem in rule.check(config, placement))
    assert _deployment(config, placement).processes


def test_points_that_differ_in_their_load_have_one_stack() -> None:
    loads = [("aiperf.concurrency=2",), ("aiperf.concurrency=4", "trial=2"), ("phases=[{name: a}]",)]
    stacks = [stack_of(configuration(*load)) for load in loads]
    assert stacks[0] is stacks[1] is stacks[2]
    assert stack_of(configuration("dynamo.port=8001")) is not stacks[0]
    # A number and a truth value are different words, though they are equal.
    assert stack_of(configuration("+prefill.args.x=1")) is not stack_of(configuration("+prefill.args.x=true"))


def test_a_sweep_over_deployments_and_loads_is_what_its_points_are_alone() -> None:
    swept = plan("topology=separate,shared", "decode.num_nodes=1,2", "aiperf.concurrency=2,4", "trial=1,2")
    for point in swept.points:
        (alone,) = plan(*point.overrides).points
        assert (alone.digest, alone.deployment, alone.problems) == (
            point.digest,
            point.deployment,
            point.problems,
        )


def test_a_thing_is_known_by_what_it_is_and_plain_values_by_their_value() -> None:
    asked: list[tuple[object, ...]] = []

    @once
    def length(thing: list[int], more: str) -> int:
        asked.append((list(thing), more))
        return len(thing)

    first, equal = [1, 2], [1, 2]
    assert [length(first, "a"), length(first, "a"), length(equal, "a"), length(first, "b")] == [2, 2, 2, 2]
    assert asked == [([1, 2], "a"), ([1, 2], "a"), ([1, 2], "b")]


def test_an_answer_outlives_none_of_its_things() -> None:
    """An id is given again to something new once the old thing is gone; it is held, so that it never is."""
    answers: Answers[int] = Answers()
    for number in range(5_000):
        thing = [number]
        assert answers.of(thing) is None
        answers.keep(number, thing)
