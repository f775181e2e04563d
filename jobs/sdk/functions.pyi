# Written by `make reference` from the jobs' options; do not edit.
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console

from jobs.sdk.engine import Engine

def caption(
    input: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
    model: str = ...,
    image_column: str = ...,
    style: str | None = ...,
    prompt: str | None = ...,
    json_schema: str | Mapping[str, Any] | None = ...,
    system: str | None = ...,
    language: str | None = ...,
    max_images: int = ...,
    pan_and_scan: bool = ...,
    max_tokens: int | None = ...,
    temperature: float = ...,
    top_p: float = ...,
    top_k: int = ...,
    seed: int = ...,
    n: int = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] | None = ...,
    prompt_format: Literal['raw', 'gemma', 'template'] | None = ...,
    max_model_len: int = ...,
    max_num_seqs: int | None = ...,
    tensor_parallel_size: int = ...,
    lora: Mapping[str, str] | str = ...,
    lora_column: str | None = ...,
    stall_seconds: float = ...,
    engine_args: Mapping[str, Any] | str = ...,
    engine_replicas: int | None = ...,
    render_workers: int | None = ...,
    unit_rows: int = ...,
    keep_images: bool = ...,
    max_image_bytes: int = ...,
    max_image_pixels: int = ...,
    dedup: bool = ...,
    max_error_rate: float | None = ...,
    new_version: bool = ...,
    single_driver: bool = ...,
    join: bool = ...,
    allow_private_addresses: bool = ...,
    storage_options: Mapping[str, Mapping[str, Any]] | str = ...,
) -> Any:
    """Caption every image of a dataset.

    Adds `caption` (text; with `style=tags` a list of strings; with `json_schema` what it says) and, where `n` is more than 1, `captions` with all of them; also `outcome`, `error`, `prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input row, in input order. The same call continues a run that was stopped.

    Args:
        input: A path or URI of parquet, images, JSON lines or tar shards; a pandas or Arrow table, a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column.
        output: Folder for parquet files: a path, `s3://` or `gs://`. Required for files.
        engine: A warm engine to run on, instead of `model` and the engine's options.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        model: A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a GGUF file, or 'demo' for the bundled one.
        image_column: Column with the images, or lists of them.
        style: alt, sentence (the default), dense, tags or ocr.
        prompt: Prompt instead of a style; columns in braces: 'Describe {title}'.
        json_schema: JSON schema that captions must match, or a file with one.
        system: System prompt: text before the prompt.
        language: Language code of the captions: fr, pt-BR.
        max_images: Most images for one row.
        pan_and_scan: Show long, narrow images in crops as well.
        max_tokens: Longest caption, in tokens; by default what suits the style.
        temperature: 0 always picks the likeliest token.
        top_p: Nucleus sampling: probability mass of the tokens to draw from.
        top_k: Draw from this many likeliest tokens; 0 means all.
        seed: Random seed; another one draws other captions.
        n: Captions to draw for each row.
        dtype: Number format to compute in; by default what suits the model.
        prompt_format: raw (text that is continued, for base models), gemma (Gemma's turns) or template (the checkpoint's own chat template, by default).
        max_model_len: Longest prompt with its answer, in tokens; the model's limit, if lower.
        max_num_seqs: Requests one engine works on at once; by default 1024, with images or on a GPU of less than 70 GiB 256, on a CPU 64.
        tensor_parallel_size: GPUs of one engine.
        lora: LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... .
        lora_column: Column with the name of each row's adapter; where it is empty, none is used.
        stall_seconds: End a process that has made no progress for so long; its rows are retried.
        engine_args: Further arguments of vLLM's engine: NAME=VALUE,... .
        engine_replicas: Engines; by default as many as the cluster's GPUs hold, one on a CPU.
        render_workers: Processes that decode images and tokenize; by default what the CPUs allow, at most 16 for each engine.
        unit_rows: Rows of an output file; where row groups fit, they are kept whole.
        keep_images: Copy binary input columns, images among them, to the output.
        max_image_bytes: An image file that is larger is not opened.
        max_image_pixels: An image that declares more pixels is not decoded.
        dedup: Compute rows of an output file that are identical only once.
        max_error_rate: Stop once more than this share of a run's rows has failed; by default if the first 200 all failed for one reason; 1 never stops.
        new_version: Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting.
        single_driver: Accept a store that ignores conditional writes: no other run writes.
        join: Work beside another run into the same OUTPUT; each row is done once.
        allow_private_addresses: Follow links to images into private networks too.
        storage_options: Arguments of fsspec's filesystems by protocol, as JSON. Never recorded.

    Returns:
        For files a `RunResult`; for data in memory the same kind, in order, with the new columns.

    Raises:
        UserError: The input, the output, the model or an option must be fixed.
        ErrorRateError: More rows failed than `max_error_rate` allows, or the first few hundred all
            failed for one reason.
        RunError: The run could not be finished; the same call continues it.
    """

def translate(
    input: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
    model: str = ...,
    to: Sequence[str] | str,
    text_columns: Sequence[str] | str = ...,
    image_column: str | None = ...,
    source: str = ...,
    source_column: str | None = ...,
    glossary: str | None = ...,
    examples: str | None = ...,
    chunk_tokens: int = ...,
    context_tokens: int = ...,
    max_tokens: int | None = ...,
    check_language: bool = ...,
    pan_and_scan: bool = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] | None = ...,
    prompt_format: Literal['raw', 'gemma', 'template'] | None = ...,
    max_model_len: int = ...,
    max_num_seqs: int | None = ...,
    tensor_parallel_size: int = ...,
    lora: Mapping[str, str] | str = ...,
    lora_column: str | None = ...,
    stall_seconds: float = ...,
    engine_args: Mapping[str, Any] | str = ...,
    engine_replicas: int | None = ...,
    render_workers: int | None = ...,
    unit_rows: int = ...,
    keep_images: bool = ...,
    max_image_bytes: int = ...,
    max_image_pixels: int = ...,
    dedup: bool = ...,
    max_error_rate: float | None = ...,
    new_version: bool = ...,
    single_driver: bool = ...,
    join: bool = ...,
    allow_private_addresses: bool = ...,
    storage_options: Mapping[str, Mapping[str, Any]] | str = ...,
) -> Any:
    """Translate every text of a dataset, or the text in its images.

    Adds for each text column and each language of `to`: `text_de`, `text_de_outcome` and `text_de_lost` (placeholders, links, numbers and so on that the translation lost); with `source=auto` also `text_language` and `text_language_confidence` (0 to 1). Texts that are already in the target language are copied; also `outcome`, `error`, `prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input row, in input order. The same call continues a run that was stopped.

    Args:
        input: A path or URI of parquet, images, JSON lines or tar shards; a pandas or Arrow table, a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column.
        output: Folder for parquet files: a path, `s3://` or `gs://`. Required for files.
        engine: A warm engine to run on, instead of `model` and the engine's options.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        model: A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a GGUF file, or 'demo' for the bundled one.
        to: Codes of the languages to translate to: de,fr.
        text_columns: Columns with the texts: title,body.
        image_column: Column with images whose text is translated, instead of texts.
        source: Code of the texts' language; auto detects it.
        source_column: Column with the code of each row's language.
        glossary: CSV file of terms; its header has the codes.
        examples: CSV file of translations to follow; its header has the codes.
        chunk_tokens: Longest chunk of a text, in tokens.
        context_tokens: Text shown before a chunk, in tokens.
        max_tokens: Longest answer for a chunk, in tokens; by default three times the chunk.
        check_language: Check that answers are in the target language.
        pan_and_scan: Show long, narrow images in crops as well.
        dtype: Number format to compute in; by default what suits the model.
        prompt_format: raw (text that is continued, for base models), gemma (Gemma's turns) or template (the checkpoint's own chat template, by default).
        max_model_len: Longest prompt with its answer, in tokens; the model's limit, if lower.
        max_num_seqs: Requests one engine works on at once; by default 1024, with images or on a GPU of less than 70 GiB 256, on a CPU 64.
        tensor_parallel_size: GPUs of one engine.
        lora: LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... .
        lora_column: Column with the name of each row's adapter; where it is empty, none is used.
        stall_seconds: End a process that has made no progress for so long; its rows are retried.
        engine_args: Further arguments of vLLM's engine: NAME=VALUE,... .
        engine_replicas: Engines; by default as many as the cluster's GPUs hold, one on a CPU.
        render_workers: Processes that decode images and tokenize; by default what the CPUs allow, at most 16 for each engine.
        unit_rows: Rows of an output file; where row groups fit, they are kept whole.
        keep_images: Copy binary input columns, images among them, to the output.
        max_image_bytes: An image file that is larger is not opened.
        max_image_pixels: An image that declares more pixels is not decoded.
        dedup: Compute rows of an output file that are identical only once.
        max_error_rate: Stop once more than this share of a run's rows has failed; by default if the first 200 all failed for one reason; 1 never stops.
        new_version: Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting.
        single_driver: Accept a store that ignores conditional writes: no other run writes.
        join: Work beside another run into the same OUTPUT; each row is done once.
        allow_private_addresses: Follow links to images into private networks too.
        storage_options: Arguments of fsspec's filesystems by protocol, as JSON. Never recorded.

    Returns:
        For files a `RunResult`; for data in memory the same kind, in order, with the new columns.

    Raises:
        UserError: The input, the output, the model or an option must be fixed.
        ErrorRateError: More rows failed than `max_error_rate` allows, or the first few hundred all
            failed for one reason.
        RunError: The run could not be finished; the same call continues it.
    """

def moderate(
    input: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | None = None,
    debug: bool = False,
    model: str = ...,
    image_column: str | None = ...,
    text_column: str | None = ...,
    policies: str | None = ...,
    thresholds: Mapping[str, float] | str = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] | None = ...,
    prompt_format: Literal['raw', 'gemma', 'template'] | None = ...,
    max_model_len: int = ...,
    max_num_seqs: int | None = ...,
    tensor_parallel_size: int = ...,
    lora: Mapping[str, str] | str = ...,
    lora_column: str | None = ...,
    stall_seconds: float = ...,
    engine_args: Mapping[str, Any] | str = ...,
    engine_replicas: int | None = ...,
    render_workers: int | None = ...,
    unit_rows: int = ...,
    keep_images: bool = ...,
    max_image_bytes: int = ...,
    max_image_pixels: int = ...,
    dedup: bool = ...,
    max_error_rate: float | None = ...,
    new_version: bool = ...,
    single_driver: bool = ...,
    join: bool = ...,
    allow_private_addresses: bool = ...,
    storage_options: Mapping[str, Mapping[str, Any]] | str = ...,
) -> Any:
    """Judge every image or text of a dataset by policies.

    Adds `p_<policy>` (probability of a violation, 0 to 1) for each policy, `flagged` (whether any reaches its threshold) and `labels` (the policies that do); also `outcome`, `error`, `prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input row, in input order. The same call continues a run that was stopped.

    Args:
        input: A path or URI of parquet, images, JSON lines or tar shards; a pandas or Arrow table, a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column.
        output: Folder for parquet files: a path, `s3://` or `gs://`. Required for files.
        engine: A warm engine to run on, instead of `model` and the engine's options.
        console: Where progress is shown; None shows none.
        debug: Show what Ray and the workers print.
        model: A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a GGUF file, or 'demo' for the bundled one.
        image_column: Column with the images; by default 'image'.
        text_column: Column with texts, instead of images.
        policies: YAML or JSON file of policies; by default ShieldGemma 2's three.
        thresholds: Least probabilities that are flagged: violence=0.3,... .
        dtype: Number format to compute in; by default what suits the model.
        prompt_format: raw (text that is continued, for base models), gemma (Gemma's turns) or template (the checkpoint's own chat template, by default).
        max_model_len: Longest prompt with its answer, in tokens; the model's limit, if lower.
        max_num_seqs: Requests one engine works on at once; by default 1024, with images or on a GPU of less than 70 GiB 256, on a CPU 64.
        tensor_parallel_size: GPUs of one engine.
        lora: LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... .
        lora_column: Column with the name of each row's adapter; where it is empty, none is used.
        stall_seconds: End a process that has made no progress for so long; its rows are retried.
        engine_args: Further arguments of vLLM's engine: NAME=VALUE,... .
        engine_replicas: Engines; by default as many as the cluster's GPUs hold, one on a CPU.
        render_workers: Processes that decode images and tokenize; by default what the CPUs allow, at most 16 for each engine.
        unit_rows: Rows of an output file; where row groups fit, they are kept whole.
        keep_images: Copy binary input columns, images among them, to the output.
        max_image_bytes: An image file that is larger is not opened.
        max_image_pixels: An image that declares more pixels is not decoded.
        dedup: Compute rows of an output file that are identical only once.
        max_error_rate: Stop once more than this share of a run's rows has failed; by default if the first 200 all failed for one reason; 1 never stops.
        new_version: Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting.
        single_driver: Accept a store that ignores conditional writes: no other run writes.
        join: Work beside another run into the same OUTPUT; each row is done once.
        allow_private_addresses: Follow links to images into private networks too.
        storage_options: Arguments of fsspec's filesystems by protocol, as JSON. Never recorded.

    Returns:
        For files a `RunResult`; for data in memory the same kind, in order, with the new columns.

    Raises:
        UserError: The input, the output, the model or an option must be fixed.
        ErrorRateError: More rows failed than `max_error_rate` allows, or the first few hundred all
            failed for one reason.
        RunError: The run could not be finished; the same call continues it.
    """
