import logging
from datetime import timedelta

from celery import shared_task
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from .handlers import HANDLERS
from .models import ReceivedEvent

logger = logging.getLogger(__name__)

# An event that was given to Celery and is not handled after this time is given to it again.
GIVEN_FOR = timedelta(seconds=60)
LONGEST_PAUSE = timedelta(minutes=10)
AT_ONCE = 500


@shared_task
def handle_event(event_id: str) -> None:
    """Handles an event of the inbox unless it was before. A failure is kept with it, and it is tried again later."""
    try:
        with transaction.atomic():
            event = ReceivedEvent.objects.select_for_update().get(pk=event_id)
            if event.handled_at:
                return
            HANDLERS[event.type](event)
            event.handled_at = timezone.now()
            event.error = ""
            event.save()
    except Exception as error:
        logger.exception("event %s failed; it is tried again", event_id)
        note_failure(event_id, error)


def note_failure(event_id: str, error: Exception) -> None:
    unhandled = ReceivedEvent.objects.filter(pk=event_id, handled_at=None)
    for attempts in unhandled.values_list("attempts", flat=True):
        pause = min(LONGEST_PAUSE, timedelta(seconds=2 ** min(attempts, 20)))
        unhandled.update(attempts=F("attempts") + 1, error=repr(error), due_at=timezone.now() + pause)


def give_to_celery() -> int:
    """Sends a task for each event that is due, the oldest first. Returns how many."""
    now = timezone.now()
    due = ReceivedEvent.objects.filter(handled_at=None, due_at__lte=now).order_by("received_at")
    ids = list(due.values_list("pk", flat=True)[:AT_ONCE])
    for event_id in ids:
        handle_event.delay(str(event_id))
    # After sending: should this process die in between, the events are sent twice, which the task bears.
    ReceivedEvent.objects.filter(pk__in=ids, due_at__lte=now).update(due_at=now + GIVEN_FOR)
    return len(ids)
