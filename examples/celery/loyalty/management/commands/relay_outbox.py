import fcntl
import logging

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from loyalty.models import OutboxEvent
from loyalty.sending import NotSent, Send, connected
from loyalty.stopping import Stopping

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Sends the outbox in its order; a row is deleted once the broker has confirmed it. Ends on SIGTERM."

    def handle(self, **options) -> None:
        stopping = Stopping()
        with (settings.STATE_DIR / "relay.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CommandError("another relay sends this outbox: two would mix up the order") from error
            while not stopping:
                try:
                    with connected(settings.SHOP_BROKER_URL) as send:
                        while not stopping:
                            if relay(send) == 0:
                                stopping.wait(0.3)
                except NotSent as error:
                    logger.warning("the outbox waits: %s", error)
                    stopping.wait(5)


def relay(send: Send, at_once: int = 100) -> int:
    """Sends the oldest rows and deletes each that was confirmed. Returns how many; throws NotSent."""
    rows = list(OutboxEvent.objects.order_by("id")[:at_once])
    for row in rows:
        send(row.event)
        row.delete()  # should this process die before, it is sent again, and the bridge leaves it out by its id
    return len(rows)
