"""A load generator with AIPerf's flags and report, in a tenth of a second: it asks a live frontend for completions.

The report is one that a real AIPerf left, with the counts of what was answered here. The folder named by HOLD
makes it wait, so that a test can do something at a moment it knows: as long as `load-N` is there (N: concurrency) while
a request is under way, `answers-N` after the last answer, `report-N` after the report. Meanwhile `held` is there.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

RECORDED = Path(__file__).parent.parent / "data" / "aiperf_healthy"
SUMMARY, RECORDS = "profile_export_aiperf.json", "profile_export.jsonl"
ENDLESS = 2000
"""Tokens of the request that is under way: more than come while a test looks."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--artifact-dir", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--request-count", type=int, required=True)
    parser.add_argument("--output-tokens-mean", type=int, required=True)
    return parser.parse_known_args()[0]


def ask(options: argparse.Namespace, tokens: int) -> HTTPResponse:
    """The answer to one streamed completion, of which nothing is read yet."""
    body = {
        "model": options.model,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = HTTPConnection(urlsplit(options.url).netloc, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"HTTP {answer.status}: {answer.read().decode()}")
    return answer


def chunks(answer: HTTPResponse) -> Iterator[dict[str, Any]]:
    for line in answer:
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


def tokens_of(options: argparse.Namespace) -> int:
    """Tokens of one whole answer, as the server counts them."""
    usage = [
        chunk["usage"] for chunk in chunks(ask(options, options.output_tokens_mean)) if chunk.get("usage")
    ]
    return int(usage[-1]["completion_tokens"])


def wait(stage: str, options: argparse.Namespace) -> None:
    hold = Path(os.environ.get("HOLD", "/nowhere"))
    asked, held = hold / f"{stage}-{options.concurrency}", hold / "held"
    if not asked.exists():
        return
    answer = ask(options, ENDLESS) if stage == "load" else None
    if answer is not None:
        next(chunks(answer))
    held.touch()
    while asked.exists():
        time.sleep(0.01)
    held.unlink(missing_ok=True)


def leave_report(options: argparse.Namespace, lengths: list[int]) -> None:
    """The recorded report with these answers: the summary last, as AIPerf does."""
    records = (RECORDED / RECORDS).read_text().splitlines(keepends=True)
    chosen = [records[index % len(records)] for index in range(len(lengths))]
    (options.artifact_dir / RECORDS).write_text("".join(chosen))
    summary = json.loads((RECORDED / SUMMARY).read_text())
    for value in summary.values():
        if isinstance(value, dict) and "count" in value:
            value["count"] = len(lengths)
    summary["request_count"]["avg"] = float(len(lengths))
    summary["output_sequence_length"]["avg"] = sum(lengths) / len(lengths)
    (options.artifact_dir / SUMMARY).write_text(json.dumps(summary))


def main() -> None:
    options = arguments()
    wait("load", options)
    with ThreadPoolExecutor(options.concurrency) as threads:
        lengths = list(threads.map(lambda _: tokens_of(options), range(options.request_count)))
    wait("answers", options)
    leave_report(options, lengths)
    wait("report", options)


if __name__ == "__main__":
    main()
