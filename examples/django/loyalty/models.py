from django.db import models
from django.utils import timezone


class Member(models.Model):
    """Somebody who collects points. Holds no name and no address, so that nothing has to be erased."""

    user_id = models.UUIDField(primary_key=True)
    joined_at = models.DateTimeField(null=True)
    points = models.PositiveIntegerField(default=0)
    sequence = models.PositiveIntegerField(default=0, help_text="Events written about this member: ce_sequence.")


class ReceivedEvent(models.Model):
    """
    An event of the shop, kept before its offset is committed. The id makes a repeat harmless, `handled_at` is written in
    the transaction of the effects, and what is not handled is given to Celery again: no event depends on Celery's queue.
    """

    id = models.UUIDField(primary_key=True, help_text="ce_id")
    type = models.CharField(max_length=100)
    data = models.JSONField(help_text="The fields that the handler uses, and no others.")
    received_at = models.DateTimeField(default=timezone.now)
    handled_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(default=timezone.now, help_text="When it is given to Celery, should it be unhandled.")
    attempts = models.PositiveIntegerField(default=0, help_text="Failed ones.")
    error = models.TextField(blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["due_at"], condition=models.Q(handled_at=None), name="received_event_due"),
        ]


class UnreadableMessage(models.Model):
    """A message that is no event, kept with its bytes while the partition moves on."""

    topic = models.CharField(max_length=249)
    partition = models.IntegerField()
    offset = models.BigIntegerField()
    key = models.BinaryField(null=True)
    value = models.BinaryField(null=True)
    reason = models.TextField()
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["topic", "partition", "offset"], name="unreadable_place")]


class OutboxEvent(models.Model):
    """An event of ours, written in the transaction that decides it. The relay publishes it and deletes the row."""

    topic = models.CharField(max_length=249)
    key = models.CharField(max_length=200)
    value = models.BinaryField()
    headers = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now)
