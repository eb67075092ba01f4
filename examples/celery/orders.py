"""
Prints the shop's orders as they change, by plain Kombu from RabbitMQ's queue shop.orders, or by redis-py from the stream
shop:orders. Needs no Django and no Celery. Run it by run.py orders, which finds the broker.
"""

import json
import logging
import os
import sys
from collections.abc import Callable

from kombu import Connection, Queue
from kombu.exceptions import OperationalError
from kombu.mixins import ConsumerMixin
from kombu.serialization import register
from redis import Redis, RedisError, ResponseError

QUEUE, STREAM, GROUP = "shop.orders", "shop:orders", "loyalty"
AT_ONCE = 20

# Kombu reads only what it is told to: this name stands for the content type.
register("cloudevents", json.dumps, json.loads, content_type="application/cloudevents+json", content_encoding="utf-8")


def show(read: Callable[[], dict]) -> bool:
    """Prints an event; returns whether it is one."""
    try:
        event = read()
        print(event["time"], event["type"], "order", event["subject"], "event", event["id"], flush=True)
        return True
    except Exception as error:
        print(f"a message is no event: {error!r}", file=sys.stderr, flush=True)
        return False


class RabbitMQOrders(ConsumerMixin):
    def __init__(self, connection: Connection):
        self.connection = connection

    def get_consumers(self, Consumer, channel):
        queue = Queue(QUEUE, no_declare=True)  # the bridge has declared it, with limits that are its own
        return [Consumer([queue], on_message=self.on_message, prefetch_count=AT_ONCE, accept=["cloudevents"])]

    def on_message(self, message) -> None:
        if show(message.decode):
            message.ack()  # what a killed process has not acknowledged comes again
        else:
            message.reject()  # to the queue of dead letters


def read_redis(url: str) -> None:
    redis = Redis.from_url(url, decode_responses=True)
    try:
        redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    position = "0"  # first what this reader was given before it was killed, then what is new
    while True:
        [[_, entries]] = redis.xreadgroup(GROUP, "orders", {STREAM: position}, count=AT_ONCE, block=1_000) or [[STREAM, []]]
        for entry, fields in entries:
            if fields:  # none: the stream was cut
                show(lambda: json.loads(fields["cloudevent"]))
            redis.xack(STREAM, GROUP, entry)
        if not entries:
            position = ">"


def main(url: str) -> None:
    try:
        if url.startswith("redis"):
            read_redis(url)
        else:
            with Connection(url) as connection:
                RabbitMQOrders(connection).run()
    except (OperationalError, *Connection("amqp://").channel_errors, RedisError) as error:
        sys.exit(f"the broker does not give orders: {error}")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)  # Kombu says that it connects again
    url = os.environ.get("SHOP_BROKER_URL") or os.environ.get("CELERY_BROKER_URL")
    if not url:
        sys.exit("SHOP_BROKER_URL is not set: amqp://… or redis://…; or run: python3 run.py orders")
    try:
        main(url)
    except KeyboardInterrupt:
        pass
