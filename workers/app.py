"""The Celery app: one queue and one kind of worker per step, on Redis."""

from __future__ import annotations

import logging

from celery import Celery
from celery.signals import after_setup_logger, worker_init
from kombu.entity import Queue

from campaign.message import TICK, broker_options
from campaign.secrets import scrub
from campaign.settings import Settings, celery_url
from campaign.tile import Step
from workers.leases import LONGEST


def make_app(settings: Settings) -> Celery:
    """The app for a fleet's Redis; importing its tasks is left to the worker."""
    app = Celery("openeo-fleet", broker=celery_url(settings.redis_url) or None, include=["workers.tasks"])
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_queues=[Queue(step.value) for step in Step],  # type: ignore[no-untyped-call]
        task_default_queue=Step.SUBMIT.value,
        task_create_missing_queues=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=broker_options(settings.namespace),
        worker_send_task_events=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_max_tasks_per_child=200,
        task_time_limit=LONGEST + 300,  # prefork pools only; below the visibility timeout
        worker_soft_shutdown_timeout=10.0,
        beat_schedule={
            TICK: {
                "task": TICK,
                "schedule": settings.tick,
                "options": {"queue": Step.TRACK.value, "expires": max(5.0, 2 * settings.tick)},
            }
        },
        timezone="UTC",
    )
    return app


app = make_app(Settings())


class _Scrubbed(logging.Formatter):
    """A formatter whose lines, tracebacks included, hold no secrets."""

    def __init__(self, inner: logging.Formatter | None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return scrub(self._inner.format(record))


@after_setup_logger.connect
def _keep_logs_clean(logger: logging.Logger, **_: object) -> None:
    """Keep secrets out of the logs, and a line per second about nothing; what goes wrong in a tick stays."""
    for handler in logger.handlers:
        handler.setFormatter(_Scrubbed(handler.formatter))
        handler.addFilter(
            lambda record: record.levelno > logging.INFO or not str(record.getMessage()).startswith(f"Task {TICK}[")
        )


@worker_init.connect
def _load_raster_libraries(sender: object = None, **_: object) -> None:
    """Load what postprocess needs before its pool forks: once, shared by all its processes."""
    if getattr(sender, "hostname", "").startswith(f"{Step.POSTPROCESS}@"):
        import workers.postprocess  # noqa: F401, PLC0415
