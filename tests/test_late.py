"""Late-bound words: protected text comes back, pieces are what `bind` joins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import late

VALUES = {word: f"<{word}>" for word in late.WORDS} | {"node:0": "<a>", "node:12": "<b>"}
FRAGMENTS = ["{", "}", "{{", "}}", " ", "x", "node:", "0", *("{" + word + "}" for word in VALUES), *VALUES]
texts = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join))


@given(texts)
def test_literal_text_comes_back(text: str) -> None:
    assert late.bind(late.literal(text), {}) == text
    assert late.words_of(late.literal(text)) == []


@given(texts)
def test_pieces_are_what_bind_joins(text: str) -> None:
    pieces = late.pieces(text)
    assert late.bind(text, VALUES) == "".join(VALUES[piece] if bound else piece for piece, bound in pieces)
    assert [piece for piece, bound in pieces if bound] == late.words_of(text)
    assert all(piece for piece, _ in pieces)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", []),
        ("plain {x}", [("plain {x}", False)]),
        ("{node:0}", [("node:0", True)]),
        ("http://{node:0}:80", [("http://", False), ("node:0", True), (":80", False)]),
        ("{{node:0}}", [("{node:0}", False)]),
        ("{{{node:0}}}", [("{{node:0}}", False)]),
        ("{{node:0}", [("{", False), ("node:0", True)]),
        ("{node:0}}", [("node:0", True), ("}", False)]),
        ("{node:0}{results_dir}", [("node:0", True), ("results_dir", True)]),
    ],
)
def test_pieces(text: str, pieces: list[tuple[str, bool]]) -> None:
    assert late.pieces(text) == pieces


def test_a_word_without_value_is_an_error() -> None:
    with pytest.raises(KeyError, match="node:3"):
        late.bind("{node:3}", VALUES)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("{frontend_node}:{port} {{x}}", "{frontend_node}:8300 {x}"),
        ('{"pull": {port}}', '{"pull": 8300}'),
        ("{{frontend_node}}", "{{frontend_node}}"),
        ("a } b", "a } b"),
    ],
)
def test_template(text: str, made: str) -> None:
    assert late.template(text, {"port": "8300"}, ["frontend_node"]) == made


@pytest.mark.parametrize("text", ["{prot}", "{node:0}", "{servix_dir}"])
def test_template_refuses_other_words(text: str) -> None:
    with pytest.raises(late.TemplateError, match="unknown placeholder"):
        late.template(text, {"port": "8300"}, ["frontend_node"])
