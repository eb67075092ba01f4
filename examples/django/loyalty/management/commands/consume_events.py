import logging

from confluent_kafka import Consumer, KafkaException, Message
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from loyalty.incoming import TOPICS, EventReader, Unreadable
from loyalty.models import ReceivedEvent, UnreadableMessage
from loyalty.stopping import Stopping
from loyalty.tasks import give_to_celery

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Keeps the shop's events in the inbox and has Celery handle them. Ends on SIGTERM; whatever ends it loses nothing."

    def handle(self, **options) -> None:
        reader = EventReader(settings.SCHEMA_REGISTRY_URL)
        stopping = Stopping()
        consumer = Consumer(
            {
                "bootstrap.servers": settings.KAFKA_BROKERS,
                "group.id": settings.CONSUMER_GROUP,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.subscribe(TOPICS)
        logger.info("group %s consumes %s", settings.CONSUMER_GROUP, ", ".join(TOPICS))
        try:
            while not stopping:
                messages = consumer.consume(num_messages=100, timeout=0.5)
                if messages:
                    receive(reader, messages)
                    consumer.commit(asynchronous=False)  # only now: what is lost before comes again
                give_to_celery()
        finally:
            consumer.close()


def receive(reader: EventReader, messages: list[Message]) -> None:
    """Keeps the events that are new and the messages that are none, in one transaction."""
    with transaction.atomic():
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            try:
                event = reader.read(message.value(), message.headers())
            except Unreadable as reason:
                keep_unreadable(message, str(reason))
                continue
            if event:
                ReceivedEvent.objects.get_or_create(id=event.id, defaults={"type": event.type, "data": event.data})


def keep_unreadable(message: Message, reason: str) -> None:
    place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
    logger.error("%(topic)s/%(partition)d@%(offset)d is kept as unreadable: %(reason)s", {**place, "reason": reason})
    bytes_of_it = {"key": message.key(), "value": message.value()}
    UnreadableMessage.objects.get_or_create(**place, defaults={**bytes_of_it, "reason": reason})
