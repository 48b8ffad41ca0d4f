"""A worker as Dynamo knows it, without an engine: serves `clear_kv_blocks` the way vLLM's and SGLang's workers do."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from dynamo.runtime import DistributedRuntime


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--component", default="backend")
    parser.add_argument("--refuse", type=int, default=0, help="so often, before it clears")
    parser.add_argument("--hang", action="store_true", help="never answer")
    parser.add_argument("--mute", action="store_true", help="an answer without content")
    parser.add_argument("--asked", type=Path, help="a line is added to this file for every request")
    options = parser.parse_args()
    refusals = options.refuse

    async def clear(request: Any = None) -> AsyncIterator[dict[str, str]]:
        nonlocal refusals
        if options.asked:
            with options.asked.open("a") as file:
                file.write(f"{options.component}\n")
        if options.hang:
            await asyncio.sleep(3600)
        refusals -= 1
        if refusals >= 0:
            yield {"status": "error", "message": "Cannot clear KV cache while requests are active"}
        elif not options.mute:
            yield {"status": "success", "message": "KV cache cleared"}

    planes = os.environ["DYN_DISCOVERY_BACKEND"], os.environ["DYN_REQUEST_PLANE"]
    runtime = DistributedRuntime(asyncio.get_running_loop(), *planes)
    await runtime.endpoint(f"dynamo.{options.component}.clear_kv_blocks").serve_endpoint(clear)


if __name__ == "__main__":
    asyncio.run(main())
