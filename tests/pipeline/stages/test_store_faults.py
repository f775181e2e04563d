"""What a store refuses to all is the run's fault, and what it refuses to one row is that row's."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.contract.config import EngineConfig
from pipeline.contract.errors import Fault
from pipeline.contract.record import Outcome
from pipeline.images import ImageLimits, StoreError, fetch
from pipeline.stages.blocks import Item, pack, seal, unpack, unseal
from pipeline.stages.render import Render
from pipeline.stages.store_faults import FEW
from pipeline.storage.location import Location, StorageOptions, locate
from pipeline.storage.refusals import Refusal
from tests.pipeline.fakes import ColourTask, FakeRenderer
from tests.pipeline.sample_images import encoded, plain
from tests.pipeline.server import Server, respond, serving

CONFIG = EngineConfig(model="m", max_model_len=5)
PNG = encoded(plain((1, 2, 3)), "PNG")
CREDENTIALS = ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken")


@pytest.fixture
def server() -> Iterator[Server]:
    """A store with a readable image, and one that it says is not there."""
    with serving() as running:
        running.routes |= {"/b/good.png": respond(200, PNG), "/b/absent.png": refusing("NoSuchKey")}
        running.routes |= {f"/b/denied{n}.png": refusing("AccessDenied") for n in range(FEW)}
        yield running


def refusing(code: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    status = {"NoSuchKey": 404, "NoSuchBucket": 404, "InvalidToken": 400, "ExpiredToken": 400}
    body = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
    return respond(status.get(code, 403), body)


def of_s3(server: Server) -> StorageOptions:
    once = {"retries": {"mode": "standard", "max_attempts": 1}}
    keys = {"key": "k", "secret": "s"}
    return {"s3": {"endpoint_url": server.url(""), "config_kwargs": once, **keys}}


def stage(
    options: StorageOptions,
    output: Path | None = None,
    seconds: float = 60,
    *,
    accepts_denied: bool = False,
) -> Render:
    limits = ImageLimits(10**6, 10**6, fetch_seconds=seconds, storage_options=options)
    noted = locate(str(output)) if output else None
    return Render(
        ColourTask(), CONFIG, FakeRenderer, locate("/"), limits, None, noted,
        accepts_denied=accepts_denied,
    )  # fmt: skip


def rendered(stage: Render, *images: object) -> list[Item]:
    rows = [Item("u", n, payload={"image": image}) for n, image in enumerate(images)]
    (sealed,) = stage(seal(pack(rows)))
    (block,) = unseal(sealed)
    return [*unpack(block)]


def in_b(*names: str) -> list[str]:
    return [f"s3://b/{name}.png" for name in names]


def denied(count: int) -> list[str]:
    return in_b(*(f"denied{n}" for n in range(count)))


def outcomes(items: list[Item]) -> list[str]:
    """Of each row: `run` where it ends the run, its outcome, or `ok`."""
    return ["run" if item.fault else item.outcome or "ok" for item in items]


@pytest.mark.parametrize("code", CREDENTIALS)
def test_credentials_that_are_not_accepted_end_the_run(server: Server, code: str) -> None:
    server.routes["/b/x.png"] = refusing(code)
    render = stage(of_s3(server))
    assert outcomes(rendered(render, *in_b("good"))) == ["ok"]
    items = rendered(render, *in_b("good", "x"), PNG)  # expired in the middle of a run
    assert outcomes(items) == ["ok", "run", "ok"]
    fault = items[1].fault
    assert fault is not None
    assert (fault.ends_run, fault.is_users) == (True, True)
    assert fault.message.startswith("no image of s3://b can be read: s3://b/x.png cannot be read (")
    assert fault.message.endswith("; give valid credentials, and run the same command again")
    assert code in fault.message


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket", "AllAccessDisabled"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_store_that_denies_all_ends_the_run(server: Server, code: str, count: int) -> None:
    server.routes["/b/x.png"] = refusing(code)
    items = rendered(stage(of_s3(server)), *in_b("x") * count, None)
    assert outcomes(items) == ["run"] * count + [Outcome.MISSING_INPUT]
    fault = items[0].fault
    assert fault is not None
    assert (fault.ends_run, fault.is_users) == (True, True)
    assert code in fault.message


def test_a_store_that_nobody_lets_in_is_its_rows_own_where_others_answer(server: Server) -> None:
    server.routes["/others/x.png"] = refusing("AccessDenied")
    foreign = "s3://others/x.png"
    items = rendered(stage(of_s3(server)), *in_b("absent") * 31, foreign)
    assert outcomes(items) == [Outcome.MISSING_INPUT] * 32
    assert outcomes(rendered(stage(of_s3(server)), *[foreign] * FEW, PNG))[0] == "run"
    accepting = stage(of_s3(server), accepts_denied=True)
    assert outcomes(rendered(accepting, *[foreign] * FEW)) == [Outcome.MISSING_INPUT] * FEW
    server.routes["/others/x.png"] = refusing("ExpiredToken")
    assert outcomes(rendered(accepting, foreign)) == ["run"]


@pytest.mark.parametrize("other", ["good", "absent"])
def test_where_a_store_answers_at_all_what_it_denies_is_the_rows_own(
    server: Server, other: str
) -> None:
    render = stage(of_s3(server))
    answer = "ok" if other == "good" else Outcome.MISSING_INPUT
    before = rendered(render, *in_b(other), *denied(FEW))
    assert outcomes(before) == [answer, *[Outcome.MISSING_INPUT] * FEW]
    assert outcomes(rendered(render, *denied(1))) == [Outcome.MISSING_INPUT]


def test_a_few_rows_that_lead_elsewhere_do_not_end_a_run_but_more_do(server: Server) -> None:
    render = stage(of_s3(server))
    for count in (1, FEW - 2):
        items = rendered(render, PNG, *denied(count))
        assert outcomes(items) == ["ok", *[Outcome.MISSING_INPUT] * count]
    assert outcomes(rendered(render, PNG, *denied(1))) == ["ok", "run"]
    assert outcomes(rendered(stage(of_s3(server)), PNG, *denied(FEW))) == ["ok", *["run"] * FEW]


def test_the_last_row_of_a_run_knows_that_the_store_has_answered(
    server: Server, tmp_path: Path
) -> None:
    assert outcomes(rendered(stage(of_s3(server), tmp_path), *denied(1))) == ["run"]
    rendered(stage(of_s3(server), tmp_path), *in_b("good"))
    again = rendered(stage(of_s3(server), tmp_path), *denied(1))
    assert outcomes(again) == [Outcome.MISSING_INPUT]
    other = rendered(stage(of_s3(server), tmp_path), "s3://other/x.png")
    assert outcomes(other) == [Outcome.MISSING_INPUT]  # the server's 404 has no code: not denied


@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
def test_an_endpoint_that_cannot_be_reached_ends_the_run(host: str) -> None:
    options = of_s3(Server())
    options = {"s3": {**options["s3"], "endpoint_url": f"http://{host}"}}
    items = rendered(stage(options, seconds=0.5), *denied(1))
    assert outcomes(items) == ["run"]
    assert items[0].fault is not None
    assert items[0].fault.is_users


def test_a_store_that_no_longer_answers_ends_the_run_but_nothing_is_to_be_mended(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = fetch._read_stored

    def busy(where: Location, limits: ImageLimits) -> bytes:
        if "busy" in where.name:
            raise TimeoutError("no answer after the last try")
        return read(where, limits)

    monkeypatch.setattr(fetch, "_read_stored", busy)
    render = stage(of_s3(server))
    silent = in_b(*(f"busy{n}" for n in range(FEW)))
    assert outcomes(rendered(render, *in_b("good"), *silent)) == [
        "ok",
        *[Outcome.MISSING_INPUT] * FEW,
    ]
    assert outcomes(rendered(render, PNG, *silent[1:])) == [
        "ok",
        *[Outcome.MISSING_INPUT] * (FEW - 1),
    ]
    items = rendered(render, PNG, silent[0])  # blocks may be short: those of videos are
    assert outcomes(items) == ["ok", "run"]
    assert items[1].fault is not None
    assert not items[1].fault.is_users


def test_without_credentials_the_run_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    items = rendered(stage({"s3": {"endpoint_url": "http://127.0.0.1:9"}}), *denied(1))
    assert outcomes(items) == ["run"]
    assert items[0].fault is not None
    assert "NoCredentialsError" in items[0].fault.message


def test_a_file_of_this_machine_that_may_not_be_read_is_its_rows_own(tmp_path: Path) -> None:
    items = rendered(stage({}), str(tmp_path), "/no/such/file.png")
    assert outcomes(items) == [Outcome.MISSING_INPUT] * 2


def test_a_link_that_is_denied_is_its_rows_own(server: Server) -> None:
    server.routes["/x.png"] = respond(403)
    limits = ImageLimits(10**6, 10**6, allow_private=True)
    render = Render(ColourTask(), CONFIG, FakeRenderer, locate("/"), limits)
    assert (
        outcomes(rendered(render, *[server.url("/x.png")] * FEW)) == [Outcome.MISSING_INPUT] * FEW
    )


def test_a_refusal_travels() -> None:
    error = pickle.loads(pickle.dumps(StoreError("s3://b", Refusal.DENIED, "no")))
    assert (error.store, error.refusal, str(error)) == ("s3://b", Refusal.DENIED, "fetch: no")
    assert Fault(ends_run=True, message="") != error
