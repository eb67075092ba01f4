import uuid

from django.db import models


class Token(models.Model):
    key = models.CharField(max_length=64, primary_key=True)
    email = models.EmailField()


class Product(models.Model):
    sku = models.CharField(max_length=64, primary_key=True)
    name = models.CharField(max_length=200)
    price_cents = models.PositiveIntegerField()
    stock = models.PositiveIntegerField()


class Order(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    owner = models.ForeignKey(Token, on_delete=models.PROTECT)
    status = models.CharField(max_length=16, default="pending")
    total_cents = models.PositiveIntegerField()
    address = models.JSONField()
    placed_at = models.DateTimeField(auto_now_add=True)


class Line(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField()


class Reservation(models.Model):
    order_id = models.UUIDField(primary_key=True)
    reserved_at = models.DateTimeField(auto_now_add=True)


class Mail(models.Model):
    order_id = models.UUIDField(db_index=True)
    recipient = models.EmailField()
    subject = models.CharField(max_length=200)
    body = models.TextField()
    written_at = models.DateTimeField(auto_now_add=True)
