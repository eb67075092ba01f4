"""What must hold whatever is delivered how often: with a database of the tests' own, without Kafka and Celery."""

import struct
from datetime import timedelta
from io import BytesIO
from types import SimpleNamespace
from unittest.mock import Mock, patch
from uuid import uuid4

from confluent_kafka.schema_registry.error import SchemaRegistryError
from django.core.management import call_command
from django.test import TestCase
from django.utils import timezone
from fastavro import parse_schema, schemaless_writer

from loyalty.incoming import EventReader
from loyalty.management.commands import consume_events
from loyalty.management.commands.consume_events import receive
from loyalty.management.commands.relay_outbox import publish
from loyalty.models import Member, OutboxEvent, ReceivedEvent, UnreadableMessage
from loyalty.outgoing import decode
from loyalty.stopping import Stopping
from loyalty.tasks import give_to_celery, handle_event

SCHEMA = parse_schema(
    {
        "type": "record",
        "name": "Event",
        "fields": [{"name": name, "type": "string"} for name in ("orderId", "userId", "email")],
    }
)
USER = str(uuid4())


def message(event_type: str, event_id: str | None = None, value: bytes | None = None, offset: int = 0):
    """A Kafka message as the client gives it."""
    body = BytesIO()
    schemaless_writer(body, SCHEMA, {"orderId": str(uuid4()), "userId": USER, "email": "ada@example.com"})
    whole = b"\0" + struct.pack(">I", 7) + body.getvalue()
    headers = [("ce_type", event_type.encode()), ("ce_id", (event_id or str(uuid4())).encode())]
    return SimpleNamespace(
        error=lambda: None,
        value=lambda: whole if value is None else value,
        headers=lambda: headers,
        key=lambda: USER.encode(),
        topic=lambda: "shop.order.v1",
        partition=lambda: 0,
        offset=lambda: offset,
    )


class InboxAndOutbox(TestCase):
    def setUp(self):
        self.reader = EventReader("http://127.0.0.1:1")  # nothing listens there
        self.reader._schemas[7] = SCHEMA

    def receive(self, *messages):
        receive(self.reader, list(messages))

    def handle_all(self) -> int:
        """Celery's part, at once. Returns how many tasks were sent."""
        with patch.object(handle_event, "delay", handle_event):
            return give_to_celery()

    def emitted(self) -> list[tuple]:
        rows = OutboxEvent.objects.order_by("id")
        return [(row.headers["ce_sequence"], *(decode(bytes(row.value))[f] for f in ("reason", "total"))) for row in rows]

    def test_an_event_gives_points_and_is_told(self):
        self.receive(message("UserRegistered"), message("OrderShipped"), message("OrderPlaced"))
        self.handle_all()
        self.assertEqual(Member.objects.get().points, 60)
        self.assertEqual(self.emitted(), [("1", "JOINED", 50), ("2", "ORDER_SHIPPED", 60)])

    def test_a_repeat_changes_nothing_wherever_it_happens(self):
        shipped = message("OrderShipped", str(uuid4()))
        self.receive(shipped, shipped)  # in one batch
        self.handle_all()
        self.receive(shipped)  # from Kafka
        self.handle_all()
        handle_event(str(ReceivedEvent.objects.get().id))  # from Celery
        self.assertEqual(self.emitted(), [("1", "ORDER_SHIPPED", 10)])

    def test_the_order_of_tasks_does_not_matter(self):
        for kinds in [("OrderShipped", "UserRegistered"), ("UserRegistered", "OrderShipped")]:
            Member.objects.all().delete()
            for kind in kinds:
                self.receive(message(kind))
                self.handle_all()
            self.assertEqual(Member.objects.get().points, 60)

    def test_joining_counts_once_even_by_two_events(self):
        self.receive(message("UserRegistered"), message("UserRegistered"))
        self.handle_all()
        self.assertEqual(Member.objects.get().points, 50)

    def test_an_event_that_celery_loses_is_given_to_it_again(self):
        self.receive(message("OrderShipped"))
        with patch.object(handle_event, "delay"):
            self.assertEqual(give_to_celery(), 1)  # lost
            self.assertEqual(give_to_celery(), 0)  # still thought to be under way
        ReceivedEvent.objects.update(due_at=timezone.now() - timedelta(seconds=1))
        self.handle_all()
        self.assertEqual(Member.objects.get().points, 10)

    def test_a_handler_that_fails_leaves_nothing_behind_and_is_tried_again(self):
        self.receive(message("OrderShipped"))
        with patch("loyalty.handlers.emit_points_awarded", side_effect=RuntimeError("boom")):
            with self.assertLogs("loyalty", "ERROR"):
                self.handle_all()
        event = ReceivedEvent.objects.get()
        self.assertEqual((event.attempts, event.error, event.handled_at), (1, "RuntimeError('boom')", None))
        self.assertFalse(Member.objects.exists() or OutboxEvent.objects.exists())
        self.assertEqual(self.handle_all(), 0)  # after a pause, not at once
        ReceivedEvent.objects.update(due_at=timezone.now())
        self.handle_all()
        self.assertEqual(Member.objects.get().points, 10)

    def test_what_cannot_be_read_is_kept_with_its_bytes_and_the_others_go_on(self):
        whole = message("OrderShipped").value()
        bad = [b"", b"\1" + whole[1:], whole[:-1], whole + b"!"]
        with self.assertLogs("loyalty", "ERROR"):
            for _ in range(2):
                self.receive(*(message("OrderShipped", value=value, offset=at) for at, value in enumerate(bad)))
                self.receive(message("OrderShipped", "no-uuid", offset=9), message("OrderShipped", str(uuid4()), offset=10))
        kept = UnreadableMessage.objects.order_by("offset")
        self.assertEqual([bytes(each.value) for each in kept], [*bad, kept[4].value])
        self.assertEqual(ReceivedEvent.objects.count(), 2)

    def test_without_the_registry_nothing_is_taken(self):
        self.reader._schemas.clear()
        ill = SchemaRegistryError(503, 50301, "not now")
        for registry in [self.reader._registry, SimpleNamespace(get_schema=Mock(side_effect=ill))]:
            self.reader._registry = registry
            with self.assertRaises(Exception):
                self.receive(message("OrderShipped"))
            self.assertFalse(ReceivedEvent.objects.exists() or UnreadableMessage.objects.exists())

    def test_a_schema_that_the_registry_does_not_have_makes_a_message_unreadable(self):
        self.reader._schemas.clear()
        missing = SchemaRegistryError(404, 40403, "Schema not found")
        self.reader._registry = SimpleNamespace(get_schema=Mock(side_effect=missing))
        with self.assertLogs("loyalty", "ERROR"):
            self.receive(message("OrderShipped"))
        self.assertEqual(UnreadableMessage.objects.get().reason, "the registry has no schema 7")

    def test_offsets_are_committed_when_the_events_are_kept_and_not_before(self):
        consumer = Mock()
        consumer.consume.return_value = [message("OrderShipped")]
        kept_at_commit = []

        def commit(**_):
            kept_at_commit.append(ReceivedEvent.objects.count())
            raise StopIteration  # ends the command

        consumer.commit = commit
        with patch.object(consume_events, "Consumer", return_value=consumer):
            with patch.object(consume_events, "EventReader", return_value=self.reader), self.assertRaises(StopIteration):
                call_command("consume_events")
        self.assertEqual(kept_at_commit, [1])

    def test_no_address_is_kept(self):
        self.receive(message("UserRegistered"))
        self.assertEqual(ReceivedEvent.objects.get().data, {"userId": USER})

    def test_the_relay_deletes_what_was_acknowledged_alone(self):
        self.receive(message("OrderShipped"), message("OrderShipped"))
        self.handle_all()
        broker = FakeProducer(refuses=1)
        with self.assertRaises(Exception):
            publish(broker, Stopping())
        self.assertEqual([row.headers["ce_sequence"] for row in OutboxEvent.objects.all()], ["2"])


class FakeProducer:
    """Acknowledges messages when flushed, all but one."""

    def __init__(self, refuses: int):
        self.refuses, self.reports = refuses, []

    def __len__(self):
        return len(self.reports)

    def produce(self, *_, on_delivery, **__):
        self.reports.append(on_delivery)

    def flush(self, _):
        for at, report in enumerate(self.reports):
            report("refused" if at == self.refuses else None, None)
        self.reports = []
