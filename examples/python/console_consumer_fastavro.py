"""Prints the events of a running shop, decoded by fastavro without a schema registry.

Usage: python console_consumer_fastavro.py [--schemas lock|topic] [TOPIC ...]

  --schemas lock    from schemas/registry.lock.json of this repository (the default)
  --schemas topic   from shop.schema.v1: needs nothing but Kafka

All topics of the shop by default; Ctrl-C ends it. Environment: KAFKA_BROKERS
"""

import argparse
import sys
from uuid import uuid4

from confluent_kafka import Consumer

from schemas import Schemas, Unreadable
from shop import KAFKA_BROKERS, line_of


def main(source: str, topics: list[str]) -> None:
    schemas = Schemas.from_topic(KAFKA_BROKERS) if source == "topic" else Schemas.from_lock()
    group = {"group.id": f"console-{uuid4()}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": KAFKA_BROKERS, **group})
    consumer.subscribe(topics)
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                print(message.error(), file=sys.stderr)
                continue
            try:
                print(line_of(message, schemas.decode(message.value())), flush=True)
            except Unreadable as reason:
                place = f"{message.topic()}/{message.partition()}@{message.offset()}"
                print(f"{place} cannot be read: {reason}", file=sys.stderr)
    finally:
        consumer.close()


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__, formatter_class=raw)
    parser.add_argument("--schemas", choices=["lock", "topic"], default="lock", help=argparse.SUPPRESS)
    parser.add_argument("topics", nargs="*", default=[r"^shop\.[a-z-]+\.v1$"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        main(options.schemas, options.topics)
    except KeyboardInterrupt:
        pass
