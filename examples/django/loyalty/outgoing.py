"""
Our own event. The shop's registry is read-only for us, so the bytes name their schema themselves: Avro's single-object
encoding, C3 01, the CRC-64-AVRO fingerprint of the schema (little-endian), and Avro binary.
"""

import json
import secrets
from io import BytesIO
from pathlib import Path

from django.utils import timezone
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form
from uuid6 import uuid7

from .models import Member, OutboxEvent

TOPIC = "loyalty.points.v1"
PARTITIONS = 6

_text = json.loads((Path(__file__).parent / "schemas" / "PointsAwarded.avsc").read_text("utf-8"))
_schema = parse_schema(_text)
PREFIX = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(_text), "CRC-64-AVRO"))


def encode(data: dict) -> bytes:
    body = BytesIO()
    schemaless_writer(body, _schema, data, strict=True)
    return PREFIX + body.getvalue()


def decode(value: bytes) -> dict:
    """Throws ValueError for bytes that do not name this schema."""
    if not value.startswith(PREFIX):
        raise ValueError("not a PointsAwarded in Avro's single-object encoding")
    return schemaless_reader(BytesIO(value[len(PREFIX) :]), _schema, None)


def emit_points_awarded(member: Member, points: int, reason: str, caused_by: str) -> None:
    """Writes the event to the outbox; call it in the transaction that gives the points."""
    now = timezone.now()
    key = str(member.user_id)
    data = {"userId": key, "points": points, "total": member.points, "reason": reason, "awardedAt": now}
    headers = {
        "content-type": "application/avro",
        "ce_specversion": "1.0",
        "ce_id": str(uuid7()),
        "ce_type": "PointsAwarded",
        "ce_source": "/loyalty",
        "ce_subject": key,
        "ce_time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ce_sequence": str(member.sequence),
        "ce_causationid": caused_by,
        "traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
    }
    OutboxEvent.objects.create(topic=TOPIC, key=key, value=encode(data), headers=headers)
