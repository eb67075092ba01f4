"""What must hold whatever is delivered how often: with a database of the tests' own, without a broker."""

from unittest.mock import patch
from uuid import uuid4

from django.test import TestCase

from loyalty.management.commands.relay_outbox import relay
from loyalty.models import FailedEvent, HandledEvent, Member, OutboxEvent
from loyalty.sending import NotSent, connected
from loyalty.tasks import RETRIES, order_shipped, user_registered

USER = str(uuid4())


def give(task, event: dict):
    """As the worker runs it; Celery's retries come at once here."""
    return task.apply([event], task_id=event["id"])


def event_of(event_type: str, **data) -> dict:
    whole = {"userId": USER, "email": "ada@example.com", **data}
    return {"specversion": "1.0", "id": str(uuid4()), "type": event_type, "source": "/users", "subject": USER, "data": whole}


class Tasks(TestCase):
    def emitted(self) -> list[tuple]:
        data = [row.event["data"] for row in OutboxEvent.objects.order_by("id")]
        return [(each["reason"], each["points"], each["total"]) for each in data]

    def test_an_event_gives_points_and_is_told(self):
        give(user_registered, event_of("UserRegistered"))
        give(order_shipped, event_of("OrderShipped"))
        self.assertEqual(Member.objects.get().points, 60)
        self.assertEqual(self.emitted(), [("JOINED", 50, 50), ("ORDER_SHIPPED", 10, 60)])
        event = OutboxEvent.objects.earliest("id").event
        self.assertEqual((event["subject"], event["type"], event["source"]), (USER, "PointsAwarded", "/loyalty"))

    def test_a_repeat_changes_nothing(self):
        shipped = event_of("OrderShipped")
        for _ in range(3):
            give(order_shipped, shipped)
        self.assertEqual(self.emitted(), [("ORDER_SHIPPED", 10, 10)])

    def test_the_order_of_tasks_does_not_matter(self):
        give(order_shipped, event_of("OrderShipped"))
        give(user_registered, event_of("UserRegistered"))
        give(user_registered, event_of("UserRegistered"))  # joining counts once, even by two events
        self.assertEqual(Member.objects.get().points, 60)

    def test_a_failure_that_passes_leaves_nothing_behind(self):
        passes = [RuntimeError("boom"), RuntimeError("boom"), None]
        with patch("loyalty.handlers.emit_points_awarded", side_effect=passes):
            give(order_shipped, event_of("OrderShipped"))
        self.assertEqual(Member.objects.get().points, 10)
        self.assertFalse(FailedEvent.objects.exists())

    def test_a_failure_that_lasts_is_kept_with_its_error_and_can_be_given_again(self):
        shipped = event_of("OrderShipped")
        with patch("loyalty.handlers.emit_points_awarded", side_effect=RuntimeError("boom")), self.assertRaises(RuntimeError):
            give(order_shipped, shipped).get()
        kept = FailedEvent.objects.get()
        self.assertEqual((kept.attempts, kept.is_given_up, kept.error), (RETRIES + 1, True, "RuntimeError('boom')"))
        self.assertEqual(kept.event["data"], {"userId": USER})  # no address
        self.assertFalse(Member.objects.exists() or HandledEvent.objects.exists())
        self.assertEqual(self.client.get("/failures").json()["failures"][0]["id"], shipped["id"])
        give(order_shipped, kept.event)
        self.assertEqual(Member.objects.get().points, 10)
        self.assertFalse(FailedEvent.objects.exists())

    def test_the_relay_deletes_what_was_confirmed_alone_and_keeps_the_order(self):
        for _ in range(3):
            give(order_shipped, event_of("OrderShipped"))
        sent = []

        def send(event: dict) -> None:
            if len(sent) == 1:
                raise NotSent("full")
            sent.append(event["data"]["total"])

        with self.assertRaises(NotSent):
            relay(send)
        self.assertEqual([total for _, _, total in self.emitted()], [20, 30])
        relay(lambda event: sent.append(event["data"]["total"]))
        self.assertEqual((sent, self.emitted()), ([10, 20, 30], []))

    def test_a_broker_that_is_away_is_told_as_such(self):
        for url in ["amqp://127.0.0.1:1", "redis://127.0.0.1:1"]:  # nothing listens there
            with self.assertRaises(NotSent), connected(url) as send:
                send({"id": str(uuid4())})
