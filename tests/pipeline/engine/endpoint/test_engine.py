"""What an engine does when its server is busy, broken, away, or refuses a request."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from pipeline import EngineConfig, Generation, Request, RowError, Sampling, UserError
from pipeline.contract.record import Outcome
from pipeline.engine.endpoint import availability
from pipeline.engine.endpoint.client import address_of
from pipeline.engine.endpoint.engine import TRIES, EndpointEngine, endpoint_backend
from pipeline.engine.endpoint.renderer import EndpointRenderer
from pipeline.engine.endpoint.served import check_endpoint, open_served
from pipeline.engine.interface import EngineDiedError
from tests.openai_server import CARD, MODEL, Server, free_port, refusing, resetting, serving

KEY = "sk-a-key-of-the-tests"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "FIRST_PAUSE_S", 0.02)
    for name in ("GEMMA3_BATCH_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    with serving(server) as address:
        yield address


def config_of(url: str, **fields: Any) -> EngineConfig:
    plain = {"model": MODEL, "endpoint": url, "prompt_format": "template", "stall_seconds": 20}
    return EngineConfig(**{**plain, **fields})


def asked(
    url: str,
    texts: list[str],
    sampling: Sampling = Sampling(8),  # noqa: B008  frozen
    meanwhile: Callable[[EndpointEngine], Any] | None = None,
    **fields: Any,
) -> list[Generation | BaseException]:
    """The answers to these texts, or what was raised for them."""
    config = config_of(url, **fields)
    renderer = EndpointRenderer(config)

    async def ask() -> list[Generation | BaseException]:
        engine = EndpointEngine(config, address=address_of(url))
        requests = [renderer.render(Request(text, sampling), []) for text in texts]
        tasks = [
            asyncio.create_task(engine.generate(request, str(number)))
            for number, request in enumerate(requests)
        ]
        if meanwhile is not None:
            await meanwhile(engine)
        try:
            return await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            engine.close()
            await asyncio.sleep(0)

    return asyncio.run(ask())


def texts_of(answers: list[Generation | BaseException]) -> list[str]:
    assert not [answer for answer in answers if isinstance(answer, BaseException)], answers
    return [answer.text for answer in answers if isinstance(answer, Generation)]


def fault_of(answer: object) -> Any:
    assert isinstance(answer, EngineDiedError), answer
    assert answer.fault is not None
    assert answer.fault.ends_run
    return answer.fault


def test_each_request_gets_its_own_answer(url: str, server: Server) -> None:
    texts = [f"text {number}" for number in range(50)]
    assert texts_of(asked(url, texts)) == texts
    assert len(server.seen) == 50


def test_half_a_surrogate_pair_is_sent_as_json_says_it(url: str, server: Server) -> None:
    asked(url, ["caf\ud83d", "café"])
    assert {body["messages"][0]["content"] for body in server.seen} == {"caf\ud83d", "café"}


def test_sampled_answers_are_seeded_by_the_row(url: str, server: Server) -> None:
    drawn = Sampling(8, temperature=1.0, seed=3)
    for _ in range(2):
        asked(url, ["a", "b"], drawn)
    seeds = [{body["messages"][0]["content"]: body["seed"]} for body in server.seen]
    assert sorted(map(str, seeds[:2])) == sorted(map(str, seeds[2:]))
    assert len({*map(str, seeds)}) == 2
    asked(url, ["greedy"])
    assert "seed" not in server.seen[-1]


FAULTS = {
    "busy": [refusing(429)] * 3,
    "overloaded": [refusing(503)] * 3,
    "broken": [refusing(500)] * (TRIES - 1),
    "a gateway": [refusing(502), refusing(504)],
    "reset": [resetting] * 3,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_what_passes_is_tried_again(kind: str, url: str, server: Server) -> None:
    server.faults = deque(FAULTS[kind])
    assert texts_of(asked(url, ["hello"])) == ["hello"]
    assert len(server.seen) == len(FAULTS[kind]) + 1


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_it_waits_as_long_as_it_is_asked_to(kind: str, url: str, server: Server) -> None:
    # A date has whole seconds.
    value = "1" if kind == "seconds" else formatdate(time.time() + 2, usegmt=True)
    server.faults = deque([refusing(429, Retry_After=value)])
    began = time.monotonic()
    assert texts_of(asked(url, ["hello"])) == ["hello"]
    assert time.monotonic() - began >= 0.95


def test_a_request_that_always_fails_is_its_rows_own(url: str, server: Server) -> None:
    server.faults = deque([refusing(500, "CUDA says no")] * TRIES)
    (bad,) = asked(url, ["hello"])
    assert isinstance(bad, RowError)
    assert bad.outcome is Outcome.ENGINE_ERROR
    assert "failed 5 times at this request (status 500: CUDA says no)" in str(bad)
    assert texts_of(asked(url, ["another"])) == ["another"]


def test_a_refused_request_is_its_rows_own(url: str, server: Server) -> None:
    server.faults = deque([refusing(400, "maximum context length is 2048 tokens")])
    bad, *good = asked(url, ["long", "b", "c"], max_num_seqs=1)
    assert isinstance(bad, RowError)
    assert bad.outcome is Outcome.TOO_LONG
    assert texts_of(good) == ["b", "c"]


def test_rows_wait_for_a_server_that_is_away(server: Server, monkeypatch: Any) -> None:
    monkeypatch.setattr(availability, "TOLD_S", 0.1)
    port, notes = free_port(), []
    url = f"http://127.0.0.1:{port}/v1"

    async def away(engine: EndpointEngine) -> None:
        await asyncio.sleep(0.5)
        notes.append(engine.stats().note)
        context = serving(server, port)
        assert await asyncio.to_thread(context.__enter__) == url
        contexts.append(context)

    contexts: list[Any] = []
    texts = [f"text {number}" for number in range(30)]
    try:
        assert texts_of(asked(url, texts, meanwhile=away)) == texts
    finally:
        for context in contexts:
            context.__exit__(None, None, None)
    assert re.match(r"the endpoint is away since \d\d:\d\d:\d\d \S+ \(", notes[0])
    assert "(connection refused); rows wait" in notes[0]


def test_a_server_that_stays_away_ends_the_run_and_fails_no_row() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    began = time.monotonic()
    faults = [fault_of(answer) for answer in asked(url, ["a", "b", "c"], stall_seconds=1.0)]
    assert 1 <= time.monotonic() - began < 10
    assert not any(fault.is_users for fault in faults)
    assert f"the endpoint {url} has not answered for" in faults[0].message
    assert "run the same command again" in faults[0].message


def test_a_server_that_never_has_time_ends_the_run(url: str, server: Server) -> None:
    server.always = refusing(429, "quota used up")
    (fault,) = map(fault_of, asked(url, ["a"], stall_seconds=1.0))
    assert "has answered nothing but 'quota used up'" in fault.message
    server.always = refusing(429, "quota used up", Retry_After="86400")
    (fault,) = map(fault_of, asked(url, ["a"]))
    assert "asks to wait 86400 s" in fault.message


def test_a_server_that_hangs_ends_the_run(url: str, server: Server) -> None:
    async def hanging(_: Any) -> Any:
        await asyncio.sleep(60)

    server.always = hanging
    (fault,) = map(fault_of, asked(url, ["a"], stall_seconds=0.5))
    assert "has not answered for" in fault.message


@pytest.mark.parametrize(
    ("always", "says"),
    [
        (refusing(401, "bad key"), r"does not let us in \(bad key\); set its key in GEMMA3_"),
        (refusing(404, "no such model"), r"refuses the model 'gemma' \(no such model\)"),
        (refusing(402, "no money"), "no money"),
        (refusing(307, Location="http://elsewhere/v1"), "leads to http://elsewhere/v1"),
    ],
)
def test_what_all_rows_would_meet_ends_the_run(
    always: Any, says: str, url: str, server: Server
) -> None:
    server.always = always
    (fault,) = map(fault_of, asked(url, ["a"]))
    assert fault.is_users
    assert re.search(says, fault.message)


def test_a_warm_engine_works_again_after_the_end_of_a_run(
    url: str, server: Server, monkeypatch: Any
) -> None:
    monkeypatch.setattr(availability, "END_S", 0.0)

    async def ask() -> list[str]:
        engine = EndpointEngine(config_of(url), address=address_of(url))
        request = EndpointRenderer(config_of(url)).render(Request("a", Sampling(8)), [])
        server.always = refusing(401)
        with pytest.raises(EngineDiedError):
            await engine.generate(request, "1")
        server.always = None
        answer = await engine.generate(request, "2")
        engine.close()
        await asyncio.sleep(0)
        return [answer.text]

    assert asyncio.run(ask()) == ["a"]


def test_log_probabilities(url: str, server: Server) -> None:
    scored = Sampling(1, score_tokens=("Yes", "No"))
    server.logprobs = {"No": -0.1, "Yes": -2.4}
    for form in ("template", "raw"):
        (answer,) = asked(url, ["a"], scored, prompt_format=form)
        assert isinstance(answer, Generation)
        assert answer.log_probabilities == (-2.4, -0.1)
    server.logprobs = None
    (fault,) = map(fault_of, asked(url, ["a"], scored))
    assert fault.is_users
    assert "gives no log-probabilities" in fault.message


def test_a_server_that_comes_back_with_another_model_ends_the_run(url: str, server: Server) -> None:
    server.models = [{**CARD, "root": "/models/other"}]
    server.faults = deque([resetting])
    (fault,) = map(fault_of, asked(url, ["a"], served_as="/models/gemma"))
    assert fault.is_users
    assert "now says that 'gemma' is /models/other" in fault.message
    server.faults = deque([resetting])
    assert texts_of(asked(url, ["a"], served_as="/models/other")) == ["a"]


def test_no_more_are_sent_than_the_server_takes(url: str, server: Server) -> None:
    server.seconds, server.refuses_over = 0.02, 24
    texts = [f"text {number}" for number in range(600)]
    assert texts_of(asked(url, texts)) == texts
    refused = len(server.seen) - 600
    assert 0 < refused < 60


class TestBefore:
    """What is told before anything starts."""

    def opened(self, url: str, **fields: Any) -> EngineConfig:
        config = config_of(url, **{"prompt_format": None, **fields})
        model = open_served(address_of(url), config.model, config.prompt_format)
        return model.resolve(config)

    def check(self, url: str, **fields: Any) -> None:
        check_endpoint(self.opened(url, **fields), address=address_of(url))

    def test_what_the_server_says_of_the_model(self, url: str) -> None:
        config = self.opened(url)
        assert (config.max_model_len, config.served_by) == (2048, "vllm")
        assert (config.served_as, config.prompt_format) == ("/models/gemma", "template")
        identity = open_served(address_of(url), MODEL, None).identity
        assert identity.now == "served:gemma (/models/gemma)"

    @pytest.mark.parametrize("with_image", [False, True])
    def test_a_server_that_works(self, with_image: bool, url: str, server: Server) -> None:
        self.check(url, has_images=with_image)
        assert server.seen == []

    def test_nobody_is_there(self, monkeypatch: Any) -> None:
        monkeypatch.setattr("pipeline.engine.endpoint.served.PAUSE_SECONDS", 0.01)
        with pytest.raises(UserError, match=r"does not answer \(connection refused\); start"):
            self.opened(f"http://127.0.0.1:{free_port()}/v1")

    def test_a_wrong_name(self, url: str) -> None:
        with pytest.raises(UserError, match=r"no such model; did you mean 'gemma'\? it has gemma"):
            self.opened(url, model="gemma3")

    def test_a_server_without_a_list(self, url: str, server: Server) -> None:
        server.models = None
        self.check(url)
        with pytest.raises(UserError, match="refuses the model 'other'"):
            self.check(url, model="other")

    @pytest.mark.parametrize("path", ["", "/v2"])
    def test_a_wrong_path(self, path: str, url: str) -> None:
        """FastAPI's answer to it is not the API's; nor is that of a gateway without a server."""
        place = url.removesuffix("/v1") + path
        fault = rf"endpoint {place} has nothing at /chat/completions \(status 404\); .*:8000/v1$"
        with pytest.raises(UserError, match=fault):
            self.check(place)

    def test_the_key(self, url: str, server: Server, monkeypatch: Any) -> None:
        server.key = KEY
        with pytest.raises(UserError, match=r"let us in \(Unauthorized\); set its key in GEMMA"):
            self.opened(url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        self.check(url)
        monkeypatch.setenv("GEMMA3_BATCH_API_KEY", "another")
        with pytest.raises(UserError, match="correct the key in GEMMA3_BATCH_API_KEY"):
            self.opened(url)

    def test_no_vision(self, url: str, server: Server) -> None:
        config = self.opened(url, has_images=True)
        server.always = refusing(400, "At most 0 image(s) may be provided in one prompt.")
        fault = r"refuses a request with an image \(At most 0.*; is 'gemma' a model with vision\?"
        with pytest.raises(UserError, match=fault):
            check_endpoint(config, address=address_of(url))

    @pytest.mark.parametrize(
        ("fields", "fault"),
        [
            ({"dtype": "float32"}, "dtype: is for engines of the run's own"),
            ({"engine_args": {"a": 1}}, "engine_args: is for"),
            ({"tensor_parallel_size": 2}, "tensor_parallel_size: is for"),
            ({"pan_and_scan": True}, "pan_and_scan: is for"),
            ({"prompt_format": "raw"}, "prompt_format: a server continues raw text without images"),
            ({"prompt_format": "gemma"}, "prompt_format: gemma is for engines of the run's own"),
        ],
    )
    def test_settings_of_engines_are_refused(
        self, fields: dict[str, Any], fault: str, url: str
    ) -> None:
        with pytest.raises(UserError, match=fault):
            self.check(url, **fields)

    def test_within_a_running_loop(self, url: str) -> None:
        async def notebook() -> None:
            self.check(url)

        asyncio.run(notebook())


def test_the_key_is_in_no_text(url: str, server: Server, monkeypatch: Any) -> None:
    monkeypatch.setenv("GEMMA3_BATCH_API_KEY", KEY)
    server.faults = deque([refusing(400, f"not with {KEY}")])
    (bad,) = asked(url, ["a"])
    backend = endpoint_backend(url)
    monkeypatch.delenv("GEMMA3_BATCH_API_KEY")
    assert KEY in str(server.headers)
    for text in (str(bad), repr(bad), repr(backend), repr(address_of(url))):
        assert KEY not in text
    assert "not with ***" in str(bad)
