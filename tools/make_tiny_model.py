"""Writes config/model/files/tiny: a model directory without weights, as the Dynamo mocker, its frontend
and AIPerf want one.

The files are the same bytes on every machine: only the standard library is used, and the vocabulary is
learnt from the repository's own LICENSE and the numbers below 1000. Heads and layers are as many as in
a real 8B model, so that the usual tensor and pipeline parallel sizes divide them; widths are small
because nothing is computed.
"""

import argparse
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "config" / "model" / "files" / "tiny"

VOCAB_SIZE = 2048
CONTEXT = 32768
END_OF_TEXT, TURN_START, TURN_END = SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Word = tuple[str, ...]
Pair = tuple[str, str]


def byte_alphabet() -> list[str]:
    """The printable stand-in of each byte 0 to 255, as byte-level BPE (GPT-2) defines it."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def words_of(text: str) -> Counter[Word]:
    """How often each word occurs, a leading space being part of it, spelt in the byte alphabet."""
    alphabet = byte_alphabet()
    words = re.findall(r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+", re.sub(r"\s+", " ", text))
    return Counter(tuple(alphabet[byte] for byte in word.encode()) for word in words)


def merged(word: Word, pair: Pair) -> Word:
    """The word with every occurrence of the pair joined.

    >>> merged(("a", "b", "a", "b"), ("a", "b"))
    ('ab', 'ab')
    """
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def learn_merges(words: Counter[Word], count: int) -> list[Pair]:
    """At most count merges, the most frequent pair first; equal ones in alphabetical order."""
    pairs: Counter[Pair] = Counter()
    for word, times in words.items():
        add_pairs(pairs, word, times)
    merges: list[Pair] = []
    while pairs and len(merges) < count:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in [word for word in words if best[0] in word and best[1] in word]:
            times = words.pop(word)
            add_pairs(pairs, word, -times)
            joined = merged(word, best)
            add_pairs(pairs, joined, times)
            words[joined] += times
        pairs = +pairs
    return merges


def add_pairs(pairs: Counter[Pair], word: Word, times: int) -> None:
    for pair in pairwise(word):
        pairs[pair] += times


def tokenizer(text: str) -> dict[str, Any]:
    """tokenizer.json: special tokens first, then the bytes, then what was learnt."""
    alphabet = byte_alphabet()
    merges = learn_merges(words_of(text), VOCAB_SIZE - len(SPECIAL) - len(alphabet))
    # Two pairs can spell one token, so the vocabulary is a set that keeps its order.
    tokens = dict.fromkeys([*SPECIAL, *alphabet, *("".join(pair) for pair in merges)])
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **added(token)} for number, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [" ".join(pair) for pair in merges],
        },
    }


def added(token: str) -> dict[str, Any]:
    flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
    return {"content": token, **flags, "special": True}


def tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
        "added_tokens_decoder": {str(number): added(token) for number, token in enumerate(SPECIAL)},
    }


def model_config(vocab_size: int) -> dict[str, Any]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 32,
        "hidden_size": 1024,
        "intermediate_size": 2048,
        "vocab_size": vocab_size,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": SPECIAL.index(END_OF_TEXT),
        "eos_token_id": SPECIAL.index(TURN_END),
    }


def generation_config() -> dict[str, Any]:
    return {
        "bos_token_id": SPECIAL.index(END_OF_TEXT),
        "eos_token_id": [SPECIAL.index(TURN_END), SPECIAL.index(END_OF_TEXT)],
        "pad_token_id": SPECIAL.index(END_OF_TEXT),
        "temperature": 0.7,
    }


def model_files() -> dict[str, str]:
    """The text of every file of the directory, by name."""
    numbers = " ".join(map(str, range(1000)))
    tokens = tokenizer((ROOT / "LICENSE").read_text(encoding="utf-8") + numbers)
    documents = {
        "config.json": model_config(len(tokens["model"]["vocab"])),
        "generation_config.json": generation_config(),
        "tokenizer.json": tokens,
        "tokenizer_config.json": tokenizer_config(),
    }
    return {name: json.dumps(document, indent=1) + "\n" for name, document in documents.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="?", type=Path, default=TARGET)
    directory = parser.parse_args().directory
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in model_files().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
