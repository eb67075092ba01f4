from celery import current_app
from django.core.management.base import BaseCommand

from loyalty.models import FailedEvent


class Command(BaseCommand):
    help = "Sends a task again for each event that failed. One that another retry handles as well counts once."

    def handle(self, **options) -> None:
        failed = list(FailedEvent.objects.order_by("failed_at"))
        for row in failed:
            current_app.send_task(f"shopstream.{row.type}", [row.event], task_id=str(row.id))
        self.stdout.write(f"{len(failed)} sent again")
