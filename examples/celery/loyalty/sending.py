"""How our events reach the shop: the queue or the stream that its bridge reads."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from amqp.exceptions import MessageNacked
from kombu import Connection
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

INBOUND_QUEUE = "shop.inbound"  # declared by the bridge, whose arguments are its own
INBOUND_STREAM = "shop:inbound"
CONFIRM_LIMIT_S = 30

Send = Callable[[dict], None]


class NotSent(Exception):
    """The broker has not taken the event, or has not said so: it is to be sent again."""


def connected(url: str) -> AbstractContextManager[Send]:
    """Gives what sends an event and returns when the broker has it. Throws NotSent, also from within the block."""
    return redis_stream(url) if url.startswith("redis") else rabbitmq_queue(url)


@contextmanager
def rabbitmq_queue(url: str) -> Iterator[Send]:
    # It confirms what most replicas of the queue have, and says when no queue takes it (mandatory) or one refuses it.
    with Connection(url, transport_options={"confirm_publish": True}, connect_timeout=5) as connection:
        errors = (*connection.connection_errors, *connection.channel_errors, MessageNacked, OperationalError)
        try:
            producer = connection.Producer(auto_declare=False)

            def send(event: dict) -> None:
                producer.publish(
                    json.dumps(event),
                    exchange="",
                    routing_key=INBOUND_QUEUE,
                    content_type="application/cloudevents+json",
                    content_encoding="utf-8",
                    message_id=event["id"],
                    delivery_mode=2,
                    mandatory=True,
                    confirm_timeout=CONFIRM_LIMIT_S,
                )

            yield send
        except errors as error:
            raise NotSent(f"RabbitMQ: {str(error) or type(error).__name__}") from error  # a full queue: MessageNacked


@contextmanager
def redis_stream(url: str) -> Iterator[Send]:
    with Redis.from_url(url, socket_timeout=CONFIRM_LIMIT_S) as redis:
        try:
            yield lambda event: redis.xadd(INBOUND_STREAM, {"cloudevent": json.dumps(event)})
        except RedisError as error:
            raise NotSent(f"Redis: {error}") from error
