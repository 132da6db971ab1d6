"""Addresses of the views, to be included where the app likes: `path("", include("usage_service.django.urls"))`."""

from django.urls import path

from usage_service.django.interactions import get_script, record_interaction

urlpatterns = [
    path("interactions/", record_interaction),
    path("interactions.js", get_script),
]
