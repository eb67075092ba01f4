import json

from django.db import transaction
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from .models import Line, Order, Product, Token
from .tasks import reserve_stock


def owner_of(request):
    key = request.headers.get("authorization", "").removeprefix("Bearer ")
    return Token.objects.filter(key=key).first()


@csrf_exempt
@require_POST
def place_order(request):
    owner = owner_of(request)
    if owner is None:
        return JsonResponse({"code": "unauthenticated"}, status=401)
    try:
        body = json.loads(request.body)
        wanted = {item["sku"]: int(item["quantity"]) for item in body["items"]}
        address = dict(body["shippingAddress"])
    except (ValueError, KeyError, TypeError):
        return JsonResponse({"code": "invalid-input"}, status=400)
    products = Product.objects.in_bulk(wanted)
    if not wanted or len(products) < len(wanted) or any(not 0 < quantity <= 100 for quantity in wanted.values()):
        return JsonResponse({"code": "unknown-product"}, status=422)
    total = sum(products[sku].price_cents * quantity for sku, quantity in wanted.items())
    with transaction.atomic():
        order = Order.objects.create(owner=owner, total_cents=total, address=address)
        Line.objects.bulk_create(
            Line(order=order, product=products[sku], quantity=quantity) for sku, quantity in wanted.items()
        )
    reserve_stock.delay(str(order.id), wanted)
    return JsonResponse({"id": order.id, "status": order.status, "totalCents": total}, status=201)


@require_GET
def one_order(request, order_id):
    owner = owner_of(request)
    order = Order.objects.filter(pk=order_id, owner=owner).first()
    if owner is None or order is None:
        return JsonResponse({"code": "not-found"}, status=404)
    return JsonResponse({"id": order.id, "status": order.status, "totalCents": order.total_cents})
