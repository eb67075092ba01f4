"""
The tasks that the shop's bridge puts into the queue `celery`. Each has one argument, the event as a CloudEvent, and the
event's id as its own.
"""

import logging
from collections.abc import Callable
from uuid import UUID

from celery import Task, shared_task
from django.db import DatabaseError, InterfaceError, transaction
from django.utils import timezone

from . import handlers
from .models import FailedEvent, HandledEvent

logger = logging.getLogger(__name__)

RETRIES = 8
LONGEST_PAUSE_S = 300  # with Redis it has to stay below the visibility timeout
USED_FIELDS = ["userId", "orderId"]


@shared_task(bind=True, name="shopstream.UserRegistered", max_retries=None)
def user_registered(task: Task, event: dict) -> None:
    handle(task, event, handlers.user_registered)


@shared_task(bind=True, name="shopstream.OrderShipped", max_retries=None)
def order_shipped(task: Task, event: dict) -> None:
    handle(task, event, handlers.order_shipped)


def handle(task: Task, event: dict, effects: Callable[[dict], None]) -> None:
    """Handles an event unless it was before. A failure is kept, and Celery tries the task again after 1 s, 2 s, 4 s …"""
    try:
        with transaction.atomic():
            _, is_new = HandledEvent.objects.get_or_create(id=UUID(event["id"]), defaults={"type": event["type"]})
            if is_new:
                effects(event)
            FailedEvent.objects.filter(id=event["id"]).delete()
    except Exception as error:
        # What cannot be kept, as the database is away, is tried for as long as it takes.
        limit = RETRIES if keep_failure(task, event, error) else None
        pause = min(LONGEST_PAUSE_S, 2 ** min(task.request.retries, 20))
        raise task.retry(exc=error, countdown=pause, max_retries=limit)


def keep_failure(task: Task, event: dict, error: Exception) -> bool:
    """Keeps it before its retry is sent: whatever becomes of that, the event is here. Returns whether it could be."""
    attempts = task.request.retries + 1
    data = {name: event["data"][name] for name in USED_FIELDS if name in event.get("data", {})}
    try:
        FailedEvent.objects.update_or_create(
            id=task.request.id,
            defaults={
                "type": task.name.removeprefix("shopstream."),
                "event": {**event, "data": data},
                "attempts": attempts,
                "is_given_up": attempts > RETRIES,
                "error": repr(error),
                "failed_at": timezone.now(),
            },
        )
        return True
    except (DatabaseError, InterfaceError):
        logger.exception("that event %s failed could not be kept", task.request.id)
        return False
