"""Data in a log comes back whole, or not at all, whatever happens to its lines."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launchers.kubernetes import frames
from launchers.kubernetes.frames import Reader, lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
LARGE = {"numbers": [hash(str(number * 7919)) for number in range(3000)]}


def read(*texts: str) -> list[object]:
    reader = Reader()
    return [message.data for text in texts if (message := reader.take(text)) is not None]


@given(JSON)
def test_what_is_said_is_heard(data: object) -> None:
    assert read(*lines("result", data)) == [json.loads(json.dumps(data))]


def test_lines_are_short_and_whole() -> None:
    said = list(lines("result", LARGE))
    assert len(said) > 3
    assert max(map(len, said)) < 8192
    assert not any("\n" in line for line in said)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_order_and_repetition_do_not_matter(random, times) -> None:  # type: ignore[no-untyped-def]
    said = [*lines("result", LARGE), *lines("event", {"a": 1})] * times
    random.shuffle(said)
    heard = read(*said)
    assert sorted(map(str, heard)) == sorted(map(str, [LARGE, {"a": 1}]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_line_that_was_changed_is_no_news(data) -> None:  # type: ignore[no-untyped-def]
    said = list(lines("result", {"value": list(range(50))}))
    number = data.draw(st.integers(0, len(said) - 1))
    line = said[number]
    place = data.draw(st.integers(len(frames.MARK), len(line) - 1))
    other = data.draw(st.sampled_from("abcXYZ019 /+=\x00é").filter(lambda text: text != line[place]))
    broken = [*said[:number], line[:place] + other + line[place + 1 :], *said[number + 1 :]]
    heard = read(*broken)
    assert heard in ([], [{"value": list(range(50))}])
    # Said once more, it is whole.
    assert read(*broken, *said) == [{"value": list(range(50))}]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: f"10:00:00 phase 1: load starts {line}",
        lambda line: f"{line}Traceback (most recent call last)",
        lambda line: f"2026-11-21T10:00:00.000000000Z {line}\r",
        lambda line: f"{line[:40]}{line}",
    ],
    ids=["in front", "behind", "time stamps", "cut and said again"],
)
def test_other_writers_may_be_on_the_line(wrap) -> None:  # type: ignore[no-untyped-def]
    [line] = lines("event", {"event": "probe"})
    assert read(wrap(f"{line} ")) == [{"event": "probe"}]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "@servix",
        "@servix result 0123456789abcdef 1/1 00000000 AAAA",
        "@servix result 0123456789abcdef 0/0 00000000 AAAA",
        "@servix result 0123456789abcdef 5/2 00000000 AAAA",
        "@servix result 0123456789abcdef 1/999999 00000000 AAAA",
    ],
)
def test_what_is_no_message_is_left_alone(line: str) -> None:
    assert read(line) == []


def test_a_missing_line_can_be_said_again() -> None:
    said, reader = list(lines("result", LARGE)), Reader()
    assert [reader.take(line) for line in said[1:]] == [None] * (len(said) - 1)
    assert reader.incomplete == 1
    message = reader.take(said[0])
    assert message is not None
    assert message.data == LARGE
    assert reader.incomplete == 0
