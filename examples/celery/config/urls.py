from django.urls import path

from loyalty import views

urlpatterns = [path("members/<uuid:user_id>", views.member), path("failures", views.failures)]
