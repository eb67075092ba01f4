"""The shop's schemas by id without a registry: from the repository's lock file, or from the topic shop.schema.v1.

A message is a zero byte, the schema's id as four bytes (big-endian), and Avro binary: Confluent's wire format.
"""

import json
import struct
from io import BytesIO
from pathlib import Path
from uuid import uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from fastavro import parse_schema, schemaless_reader

LOCK_FILE = Path(__file__).parents[2] / "schemas" / "registry.lock.json"

# The schema that the others are learnt by. Its id is pinned for good, so a client may have it built in.
SCHEMA_REGISTERED_ID = 100001
SCHEMA_REGISTERED = {
    "type": "record",
    "name": "shopstream.schema.SchemaRegistered",
    "fields": [
        {"name": "schemaId", "type": "int"},
        {"name": "subject", "type": "string"},
        {"name": "version", "type": "int"},
        {"name": "schema", "type": "string"},
    ],
}


class Unreadable(Exception):
    """The bytes are no event in the wire format, or of a schema that is not known."""


class Schemas:
    """Parsed schemas by id."""

    def __init__(self, by_id: dict[int, dict]):
        self._parsed = {schema_id: parse_schema(schema) for schema_id, schema in by_id.items()}

    @classmethod
    def from_lock(cls, path: Path = LOCK_FILE) -> "Schemas":
        return cls({row["id"]: row["schema"] for row in json.loads(path.read_text("utf-8"))})

    @classmethod
    def from_topic(cls, brokers: str) -> "Schemas":
        """Reads shop.schema.v1 from its beginning to its end: nothing but Kafka is needed."""
        known = cls({SCHEMA_REGISTERED_ID: SCHEMA_REGISTERED})
        events = [known.decode(value) for value in values_of("shop.schema.v1", brokers)]
        return cls({event["schemaId"]: json.loads(event["schema"]) for event in events})

    def decode(self, value: bytes) -> dict:
        """The payload of an event. Throws Unreadable."""
        if value is None or len(value) < 5 or value[0] != 0:
            raise Unreadable("not in Confluent's wire format")
        (schema_id,) = struct.unpack(">I", value[1:5])
        if schema_id not in self._parsed:
            raise Unreadable(f"schema {schema_id} is not known")
        body = BytesIO(value[5:])
        try:
            data = schemaless_reader(body, self._parsed[schema_id], None)
        except Exception as error:  # fastavro throws whatever the bytes lead it to
            raise Unreadable(f"not of schema {schema_id}: {error!r}") from error
        if body.read(1):
            raise Unreadable(f"bytes follow the event of schema {schema_id}")
        return data


def values_of(topic: str, brokers: str) -> list[bytes]:
    """What a topic holds now, tombstones left out."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": f"schemas-{uuid4()}", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
        missing = {p for p, end in ends.items() if end > 0}
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in missing])
        values = []
        while missing:
            message = consumer.poll(10.0)
            if message is None:
                raise TimeoutError(f"{brokers} sends nothing of {topic}")
            if message.error():
                raise KafkaException(message.error())
            if message.value() is not None:
                values.append(message.value())
            if message.offset() >= ends[message.partition()] - 1:
                missing.discard(message.partition())
        return values
    finally:
        consumer.close()
