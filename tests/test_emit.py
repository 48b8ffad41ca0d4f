"""Emitted files: recorded text, hostile values through bash and YAML, and a run.sh that runs."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden
import plans
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import emit, late, plan_json
from compiler.plan import Deployment, Point, Probe, Reset

PLAN = plans.one_prefill_one_decode()
DEPLOYMENT = PLAN.deployments[0]
VALUES = {"frontend_node": "h", "storage_cache_dir": "/c", "results_dir": "/r", "node:0": "h"}

FRAGMENTS = [
    "$(touch OOPS)",
    "`id`",
    "${HOME}",
    "'",
    '"',
    "\\",
    "\n",
    ";",
    "#",
    "&",
    "*",
    " ",
    "é😀",
    "\u2028",
    "--x",
    "=",
]
FRAGMENTS += [
    "{results_dir}",
    "{{results_dir}}",
    "{node:0}",
    "{",
    "}",
    "{{ x }}",
    "{% x %}",
    "{#",
    "EOF",
    "%s",
]
texts = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    st.lists(st.sampled_from(FRAGMENTS)).map("".join),
)

SNIPPET = """\
set -euo pipefail
# {{ name | comment }}
dump() { env "$@"; }
dump \\
    {{ env | assignments }} \\
    {{ python }} -c {{ code }} \\
    {{ argv | words }} {{ model }}
{% for text in argv %}
# {{ text | comment }}
{% endfor %}
"""
DUMP = (
    "import json, os, sys; "
    "print(json.dumps([sys.argv[1:], {k: v for k, v in os.environ.items() if k.startswith('SERVIX_T')}]))"
)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=20), st.lists(texts, min_size=1, max_size=20), texts)
def test_argv_env_and_names_reach_a_process_unchanged(argv: list[str], env: list[str], model: str) -> None:
    emit.check_template(SNIPPET)
    script = (
        emit.environment("shell")
        .from_string(SNIPPET)
        .render(
            name=model,
            env={f"SERVIX_T{n}": late.literal(text) for n, text in enumerate(env)},
            argv=[late.literal(text) for text in argv],
            model=model,
            python=sys.executable,
            code=DUMP,
        )
    )
    result = subprocess.run(["bash", "-s"], input=script.encode(), capture_output=True, check=True)
    seen_argv, seen_env = json.loads(result.stdout)
    assert seen_argv == [*argv, model]
    assert seen_env == {f"SERVIX_T{n}": text for n, text in enumerate(env)}


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=5), texts, max_size=4), texts, texts)
def test_lmcache_values_come_back_from_yaml(extra: dict[str, str], name: str, path: str) -> None:
    literal = {key: late.literal(text) for key, text in extra.items()}
    settings = {
        "url": "{frontend_node}:8300",
        "extra_config": {"paths": ["{storage_cache_dir}/a"], **literal},
    }
    made = emit.lmcache_text(
        replace(DEPLOYMENT, name=name, lmcache=settings), {"frontend_node": path, "storage_cache_dir": path}
    )
    assert yaml.safe_load(made) == {"url": f"{path}:8300", "extra_config": {"paths": [f"{path}/a"], **extra}}


def test_run_sh_fills_lmcache_as_lmcache_text_does(tmp_path: Path) -> None:
    path = '/it\'s "a" \\x $(id) é'
    settings = {
        "a": "{storage_cache_dir}/x",
        "b": late.literal("{storage_cache_dir} \n'\"\\"),
        "{node:0}": "{node:0}",
    }
    deployment = replace(DEPLOYMENT, lmcache=settings)
    values = {**VALUES, "storage_cache_dir": path, "node:0": "127.0.0.1"}
    lines = emit.emit(deployment)["run.sh"]
    part = lines[lines.index("in_yaml()") : lines.index("# --- processes ---")]
    script = f"RESULTS_DIR={tmp_path} NODE_0=127.0.0.1\nSTORAGE_CACHE_DIR={emit._shell(path)}\n{part}"
    subprocess.run(["bash", "-euo", "pipefail", "-s"], input=script.encode(), check=True)
    written = yaml.safe_load((tmp_path / "lmcache.yaml").read_text())
    assert written == yaml.safe_load(emit.lmcache_text(deployment, values))
    assert written["{node:0}"] == "127.0.0.1"


def test_lmcache_text_needs_settings_and_values() -> None:
    with pytest.raises(ValueError, match="no LMCache settings"):
        emit.lmcache_text(replace(DEPLOYMENT, lmcache=None), VALUES)
    with pytest.raises(KeyError, match="frontend_node"):
        emit.lmcache_text(DEPLOYMENT, {})


@pytest.mark.parametrize("name", ["run.sh", "lmcache.yaml", "plan.json"])
def test_recorded(name: str) -> None:
    golden.check(f"emit/1p1d.{name}", emit.emit(DEPLOYMENT, PLAN.points)[name])


def test_run_sh_is_valid_bash() -> None:
    text = emit.emit(DEPLOYMENT, PLAN.points)["run.sh"]
    subprocess.run(["bash", "-n"], input=text.encode(), check=True)
    if shutil.which("shellcheck"):
        found = subprocess.run(["shellcheck", "-"], input=text.encode(), capture_output=True, check=False)
        assert found.returncode == 0, found.stdout.decode()


def test_a_stored_plan_emits_the_same_text() -> None:
    files = emit.emit(DEPLOYMENT, PLAN.points)
    stored = json.loads(files["plan.json"])
    plan = {**plan_json.to_json(PLAN), "deployments": [{k: v for k, v in stored.items() if k != "schema"}]}
    assert emit.emit(plan_json.from_json(plan).deployments[0], PLAN.points) == files


def test_which_files_there_are() -> None:
    assert set(emit.emit(DEPLOYMENT)) == {"run.sh", "plan.json", "lmcache.yaml"}
    assert set(emit.emit(replace(DEPLOYMENT, lmcache=None))) == {"run.sh", "plan.json"}
    boxed = replace(
        DEPLOYMENT, lmcache=None, processes=tuple(replace(p, image="x") for p in DEPLOYMENT.processes)
    )
    assert set(emit.emit(boxed)) == {"plan.json"}


def test_points_of_other_deployments_and_with_errors_are_left_out() -> None:
    other = replace(PLAN.points[0], deployment="d1-other", name="other-point")
    wrong = replace(PLAN.points[0], problems=PLAN.points[1].problems, name="wrong-point")
    assert emit.emit(DEPLOYMENT, [other, wrong]) == emit.emit(DEPLOYMENT)


# --- templates ---


@pytest.mark.parametrize("path", sorted(emit.TEMPLATES.glob("*.j2")), ids=lambda path: path.name)
def test_templates_have_no_expression_where_quoting_does_not_help(path: Path) -> None:
    if emit.TARGETS[Path(path.stem).suffix] != "html":
        emit.check_template(path.read_text())


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("echo {{ x }}", None),
        ("echo 'it' {{ x }} \"y\" {{ z }}", None),
        ("# {{ x | comment }}\necho {{ x }}", None),
        ("echo $# ${a#b} {{ x }}", None),
        ("# it's\necho {{ x }}", None),
        ("# a \\\necho {{ x }}", None),
        ("echo 'a\\' {{ x }}", None),
        ("echo \\' {{ x }}", None),
        ('echo "a\\"" {{ x }}', None),
        ("{# it's #}{% if \"'\" %}{{ x }}", None),
        ('echo "{{ x }}"', "line 1: {{ x }} inside quotes"),
        ("python -c '\nprint({{ x }})'", "line 2: {{ x }} inside quotes"),
        ('echo "a\\" {{ x }}"', "inside quotes"),
        ("# {{ x }}", "line 1: {{ x }} in a comment"),
        ("a\n  # b {{ x | comment }} {{ y | upper }}", "line 2: {{ y | upper }} in a comment"),
    ],
)
def test_check_template(source: str, reason: str | None) -> None:
    if reason is None:
        emit.check_template(source)
    else:
        with pytest.raises(ValueError, match=re.escape(reason)):
            emit.check_template(source)


@pytest.mark.parametrize(
    ("target", "value", "text"),
    [
        ("shell", "a b", "'a b'"),
        ("shell", 8000, "8000"),
        ("shell", emit.Raw("$A"), "$A"),
        ("yaml", "on", '"on"'),
        ("yaml", True, "true"),
        ("yaml", None, "null"),
        ("html", '<a href="x">\'', "&lt;a href=&#34;x&#34;&gt;&#39;"),
        ("html", emit.Raw("<b>"), "<b>"),
    ],
)
def test_an_expression_is_quoted_for_its_target(target: emit.Target, value: Any, text: str) -> None:
    assert emit.environment(target).from_string("{{ x }}").render(x=value) == text
    # What jinja2 itself calls safe is not quoted for a shell.
    if target == "shell" and isinstance(value, str):
        assert emit.environment(target).from_string("{{ x | safe }}").render(x=value) == text


@pytest.mark.parametrize("target", ["shell", "yaml", "html"])
def test_an_undefined_name_is_an_error(target: emit.Target) -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError, match="'x' is undefined"):
        emit.environment(target).from_string("{{ x }}").render()


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}], ids=repr)
def test_what_is_no_word_of_shell_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="no word of shell"):
        emit.environment("shell").from_string("{{ x }}").render(x=value)


def test_a_template_of_unknown_target_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no target is known for template 'a.txt.j2'"):
        emit.render("a.txt.j2")


def test_jinja2_is_not_imported_at_start_up() -> None:
    code = "import sys, compiler.emit, compiler.plan_json; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=emit.TEMPLATES.parent)


# --- run.sh, with a fake stack ---

FAKE = """\
import http.server, json, os, sys
host, port, behaviour = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if behaviour == "dies":
    sys.exit("the fake stack cannot start")
BODIES = {
    "/health": {"instances": [{"component": c, "endpoint": "generate"} for c in ("prefill", "backend")]},
    "/v1/models": {"data": [{"id": "servix/tiny"}]},
    "/v1/chat/completions": {"choices": [{}]},
}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(BODIES[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        assert json.loads(self.rfile.read(int(self.headers["Content-Length"])))["max_tokens"] == 1
        self.do_GET()
with open("pid", "w") as file:
    file.write(str(os.getpid()))
print(json.dumps({"env": dict(os.environ)}), flush=True)
http.server.HTTPServer((host, port), Handler).serve_forever()
"""
NEEDED = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("setsid")), reason="needs curl and setsid"
)


def fake_stack(tmp_path: Path, behaviour: str, load: str) -> tuple[Deployment, Point, Path]:
    """A deployment of one fake server, a point whose load generator is `bash -c load`, and its run.sh."""
    (tmp_path / "run.py").touch()
    (tmp_path / "fake.py").write_text(FAKE)
    port = free_port()
    url = f"http://{{node:0}}:{port}"
    hostile = late.literal("a b'; $(x) {node:0}\n")
    frontend = replace(
        DEPLOYMENT.processes[1],
        argv=("python", "{servix_dir}/fake.py", "{node:0}", str(port), behaviour, hostile),
        env={"RESULTS": "{results_dir}", "HOSTILE": hostile},
        workdir="{results_dir}/work",
        after=(),
    )
    ready = tuple(replace(probe, url=url + probe.url.removeprefix(plans.URL)) for probe in DEPLOYMENT.ready)
    deployment = replace(
        DEPLOYMENT,
        processes=(frontend,),
        ready=(Probe("http", f"{url}/health"), *ready),
        ready_timeout_s=20,
        lmcache=None,
    )
    phase = replace(PLAN.points[0].workload.phases[0], argv=("bash", "-c", load))  # type: ignore[union-attr]
    asked = plans.workload(
        phases=(replace(phase, name="one"), replace(phase, name="two")),
        env={"AT": url, "MINE": "x y"},
        unset_env=("SERVIX_GONE",),
        between_command="echo between >> {results_dir}/notes",
    )
    script = tmp_path / "run.sh"
    point = replace(PLAN.points[0], workload=asked)
    script.write_text(emit.emit(deployment, [point])["run.sh"])
    return deployment, point, script


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(script: Path, **kwargs: Any) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["bash", str(script), "out dir"],
        cwd=script.parent,
        env={**os.environ, "PATH": path, "SERVIX_GONE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )


def left_behind(script: Path) -> list[str]:
    """Command lines of processes that still name the folder of the script."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_text()
        except OSError:
            continue
        found += [line] if str(script.parent / "fake.py") in line else []
    return found


@NEEDED
def test_run_sh_runs_a_deployment_and_leaves_nothing_behind(tmp_path: Path) -> None:
    load = 'curl -s --noproxy "*" "$AT"/health >/dev/null && echo "$MINE ${SERVIX_GONE-unset}" >> seen'
    _, _, script = fake_stack(tmp_path, "serves", load)
    process = run(script)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    results = tmp_path / "out dir"
    assert (results / "point-1" / "seen").read_text() == "x y unset\n" * 2
    assert (results / "point-1" / "notes").read_text() == "between\n"
    env = json.loads((results / "logs" / "frontend.log").read_text().splitlines()[0])["env"]
    assert env["HOSTILE"] == "a b'; $(x) {node:0}\n"
    assert (env["RESULTS"], env["PWD"]) == (str(results), str(results / "work"))
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert left_behind(script) == []


@NEEDED
@pytest.mark.parametrize("code", [0, 7])
def test_run_sh_resets_caches_between_points(tmp_path: Path, code: int) -> None:
    deployment, point, script = fake_stack(tmp_path, "serves", "true")
    text = f'echo "$HOSTILE" >> "$1"/resets; exit {code}'
    env = {"HOSTILE": late.literal("a b'; $(x) {node:0}"), "RESULTS": "{results_dir}"}
    reset = Reset(("bash", "-c", text, "reset", "{results_dir}"), env, 5)
    script.write_text(emit.emit(replace(deployment, reset=reset), [point, point, point])["run.sh"])
    process = run(script)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (3 if code else 0), output
    assert output.count("the prefix caches were not reset") == (2 if code else 0)
    assert (tmp_path / "out dir" / "resets").read_text() == "a b'; $(x) {node:0}\n" * 2


@NEEDED
@pytest.mark.parametrize(
    ("behaviour", "load", "told"),
    [
        ("dies", "true", "the fake stack cannot start\nrun.sh: frontend has ended"),
        ("serves", "exit 7", "run.sh: phase one failed"),
        ("serves", "kill $(cat ../work/pid); sleep 30", "run.sh: frontend has ended"),
    ],
    ids=["process dies", "load fails", "process dies under load"],
)
def test_run_sh_tells_what_failed(tmp_path: Path, behaviour: str, load: str, told: str) -> None:
    _, _, script = fake_stack(tmp_path, behaviour, load)
    process = run(script)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3, output
    assert told in output
    assert left_behind(script) == []


@NEEDED
def test_run_sh_stops_everything_when_interrupted(tmp_path: Path) -> None:
    _, _, script = fake_stack(tmp_path, "serves", "echo loading; sleep 60")
    process = run(script)
    assert process.stdout is not None
    while process.stdout.readline() != "loading\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert left_behind(script) == []
