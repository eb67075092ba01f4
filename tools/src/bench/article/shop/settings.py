"""The article's stack as its users would set it up with care; each address comes from the environment."""

import os

SECRET_KEY = "of a benchmark that listens on 127.0.0.1"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["shop"]
MIDDLEWARE = []  # none of the browser's: no sessions, cookies or forms here
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["ARTICLE_POSTGRES_HOST"],
        "PORT": os.environ["ARTICLE_POSTGRES_PORT"],
        "NAME": "postgres",
        "USER": "postgres",
        "PASSWORD": os.environ["ARTICLE_POSTGRES_PASSWORD"],
        "CONN_MAX_AGE": None,  # connections are kept
        "OPTIONS": {"prepare_threshold": 5, "server_side_binding": True},  # plans are kept, too
    }
}

CELERY_BROKER_URL = os.environ["ARTICLE_RABBITMQ_URL"]
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_HEARTBEAT = 0
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}  # the broker has it when delay() returns
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_DEFAULT_DELIVERY_MODE = "persistent"
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 16
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
