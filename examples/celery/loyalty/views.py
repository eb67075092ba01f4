from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404

from .models import FailedEvent, Member


def member(request: HttpRequest, user_id) -> JsonResponse:
    found = get_object_or_404(Member, pk=user_id)
    return JsonResponse({"userId": str(found.user_id), "points": found.points})


def failures(request: HttpRequest) -> JsonResponse:
    """The newest first; what manage.py retry_failed would send again."""
    fields = ["id", "type", "attempts", "is_given_up", "error", "failed_at"]
    return JsonResponse({"failures": list(FailedEvent.objects.order_by("-failed_at").values(*fields)[:100])})
