"""A forecast of a run that never was."""

from __future__ import annotations

from typing import Any

from jobs.forecast.course import Steady
from jobs.forecast.forecast import Failures, Forecast, Tokens
from jobs.forecast.intervals import Interval
from jobs.forecast.predictor import Share, Time

RECORD: dict[str, Any] = {
    "task": "caption",
    "settings": {"prompt": "Describe it."},
    "columns": {"caption": "string"},
    "backend": "vllm",
    "model": {"identity": "abc", "adapters": {}},
    "input": "/data/in",
    "config": {
        "input": "/data/in",
        "engine": {
            "dtype": "auto",
            "max_model_len": 8192,
            "max_images": 1,
            "pan_and_scan": False,
            "engine_args": {},
        },
        "keep_images": False,
        "max_image_bytes": 1,
        "max_image_pixels": 1,
        "prefix": None,
    },
}


def forecast(**changed: Any) -> Forecast:
    """Two thousand captions in twelve minutes."""
    between = Interval(0.01, 0.021)
    values: dict[str, Any] = {
        "task": "caption",
        "input": "/data/in",
        "output": "/data/out",
        "model": "/models/gemma-3-4b-it",
        "reads": ("image",),
        "rows": 2000,
        "computed": 0.98,
        "units": 2,
        "there": 0,
        "replicas": 2,
        "gpus": 1,
        "time": Time(
            seconds=720.0,
            interval=Interval(650.0, 800.0),
            start=60.0,
            once=80.0,
            rows_per_second=3.1,
            steady=Steady(rate=1.6, spread=0.02, rows=192),
            cost=0.97,
        ),
        "hours": Interval(0.36, 0.44),
        "bound": "the engine's capacity; it had all the requests that it takes 91% of the time",
        "read": Tokens(total=540_000, mean=270.0, quantiles=(270, 271, 280, 300)),
        "written": Tokens(total=60_000, mean=30.0, quantiles=(28, 60, 64, 64)),
        "failed": Share(share=0.014, interval=between),
        "failures": {
            "decode_error": Failures(
                share=Share(share=0.014, interval=between),
                reasons=(("decode: image file is truncated (84 bytes not processed)", 5),),
            )
        },
        "size": 123_456,
        "price": 3.0,
        "pilot_rows": 400,
        "pilot_seconds": 95.0,
        "pilot_engines": 1,
        "model_class": "gemma3_model.model.Gemma3ForConditionalGeneration",
        "samples": [
            {"path": f"{at}.jpg", "caption": f"a cat {at}", "outcome": "ok", "error": None}
            for at in range(10)
        ],
        "warnings": (),
        "record": RECORD,
        "made": "2026-11-30T05:49:09+00:00",
    }
    return Forecast(**{**values, **changed})
