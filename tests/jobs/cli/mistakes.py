"""The mistakes that people make, what they are told, and why: one table for the tests and the page.

`docs/errors.md` is written from it: `python -m tests.jobs.cli.mistakes` prints its table.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

CAPTION = "caption {in} {out} --model demo "
TRANSLATE = "translate {texts} {out} --model demo "
MODERATE = "moderate {in} {out} --model demo "


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A command that is wrong.

    Attributes:
        about: The heading that it belongs to.
        command: What is typed, after `gemma3-batch`; braces name files and folders of the test.
        told: The message, in braces as well; `...` stands for what differs between machines.
        why: What is wrong, and what to do, in more words than the message has.
        code: The exit code.
        environment: Variables that are set.
    """

    about: str
    command: str
    told: str
    why: str = ""
    code: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def page(self) -> bool:
        """Whether it is on the page: of several of a kind the one that says why."""
        return bool(self.why)


def mistake(about: str, command: str, told: str, why: str = "", **more: str) -> Mistake:
    """One of the table; `more` are environment variables."""
    return Mistake(about=about, command=command, told=told, why=why, environment=more)


LINE, INPUT, OUTPUT, COLUMNS = "The command", "INPUT", "OUTPUT", "Columns and rows"
MODEL, ENGINE, OPTIONS, TEXTS = "The model", "The machine and the engine", "Options", "Translations"
POLICIES, FILES, RUNS, SERVER = "Moderation", "Job files", "Runs that are there", "A server"

MISTAKES = (
    mistake(
        LINE,
        "captoin {in} {out} --model demo",
        "no such command 'captoin', did you mean 'caption'; see gemma3-batch --help",
        "The first word is a job or another command; `gemma3-batch --help` lists them.",
    ),
    mistake(
        LINE,
        CAPTION + "--promt x",
        "no such option: --promt, did you mean --prompt, ...; see gemma3-batch caption --help",
        "`gemma3-batch JOB --help` lists the options of a job.",
    ),
    mistake(
        LINE,
        "caption {in} {out}",
        "missing option '--model'; see gemma3-batch caption --help",
        "Every job needs a model; `--model demo` is the bundled one.",
    ),
    mistake(LINE, "caption {in}", "missing argument 'OUTPUT'; see gemma3-batch caption --help"),
    mistake(
        LINE,
        CAPTION + "--max-tokens many",
        "invalid value for '--max-tokens': input should be a valid integer, ...; see gemma3-batch "
        "caption --help",
    ),
    mistake(
        LINE,
        CAPTION + "--log-format xml",
        "invalid value for '--log-format' ...: 'xml' is not one of 'text', 'json'; ...",
    ),
    mistake(
        INPUT,
        "caption {folder}/photso {out} --model demo",
        "INPUT {folder}/photso does not exist; did you mean 'photos'?",
        "On a cluster the path is looked up on every machine.",
    ),
    mistake(
        INPUT,
        "caption '{in}/*.jpg' {out} --model demo",
        "INPUT {in}/*.jpg matches no file; check the pattern",
        "Put a pattern in quotes, so that the shell leaves it alone.",
    ),
    mistake(
        INPUT,
        "caption {empty} {out} --model demo",
        "INPUT {empty} is empty; it should hold parquet, .jsonl, .tar or .csv files, images or "
        "videos",
        "Names that begin with `_` or `.` are hidden and do not count.",
    ),
    mistake(
        INPUT,
        "caption {other} {out} --model demo",
        "INPUT {other} has no parquet, .jsonl, .tar or .csv files, images or videos, but files "
        "that are not read: 1 of no known format (x.doc)",
        "The message names some of the files that are there. Convert them, or name another folder.",
    ),
    mistake(
        INPUT,
        "caption {broken} {out} --model demo",
        "INPUT {broken} is not a readable parquet file; repair it or take it away",
        "A download that was cut off looks like this. One broken file among many that are planned "
        "already does not end a run.",
    ),
    mistake(
        INPUT,
        "caption ftp://host/in {out} --model demo",
        "ftp://host/in: no way to read or write 'ftp:'; use a path, s3://, gs://, abfs://, hf:// "
        "or https://",
        "Copy the files to one of these.",
    ),
    mistake(
        INPUT,
        "caption s3:// {out} --model demo",
        "INPUT s3://: names no bucket; write BUCKET/FOLDER after it",
    ),
    mistake(
        INPUT,
        CAPTION + "--split train",
        "split: 'train' is of a dataset on the Hub, and INPUT is {in}; leave it out, or name "
        "hf://datasets/OWNER/NAME",
    ),
    mistake(
        OUTPUT,
        "caption {in} {in}/out --model demo",
        "OUTPUT {in}/out lies in INPUT; choose a folder outside of it",
        "Otherwise the next run would read its own results.",
    ),
    mistake(
        OUTPUT,
        "caption {in} {other} --model demo",
        "OUTPUT {other} holds other files; name a new folder",
        "A run writes only to a folder that is empty, new, or its own.",
    ),
    mistake(
        OUTPUT,
        "caption {in} {texts} --model demo",
        "OUTPUT {texts} is a file; name a folder",
        "OUTPUT is a folder, in which a run writes many files.",
    ),
    mistake(
        OUTPUT,
        "caption {in} hf://datasets/owner/name --model demo",
        "OUTPUT hf://datasets/owner/name cannot be written to; use a path, s3:// or gs://",
        "Write to a folder, then `gemma3-batch push` it to the Hub.",
    ),
    mistake(
        OUTPUT,
        "caption {in} /proc/out --model demo",
        "OUTPUT /proc/out cannot be written to: ...; check the path and its permissions",
        "The folder cannot be made there, or the user that runs the command may not write to it.",
    ),
    mistake(
        OUTPUT,
        "caption {in} {begun} --model demo --max-words 7",
        "OUTPUT {begun} was made with another configuration (settings.prompt: ...); name a new "
        "folder, or give --new-version to write beside it",
        "Rows of one OUTPUT have all been asked the same. What differs is in the brackets.",
    ),
    mistake(
        OUTPUT,
        "translate {texts} {begun} --model demo --to de",
        "OUTPUT {begun} holds a 'caption' run, not 'translate'; name a new folder",
        "Each job writes to a folder of its own. To go on from captions, name them as INPUT.",
    ),
    mistake(
        COLUMNS,
        "caption {photos} {out} --model demo",
        "INPUT has no column 'image'; its columns are photo, title; name yours with --image-column",
        "Without `--image-column` the images are in `image`.",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--image-column imgae",
        "INPUT has no column 'imgae'; did you mean 'image'? its columns are image, title, n",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--image-column n",
        "column 'n' is int64; an image column is binary, struct<bytes, path> or string (a path or "
        "URL), or a list of these",
        "Name the column that holds images, or their paths.",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--prompt 'Describe {{titel}}'",
        "INPUT has no column 'titel'; did you mean 'title'? its columns are image, title, n",
        "A name in braces in a prompt is a column. A brace of its own is written twice.",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--output-column title",
        "INPUT has a column 'title', which the run adds itself; give --prefix gemma_ to put that "
        "before the names of all added columns, or --output-column NAME, which renames the result "
        "alone",
        "A run copies the columns of INPUT and adds its own, so no name may be there twice.",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--where 'n >'",
        "where: cannot be read at its end; write it like lang = 'en' and width > 256",
        "The condition is as in SQL's `WHERE`.",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--where 'm = 1'",
        "where: INPUT has no column 'm'; its columns are image, title, n; a text needs quotes: 'm'",
    ),
    mistake(
        COLUMNS,
        CAPTION + "--missing alt",
        "missing: INPUT has no column 'alt'; its columns are image, title, n",
    ),
    mistake(
        MODEL,
        "caption {in} {out} --model {folder}/nowhere",
        "model {folder}/nowhere is not a folder here; name the folder of a Gemma 3 checkpoint, one "
        "on the hub (OWNER/NAME), or 'demo' for the bundled one",
        "On a cluster the folder is the same on every machine.",
    ),
    mistake(
        MODEL,
        "caption {in} {out} --model {llama}",
        "model {llama} is LlamaForCausalLM, not a Gemma 3 (Gemma3ForConditionalGeneration or ...)",
        "Other architectures are not what this program is for.",
    ),
    mistake(
        MODEL,
        "caption {in} {out} --model {empty}",
        "model {empty} has no config.json; is it a checkpoint's folder?",
        "Name the folder that has `config.json` and the `.safetensors` files; the Hub's cache has "
        "it under `snapshots/`.",
    ),
    mistake(
        MODEL,
        "caption {in} {out} --model {base}",
        "model {base} is a base model: it has no chat template...give --prompt-format raw...",
        "A base model (PT) continues text. For answers take the instruction-tuned one (IT).",
    ),
    mistake(
        MODEL,
        'caption {in} {out} --model us/gemma --storage-options \'{{"hf": '
        '{{"endpoint": "{hub}"}}}}\'',
        "model ...us/gemma...is gated: accept its licence at https://huggingface.co/us/gemma, and "
        "set HF_TOKEN to your token",
        "Google asks for its terms to be accepted once, by the account whose token is used.",
    ),
    mistake(
        MODEL,
        CAPTION + "--lora {folder}/adapter",
        "lora: adapter {folder}/adapter is not a folder here, nor on the hub; correct its name",
        "An adapter is a folder as PEFT writes it, with `adapter_config.json`.",
    ),
    mistake(
        MODEL,
        CAPTION + "--lora-column tone",
        "lora_column: names the rows' adapters, and there are none; give lora",
    ),
    mistake(
        ENGINE,
        CAPTION + "--tensor-parallel-size 2",
        "tensor_parallel_size: there is no GPU; leave it at 1",
        "A CPU runs one engine. With GPUs, is their driver loaded (`nvidia-smi`)?",
    ),
    mistake(
        ENGINE,
        CAPTION + "--max-model-len 18",
        "max_model_len: an image is 18 tokens without any text, and a prompt with its answer has "
        "18 at most; raise it",
        "An image of a real Gemma 3 is some 260 tokens; crops (`--pan-and-scan`) come on top.",
    ),
    mistake(
        ENGINE,
        CAPTION + "--engine-args no_such=1",
        "engine_args: vLLM's engine takes no 'no_such'; take it out",
        "`engine_args` are fields of vLLM's `EngineArgs`.",
    ),
    mistake(
        ENGINE,
        CAPTION + "--engine-args max_num_seqs=4",
        "engine_args: 'max_num_seqs' is not to be set here...",
    ),
    mistake(
        ENGINE,
        CAPTION.strip(),
        "RAY_ADDRESS={nobody}: no Ray cluster answers there (...); start it, or unset RAY_ADDRESS "
        "to run on this machine alone",
        "Is the head node's address right, and its port (6379, or 10001 for `ray://`) open?",
        RAY_ADDRESS="{nobody}",
    ),
    mistake(
        ENGINE,
        CAPTION.strip(),
        "RAY_ADDRESS={taken}: no Ray cluster answers there (another program listens on that "
        "port); start it, or unset RAY_ADDRESS to run on this machine alone",
        "The port is taken by another program: Ray's own is 6379, the dashboard's (8265) is for "
        "`ray job submit`, and 10001 is for `ray://`.",
        RAY_ADDRESS="{taken}",
    ),
    mistake(
        ENGINE,
        CAPTION.strip(),
        "RAY_ADDRESS=head: should be HOST:PORT, ray://HOST:PORT or auto",
        RAY_ADDRESS="head",
    ),
    mistake(
        ENGINE,
        CAPTION.strip(),
        "vLLM 0.9.1 is installed; gemma3-batch works with Ray 2.60 and vLLM 0.32, install it "
        "again, with [cpu] or [gpu]",
        "Another package has changed a version. An environment of its own keeps them.",
        OLD="vllm",
    ),
    mistake(
        ENGINE,
        CAPTION.strip(),
        "Ray 0.9.1 is installed; gemma3-batch works with Ray 2.60 and vLLM 0.32, install it "
        "again, with [cpu] or [gpu]",
        OLD="ray",
    ),
    mistake(
        SERVER,
        CAPTION + "--endpoint http://{nobody}/v1",
        "endpoint http://{nobody}/v1 does not answer (...); start the server, or correct the "
        "address",
        "The address ends with `/v1`, and must be reached from every machine.",
    ),
    mistake(
        SERVER,
        CAPTION + "--endpoint localhost:8000",
        "endpoint: should be the address of a server: http://host:8000/v1",
    ),
    mistake(
        SERVER,
        CAPTION + "--endpoint {pathless}",
        "endpoint {pathless} has nothing at /chat/completions (...); give its whole address, as "
        "http://host:8000/v1",
        "The path is what comes before `/chat/completions`; of most servers that is `/v1`.",
    ),
    mistake(
        SERVER,
        CAPTION + "--endpoint {locked}",
        "endpoint {locked} does not let us in (Unauthorized); set its key in GEMMA3_BATCH_API_KEY",
        "The key is never an option, so that it is in no history.",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--temperature 9",
        "temperature: input should be less than or equal to 2 (got 9.0)",
        "Each option's limits are in `--help`.",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--style poem",
        "style: 'poem': there is no such style; choose from alt, sentence, dense, tags, ocr",
        "For words of your own there is `--prompt`.",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--language German",
        "language: 'German' is not the code of a language. Did you mean 'de'? Codes are like de, "
        "pt-BR, zh-Hant",
        "Languages are ISO 639 codes of two or three letters, with a script or region where that "
        "matters.",
    ),
    mistake(
        OPTIONS, CAPTION + "--prompt ''", "prompt: is empty; give it a value, or leave it out ..."
    ),
    mistake(
        OPTIONS,
        CAPTION + "--json-schema {folder}/schmea.json",
        "json_schema: {folder}/schmea.json: cannot be read: there is no such file; did you mean "
        "'schema.json'?",
        "The same is said of prompts, policies, glossaries and examples. It is read where the "
        "command runs.",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--json-schema {folder}/schema.json",
        "json_schema: type: 'objct' is not one of ['array', 'boolean', 'integer', 'null', "
        "'number', 'object', 'string']; correct it there",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--prompts {folder}/circle.yaml",
        "prompts: questions wait for each other's answers (a -> b -> a); take one out",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--output-format xlsx",
        "output_format: should be one of parquet, jsonl, csv, webdataset (got 'xlsx')",
        "Other formats are a conversion of one of these.",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--storage-options nonsense",
        "storage_options: should be NAME=VALUE,... or a JSON object",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--join --single-driver",
        "join: excludes single_driver, which says that no other run writes; leave one out",
    ),
    mistake(
        OPTIONS,
        CAPTION + "--sidecars",
        "sidecars: INPUT should be a folder of images, beside which they lie; ...",
    ),
    mistake(
        TEXTS,
        TRANSLATE + "--to xx",
        "to: 'xx' is not the code of a language. Did you mean 'xh'? Codes are like de, pt-BR, "
        "zh-Hant",
    ),
    mistake(
        TEXTS,
        TRANSLATE + "--to de,de",
        "to: two columns would be called 'text_de'; name each language once",
        "Each language is a column.",
    ),
    mistake(
        TEXTS,
        TRANSLATE + "--to de --glossary {folder}/term.csv",
        "glossary {folder}/term.csv: cannot be read: there is no such file; did you mean "
        "'terms.csv'?",
    ),
    mistake(
        TEXTS,
        TRANSLATE + "--to de --glossary {folder}/terms.csv",
        "glossary {folder}/terms.csv, line 1: 'foo' is not the code of a language. ...",
        "The first line of a glossary has language codes: `en,de,fr`.",
    ),
    mistake(
        POLICIES,
        MODERATE + "--policies {folder}/unclear.yaml",
        "policies {folder}/unclear.yaml:1: 'txt': there is no such key; did you mean 'text'? "
        "choose from name, text, threshold",
    ),
    mistake(
        POLICIES,
        MODERATE + "--policies {folder}/cut.yaml",
        "policies {folder}/cut.yaml:2 is not YAML: ...",
        "The line is where the parser gave up; the fault is there or just before it.",
    ),
    mistake(
        POLICIES,
        MODERATE + "--thresholds violnce=0.3",
        "threshold of 'violnce': there is no such policy; choose from ...",
        "The policies are those of the model, or of the file in `--policies`.",
    ),
    mistake(
        FILES,
        "run {folder}/nowhere.yaml",
        "{folder}/nowhere.yaml does not exist",
    ),
    mistake(
        FILES,
        "run {folder}/field.yaml",
        "{folder}/field.yaml:4: modle: there is no such option; did you mean 'model'?",
        "Messages about a job file begin with the file and the line.",
    ),
    mistake(
        FILES,
        "run {folder}/variable.yaml",
        "{folder}/variable.yaml:3: output: the environment has no NO_SUCH_NAME",
        "`${NAME}` is replaced from the environment of the process that runs the job.",
    ),
    mistake(
        RUNS,
        "status {folder}/nothing",
        "{folder}/nothing is not the OUTPUT of a run: there is no such folder; name one that a "
        "run wrote to",
        "A run that ended before its first row leaves no folder.",
    ),
    mistake(
        RUNS,
        "errors {other}",
        "{other} is not the OUTPUT of a run: it has no record of one; name the folder that a run "
        "wrote to",
        "Name the folder itself, not the one above it or one of its files.",
    ),
    mistake(
        RUNS,
        "errors {begun} --outcome trunctated",
        "outcome 'trunctated': there is no such outcome; did you mean 'truncated'? choose from ...",
        "The outcomes are listed in the message.",
    ),
    mistake(
        RUNS,
        "retry {begun} --outcome ok",
        "outcome 'ok': should be one of truncated, ...",
    ),
    mistake(
        RUNS,
        "calibrate {other} --policy x --labels y",
        "{other} is not the OUTPUT of a moderation; name one",
    ),
    mistake(
        RUNS,
        "push {begun} huggingface.co/owner/name",
        "huggingface.co/owner/name: should be hf://datasets/owner/name, or with @branch",
    ),
    mistake(
        RUNS,
        "demo {other}",
        "OUTPUT {other} is in use; name a new folder, or none for the default",
    ),
)


PLACES = {
    "in": "IMAGES", "out": "OUT", "texts": "texts.csv", "empty": "EMPTY", "other": "OTHER",
    "photos": "photos.parquet", "broken": "broken.parquet", "begun": "BEGUN", "llama": "LLAMA",
    "base": "BASE", "folder": "FOLDER", "hub": "URL", "nobody": "head:6379", "taken": "head:6379",
    "locked": "http://host:8000/v1", "pathless": "http://host:8000",
}  # fmt: skip
"""What stands for the test's files on the page."""


def page() -> str:
    """The part of the page that is written from the table."""
    lines: list[str] = []
    for about in dict.fromkeys(one.about for one in MISTAKES):
        rows = [one for one in MISTAKES if one.about == about and one.page]
        if rows:
            lines += [f"## {about}", ""]
        for one in rows:
            lines += [f"`{one.told.format(**PLACES)}`", "", f"{one.why}", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
