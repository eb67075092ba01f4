"""What every client of the shop's topics needs: where the shop is, and the headers of an event."""

import json
import os
import secrets
from datetime import datetime, timezone

from uuid6 import uuid7

KAFKA_BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:9092")
SCHEMA_REGISTRY_URL = os.environ.get("SCHEMA_REGISTRY_URL", "http://127.0.0.1:8080/schema-registry")


def headers_of(event: str, key: str, sequence: int, source: str) -> dict[str, str]:
    """
    The CloudEvents headers that the shop requires, beside W3C trace context. `source` is a path that names the producer;
    `sequence` counts the events of one key from 1 without a gap: consumers ignore one that is not above the last.
    """
    return {
        "content-type": "application/avro",
        "ce_specversion": "1.0",
        "ce_id": str(uuid7()),
        "ce_type": event,
        "ce_source": source,
        "ce_subject": key,
        "ce_time": datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ce_sequence": str(sequence),
        "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
    }


def line_of(message, data) -> str:
    """A decoded message as one line of JSON; times are ISO 8601, UUIDs text."""
    headers = {name: value.decode("utf-8", "replace") for name, value in message.headers() or [] if value is not None}
    place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
    event = {"type": headers.get("ce_type"), "key": text_of(message.key()), "data": data}
    return json.dumps({**place, **event}, default=text_of, ensure_ascii=False)


def text_of(value) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)
