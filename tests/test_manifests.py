"""Objects of a Kubernetes cluster: recorded text, the schemas of their kinds, names, and hostile values."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import clusters
import golden
import pytest
import structure
import yaml
from compiling import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import late
from compiler.digest import short
from compiler.manifests import TooLong, benchmark, files, fitting, manifests, work_of, yaml_text
from compiler.manifests.bound import OWN_ADDRESS, POD_IP, Names
from compiler.manifests.merged import merged
from compiler.manifests.names import name_of
from compiler.manifests.operator import quantity
from compiler.manifests.work import MOST, PACKED, PLAIN

CASES = pytest.mark.parametrize("name", clusters.CASES)
DEFINITIONS = structure.definitions()
DNS = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?\Z")


def undated(text: str, digest: str, points: str) -> str:
    """Digests and the work change with every default, and have tests of their own."""
    text = re.sub(r'"job\.json": ".*"', '"job.json": "..."', text)
    text = text.replace(digest, "v1-0123456789").replace(short(digest), "0123456789")
    return re.sub(r'("servix\.dev/points?": )"[0-9a-f,]+"', rf'\1"{points}"', text)


@CASES
def test_the_text_of_a_deployment(name: str) -> None:
    made, deployment = clusters.planned(*clusters.CASES[name]), clusters.deployment(*clusters.CASES[name])
    texts = files(deployment[0], made.points, deployment[1])
    for path, text in texts.items():
        if path.endswith("stack.yaml") or name in ("separate", "site"):
            kept = undated(text, deployment[0].digest, "fedcba9876")
            golden.check(f"kubernetes/{name}.{path.rpartition('/')[2]}", kept)


def everything(name: str) -> Iterator[dict[str, Any]]:
    made = clusters.objects(*clusters.CASES[name])
    yield from made.stack
    yield from made.benchmark
    if made.claim is not None:
        yield made.claim


@CASES
def test_every_object_is_of_its_kind(name: str) -> None:
    """Core kinds, and pods within others, by the schemas of a release of Kubernetes, in strict mode."""
    found = []
    for each in everything(name):
        if each["kind"] != "DynamoGraphDeployment":
            found += structure.core(each)
            continue
        found += list(structure.check(each, structure.GRAPHS[each["apiVersion"]]))
        for template in structure.templates(each):
            assert template["spec"]["containers"][0]["name"] == "main"
            found += structure.core(structure.as_deployment(template))
    assert found == []


@pytest.mark.skipif(not DEFINITIONS, reason="the operator's definition is not beside this checkout")
@CASES
def test_every_graph_is_what_the_operator_defines(name: str) -> None:
    """By the operator's own definition, where that is at hand; the test above needs none."""
    graphs = [each for each in everything(name) if each["kind"] == "DynamoGraphDeployment"]
    found = [line for each in graphs for line in structure.check(each, DEFINITIONS[each["apiVersion"]])]
    assert found == []


WRONG = [
    ("unknown field", lambda g: g["spec"]["components"][0].update(podTemplat={}), "is no field"),
    ("type", lambda g: g["spec"]["components"][0].update(replicas="1"), "is no integer"),
    ("enum", lambda g: g["spec"]["components"][0].update(type="decode-worker"), "is none of"),
    ("pattern", lambda g: g["spec"]["components"][0].update(name="a_b"), "does not match"),
    ("minimum", lambda g: g["spec"]["components"][0].update(multinode={"nodeCount": 1}), "out of range"),
    ("required", lambda g: g["spec"]["components"][0].pop("name"), "is missing"),
    ("twice", lambda g: g["spec"]["components"].append(g["spec"]["components"][0]), "the same"),
    ("too many", lambda g: g["spec"]["components"].extend(g["spec"]["components"] * 25), "items"),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_the_check_sees_what_is_wrong(change: Any, words: str) -> None:
    (text,) = [yaml_text([clusters.objects().owner])]
    for schema in (structure.GRAPHS, *([DEFINITIONS] if DEFINITIONS else [])):
        graph = yaml.safe_load(text)
        change(graph)
        assert any(words in line for line in structure.check(graph, schema[graph["apiVersion"]]))


def test_the_check_of_pods_is_strict() -> None:
    (template, *_) = structure.templates(clusters.objects().owner)
    template = yaml.safe_load(yaml_text([template]))
    template["spec"]["containers"][0]["imagePullPolice"] = "Always"
    assert structure.core(structure.as_deployment(template))


@CASES
def test_yaml_reads_back_as_what_is_applied(name: str) -> None:
    found = list(everything(name))
    assert list(yaml.safe_load_all(yaml_text(found))) == found


@pytest.mark.parametrize(
    "text", ["y", "n", "on", "1e3", "0x1f", "12:30:00", "null", "~", "=", " a", "é\n'\""]
)
def test_texts_stay_texts(text: str) -> None:
    """`kubectl` reads YAML 1.1, where a bare `y` is true, and the API refuses that as a value of a variable."""
    deployment, own = clusters.deployment()
    processes = tuple(replace(one, env={**one.env, "X": text}) for one in deployment.processes)
    stack = manifests(replace(deployment, processes=processes), (), own).stack
    (again, *_) = yaml.safe_load_all(yaml_text(stack))
    for component in again["spec"]["components"]:
        (main,) = component["podTemplate"]["spec"]["containers"]
        assert {"name": "X", "value": text} in main["env"]


def expanded(text: str, env: dict[str, str]) -> str:
    """As a kubelet does it: `$(NAME)` of a known variable is its value, `$$` is `$`, the rest stays."""
    parts = re.split(r"(\$\$|\$\([^)]*\))", text)
    return "".join(
        "$" if part == "$$" else env.get(part[2:-1], part) if part.startswith("$(") else part
        for part in parts
    )


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("$()Aa{}nodeIP_:0"), max_size=14), st.booleans())
def test_any_text_reaches_a_process_unchanged(text: str, is_last: bool) -> None:
    names = Names({"node:0": OWN_ADDRESS})
    try:
        word = late.literal(text) + ("" if is_last else "/{node:0}")
        assert late.words_of(word) == ([] if is_last else ["node:0"])
    except AssertionError:
        return
    bound = expanded(names.bind(word), {POD_IP: "10.0.0.1", "A": "wrong", "a": "wrong"})
    assert bound == text + ("" if is_last else "/10.0.0.1")


@CASES
def test_names_are_fit_for_a_cluster_and_for_grove(name: str) -> None:
    made = clusters.objects(*clusters.CASES[name])
    names = [each["metadata"]["name"] for each in everything(name)]
    assert all(DNS.match(each) for each in names)
    for component in made.owner["spec"].get("components", []) if "spec" in made.owner else []:
        own = component["name"].lower()
        several = 2 * len(own) + len("-wkr") if "multinode" in component else len(own)
        assert len(made.name) + several <= 45


@pytest.mark.parametrize("said", ["vllm-separate-1p1d-x", "9-x", "é", "-", "A" * 99, "a" * 12 + "-b"])
def test_the_name_of_any_deployment(said: str) -> None:
    deployment = replace(clusters.deployment()[0], name=said)
    assert DNS.match(name_of(deployment))
    assert len(name_of(deployment)) <= 24
    assert name_of(deployment).endswith(f"-{short(deployment.digest)}")


def test_pods_ask_for_their_workers_gpus_and_no_more() -> None:
    made = clusters.objects(*clusters.CASES["separate-2-3"])
    found = {
        each["name"]: (each["replicas"], each["podTemplate"]["spec"]["containers"][0].get("resources"))
        for each in made.owner["spec"]["components"]
    }
    assert found == {
        "frontend": (1, None),
        "decode": (6, {"limits": {"nvidia.com/gpu": "4"}, "requests": {"nvidia.com/gpu": "4"}}),
        "prefill": (2, {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}}),
    }


@CASES
def test_variables_refer_to_earlier_ones_only(name: str) -> None:
    """The operator sorts them by name: ours are sorted as well, so that nothing changes its place."""
    for each in everything(name):
        for template in structure.templates(each) if each["kind"] == "DynamoGraphDeployment" else ():
            for container in template["spec"]["containers"]:
                names = [entry["name"] for entry in container["env"]]
                assert names == sorted(names)
                used = [
                    (entry["name"], other)
                    for entry in container["env"]
                    for other in re.findall(r"(?<!\$)\$\((\w+)\)", entry.get("value", ""))
                ]
                assert all(other in names and other < one for one, other in used)


@pytest.mark.parametrize(
    ("more", "namespace"), [((), None), (("+dynamo.env.DYN_NAMESPACE=mine",), "mine")], ids=["own", "given"]
)
def test_deployments_without_the_operator_do_not_see_each_others_workers(
    more: tuple[str, ...], namespace: str | None
) -> None:
    made = clusters.objects(*clusters.CASES["plain-discovery"], *more)
    found = [
        [entry["value"] for entry in container["env"] if entry["name"] == "DYN_NAMESPACE"]
        for each in made.stack
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
    ]
    assert found == [[namespace or made.name]] * 3


def test_no_value_of_a_secret_is_written() -> None:
    text = yaml_text(everything("site"))
    (entry,) = set(re.findall(r'name: "HF_TOKEN"\n\s+(\w+):', text))
    assert entry == "valueFrom"


@pytest.mark.parametrize(
    ("text", "code", "out"),
    [("echo $(echo a) '$HOME' {host} >&2", 0, "a $HOME {host}\nrun x y\n"), ("exit 3", 3, "")],
)
def test_a_startup_command_is_run_before_a_worker(text: str, code: int, out: str, tmp_path: Any) -> None:
    made = clusters.planned(f'startup_command="{text}"'.replace("{host}", "{{host}}"))
    (graph, *_) = manifests(made.deployments[0], (), clusters.deployment()[1]).stack
    decode = graph["spec"]["components"][1]["podTemplate"]["spec"]["containers"][0]
    words = [expanded(word, {}) for word in decode["command"]]
    assert words[-3:] == ["python", "-m", "dynamo.vllm"]
    ran = subprocess.run(
        [*words[:-3], "bash", "-c", 'echo run "$@" >&2', "bash", "x", "y"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (code, out)


def test_every_object_of_a_namespace_names_it() -> None:
    assert {each["metadata"]["namespace"] for each in everything("site")} == {"bench"}


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("system.kubernetes.host_network=true", True),
        ("system.kubernetes.shared_memory_gb=8", True),
        ("system.kubernetes.networks=rail0", True),
        ("+system.kubernetes.container.resources={limits: {rdma/ib: 1}}", True),
        ("system.namespace=other", False),
        ("+system.kubernetes.labels.team=x", False),
        ("system.kubernetes.results.claim=other", False),
        ("system.kubernetes.api_version=v1alpha1", False),
        ("system.kubernetes.runtime_version=1.6.1", False),
        ("+system.kubernetes.bench.pod.securityContext={fsGroup: 1000}", False),
    ],
)
def test_what_changes_a_number_is_in_the_digest(override: str, changes: bool) -> None:
    before, after = clusters.planned().points[0].digest, clusters.planned(override).points[0].digest
    assert (before != after) == changes


def read(config_map: dict[str, Any]) -> dict[str, bytes]:
    """The files of a ConfigMap, as a pod has them."""
    import base64

    packed = {name: base64.b64decode(text) for name, text in config_map.get("binaryData", {}).items()}
    return {**{name: text.encode() for name, text in config_map.get("data", {}).items()}, **packed}


@pytest.mark.parametrize(("loads", "file"), [("2,4", PLAIN), (",".join(map(str, range(1, 151))), PACKED)])
def test_the_work_comes_back_in_the_pod(loads: str, file: str) -> None:
    made = clusters.planned(f"aiperf.concurrency={loads}", "aiperf.request_count=200")
    config_map, job = benchmark(made.deployments[0], made.points, clusters.deployment()[1], 3)
    found = read(config_map)
    assert list(found) == [file]
    assert len(found[file]) < MOST
    work = work_of(found)
    assert (work.deployment, work.points, work.attempt) == (made.deployments[0], made.points, 3)
    assert work.names["node:0"] == f"{name_of(made.deployments[0])}-head"
    assert job["metadata"]["name"].endswith("-bench-3")
    assert (
        job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == config_map["metadata"]["name"]
    )


def test_points_that_one_job_cannot_be_told_of_are_left_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = ",".join(map(str, range(1, 151)))
    made = clusters.planned(f"aiperf.concurrency={loads}", "aiperf.request_count=200")
    (only,), own = made.deployments, clusters.deployment()[1]
    monkeypatch.setattr("compiler.manifests.work.MOST", 16_000)
    config_map, job = manifests(only, made.points, own).benchmark
    first = work_of(read(config_map)).points
    assert 0 < len(first) < len(made.points)
    assert first == made.points[: len(first)] == fitting(only, made.points, own, 1)
    assert job["metadata"]["annotations"]["servix.dev/points"].count(",") == len(first) - 1
    searched = tuple(replace(p, config={**p.config, "search": "bisect"}) for p in made.points)
    for points in (searched, made.points):
        with pytest.raises(TooLong, match="150 points are more than a ConfigMap holds"):
            benchmark(only, points, own, 1) if points is made.points else manifests(only, points, own)


@pytest.mark.parametrize("wrong", [{}, {PLAIN: b"{}"}, {PLAIN: b"x"}, {PACKED: b"x"}, {PLAIN: b"[1]"}])
def test_work_of_another_form_is_refused(wrong: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"."):
        work_of(wrong)


def test_a_job_has_the_time_its_points_are_estimated_to_take() -> None:
    made, (_, own) = clusters.planned("aiperf.concurrency=2,4"), clusters.deployment()
    one, two = (
        benchmark(made.deployments[0], made.points[:number], own, 1)[1]["spec"]["activeDeadlineSeconds"]
        for number in (1, 2)
    )
    assert 600 < one < two


@pytest.mark.parametrize(
    ("case", "resets"), [("separate", False), ("plain-discovery", False), ("plain", True), ("etcd", False)]
)
def test_caches_are_emptied_where_the_job_finds_the_workers(case: str, resets: bool) -> None:
    words = (*clusters.CASES[case], "aiperf.concurrency=2,4", "aiperf.random_seed=7")
    made = clusters.planned(*words)
    assert (made.deployments[0].reset is not None) == resets
    told = {problem.code for point in made.points for problem in point.problems}
    assert ("warm-cache" in told) != resets


def test_site_data_is_merged_by_name() -> None:
    ours = {"containers": [{"name": "main", "env": [{"name": "A", "value": "1"}]}], "volumes": []}
    more = {
        "containers": [{"name": "main", "env": [{"name": "B", "value": "2"}], "tty": True}, {"name": "s"}]
    }
    assert merged(ours, more) == {
        "containers": [
            {"name": "main", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "tty": True},
            {"name": "s"},
        ],
        "volumes": [],
    }


def test_quantities() -> None:
    assert [quantity(size) for size in (1, 80.0, 0.25)] == ["1Gi", "80Gi", "256Mi"]


ASKS_NOBODY = """
import socket, sys
sys.path.append("launchers")
def never(*_, **__):
    raise AssertionError("a plan asks no cluster")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = never
from pathlib import Path
from launchers.main import main
assert main(Path("config"), {arguments}) == 0
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"lightkube", "kubernetes", "httpx", "aiohttp", "jinja2"}}, loaded
"""


def test_a_plan_asks_no_cluster(tmp_path: Any) -> None:
    words = [
        "action=plan",
        f"output_dir={tmp_path}",
        *clusters.SYSTEM,
        "lmcache=on",
        "system.context=nowhere",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", ASKS_NOBODY.format(arguments=words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env={"KUBECONFIG": "/nonexistent", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (stack,) = tmp_path.glob("store/*/manifests/stack.yaml")
    (bench,) = tmp_path.glob("store/*/manifests/benchmark.yaml")
    kinds = [each["kind"] for path in (stack, bench) for each in yaml.safe_load_all(path.read_text())]
    assert kinds == ["DynamoGraphDeployment", "Service", "ConfigMap", "ConfigMap", "Job"]
    assert str(stack) in ran.stderr
