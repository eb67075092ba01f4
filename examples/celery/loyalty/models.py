from django.db import models
from django.utils import timezone


class Member(models.Model):
    """Somebody who collects points. Holds no name and no address, so that nothing has to be erased."""

    user_id = models.UUIDField(primary_key=True)
    joined_at = models.DateTimeField(null=True)
    points = models.PositiveIntegerField(default=0)


class HandledEvent(models.Model):
    """Written in the transaction of an event's effects: whoever is given the event again finds it and does nothing."""

    id = models.UUIDField(primary_key=True, help_text="The event's id, and the task's.")
    type = models.CharField(max_length=100)
    handled_at = models.DateTimeField(default=timezone.now, db_index=True)


class FailedEvent(models.Model):
    """An event whose task failed, with the last error; gone once the event is handled. Celery tries it some more times."""

    id = models.UUIDField(primary_key=True)
    type = models.CharField(max_length=100)
    event = models.JSONField(help_text="With the fields of the data that handlers use, and no others.")
    attempts = models.PositiveIntegerField(default=0)
    is_given_up = models.BooleanField(default=False, help_text="No retry comes: manage.py retry_failed sends it again.")
    error = models.TextField()
    failed_at = models.DateTimeField(default=timezone.now)


class OutboxEvent(models.Model):
    """An event of ours, written in the transaction that decides it. The relay sends it and deletes the row."""

    event = models.JSONField(help_text="A CloudEvent.")
    created_at = models.DateTimeField(default=timezone.now)
