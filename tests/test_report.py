"""What people look at: the table on a terminal, results.csv, the pandas table and the HTML report."""

import csv
import html.parser
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_data import deployment, digest, measured, point, result

from launchers.results import Result, Verdict
from launchers.results.chart import chart, steps
from launchers.results.frame import csv_text, frame, labels, load, rows
from launchers.results.report import report_html
from launchers.results.table import fitted, print_table, table_text
from launchers.results.tail import tail
from launchers.store import Store

HOSTILE = "decode.env.X='a b; $(id) <script>alert(1)</script> & \"q\"'"


def failed(**fields: Any) -> Result:
    """A point whose stack never was ready."""
    reasons = (
        "decode-0 exited with code 1 while starting",
        "end of decode-0.log:\nline one\nCUDA out of memory",
    )
    return replace(result(**fields), phases=(), metrics={}, verdict=Verdict("failed", reasons))


def invalid(name: str = "aiperf.concurrency=16") -> Result:
    phase = measured("invalid", "336 of 400 requests failed (84.0 %, limit 0 %): 503 Service Unavailable")
    return result(phase, point_name=name, overrides=(name,))


def several() -> Result:
    rounds = (measured(name="round_1"), measured("invalid", "too few", name="round_2"))
    return result(
        *rounds, point_name="phases", overrides=(), verdict=Verdict("invalid", ("round_2: too few",))
    )


def concurrent(count: int, **fields: Any) -> Result:
    phase = replace(measured(output_token_throughput_per_s=100.0 * count), concurrency=count)
    override = f"aiperf.concurrency={count}"
    config = {"aiperf": {"concurrency": count}, "topology": "separate", "backend": {"name": "vllm"}}
    return result(phase, point_name=override, overrides=(override,), config=config, **fields)


def test_the_table_as_text() -> None:
    text = table_text([result(), several(), failed(point_name="dead")], 100)
    assert text == TABLE


TABLE = """\
                                       TTFT    TTFT     ITL  latency  output  tok/s
point                  status  conc  avg ms  p99 ms  avg ms   avg ms   tok/s   /GPU  requests
aiperf.concurrency=2    valid     4    74.7    95.2    4.68    219.7   552.6  276.3        20
phases round_1          valid     4    74.7    95.2    4.68    219.7   552.6  276.3        20
phases round_2        invalid     4       -       -       -        -       -      -     20/60
dead                   failed     -       -       -       -        -       -      -         -

phases round_2: invalid
  too few

dead: failed
  decode-0 exited with code 1 while starting
  end of decode-0.log:
    line one
    CUDA out of memory"""


def test_what_several_points_failed_of_is_told_once() -> None:
    text = table_text([result(), *(failed(point_name=name) for name in "abcde")], 100)
    assert text.count("CUDA out of memory") == 1
    assert "\na, b, c and 2 more: failed\n  decode-0 exited with code 1 while starting\n" in text


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("name", ["x", "aiperf.concurrency=2", HOSTILE, "a\nb\tc", "y" * 300])
def test_no_line_is_longer_than_the_terminal(name: str, width: int) -> None:
    big = measured(output_token_throughput_per_s=9_999_999.0, **{"request_latency_ms.avg": 123456.7})
    text = table_text([result(big, point_name=name), invalid(name), failed(point_name=name)], width)
    assert max(map(len, text.splitlines())) <= width


@given(st.text(), st.integers(12, 60))
def test_a_name_fits_its_room(name: str, room: int) -> None:
    assert len(fitted(name, room)) <= room


def test_an_empty_table_is_a_heading() -> None:
    assert "status" in table_text([], 80)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)
    found = [result(), several(), failed(point_name="dead")]
    plain, coloured = io.StringIO(), Terminal()
    print_table(found, plain)
    print_table(found, coloured)
    assert "\x1b" not in plain.getvalue()
    assert "\x1b[32m" in coloured.getvalue()
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured.getvalue()) == TABLE + "\n"


def test_one_row_per_point_and_phase() -> None:
    found = rows([result(), several(), failed(point_name="dead")])
    assert [(row["point"], row["phase"], row["verdict"], row["point_verdict"]) for row in found] == [
        ("aiperf.concurrency=2", "round", "valid", "valid"),
        ("phases", "round_1", "valid", "invalid"),
        ("phases", "round_2", "invalid", "invalid"),
        ("dead", None, "failed", "failed"),
    ]
    assert len({tuple(row) for row in found}) == 1
    assert found[3]["output_token_throughput_per_s"] is None


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_what_is_wrong_beyond_the_phases_has_a_line_of_its_own(names: tuple[str, ...]) -> None:
    reasons = ("between-two exited with code 4", "phases not run after that: three")
    stopped = result(*(measured(name=name) for name in names), verdict=Verdict("failed", reasons))
    found = rows([stopped])
    assert [(row["phase"], row["verdict"]) for row in found] == [
        *((name, "valid") for name in names),
        (None, "failed"),
    ]
    text = table_text([stopped])
    assert text.count("552.6") == len(names)
    assert text.count("between-two exited with code 4") == 1
    assert "between-two exited with code 4" in report_html([stopped])


@pytest.mark.parametrize("width", [30, 40, 60, 70])
def test_a_narrow_terminal_has_fewer_columns(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [result(), several(), failed(point_name="dead")]
    text = table_text(found, width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("point", "status", "tok/s", "552.6", "too few"):
        assert part in text
    assert "requests" not in text.partition("\n\n")[0]
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    print_table(found, stream)
    assert re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()) == text + "\n"


def test_a_long_line_of_a_log_is_wrapped_not_cut() -> None:
    words = " ".join(f"word-{number}" for number in range(40))
    text = table_text(
        [failed(), replace(failed(), verdict=Verdict("failed", (f"end of x.log:\n{words}",)))], 80
    )
    assert max(map(len, text.splitlines())) <= 80
    assert "word-39" in text


TAILS = [
    ("the end", ["ERROR a", *"bcd", "ERROR e"], ["c", "d", "ERROR e"]),
    ("nothing said", [*"abcde"], ["c", "d", "e"]),
    ("errors before", ["WARN a", "b", "ERROR c", *"defg"], ["WARN a", "ERROR c"]),
    (
        "a traceback before",
        ["Traceback (most recent call last):", '  File "x"', "    run()", "OSError: no model", *"defg"],
        ['File "x"', "run()", "OSError: no model"],
    ),
    (
        "a panic before",
        ["thread 'main' panicked at a.rs:1:", "no route", *"defg"],
        ["thread 'main' panicked at a.rs:1:", "no route"],
    ),
]


@pytest.mark.parametrize(("said", "quoted"), [row[1:] for row in TAILS], ids=[row[0] for row in TAILS])
def test_the_quote_of_a_log_tells_of_the_trouble(tmp_path: Path, said: list[str], quoted: list[str]) -> None:
    (tmp_path / "x.log").write_text("\n".join(said))
    assert tail(tmp_path / "x.log", 3).splitlines() == quoted


def test_overridden_keys_are_columns_with_composed_values() -> None:
    other = result(
        overrides=("+decode.args.x=1", "topology=shared", "backend=sglang"),
        config={
            "topology": "shared",
            "backend": {"name": "sglang"},
            "aiperf": {"concurrency": 4},
            "decode": {"args": {"x": 1}},
        },
    )
    first, second = rows([result(), other])
    keys = ["aiperf.concurrency", "decode.args.x", "topology", "backend"]
    assert [first[key] for key in keys] == [2, None, "separate", "vllm"]
    assert [second[key] for key in keys] == [4, 1, "shared", "sglang"]


def test_csv_holds_every_digit_and_every_point() -> None:
    text = csv_text([result(), invalid(), failed(point_name=HOSTILE)])
    found = list(csv.DictReader(io.StringIO(text)))
    assert [row["verdict"] for row in found] == ["valid", "invalid", "failed"]
    assert float(found[0]["output_token_throughput_per_s"]) == 552.5568229622392
    # An invalid number is kept, beside its verdict.
    assert float(found[1]["output_token_throughput_per_s"]) == 552.5568229622392
    assert found[2]["point"] == HOSTILE
    assert found[2]["output_token_throughput_per_s"] == ""
    assert csv_text([]) == "point\n"


def test_lists_and_mappings_are_json_in_the_csv() -> None:
    config = {"decode": {"env": {"A": "b"}, "hosts": ["n1", "n2"]}}
    listed = result(overrides=("decode.hosts=[n1,n2]", "decode.env={A: b}"), config=config)
    (row,) = csv.DictReader(io.StringIO(csv_text([listed])))
    assert (row["decode.hosts"], row["decode.env"]) == ('["n1", "n2"]', '{"A": "b"}')


def test_the_pandas_table_is_the_csv(tmp_path: Path) -> None:
    import pandas as pd

    store = Store(tmp_path)
    store.write_result(deployment(), point(), result())
    store.write_result(deployment(), point("b"), result(point_digest=digest("b"), started_at="2026-11-22"))
    found = load(tmp_path)
    assert list(found["trial"]) == [1, 1]
    assert found["output_token_throughput_per_s"].dtype == float
    again = pd.read_csv(io.StringIO(csv_text(store.results())), float_precision="round_trip")
    pd.testing.assert_frame_equal(found, again, check_dtype=False, check_exact=True)
    assert frame([]).empty


class Reader(html.parser.HTMLParser):
    """Checks that tags are balanced, and collects tags, attributes and text."""

    VOID = frozenset(["meta", "br"])

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_report_tells_what_was_asked_what_came_out_and_what_ran() -> None:
    text = report_html([result(), invalid(), failed(point_name="dead")], ["aiperf.concurrency=2,16", "a=b c"])
    reader = read(text)
    for part in (
        "python run.py aiperf.concurrency=2,16 'a=b c'",
        "1 valid",
        "1 invalid",
        "1 failed",
        "552.6",
        "336 of 400 requests failed (84.0 %, limit 0 %)",
        "CUDA out of memory",
        "dynamo 1.6.1, aiperf 0.13.0",
        "127.0.0.2, 127.0.0.3",
    ):
        assert part in reader.text
    # Numbers of the invalid point are not shown.
    assert reader.text.count("552.6") == 1


def test_the_report_needs_nothing_from_elsewhere() -> None:
    reader = read(report_html([concurrent(count) for count in (1, 2, 4)]))
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert not {name for name, _ in reader.attributes} & {"src", "href", "srcset", "onload"}
    assert "url(" not in reader.text
    assert "@import" not in reader.text


def test_nothing_a_user_typed_becomes_a_tag() -> None:
    hostile = failed(
        point_name=HOSTILE,
        overrides=(HOSTILE,),
        deployment_name="<b>",
        ran={"hosts": ["<i>"]},
        verdict=Verdict("failed", ("</td><script>alert(2)</script>",)),
    )
    reader = read(report_html([replace(hostile, verdict=hostile.verdict)], [HOSTILE, '"><img src=x>']))
    assert not {"script", "img", "b"} & set(reader.tags)
    assert HOSTILE in reader.text


def test_a_chart_needs_two_valid_points() -> None:
    assert "<svg" not in report_html([concurrent(2), invalid()])
    text = report_html([concurrent(2), concurrent(8), invalid()])
    assert text.count("<svg") == 3
    # Two points in each of three charts; the invalid one is in none.
    assert text.count("<circle") == 6


def test_lines_join_what_differs_in_concurrency_only() -> None:
    fast = [concurrent(count) for count in (1, 2)]
    slow = [
        replace(each, overrides=(*each.overrides, "trial=2"), tool="genai_perf")
        for each in map(concurrent, (1, 2))
    ]
    assert report_html(fast).count("<polyline") == 3
    assert report_html([*fast, *slow]).count("<polyline") == 6


def test_what_all_points_have_in_common_is_said_once() -> None:
    points = [
        replace(each, overrides=(*each.overrides, f"isolation={isolation}", "backend=sglang"))
        for isolation in ("shared", "restart")
        for each in map(concurrent, (1, 2))
    ]
    text = read(report_html(points, ["backend=sglang", "..."])).text
    assert text.count("backend=sglang") == 1
    assert "separate-vllm (aiperf) isolation=restart" in text
    assert "backend=sglang" in read(report_html(points[:1])).text


def test_a_report_of_nothing() -> None:
    assert "no points" in read(report_html([])).text


@given(st.floats(1e-6, 1e12))
def test_steps_are_few_and_reach_the_largest(largest: float) -> None:
    found = steps(largest)
    assert 3 <= len(found) <= 8
    assert found[0] == 0
    assert found[-1] >= largest * (1 - 1e-8)
    assert found == sorted(set(found))


def test_a_chart_stays_inside_its_frame() -> None:
    drawn = chart("t", "x", "y", {"a": [(1, 10.0), (64, 0.0)], "b": [(32, 552.0)]})
    assert drawn is not None
    places = [place for line in drawn.lines for place in line.points]
    assert all(62 <= x <= 446 and 14 <= y <= 220 for x, y in places)
    assert chart("t", "x", "y", {"a": [(1, 10.0)], "b": [(1, 20.0)]}) is None
    assert chart("t", "x", "y", {"a": [(1, 0.0), (2, 0.0)]}) is not None


def test_points_of_one_table_have_names_that_differ() -> None:
    same = [result(), result(point_digest=digest("b"), deployment_name="shared-vllm")]
    assert labels(same) == ["separate-vllm aiperf.concurrency=2", "shared-vllm aiperf.concurrency=2"]
    typed = [
        result(point_name="p"),
        result(point_name="p", point_digest=digest("b"), overrides=("trial=2", "action=run")),
    ]
    assert labels(typed) == ["aiperf.concurrency=2", "trial=2"]
    typed = [replace(each, overrides=("backend=vllm", *each.overrides)) for each in typed]
    assert labels(typed) == ["aiperf.concurrency=2", "trial=2"], "what all have tells none apart"
    alike = [result(), result(point_digest=digest("b"))]
    assert labels(alike) == ["aiperf.concurrency=2 aaaaaaaaaa", "aiperf.concurrency=2 bbbbbbbbbb"]
    assert labels([]) == []


def test_overrides_about_the_command_are_no_columns() -> None:
    found = rows([result(overrides=("output_dir=/x", "hydra.mode=RUN", "format=json", "++trial=3"))])
    assert not {"output_dir", "hydra.mode", "format"} & set(found[0])
