import fcntl
import logging

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from loyalty.models import OutboxEvent
from loyalty.outgoing import PARTITIONS, TOPIC
from loyalty.stopping import Stopping

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Publishes the outbox in its order; a row is deleted once the broker has acknowledged it. Ends on SIGTERM."

    def handle(self, **options) -> None:
        stopping = Stopping()
        with (settings.STATE_DIR / "relay.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CommandError("another relay publishes this outbox: two would mix up the order") from error
            ensure_topic()
            producer = Producer(
                {
                    "bootstrap.servers": settings.KAFKA_BROKERS,
                    "partitioner": "murmur2_random",  # as Kafka's Java client; librdkafka's default is another
                    "enable.idempotence": True,  # and with it acks=all, in order per partition
                    "message.timeout.ms": 0,  # tried for as long as it takes: a later event must not overtake
                }
            )
            logger.info("the outbox goes to %s", TOPIC)
            while not stopping:
                if publish(producer, stopping) == 0:
                    stopping.wait(0.3)


def publish(producer: Producer, stopping: Stopping, at_once: int = 100) -> int:
    """Publishes the oldest rows and deletes those that were acknowledged. Returns how many that were."""
    published, problems = [], []
    for row in OutboxEvent.objects.order_by("id")[:at_once]:

        def report(error, _message, row_id=row.id):
            published.append(row_id) if error is None else problems.append(error)

        value, headers = bytes(row.value), row.headers
        producer.produce(row.topic, key=row.key, value=value, headers=headers, on_delivery=report)
    while len(producer) > 0 and not problems and not stopping:
        producer.flush(0.5)
    OutboxEvent.objects.filter(id__in=published).delete()
    if problems:
        raise KafkaException(problems[0])
    return len(published)


def ensure_topic() -> None:
    admin = AdminClient({"bootstrap.servers": settings.KAFKA_BROKERS})
    try:
        admin.create_topics([NewTopic(TOPIC, PARTITIONS)])[TOPIC].result(30)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise
