"""Reading the shop's events: Confluent's wire format, schemas by id from the shop's registry."""

import json
import struct
from dataclasses import dataclass
from io import BytesIO
from uuid import UUID

from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from fastavro import parse_schema, schemaless_reader

TOPICS = ["shop.user.v1", "shop.order.v1"]

# The fields that the handlers use. Nothing else of an event is kept.
USED_FIELDS = {"UserRegistered": ["userId"], "OrderShipped": ["orderId", "userId"]}


class Unreadable(Exception):
    """The message is no event, however often it is read."""


@dataclass(frozen=True)
class Incoming:
    id: UUID
    type: str
    data: dict[str, str]


class EventReader:
    def __init__(self, registry_url: str):
        self._registry = SchemaRegistryClient({"url": registry_url})
        self._schemas: dict[int, dict] = {}

    def read(self, value: bytes | None, headers: list[tuple[str, bytes]] | None) -> Incoming | None:
        """
        The event of a message; None when it is of a type that nobody here handles. Throws Unreadable, and whatever the
        registry's client throws when it cannot be reached: then the message is to be read again later.
        """
        attributes = dict(headers or [])
        event_type = (attributes.get("ce_type") or b"").decode("utf-8", "replace")
        if event_type not in USED_FIELDS:
            return None
        data = self._decode(value)
        try:
            event_id = UUID((attributes.get("ce_id") or b"").decode())
            return Incoming(event_id, event_type, {name: str(data[name]) for name in USED_FIELDS[event_type]})
        except (ValueError, KeyError, TypeError) as error:
            raise Unreadable(f"not a {event_type}: {error!r}") from error

    def _decode(self, value: bytes | None) -> dict:
        if value is None or len(value) < 5 or value[0] != 0:
            raise Unreadable("not in Confluent's wire format")
        (schema_id,) = struct.unpack(">I", value[1:5])
        schema = self._schema(schema_id)
        body = BytesIO(value[5:])
        try:
            data = schemaless_reader(body, schema, None)
        except Exception as error:  # fastavro throws whatever the bytes lead it to
            raise Unreadable(f"not of schema {schema_id}: {error!r}") from error
        if body.read(1):
            raise Unreadable(f"bytes follow the event of schema {schema_id}")
        return data

    def _schema(self, schema_id: int) -> dict:
        if schema_id not in self._schemas:
            try:
                text = self._registry.get_schema(schema_id).schema_str
            except SchemaRegistryError as error:
                if error.http_status_code != 404:
                    raise
                raise Unreadable(f"the registry has no schema {schema_id}") from error
            self._schemas[schema_id] = parse_schema(json.loads(text))
        return self._schemas[schema_id]
