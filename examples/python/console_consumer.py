"""Prints the events of a running shop, decoded by Confluent's client and the shop's schema registry.

Usage: python console_consumer.py [TOPIC ...]     (all topics of the shop by default; Ctrl-C ends it)
Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL
"""

import sys
from uuid import uuid4

from confluent_kafka import DeserializingConsumer
from confluent_kafka.error import ValueDeserializationError
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

from shop import KAFKA_BROKERS, SCHEMA_REGISTRY_URL, line_of


def main(topics: list[str]) -> None:
    decode = AvroDeserializer(SchemaRegistryClient({"url": SCHEMA_REGISTRY_URL}))
    group = {"group.id": f"console-{uuid4()}", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = DeserializingConsumer({"bootstrap.servers": KAFKA_BROKERS, "value.deserializer": decode, **group})
    consumer.subscribe(topics)
    try:
        while True:
            try:
                message = consumer.poll(1.0)
            except ValueDeserializationError as error:
                bad = error.kafka_message
                place = f"{bad.topic()}/{bad.partition()}@{bad.offset()}"
                print(f"{place} cannot be read: {error}", file=sys.stderr)
                continue
            if message is not None:
                print(line_of(message, message.value()), flush=True)
    finally:
        consumer.close()


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
    else:
        try:
            main(sys.argv[1:] or [r"^shop\.[a-z-]+\.v1$"])
        except KeyboardInterrupt:
            pass
