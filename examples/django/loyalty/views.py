from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404

from .models import Member


def member(request: HttpRequest, user_id) -> JsonResponse:
    found = get_object_or_404(Member, pk=user_id)
    return JsonResponse({"userId": str(found.user_id), "points": found.points})
