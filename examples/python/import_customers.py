"""Brings the customers of a legacy CRM into the shop: one UserRegistered each, and so one welcome mail each.

Usage: python import_customers.py FILE.csv      (columns: number, email, name, since; customers.csv is an example)
Prints a line of JSON per customer: the key, and where the event is. Importing a file again changes nothing.
Exit code: 0 all written, 1 not all written, 2 the file cannot be used (nothing was written).
Environment: KAFKA_BROKERS, SCHEMA_REGISTRY_URL
"""

import csv
import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID, uuid5

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from shop import KAFKA_BROKERS, SCHEMA_REGISTRY_URL, headers_of

TOPIC = "shop.user.v1"
SUBJECT = "shopstream.user.UserRegistered"
SOURCE = "/legacy-crm/import"

# A customer number always becomes the same user id, in a range of its own: the user service never makes such an id.
CRM = UUID("6f1c2f0e-3c55-4e0b-9d0c-52b1f3a6a001")

PRODUCER = {
    # librdkafka's default is CRC32: another partition than every other client of the shop would choose, so that two
    # events of one key could be read in the wrong order. This is the Java client's way, for keys that are there.
    "partitioner": "murmur2_random",
    "enable.idempotence": True,  # and with it acks=all
}


def user_id_of(number: str) -> str:
    return str(uuid5(CRM, number))


def read_customers(path: Path) -> list[dict]:
    """Rows as UserRegistered. Throws ValueError that names every line which is no customer."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(enumerate(csv.DictReader(file), start=2))
    customers, problems = [], []
    for line, row in rows:
        try:
            customers.append(customer_of(row))
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            problems.append(f"line {line}: {error!r}")
    if problems:
        raise ValueError("\n".join(problems))
    return customers


def customer_of(row: dict) -> dict:
    number, email, name = (row[column].strip() for column in ("number", "email", "name"))
    if not number or not name or "@" not in email:
        raise ValueError("number, email and name are needed")
    return {
        "userId": user_id_of(number),
        "email": email.lower(),
        "displayName": name,
        "roles": ["customer"],
        "registeredAt": datetime.strptime(row["since"].strip(), "%Y-%m-%d").replace(tzinfo=timezone.utc),
    }


def serializer() -> AvroSerializer:
    """Encodes with the registered schema and its id; it must not try to register one, the registry is read-only."""
    registry = SchemaRegistryClient({"url": SCHEMA_REGISTRY_URL})
    schema = registry.get_latest_version(SUBJECT).schema
    latest = {"auto.register.schemas": False, "use.latest.version": True}
    return AvroSerializer(registry, schema, conf={**latest, "subject.name.strategy": record_subject_name_strategy})


def publish(customers: list[dict]) -> list[str]:
    """Writes the events and prints where each is; returns what went wrong."""
    encode = serializer()
    producer = Producer({"bootstrap.servers": KAFKA_BROKERS, **PRODUCER})
    problems = []

    def report(error, message):
        key = message.key().decode()
        if error:
            problems.append(f"{key}: {error}")
        else:
            place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
            print(json.dumps({"key": key, **place}), flush=True)

    for customer in customers:
        key = customer["userId"]
        producer.produce(
            TOPIC,
            key=key,
            value=encode(customer, SerializationContext(TOPIC, MessageField.VALUE)),
            # The first event of this key, and again the first when the file is imported again.
            headers=headers_of("UserRegistered", key, 1, SOURCE),
            on_delivery=report,
        )
        producer.poll(0)
    unsent = producer.flush(30)
    return problems + ([f"{unsent} events were not acknowledged within 30 s"] if unsent else [])


def main(path: Path) -> int:
    try:
        customers = read_customers(path)
    except (OSError, ValueError) as error:
        print(f"{path} cannot be imported, nothing was written:\n{error}", file=sys.stderr)
        return 2
    problems = publish(customers)
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    if len(sys.argv) != 2 or "--help" in sys.argv:
        print(__doc__)
        sys.exit(0 if "--help" in sys.argv else 2)
    sys.exit(main(Path(sys.argv[1])))
