# Written by `make reference` from the jobs' options; do not edit.
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console

from jobs.sdk.engine import Engine
from pipeline import JsonLog

def caption(
    input: Any,
    output: str | None = None,
    *,
    engine: Engine | None = None,
    console: Console | JsonLog | None = None,
    debug: bool = False,
    model: str = ...,
    image_column: str = ...,
    output_column: str | None = ...,
    video_column: str | None = ...,
    frames: int | None = ...,
    fps: float | None = ...,
    style: str | None = ...,
    prompt: str | None = ...,
    prompts: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = ...,
    json_schema: str | Mapping[str, Any] | None = ...,
    system: str | None = ...,
    language: str | None = ...,
    max_words: int | None = ...,
    max_images: int = ...,
    pan_and_scan: bool = ...,
    max_tokens: int | None = ...,
    temperature: float = ...,
    top_p: float = ...,
    top_k: int = ...,
    seed: int = ...,
    n: int = ...,
    stop: Sequence[str] | str = ...,
    presence_penalty: float = ...,
    frequency_penalty: float = ...,
    repetition_penalty: float = ...,
    clean: bool = ...,
    quality: bool = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] | None = ...,
    endpoint: str | None = ...,
    prompt_format: Literal['raw', 'gemma', 'template'] | None = ...,
    max_model_len: int = ...,
    max_num_seqs: int | None = ...,
    tensor_parallel_size: int = ...,
    lora: Mapping[str, str] | str = ...,
    lora_column: str | None = ...,
    stall_seconds: float = ...,
    engine_args: Mapping[str, Any] | str = ...,
    where: str | None = ...,
    limit: int | None = ...,
    sample: int | None = ...,
    sample_seed: int = ...,
    shuffle: bool = ...,
    missing: str | None = ...,
    config: str | None = ...,
    split: str | None = ...,
    engine_replicas: int | None = ...,
    render_workers: int | None = ...,
    unit_rows: int = ...,
    keep_images: bool = ...,
    prefix: str | None = ...,
    output_format: str = ...,
    sidecars: bool = ...,
    overwrite_sidecars: bool = ...,
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
    """Caption every image or video of a dataset.

    Adds `caption` (text; with `style=tags` a list of strings; with `json_schema` what it says), called as `output_column` says, and, where `n` is more than 1, `captions` with all of them; with `prompts` for each its answer under its name, and its outcome: `tags`, `tags_outcome`; also `outcome`, `error`, `prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input row, in input order; all these names begin with `prefix`, if it is given. The same call continues a run that was stopped.

    Args:
        input: A path or URI of parquet, images, JSON lines, CSV or tar shards; a pandas or Arrow table, a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column.
        output: Folder for the output files: a path, `s3://` or `gs://`. Required for files.
        engine: A warm engine to run on, instead of `model` and the engine's options.
        console: Where progress is shown: a `rich` console or a `JsonLog`; None shows none.
        debug: Show what Ray and the workers print.
        model: A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a GGUF file, or 'demo' for the bundled one; with an endpoint its name there.
        image_column: Column with the images, or lists of them.
        output_column: What the column with the caption is called, in place of 'caption'.
        video_column: Column with videos, instead of images; with frames or fps 'video'.
        frames: Frames of each video, evenly spaced in time; by default 8.
        fps: Frames a second of each video, but at most max_images, evenly spaced.
        style: alt, sentence (the default), dense, tags or ocr.
        prompt: Prompt instead of a style; columns in braces: 'Describe {title}'.
        prompts: YAML or JSON file of several questions, each with a column of its name: {caption} in one is the answer to another.
        json_schema: JSON schema that captions must match, or a file with one.
        system: System prompt: text before the prompt.
        language: Language code of the captions: fr, pt-BR.
        max_words: Ask for at most so many words; longer captions are kept.
        max_images: Most images for one row; by default frames if that is more; with fps 24.
        pan_and_scan: Show long, narrow images in crops as well.
        max_tokens: Longest caption, in tokens; by default what suits the style.
        temperature: 0 always picks the likeliest token.
        top_p: Nucleus sampling: probability mass of the tokens to draw from.
        top_k: Draw from this many likeliest tokens; 0 means all.
        seed: Random seed; another one draws other captions.
        n: Captions to draw for each row.
        stop: Text that ends an answer and is left out; several as a JSON list.
        presence_penalty: Above 0: less likely tokens that the answer has; -2 to 2.
        frequency_penalty: The same, by how often the answer has them; -2 to 2.
        repetition_penalty: Above 1: less likely tokens that the prompt or the answer has.
        clean: Cut what an answer has around it (Here is a caption:, quotes, a fence); a column with _raw has what was written, where that differs.
        quality: Add a column with _quality: how probable the model found the answer, as the mean of its tokens' natural logarithms (0 is best).
        dtype: Number format to compute in; by default what suits the model.
        endpoint: OpenAI-compatible server that answers, instead of engines of the run's own: http://host:8000/v1. Its key is read from GEMMA3_BATCH_API_KEY or OPENAI_API_KEY.
        prompt_format: raw (text that is continued, for base models), gemma (Gemma's turns) or template (the checkpoint's own chat template, by default).
        max_model_len: Longest prompt with its answer, in tokens; the model's limit, if lower.
        max_num_seqs: Requests one engine works on at once; by default 1024, with images or on a GPU of less than 70 GiB 256, on a CPU 64. The most that an endpoint is sent: 1024, with images 256.
        tensor_parallel_size: GPUs of one engine.
        lora: LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... .
        lora_column: Column with the name of each row's adapter; where it is empty, none is used.
        stall_seconds: End a process that has made no progress for so long; its rows are retried. A run ends whose endpoint has answered nothing for so long.
        engine_args: Further arguments of vLLM's engine: NAME=VALUE,... .
        where: Only rows that match, as in SQL: lang = 'en' and width > 256; also or, not, in (...), like, is null, starts_with(column, text).
        limit: Only the first so many rows (of those that match), in input order.
        sample: Only so many rows (of those that match), drawn at random; the same ones for the same files and sample_seed.
        sample_seed: Random seed of sample and shuffle.
        shuffle: Work on the output files in a random order, so that a run that is stopped has a mixture of INPUT. Rows stay in input order.
        missing: Compute only rows whose column of this name is null or empty; the others keep its value, with the outcome 'kept'.
        config: Config (subset) of a dataset on the Hub; by default its default one.
        split: Split of a dataset on the Hub, or several: train+test; by default all.
        engine_replicas: Engines; by default as many as the cluster's GPUs hold, one on a CPU.
        render_workers: Processes that decode images and tokenize; by default what the CPUs allow, at most 16 for each engine.
        unit_rows: Rows of an output file; where row groups fit, they are kept whole.
        keep_images: Copy binary input columns, images among them, to the output.
        prefix: Put before the names of all columns that are added: gemma_, say.
        output_format: Format of the output files: parquet, jsonl, csv or webdataset (tar shards with the images, the answers as .txt and the rest as .json).
        sidecars: Write each image's answer to a .txt file beside it, in INPUT.
        overwrite_sidecars: Let sidecars replace .txt files that were there before.
        max_image_bytes: An image file that is larger is not opened, nor a video of ten times that.
        max_image_pixels: An image that declares more pixels is not decoded.
        dedup: Compute rows of an output file that are identical only once.
        max_error_rate: Stop once more than this share of a run's rows has failed; by default if the first 200 all failed for one reason; 1 never stops.
        new_version: Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting.
        single_driver: Accept a store that ignores conditional writes: no other run writes.
        join: Work beside another run into the same OUTPUT; what one has finished, the other leaves out.
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
    console: Console | JsonLog | None = None,
    debug: bool = False,
    model: str = ...,
    to: Sequence[str] | str,
    text_columns: Sequence[str] | str = ...,
    image_column: str | None = ...,
    source: str = ...,
    source_column: str | None = ...,
    glossary: str | None = ...,
    examples: str | None = ...,
    instructions: str | None = ...,
    context_column: str | None = ...,
    consistent: bool = ...,
    chunk_tokens: int = ...,
    context_tokens: int = ...,
    max_tokens: int | None = ...,
    check_language: bool = ...,
    pan_and_scan: bool = ...,
    stop: Sequence[str] | str = ...,
    presence_penalty: float = ...,
    frequency_penalty: float = ...,
    repetition_penalty: float = ...,
    clean: bool = ...,
    quality: bool = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] | None = ...,
    endpoint: str | None = ...,
    prompt_format: Literal['raw', 'gemma', 'template'] | None = ...,
    max_model_len: int = ...,
    max_num_seqs: int | None = ...,
    tensor_parallel_size: int = ...,
    lora: Mapping[str, str] | str = ...,
    lora_column: str | None = ...,
    stall_seconds: float = ...,
    engine_args: Mapping[str, Any] | str = ...,
    where: str | None = ...,
    limit: int | None = ...,
    sample: int | None = ...,
    sample_seed: int = ...,
    shuffle: bool = ...,
    missing: str | None = ...,
    config: str | None = ...,
    split: str | None = ...,
    engine_replicas: int | None = ...,
    render_workers: int | None = ...,
    unit_rows: int = ...,
    keep_images: bool = ...,
    prefix: str | None = ...,
    output_format: str = ...,
    sidecars: bool = ...,
    overwrite_sidecars: bool = ...,
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

    Adds for each text column and each language of `to`: `text_de`, `text_de_outcome` and `text_de_lost` (placeholders, links, numbers and so on that the translation lost); with `source=auto` also `text_language` and `text_language_confidence` (0 to 1). Texts that are already in the target language are copied; also `outcome`, `error`, `prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input row, in input order; all these names begin with `prefix`, if it is given. The same call continues a run that was stopped.

    Args:
        input: A path or URI of parquet, images, JSON lines, CSV or tar shards; a pandas or Arrow table, a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column.
        output: Folder for the output files: a path, `s3://` or `gs://`. Required for files.
        engine: A warm engine to run on, instead of `model` and the engine's options.
        console: Where progress is shown: a `rich` console or a `JsonLog`; None shows none.
        debug: Show what Ray and the workers print.
        model: A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a GGUF file, or 'demo' for the bundled one; with an endpoint its name there.
        to: Codes of the languages to translate to: de,fr.
        text_columns: Columns with the texts: title,body.
        image_column: Column with images whose text is translated, instead of texts.
        source: Code of the texts' language; auto detects it.
        source_column: Column with the code of each row's language.
        glossary: CSV file of terms; its header has the codes.
        examples: CSV file of translations to follow; its header has the codes.
        instructions: What to heed in every translation: 'formal German, keep product names'.
        context_column: Column with what a row's texts are about, which is not translated.
        consistent: Translate the chunks of a document one after the other, each shown how the one before was translated.
        chunk_tokens: Longest chunk of a text, in tokens.
        context_tokens: Text shown before a chunk, in tokens.
        max_tokens: Longest answer for a chunk, in tokens; by default three times the chunk.
        check_language: Check that answers are in the target language.
        pan_and_scan: Show long, narrow images in crops as well.
        stop: Text that ends an answer and is left out; several as a JSON list.
        presence_penalty: Above 0: less likely tokens that the answer has; -2 to 2.
        frequency_penalty: The same, by how often the answer has them; -2 to 2.
        repetition_penalty: Above 1: less likely tokens that the prompt or the answer has.
        clean: Cut what an answer has around it (Here is a caption:, quotes, a fence); a column with _raw has what was written, where that differs.
        quality: Add a column with _quality: how probable the model found the answer, as the mean of its tokens' natural logarithms (0 is best).
        dtype: Number format to compute in; by default what suits the model.
        endpoint: OpenAI-compatible server that answers, instead of engines of the run's own: http://host:8000/v1. Its key is read from GEMMA3_BATCH_API_KEY or OPENAI_API_KEY.
        prompt_format: raw (text that is continued, for base models), gemma (Gemma's turns) or template (the checkpoint's own chat template, by default).
        max_model_len: Longest prompt with its answer, in tokens; the model's limit, if lower.
        max_num_seqs: Requests one engine works on at once; by default 1024, with images or on a GPU of less than 70 GiB 256, on a CPU 64. The most that an endpoint is sent: 1024, with images 256.
        tensor_parallel_size: GPUs of one engine.
        lora: LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... .
        lora_column: Column with the name of each row's adapter; where it is empty, none is used.
        stall_seconds: End a process that has made no progress for so long; its rows are retried. A run ends whose endpoint has answered nothing for so long.
        engine_args: Further arguments of vLLM's engine: NAME=VALUE,... .
        where: Only rows that match, as in SQL: lang = 'en' and width > 256; also or, not, in (...), like, is null, starts_with(column, text).
        limit: Only the first so many rows (of those that match), in input order.
        sample: Only so many rows (of those that match), drawn at random; the same ones for the same files and sample_seed.
        sample_seed: Random seed of sample and shuffle.
        shuffle: Work on the output files in a random order, so that a run that is stopped has a mixture of INPUT. Rows stay in input order.
        missing: Compute only rows whose column of this name is null or empty; the others keep its value, with the outcome 'kept'.
        config: Config (subset) of a dataset on the Hub; by default its default one.
        split: Split of a dataset on the Hub, or several: train+test; by default all.
        engine_replicas: Engines; by default as many as the cluster's GPUs hold, one on a CPU.
        render_workers: Processes that decode images and tokenize; by default what the CPUs allow, at most 16 for each engine.
        unit_rows: Rows of an output file; where row groups fit, they are kept whole.
        keep_images: Copy binary input columns, images among them, to the output.
        prefix: Put before the names of all columns that are added: gemma_, say.
        output_format: Format of the output files: parquet, jsonl, csv or webdataset (tar shards with the images, the answers as .txt and the rest as .json).
        sidecars: Write each image's answer to a .txt file beside it, in INPUT.
        overwrite_sidecars: Let sidecars replace .txt files that were there before.
        max_image_bytes: An image file that is larger is not opened, nor a video of ten times that.
        max_image_pixels: An image that declares more pixels is not decoded.
        dedup: Compute rows of an output file that are identical only once.
        max_error_rate: Stop once more than this share of a run's rows has failed; by default if the first 200 all failed for one reason; 1 never stops.
        new_version: Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting.
        single_driver: Accept a store that ignores conditional writes: no other run writes.
        join: Work beside another run into the same OUTPUT; what one has finished, the other leaves out.
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
    console: Console | JsonLog | None = None,
    debug: bool = False,
    model: str = ...,
    image_column: str | None = ...,
    text_column: str | None = ...,
    policies: str | None = ...,
    thresholds: Mapping[str, float] | str = ...,
    dtype: Literal['auto', 'float32', 'bfloat16'] | None = ...,
    endpoint: str | None = ...,
    prompt_format: Literal['raw', 'gemma', 'template'] | None = ...,
    max_model_len: int = ...,
    max_num_seqs: int | None = ...,
    tensor_parallel_size: int = ...,
    lora: Mapping[str, str] | str = ...,
    lora_column: str | None = ...,
    stall_seconds: float = ...,
    engine_args: Mapping[str, Any] | str = ...,
    where: str | None = ...,
    limit: int | None = ...,
    sample: int | None = ...,
    sample_seed: int = ...,
    shuffle: bool = ...,
    missing: str | None = ...,
    config: str | None = ...,
    split: str | None = ...,
    engine_replicas: int | None = ...,
    render_workers: int | None = ...,
    unit_rows: int = ...,
    keep_images: bool = ...,
    prefix: str | None = ...,
    output_format: str = ...,
    sidecars: bool = ...,
    overwrite_sidecars: bool = ...,
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

    Adds `p_<policy>` (probability of a violation, 0 to 1) for each policy, `flagged` (whether any reaches its threshold) and `labels` (the policies that do); also `outcome`, `error`, `prompt_tokens`, `output_tokens`, and in files `row_key`. One output row for each input row, in input order; all these names begin with `prefix`, if it is given. The same call continues a run that was stopped.

    Args:
        input: A path or URI of parquet, images, JSON lines, CSV or tar shards; a pandas or Arrow table, a Hugging Face or Ray dataset; a list of dicts, or of values for the job's first column.
        output: Folder for the output files: a path, `s3://` or `gs://`. Required for files.
        engine: A warm engine to run on, instead of `model` and the engine's options.
        console: Where progress is shown: a `rich` console or a `JsonLog`; None shows none.
        debug: Show what Ray and the workers print.
        model: A Gemma 3: a folder, on the hub (OWNER/NAME, OWNER/NAME@REVISION), s3:// or gs://, a GGUF file, or 'demo' for the bundled one; with an endpoint its name there.
        image_column: Column with the images; by default 'image'.
        text_column: Column with texts, instead of images.
        policies: YAML or JSON file of policies; by default ShieldGemma 2's three.
        thresholds: Least probabilities that are flagged: violence=0.3,... .
        dtype: Number format to compute in; by default what suits the model.
        endpoint: OpenAI-compatible server that answers, instead of engines of the run's own: http://host:8000/v1. Its key is read from GEMMA3_BATCH_API_KEY or OPENAI_API_KEY.
        prompt_format: raw (text that is continued, for base models), gemma (Gemma's turns) or template (the checkpoint's own chat template, by default).
        max_model_len: Longest prompt with its answer, in tokens; the model's limit, if lower.
        max_num_seqs: Requests one engine works on at once; by default 1024, with images or on a GPU of less than 70 GiB 256, on a CPU 64. The most that an endpoint is sent: 1024, with images 256.
        tensor_parallel_size: GPUs of one engine.
        lora: LoRA adapter: a folder, on the hub (OWNER/NAME) or a URI; of several, NAME=PATH,... .
        lora_column: Column with the name of each row's adapter; where it is empty, none is used.
        stall_seconds: End a process that has made no progress for so long; its rows are retried. A run ends whose endpoint has answered nothing for so long.
        engine_args: Further arguments of vLLM's engine: NAME=VALUE,... .
        where: Only rows that match, as in SQL: lang = 'en' and width > 256; also or, not, in (...), like, is null, starts_with(column, text).
        limit: Only the first so many rows (of those that match), in input order.
        sample: Only so many rows (of those that match), drawn at random; the same ones for the same files and sample_seed.
        sample_seed: Random seed of sample and shuffle.
        shuffle: Work on the output files in a random order, so that a run that is stopped has a mixture of INPUT. Rows stay in input order.
        missing: Compute only rows whose column of this name is null or empty; the others keep its value, with the outcome 'kept'.
        config: Config (subset) of a dataset on the Hub; by default its default one.
        split: Split of a dataset on the Hub, or several: train+test; by default all.
        engine_replicas: Engines; by default as many as the cluster's GPUs hold, one on a CPU.
        render_workers: Processes that decode images and tokenize; by default what the CPUs allow, at most 16 for each engine.
        unit_rows: Rows of an output file; where row groups fit, they are kept whole.
        keep_images: Copy binary input columns, images among them, to the output.
        prefix: Put before the names of all columns that are added: gemma_, say.
        output_format: Format of the output files: parquet, jsonl, csv or webdataset (tar shards with the images, the answers as .txt and the rest as .json).
        sidecars: Write each image's answer to a .txt file beside it, in INPUT.
        overwrite_sidecars: Let sidecars replace .txt files that were there before.
        max_image_bytes: An image file that is larger is not opened, nor a video of ten times that.
        max_image_pixels: An image that declares more pixels is not decoded.
        dedup: Compute rows of an output file that are identical only once.
        max_error_rate: Stop once more than this share of a run's rows has failed; by default if the first 200 all failed for one reason; 1 never stops.
        new_version: Write to OUTPUT-v2 where OUTPUT has another prompt, model or setting.
        single_driver: Accept a store that ignores conditional writes: no other run writes.
        join: Work beside another run into the same OUTPUT; what one has finished, the other leaves out.
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
