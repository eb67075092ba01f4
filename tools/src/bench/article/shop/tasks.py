"""What follows an order, an event each: stock is reserved, the order is confirmed, its buyer is told."""

from celery import shared_task
from django.db import transaction

from .models import Mail, Order, Product, Reservation


@shared_task
def reserve_stock(order_id, wanted):
    with transaction.atomic():
        products = {one.sku: one for one in Product.objects.select_for_update().filter(pk__in=wanted).order_by("pk")}
        if any(products[sku].stock < quantity for sku, quantity in wanted.items()):
            enough = False
        else:
            enough = True
            for sku, quantity in wanted.items():
                products[sku].stock -= quantity
            Product.objects.bulk_update(products.values(), ["stock"])
            Reservation.objects.create(order_id=order_id)
    decide_order.delay(order_id, enough)


@shared_task
def decide_order(order_id, enough):
    Order.objects.filter(pk=order_id, status="pending").update(status="confirmed" if enough else "cancelled")
    if enough:
        tell_buyer.delay(order_id)


@shared_task
def tell_buyer(order_id):
    order = Order.objects.select_related("owner").get(pk=order_id)
    lines = "\n".join(f"{line.quantity} x {line.product.name}" for line in order.lines.select_related("product"))
    Mail.objects.create(
        order_id=order_id,
        recipient=order.owner.email,
        subject="Your order is confirmed",
        body=f"Thank you for your order {order_id}:\n\n{lines}\n\nTotal: {order.total_cents / 100:.2f} EUR",
    )
