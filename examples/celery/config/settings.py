"""Settings of the loyalty programme; each that depends on the place comes from the environment."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).parents[1]
STATE_DIR = Path(os.environ.get("LOYALTY_STATE", BASE_DIR / ".state"))
STATE_DIR.mkdir(parents=True, exist_ok=True)

SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()  # no sessions here that would outlive it
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "config.urls"
INSTALLED_APPS = ["loyalty"]
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE_DIR / "loyalty.sqlite3",
        # Several processes write: each waits for its turn at the beginning of a transaction instead of failing within it.
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL"},
    }
}

# RabbitMQ (amqp://) or Redis (redis://); run.py finds both at a running shop.
CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL", "amqp://guest@127.0.0.1//")
# Where our own events go and the shop's orders are: the same broker unless it is said.
SHOP_BROKER_URL = os.environ.get("SHOP_BROKER_URL", CELERY_BROKER_URL)

# Of Redis: a task that nobody has acknowledged for so long comes again, which is what a killed worker held. It has to be
# longer than any task, and any pause before a retry; one that is not lost is run twice then, and counts once.
VISIBILITY_TIMEOUT_S = int(os.environ.get("CELERY_VISIBILITY_TIMEOUT", "600"))
CELERY_BROKER_TRANSPORT_OPTIONS = (
    # Kombu looks for those each 100 s by default; here each 5 s.
    {"visibility_timeout": VISIBILITY_TIMEOUT_S, "unacked_restore_interval": 5, "unacked_restore_throttle": 1}
    if CELERY_BROKER_URL.startswith("redis")
    else {"confirm_publish": True}  # a retry is a message too: it is sent when RabbitMQ has it
)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Celery's default acknowledges a task before it runs: a worker that is killed then loses it, and nobody sends it again, as
# the bridge has been told that the queue has it.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # with late acknowledgements: what a worker holds waits for it, not for a free one
CELERY_TASK_IGNORE_RESULT = True  # nobody asks for it
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"loyalty": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
