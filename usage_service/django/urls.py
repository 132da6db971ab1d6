"""Addresses of the views, to be included where the app likes: `path("", include("usage_service.django.urls"))`."""

from django.urls import path

from usage_service.django.interactions import get_script, record_interaction
from usage_service.django.misses import get_build

urlpatterns = [
    path("interactions/", record_interaction),
    path("interactions.js", get_script),
    path("v1/builds/<uuid:build_id>", get_build),  # as in the service, whose links then lead somewhere
]
