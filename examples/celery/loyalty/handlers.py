"""
What each event means to the programme. Celery keeps no order, so the handlers bear any: an OrderShipped may be handled
before the UserRegistered of its buyer.
"""

from django.utils import timezone

from .models import Member
from .outgoing import emit_points_awarded

POINTS_FOR_JOINING = 50
POINTS_FOR_A_SHIPMENT = 10


def user_registered(event: dict) -> None:
    member = _lock(event["data"]["userId"])
    if member.joined_at:  # told again by another event of the same user
        return
    member.joined_at = timezone.now()
    _award(member, POINTS_FOR_JOINING, "JOINED", event)


def order_shipped(event: dict) -> None:
    _award(_lock(event["data"]["userId"]), POINTS_FOR_A_SHIPMENT, "ORDER_SHIPPED", event)


def _lock(user_id: str) -> Member:
    Member.objects.get_or_create(user_id=user_id)
    return Member.objects.select_for_update().get(user_id=user_id)


def _award(member: Member, points: int, reason: str, event: dict) -> None:
    member.points += points
    member.save()
    emit_points_awarded(member, points, reason, event.get("traceparent"))
