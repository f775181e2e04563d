"""Five engines on the real Gemma 3 270M: ``make bench-real``.

The same few-shot translations, greedy and in float32, each up to the end of its line: our whole
job, our engine alone, vLLM's `LLM.generate` with our model class and with its own, transformers'
`generate` in batches, and llama.cpp with the GGUF file that the model was made of, where
`xllamacpp` is installed (`make bench-real` sees to it; its wheel is for any CPU, without AVX-512).
One engine runs at a time, and its start is not counted. Answers have about the same length
everywhere: greedy decoding differs by rounding only, and by GGUF's four bits in llama.cpp.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from deploy.real_model import GGUF, PARTS, assemble, fetch
from jobs.cli.bench.measure import measured_engine
from jobs.cli.bench.rendered import RenderedRows, render
from jobs.cli.bench.workload import Workload
from jobs.sdk.calls import run_job
from tests.real.test_translation import EXAMPLES, sentences
from tests.real_model import find

MAX_TOKENS = 40
BATCH = 32
ANSWER = "ANSWER "
WITHOUT_OURS = {"VLLM_PLUGINS": ""}


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every engine answers: prompts as ids, up to a line's end."""

    model: str
    prompts: list[list[int]]
    gguf: str | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """What an engine did with it."""

    seconds: float
    tokens: int


def vllm(work: Work) -> Done:
    """vLLM's offline class; which model class answers, the environment decides."""
    from vllm import LLM, SamplingParams

    # Eager as our engine on a CPU; by default it would reserve nearly all memory.
    llm = LLM(
        work.model, dtype="float32", max_model_len=512, max_num_seqs=64, enforce_eager=True,
        gpu_memory_utilization=0.3,
    )  # fmt: skip
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, stop=["\n"])
    requests = [{"prompt_token_ids": prompt} for prompt in work.prompts]
    llm.generate(requests[:2], params, use_tqdm=False)
    began = time.perf_counter()
    outputs = llm.generate(requests, params, use_tqdm=False)
    seconds = time.perf_counter() - began
    return Done(seconds=seconds, tokens=sum(len(o.outputs[0].token_ids) for o in outputs))


def transformers(work: Work) -> Done:
    """`generate` over batches of prompts of about the same length."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(work.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32).eval()
    prompts = sorted(work.prompts, key=len)

    def answer(batch: Sequence[Sequence[int]]) -> int:
        inputs = tokenizer.pad({"input_ids": [*map(list, batch)]}, return_tensors="pt")
        made = model.generate(
            **inputs, max_new_tokens=MAX_TOKENS, do_sample=False, stop_strings=["\n"],
            tokenizer=tokenizer, pad_token_id=0,
        )  # fmt: skip
        return int((made[:, inputs["input_ids"].shape[1] :] != 0).sum())

    answer(prompts[:2])
    began = time.perf_counter()
    tokens = sum(answer(prompts[at : at + BATCH]) for at in range(0, len(prompts), BATCH))
    return Done(seconds=time.perf_counter() - began, tokens=tokens)


def llama(work: Work) -> Done:
    """llama.cpp's own server, in the process, with as many slots as `BATCH` requests."""
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = work.gguf
    params.n_parallel, params.n_ctx = BATCH, BATCH * 512
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count()
    server = Server(params)

    def answer(prompt: Sequence[int]) -> int:
        body = {"prompt": [*prompt], "n_predict": MAX_TOKENS, "temperature": 0, "stop": ["\n"]}
        return int(server.handle_completions(body)["usage"]["completion_tokens"])

    answer(work.prompts[0])
    began = time.perf_counter()
    with ThreadPoolExecutor(BATCH) as threads:
        tokens = sum(threads.map(answer, work.prompts))
    return Done(seconds=time.perf_counter() - began, tokens=tokens)


SIDES: dict[str, tuple[str, Callable[[Work], Done], dict[str, str]]] = {
    "vllm-ours": ("vLLM's LLM.generate, our model class", vllm, {}),
    "vllm": ("vLLM's LLM.generate, its own model class", vllm, WITHOUT_OURS),
    "transformers": (f"transformers' generate, batches of {BATCH}", transformers, {}),
    "llama.cpp": ("llama.cpp, GGUF Q4_K_M", llama, {}),
}


def alone(side: str, work: Work) -> Done:
    """Run an engine in a process of its own."""
    from pipeline.engine.preload import preloaded

    environment = {
        **preloaded(os.environ),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        **SIDES[side][2],
    }
    command = [sys.executable, "-m", "tests.speed.real_model", "--side", side]
    made = subprocess.run(
        command, input=json.dumps(asdict(work)), env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    for line in made.stdout.splitlines():
        if line.startswith(ANSWER):
            return Done(**json.loads(line.removeprefix(ANSWER)))
    raise RuntimeError(f"{side}: {made.stderr[-2000:]}")


def workload(folder: Path, model: str, rows: int) -> Workload:
    """Our sentences over and over, each time with another number in front, in float32."""
    texts = sentences("en")
    numbered = [f"({1 + at // len(texts)}) {texts[at % len(texts)]}" for at in range(rows)]
    (folder / "in").mkdir()
    pq.write_table(pa.table({"text": numbered}), folder / "in/texts.parquet")
    shown = "en,de\n" + "".join(f'"{row[0]}","{row[1]}"\n' for row in EXAMPLES)
    (folder / "examples.csv").write_text(shown, encoding="utf-8")
    options = {
        "model": model, "dtype": "float32", "max_model_len": 512, "max_tokens": MAX_TOKENS,
        "prompt_format": "raw",
        "to": "de", "source": "en", "check_language": False, "dedup": False,
        "examples": str(folder / "examples.csv"),
    }  # fmt: skip
    return Workload(job="translate", options=options, input=str(folder / "in"))


def whole_job(work: Workload, output: Path, console: Console) -> Done:
    """Our command's job, from its engine being ready to its last row."""
    done = run_job(work.configured(), work.input, str(output), console=console)
    tokens = sum(n or 0 for n in done.table(["output_tokens"])["output_tokens"].to_pylist())
    return Done(seconds=done.rows / done.rows_per_second, tokens=tokens)


def our_engine(rendered: RenderedRows) -> Done:
    """Our engine's process, all requests at once."""
    answered = measured_engine(rendered)
    return Done(seconds=answered.seconds, tokens=answered.output_tokens)


def table(found: dict[str, Done], rows: int) -> Table:
    """The figures of all engines."""
    drawn = Table(title=f"{rows} translations, {date.today()}, {os.cpu_count()} CPUs")
    for column in ("engine", "rows/s", "tokens/s", "our job by it"):
        drawn.add_column(column)
    job = found["our whole job"].seconds
    for name, done in found.items():
        figures = f"{rows / done.seconds:.2f}", f"{done.tokens / done.seconds:.1f}"
        drawn.add_row(name, *figures, f"{done.seconds / job:.2f}")
    return drawn


def gguf_file(folder: Path) -> str | None:
    """The file that the model was made of, fetched anew; None where nothing can read it."""
    if find_spec("xllamacpp") is None:
        return None
    return str(assemble(fetch(PARTS, folder), folder / GGUF))


def compare(rows: int) -> None:
    """Measure all engines, and print a table."""
    model, console, found = str(find()), Console(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = workload(folder, model, rows)
        rendered = render(asked)
        prompts = [[*request.prompt.token_ids] for request in rendered.requests]
        work = Work(model=model, prompts=prompts, gguf=gguf_file(folder))
        found["our whole job"] = whole_job(asked, folder / "out", console)
        found["our engine alone"] = our_engine(rendered)
        sides = [side for side in SIDES if side != "llama.cpp" or work.gguf]
        for side in sides:
            title = SIDES[side][0]
            console.print(f"{title} ...")
            found[title] = alone(side, work)
    console.print(table(found, rows))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--side")
    asked = parser.parse_args()
    if asked.side is None:
        compare(asked.rows)
        return
    done = SIDES[asked.side][1](Work(**json.load(sys.stdin)))
    print(f"\n{ANSWER}{json.dumps(asdict(done))}", flush=True)


if __name__ == "__main__":
    main()
