from django.urls import path

from . import views

urlpatterns = [
    path("orders", views.place_order),
    path("orders/<uuid:order_id>", views.one_order),
]
