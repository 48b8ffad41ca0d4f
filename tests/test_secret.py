"""Secrets that are refused are shown nowhere: not in messages, not in a plan, in no view."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compiling import ROOT, run

from compiler import secret
from compiler.catalogue import catalogue
from compiler.errors import error, format_problem

WORD = "abc123"
TYPED = [
    f"+decode.env.HF_TOKEN={WORD}",
    f"+decode.env={{HF_TOKEN: {WORD} {WORD}}}",
    f"decode.env.HF_TOKEN={WORD}",
    f"+decode.env.HF_TOKEN={WORD},{WORD}4",
    f"+decode.env.HF_TOKEN=={WORD}",
    f"zip={{+decode.env.HF_TOKEN: [{WORD}]}}",
    f"decode.extra_args=[--hf-token,{WORD}]",
    f"decode.extra_args='--hf-token=\"{WORD} {WORD}\"'",
    f"bench.extra_args=[--api-key,{WORD}]",
    f'+aiperf.header="Authorization: Bearer {WORD}"',
    f"+aiperf.header=[Authorization:{WORD}]",
    f'between_phases.command="curl -H token={WORD}"',
    f"phases=[{{name: a, api_key: {WORD}}}]",
    f"+dynamo.nope.password={WORD}",
]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("override", TYPED)
def test_a_refused_secret_is_not_shown(override: str, form: str, tmp_path: Path) -> None:
    ran = run([override, "action=plan", f"format={form}", f"output_dir={tmp_path}/outputs"])
    assert ran.code == 2
    assert WORD not in ran.out + ran.err
    assert secret.MASK in ran.out + ran.err
    if form == "json":
        assert json.loads(ran.out)["deployments"] == []


def test_beside_another_mistake_it_is_not_shown_either(tmp_path: Path) -> None:
    """A point that cannot even be read is not asked for secrets."""
    for more in ("trial=x", "backend=nope", "prefil.num_nodes=2", "max_points=0"):
        ran = run([f"+decode.env.HF_TOKEN={WORD}", more, "format=json", f"output_dir={tmp_path}/outputs"])
        assert ran.code == 2
        assert WORD not in ran.out + ran.err


@pytest.mark.parametrize("action", ["explain", "status", "report", "gc"])
def test_no_view_shows_it(action: str, tmp_path: Path) -> None:
    ran = run([f"bench.extra_args=[--api-key,{WORD}]", f"action={action}", f"output_dir={tmp_path}/outputs"])
    assert WORD not in ran.out + ran.err


def test_a_file_with_a_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\ndecode:\n  env:\n    HF_TOKEN: {WORD}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    ran = run(["experiment=mine", f"--config-dir={tmp_path}", "action=plan", "format=json"])
    (problem,) = json.loads(ran.out)["points"][0]["problems"]
    assert (problem["code"], problem["key"]) == ("secret", "decode.env.HF_TOKEN")
    assert problem["origin"].endswith("experiment/mine.yaml:4")
    assert WORD not in ran.out + ran.err


VALUES = [
    (["--hf-token", WORD, "--other", "1"], "['--hf-token', '***', '--other', '1']"),
    (["--token", "--other"], "['--token', '--other']"),
    ({"api_key": WORD, "a": [{"password": 5}]}, "{'api_key': '***', 'a': [{'password': '***'}]}"),
    (f"https://me:{WORD}@host/x", "'https://me:***@host/x'"),
]


@pytest.mark.parametrize(("value", "shown"), VALUES, ids=[str(row[1])[:20] for row in VALUES])
def test_values_in_messages_are_masked(value: object, shown: str) -> None:
    assert format_problem(error("x", "decode.x", value, "is wrong")) == f"decode.x = {shown}: is wrong"


def test_masked_twice_is_masked_once() -> None:
    for override in TYPED:
        once = secret.masked_override(override)
        assert WORD not in once
        assert secret.masked_override(once) == once


def test_few_flags_of_the_tools_are_secrets() -> None:
    names = [path.stem for path in sorted((ROOT / "catalogues").glob("*.json")) if path.stem != "notes"]
    found = {flag for name in names for flag in catalogue((name,)).flags if secret.is_name(flag)}
    assert found == {"admin_api_key", "api_key", "hf_token", "ssl_keyfile_password"}


LONG = [
    "--" + "-_" * 50_000,
    "token" * 20_000,
    "Bearer" + " " * 100_000,
    "://" * 30_000 + "@",
    "a-" * 50_000 + "token =",
]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_texts_are_read_at_once(text: str) -> None:
    assert secret.masked(text) == text
