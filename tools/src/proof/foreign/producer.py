"""A producer in another language: what anyone with write access may put into the shop's topics.

Usage: python producer.py oddities|transactions|bombs|hold PLAN      (PLAN is JSON; each function says what of)
Prints a line of JSON at the end. All keys are its own: what is parked holds back the rest of its key.
Environment: KAFKA_BROKERS
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from uuid import UUID

from confluent_kafka import KafkaException, Producer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
KEY = "foreign"
# Few of each kind, and few sequences: verify keeps 1,000 findings of a check, and has to find all that is none of ours.
KEYS = 10
SEQUENCES = 5
# A message in so many is large: 1 MB a second would be more than all orders write.
LARGE_ONE_IN = 100
LARGEST = 1_000_000
TRANSACTION_EVERY = 1.0
MESSAGES_OF_TRANSACTION = 6

stopped = False


def stop(*_):
    global stopped
    stopped = True


def producer(**settings) -> Producer:
    return Producer({"bootstrap.servers": os.environ["KAFKA_BROKERS"], "acks": "all", "log_level": 0} | settings)


# What can be read, and is none of the shop's events. Each makes value and headers.


def random_bytes(chance: random.Random, most: int) -> bytes:
    return chance.randbytes(chance.randint(0, most))


def event_id(chance: random.Random) -> str:
    """A UUID of version 7 of now: with an old one a message is refused for its age alone."""
    head = (int(time.time() * 1_000) << 16 | 0x7000 | chance.getrandbits(12)) << 64
    return str(UUID(int=head | 0x8 << 60 | chance.getrandbits(60)))


def event_headers(chance: random.Random, event: str) -> list:
    """Headers as the shop's own events have them."""
    return [
        ("ce_specversion", "1.0"),
        ("ce_id", event_id(chance)),
        ("ce_type", event),
        ("ce_source", "/foreign"),
        ("ce_time", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())),
        ("ce_sequence", str(chance.randint(1, SEQUENCES))),
        ("content-type", "application/avro"),
    ]


def nothing(chance, plan, topic):
    return None, []


def text(chance, plan, topic):
    return "no Avro: \u2603 \x00".encode(), [("content-type", "text/plain")]


def null_headers(chance, plan, topic):
    return random_bytes(chance, 200), [("ce_type", None), ("ce_id", None), ("", None), ("x", b"")]


def repeated_headers(chance, plan, topic):
    event = chance.choice(topic["events"])
    return random_bytes(chance, 200), [*event_headers(chance, "NobodysEvent"), *event_headers(chance, event)]


def binary_headers(chance, plan, topic):
    names = ["ce_type", "ce_id", "__proto__", "\u2603", "x" * 1_000]
    return random_bytes(chance, 200), [(name, random_bytes(chance, 60)) for name in names]


def many_headers(chance, plan, topic):
    return b"", [(f"x-{n}", str(n)) for n in range(200)]


def garbage_of_known_event(chance, plan, topic):
    return random_bytes(chance, 500), event_headers(chance, chance.choice(topic["events"]))


def garbage_of_known_schema(chance, plan, topic):
    head = b"\x00" + chance.choice(plan["schemas"]).to_bytes(4, "big")
    return head + random_bytes(chance, 200), event_headers(chance, chance.choice(topic["events"]))


def garbage_of_unknown_schema(chance, plan, topic):
    head = b"\x00" + chance.randint(1_000_000, 2_000_000).to_bytes(4, "big")
    return head + random_bytes(chance, 200), event_headers(chance, chance.choice(topic["events"]))


def unknown_event(chance, plan, topic):
    return random_bytes(chance, 500), event_headers(chance, "NobodysEvent")


def event_of_another_topic(chance, plan, topic):
    return random_bytes(chance, 200), event_headers(chance, chance.choice(chance.choice(plan["topics"])["events"]))


ODDITIES = (
    nothing,
    text,
    null_headers,
    repeated_headers,
    binary_headers,
    many_headers,
    garbage_of_known_event,
    garbage_of_known_schema,
    garbage_of_unknown_schema,
    unknown_event,
    event_of_another_topic,
)


def some_key(chance: random.Random):
    return chance.choice(
        (
            None,
            b"",
            f"{KEY}-{chance.randint(1, KEYS)}".encode(),
            f"{KEY}-\u2603-{chance.randint(1, KEYS)}".encode(),
            KEY.encode() + b"\x00\xff" + bytes([chance.randint(1, KEYS)]),
            (KEY * 300).encode(),
        )
    )


def some_message(chance: random.Random, plan: dict, topic: dict) -> tuple[str, dict]:
    """Its kind, and what Producer.produce takes."""
    if chance.randrange(LARGE_ONE_IN) == 0:
        size = chance.randint(LARGEST // 10, LARGEST)
        value, headers = chance.randbytes(1_000) * (size // 1_000), event_headers(chance, topic["events"][0])
        return "large", {"key": f"{KEY}-large".encode(), "value": value, "headers": headers}
    kind = chance.choice(ODDITIES)
    value, headers = kind(chance, plan, topic)
    timestamp = chance.choice((0, 1, 4_102_444_800_000, int(time.time() * 1_000)))
    return kind.__name__, {"key": some_key(chance), "value": value, "headers": headers, "timestamp": timestamp}


class Tally:
    """What became of what was written."""

    def __init__(self):
        self.written = Counter()
        self.refused = Counter()

    def callback(self, kind: str):
        def delivered(error, _message):
            if error is None:
                self.written[kind] += 1
            else:
                self.refused[f"{kind}: {error.str()}"] += 1

        return delivered


def as_another_machine():
    """What is computed here must not take the shop's time. Not so for who holds a transaction open: others wait for it."""
    os.nice(10)


def oddities(plan: dict) -> dict:
    """Writes `perSecond` messages for `seconds` into every partition of `topics` in turn, from one `seed`; codecs take
    turns."""
    as_another_machine()
    chance = random.Random(plan["seed"])
    by_codec = [producer(**{"compression.type": codec, "linger.ms": 20, "message.max.bytes": 2_000_000}) for codec in CODECS]
    places = [(topic, n) for topic in plan["topics"] for n in range(topic["partitions"])]
    tally, begun, count = Tally(), time.monotonic(), 0
    while not stopped and (since := time.monotonic() - begun) < plan["seconds"]:
        while count < since * plan["perSecond"]:
            if count % len(places) == 0:
                chance.shuffle(places)
            topic, partition = places[count % len(places)]
            kind, message = some_message(chance, plan, topic)
            writer = by_codec[chance.randrange(len(by_codec))]
            writer.produce(topic["name"], partition=partition, on_delivery=tally.callback(kind), **message)
            count += 1
        for writer in by_codec:
            writer.poll(0)
        time.sleep(0.01)
    for writer in by_codec:
        writer.flush(30)
    return {"written": tally.written, "refused": tally.refused}


def transactions(plan: dict) -> dict:
    """Writes a transaction a second for `seconds` into partitions of `topics`, from one `seed`; every other one is
    aborted. Short ones: what is behind an open transaction waits, which is what `hold` is for."""
    chance, ended = random.Random(plan["seed"]), Counter()
    writer = producer(**{"transactional.id": f"{KEY}-{os.getpid()}", "linger.ms": 0, "compression.type": "zstd"})
    writer.init_transactions(30)
    until = time.monotonic() + plan["seconds"]
    while not stopped and time.monotonic() < until:
        time.sleep(TRANSACTION_EVERY)
        how = "committed" if ended.total() % 2 == 0 else "aborted"
        try:
            write_transaction(writer, chance, plan["topics"])
            writer.commit_transaction(10) if how == "committed" else writer.abort_transaction(10)
            ended[how] += 1
        except KafkaException as error:
            writer.abort_transaction(10)
            ended[f"failed: {error.args[0].str()}"] += 1
    return ended


def write_transaction(writer: Producer, chance: random.Random, topics: list):
    writer.begin_transaction()
    for _ in range(MESSAGES_OF_TRANSACTION):
        topic = chance.choice(topics)
        key, value = f"{KEY}-transaction", random_bytes(chance, 200)
        writer.produce(topic["name"], partition=chance.randrange(topic["partitions"]), key=key, value=value)
    writer.flush(10)


def bombs(plan: dict) -> dict:
    """Writes each of `bombs`, `count` messages of `bytes` zeros, as one batch of its `codec` into its place."""
    as_another_machine()  # packing 150 MB
    tally = Tally()
    for bomb in plan["bombs"]:
        writer = producer(
            **{
                "compression.type": bomb["codec"],
                # One batch of all: the broker refuses by what is left of it when it is packed.
                "message.max.bytes": 1_000_000_000,
                "batch.size": 1_000_000_000,
                "queue.buffering.max.kbytes": 1_000_000,
                "linger.ms": 500,
            }
        )
        value = bytes(bomb["bytes"])
        for _ in range(bomb["count"]):
            delivered = tally.callback(bomb["codec"])
            writer.produce(bomb["topic"], partition=bomb["partition"], key=f"{KEY}-bomb", value=value, on_delivery=delivered)
        writer.flush(60)
    return {"written": tally.written, "refused": tally.refused}


def hold(plan: dict) -> dict:
    """Opens a transaction in all of `places`, says so with a line, and ends it after `seconds`."""
    writer = producer(**{"transactional.id": f"{KEY}-hold-{os.getpid()}", "linger.ms": 0})
    writer.init_transactions(30)
    writer.begin_transaction()
    for place in plan["places"]:
        writer.produce(place["topic"], partition=place["partition"], key=f"{KEY}-hold", value=b"not yet")
    writer.flush(10)
    print(json.dumps({"open": True}), flush=True)
    until = time.monotonic() + plan["seconds"]
    while not stopped and time.monotonic() < until:
        time.sleep(0.05)
    writer.commit_transaction(30)
    return {"endedAt": round(time.time() * 1_000)}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    commands = {"oddities": oddities, "transactions": transactions, "bombs": bombs, "hold": hold}
    print(json.dumps(commands[sys.argv[1]](json.loads(sys.argv[2]))), flush=True)
