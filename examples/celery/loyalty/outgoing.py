"""Our own event, as schemas/loyalty/PointsAwarded.schema.json of the shop has it."""

from django.utils import timezone
from uuid6 import uuid7

from .models import Member, OutboxEvent


def emit_points_awarded(member: Member, points: int, reason: str, traceparent: str | None) -> None:
    """Writes the event to the outbox; call it in the transaction that gives the points."""
    now = timezone.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    key = str(member.user_id)
    OutboxEvent.objects.create(
        event={
            "specversion": "1.0",
            "id": str(uuid7()),  # by this the bridge leaves out what it has had
            "type": "PointsAwarded",
            "source": "/loyalty",
            "subject": key,  # what is of one subject keeps its order
            "time": now,
            "datacontenttype": "application/json",
            "data": {"userId": key, "points": points, "total": member.points, "reason": reason, "awardedAt": now},
            **({"traceparent": traceparent} if traceparent else {}),  # one trace from the order to the points
        }
    )
